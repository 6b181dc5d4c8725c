// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {Handler} from "./utils/Handler.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";
import {Vm} from "./utils/Vm.sol";

/// @notice What holds whatever happens, in whatever order.
contract InvariantTest is LedgerTest {
    Handler private handler;

    function setUp() public override {
        handler = new Handler();
        ledger = handler.theLedger();
    }

    function targetSelectors() external view returns (Vm.FuzzSelector[] memory targets) {
        bytes4[] memory actions = new bytes4[](10);
        actions[0] = Handler.toggleMembership.selector;
        actions[1] = Handler.changeOwner.selector;
        actions[2] = Handler.pass.selector;
        actions[3] = Handler.openNext.selector;
        actions[4] = Handler.commitOne.selector;
        actions[5] = Handler.commitOne.selector;
        actions[6] = Handler.revealOne.selector;
        actions[7] = Handler.revealOne.selector;
        actions[8] = Handler.attestOne.selector;
        actions[9] = Handler.advance.selector;
        targets = new Vm.FuzzSelector[](1);
        targets[0] = Vm.FuzzSelector(address(handler), actions);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_headIsTheFoldOfTheLogs() public view {
        vm.assertEq(ledger.head(), handler.folded());
    }

    function invariant_modelChangesByQuorumOnly() public view {
        vm.assertEq(ledger.model(), handler.expectedModel());
    }

    function invariant_nobodyCountsTwice() public view {
        IRoundLedger.Round memory current = ledger.currentRound();
        uint256 members;
        uint256 commits;
        uint256 reveals;
        for (uint256 i = 0; i < 5; ++i) {
            address account = handler.accounts(i);
            if (handler.isMember(current.number, account)) ++members;
            vm.assertTrue(handler.commitsOf(current.number, account) <= 1, "one commit each");
            vm.assertTrue(handler.revealsOf(current.number, account) <= 1, "one reveal each");
            vm.assertTrue(handler.attestationsOf(current.number, account) <= 1, "one attestation each");
            commits += handler.commitsOf(current.number, account);
            reveals += handler.revealsOf(current.number, account);
        }
        vm.assertEq(current.commits, commits, "commits");
        vm.assertEq(current.reveals, reveals, "reveals");
        vm.assertTrue(reveals <= commits && commits <= current.roster, "no more than may act");
        if (current.phase != IRoundLedger.Phase.Idle) vm.assertEq(current.roster, members, "roster");
    }

    /// @dev From wherever the run ended the round ends too, and the owner does nothing for it: by the clock alone in
    /// three steps at most, or by the participants doing their part.
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
        for (uint256 i = 0; i < 5; ++i) {
            address account = handler.accounts(i);
            if (handler.isMember(round, account) && handler.commitsOf(round, account) == 0) commit(round, account);
        }
        for (uint256 i = 0; i < 5; ++i) {
            if (handler.isMember(round, handler.accounts(i))) reveal(round, handler.accounts(i));
        }
        bytes32 model = modelOf(round);
        for (uint256 i = 0; i < 5; ++i) {
            address account = handler.accounts(i);
            if (ledger.currentRound().phase == IRoundLedger.Phase.Idle) break;
            if (!handler.isMember(round, account)) continue;
            vm.prank(account);
            ledger.attest(round, model, hex"01");
        }
        vm.assertEq(ledger.model(), model, "finalized");
    }
}
