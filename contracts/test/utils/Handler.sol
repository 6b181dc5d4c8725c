// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RoundLedger} from "../../src/RoundLedger.sol";
import {IRoundLedger} from "../../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";

/// @notice Does anything that is legal at the moment, in any order, and keeps its own books of what happened.
/// @dev Nothing here may revert (fail_on_revert): an action that is not legal now is skipped, or seen to be refused.
contract Handler is LedgerTest {
    address[] public accounts;

    bytes28 public folded; // the head, from the logs alone
    bytes32 public expectedModel = GENESIS;
    mapping(uint32 round => mapping(address account => uint256)) public commitsOf;
    mapping(uint32 round => mapping(address account => uint256)) public revealsOf;
    mapping(uint32 round => mapping(address account => uint256)) public attestationsOf;
    mapping(uint32 round => mapping(bytes32 model => uint32)) public votesFor;
    uint256 public finalizedRounds;
    uint256 public abortedRounds;

    modifier booked() {
        vm.recordLogs();
        bytes32 modelBefore = ledger.model();
        IRoundLedger.Round memory before = ledger.currentRound();
        _;
        folded = fold(folded, vm.getRecordedLogs());
        bool ended = before.phase != IRoundLedger.Phase.Idle && ledger.currentRound().phase == IRoundLedger.Phase.Idle;
        if (ended && ledger.model() != modelBefore) ++finalizedRounds;
        else if (ended) ++abortedRounds;
    }

    constructor() {
        vm.warp(START);
        vm.recordLogs();
        ledger = new RoundLedger(OPERATOR, defaultRules());
        accounts = [ALICE, BOB, CAROL, DAVE, MALLORY];
        for (uint256 i = 0; i < 4; ++i) {
            enrol(accounts[i]);
        }
        folded = fold(0, vm.getRecordedLogs());
    }

    function theLedger() external view returns (RoundLedger) {
        return ledger;
    }

    // -------------------------------------------------------------- actions

    function toggleMembership(uint256 seed) external booked {
        address account = pick(seed);
        IRoundLedger.Participant memory member = ledger.participantOf(account);
        if (member.number != 0 && member.untilRound == NOT_RETIRED) retire(account);
        else enrol(account);
    }

    function changeOwner(uint256 seed) external booked {
        // The operator stays the owner: it offers, and sometimes accepts its own offer.
        vm.prank(OPERATOR);
        ledger.transferOwnership(seed % 2 == 0 ? OPERATOR : pick(seed));
        if (seed % 2 != 0) return;
        vm.prank(OPERATOR);
        ledger.acceptOwnership();
    }

    function pass(uint256 seconds_) external {
        vm.warp(block.timestamp + bound(seconds_, 1, COMMIT_WINDOW / 3));
    }

    function openNext(uint256 seed) external booked {
        IRoundLedger.Round memory current = ledger.currentRound();
        if (current.phase != IRoundLedger.Phase.Idle) return;
        uint256 enrolled;
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (isMember(current.number + 1, accounts[i])) ++enrolled;
        }
        address account = pick(seed);
        if (enrolled < MIN_UPDATES || !isMember(current.number + 1, account)) return;
        vm.prank(account);
        ledger.open(current.number + 1);
        vm.assertEq(ledger.currentRound().roster, enrolled, "roster");
    }

    function commitOne(uint256 seed) external booked {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Commit);
        address account = pick(seed);
        if (!now_ || !isMember(round, account)) return;
        bytes28 seal = ledger.sealOf(round, account, metadataOf(round, account));
        bool first = commitsOf[round][account] == 0;
        vm.prank(account);
        if (first) ledger.commit(round, seal);
        else refused(abi.encodeCall(IRoundLedger.commit, (round, seal)));
        if (first) ++commitsOf[round][account];
    }

    function revealOne(uint256 seed) external booked {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Reveal);
        address account = pick(seed);
        if (!now_) return;
        IRoundLedger.Metadata memory metadata = metadataOf(round, account);
        bool first = commitsOf[round][account] == 1 && revealsOf[round][account] == 0;
        if (first) ledger.reveal(round, account, metadata);
        else refused(abi.encodeCall(IRoundLedger.reveal, (round, account, metadata)));
        if (first) ++revealsOf[round][account];
    }

    function attestOne(uint256 seed, bool dissents) external booked {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Attest);
        address account = pick(seed);
        if (!now_ || !isMember(round, account)) return;
        bytes32 outcome = dissents ? sha256(abi.encode("dissent", round)) : modelOf(round);
        bool first = attestationsOf[round][account] == 0;
        vm.prank(account);
        if (first) ledger.attest(round, outcome, hex"01");
        else refused(abi.encodeCall(IRoundLedger.attest, (round, outcome, hex"01")));
        if (!first) return;
        ++attestationsOf[round][account];
        if (++votesFor[round][outcome] == ledger.quorum(ledger.currentRound().roster)) expectedModel = outcome;
    }

    function advance(bool patient) external booked {
        IRoundLedger.Round memory current = ledger.currentRound();
        if (current.phase == IRoundLedger.Phase.Idle) return;
        if (block.timestamp < current.deadline) {
            if (!patient) return refused(abi.encodeCall(IRoundLedger.advance, (current.number)));
            vm.warp(current.deadline);
        }
        ledger.advance(current.number);
    }

    // -------------------------------------------------------------- queries

    function isMember(uint32 round, address account) public view returns (bool) {
        IRoundLedger.Participant memory member = ledger.participantOf(account);
        return member.fromRound <= round && round <= member.untilRound;
    }

    /// @dev The newest round, and whether one may act in this phase now.
    function acting(IRoundLedger.Phase phase) private view returns (uint32 round, bool now_) {
        IRoundLedger.Round memory current = ledger.currentRound();
        return (current.number, current.phase == phase && block.timestamp < current.deadline);
    }

    function pick(uint256 seed) private view returns (address) {
        return accounts[seed % accounts.length];
    }

    function refused(bytes memory call) private {
        (bool done,) = address(ledger).call(call);
        vm.assertFalse(done);
    }
}
