// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {Handler} from "./utils/Handler.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";
import {Vm} from "./utils/Vm.sol";

/// @notice What holds whatever happens, in whatever order.
/// @dev The handler sees for itself that a log never speaks of a round that is over, and that nobody outside the roster
/// changes anything.
contract InvariantTest is LedgerTest {
    Handler private handler;

    function setUp() public override {
        handler = new Handler();
        ledger = handler.theLedger();
    }

    /// @dev What a round is made of comes more often than what happens in years.
    function targetSelectors() external view returns (Vm.FuzzSelector[] memory targets) {
        bytes4[13] memory once = [
            Handler.toggleMembership.selector,
            Handler.handOver.selector,
            Handler.changePauser.selector,
            Handler.togglePause.selector,
            Handler.nameSuccessor.selector,
            Handler.rotateKey.selector,
            Handler.openNext.selector,
            Handler.act.selector,
            Handler.pass.selector,
            Handler.advance.selector,
            Handler.relay.selector,
            Handler.intrude.selector,
            Handler.revisit.selector
        ];
        bytes4[3] memory often = [Handler.openNext.selector, Handler.act.selector, Handler.relay.selector];
        bytes4[] memory actions = new bytes4[](once.length + 6 * often.length);
        for (uint256 i = 0; i < actions.length; ++i) {
            actions[i] = i < once.length ? once[i] : often[i % often.length];
        }
        targets = new Vm.FuzzSelector[](1);
        targets[0] = Vm.FuzzSelector(address(handler), actions);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev One campaign for all: with the same seed, each would do the same once more.
    function invariant_whatIsDoneIsWhatTheLogsSay() public view {
        headIsTheFoldOfTheLogs();
        modelChangesByQuorumOnly();
        nobodyCountsTwice();
        membershipIsWhatTheLogsSay();
        rolesChangeByTheirHoldersOnly();
    }

    function headIsTheFoldOfTheLogs() private view {
        vm.assertEq(ledger.head(), handler.folded());
    }

    function modelChangesByQuorumOnly() private view {
        vm.assertEq(ledger.model(), handler.expectedModel());
    }

    function nobodyCountsTwice() private view {
        IRoundLedger.Round memory current = ledger.currentRound();
        uint256 commits;
        uint256 reveals;
        for (uint32 number = 1; number <= handler.numbers(); ++number) {
            Handler.Deeds memory done = handler.done(current.number, number);
            Handler.Deeds memory logged = handler.logged(current.number, number);
            vm.assertTrue(logged.commits <= 1 && logged.reveals <= 1 && logged.attestations <= 1, "once each");
            vm.assertEq(logged.commits, done.commits, "commits in the logs");
            vm.assertEq(logged.reveals, done.reveals, "reveals in the logs");
            vm.assertEq(logged.attestations, done.attestations, "attestations in the logs");
            commits += done.commits;
            reveals += done.reveals;
        }
        vm.assertEq(current.commits, commits, "commits");
        vm.assertEq(current.reveals, reveals, "reveals");
        vm.assertTrue(reveals <= commits && commits <= current.roster, "no more than may act");
        vm.assertEq(current.roster, handler.membersIn(current.number), "roster");
    }

    /// @dev A number takes part under one address at a time, also when its key was rotated.
    function membershipIsWhatTheLogsSay() private view {
        uint32 round = ledger.currentRound().number;
        address[] memory accounts = handler.allAccounts();
        uint256[] memory addressesOf = new uint256[](2 * handler.numbers() + 2); // in this round, and in the next
        for (uint256 i = 0; i < accounts.length; ++i) {
            Handler.Seat memory seat = handler.seatOf(accounts[i]);
            assertMember(accounts[i], seat.number, seat.fromRound, seat.untilRound);
            vm.assertEq(ledger.participantOf(accounts[i]).rotated, seat.rotated);
            if (handler.isMember(round, accounts[i])) ++addressesOf[2 * seat.number];
            if (handler.isMember(round + 1, accounts[i])) ++addressesOf[2 * seat.number + 1];
        }
        for (uint256 i = 0; i < addressesOf.length; ++i) {
            vm.assertTrue(addressesOf[i] <= 1, "one address at a time");
        }
    }

    function rolesChangeByTheirHoldersOnly() private view {
        vm.assertEq(ledger.owner(), handler.owner());
        vm.assertEq(ledger.pauser(), handler.pauser());
        vm.assertEq(ledger.paused(), handler.paused());
        vm.assertEq(ledger.successor(), handler.successor());
    }

    /// @dev From wherever the run ended the round ends too, paused or not, and neither owner nor pauser does anything for
    /// it: by the clock alone in three steps at most, or by the participants doing their part.
    function afterInvariant() public {
        IRoundLedger.Round memory current = ledger.currentRound();
        if (uint224(handler.folded()) % 2 == 0) finishTogether(current.number);
        for (uint256 steps = 0; steps < 3; ++steps) {
            current = ledger.currentRound();
            if (current.phase == IRoundLedger.Phase.Idle) break;
            if (block.timestamp < current.deadline) vm.warp(current.deadline);
            ledger.advance(current.number);
        }
        assertPhase(IRoundLedger.Phase.Idle);
    }

    /// @dev Everybody who still may, acts. In a window that is open for all and with nobody gone, that finalizes.
    function finishTogether(uint32 round) private {
        IRoundLedger.Round memory current = ledger.currentRound();
        bool fresh = current.phase == IRoundLedger.Phase.Commit && block.timestamp < current.deadline;
        if (!fresh) return;
        address[] memory accounts = handler.allAccounts();
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (!handler.isMember(round, accounts[i]) || handler.hasSealed(round, accounts[i])) continue;
            commit(round, accounts[i]);
        }
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (handler.isMember(round, accounts[i])) reveal(round, accounts[i]);
        }
        bytes32 model = modelOf(round);
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (ledger.currentRound().phase == IRoundLedger.Phase.Idle) break;
            if (!handler.isMember(round, accounts[i])) continue;
            vm.prank(accounts[i]);
            ledger.attest(round, model, hex"01");
        }
        vm.assertEq(ledger.model(), model, "finalized");
    }
}
