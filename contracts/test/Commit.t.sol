// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract CommitTest is LedgerTest {
    bytes28 private constant SEAL = bytes28(keccak256("seal"));

    function setUp() public override {
        super.setUp();
        startCommits();
    }

    function test_commit_storesTheSeal() public {
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Committed(1, ALICE, SEAL, START);
        commitSeal(1, ALICE, SEAL);

        vm.assertEq(ledger.currentRound().commits, 1);
        vm.assertEq(ledger.participantOf(ALICE).committed, 1);
        vm.assertEq(ledger.participantOf(ALICE).seal, SEAL);
        vm.assertFalse(ledger.participantOf(ALICE).revealed);
        assertPhase(IRoundLedger.Phase.Commit);
    }

    function test_commit_ofTheWholeRosterClosesTheCommits() public {
        commit(1, ALICE);
        commit(1, BOB);
        commit(1, CAROL);
        vm.warp(START + 7);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.CommitsClosed(1, 4, START + 7 + REVEAL_WINDOW, START + 7);
        commit(1, DAVE);

        assertPhase(IRoundLedger.Phase.Reveal);
        vm.assertEq(ledger.currentRound().deadline, START + 7 + REVEAL_WINDOW);
    }

    function testFuzz_commit_isOpenUntilTheDeadline(uint64 delay) public {
        delay = uint64(bound(delay, 0, 2 * COMMIT_WINDOW));
        vm.warp(START + delay);
        if (delay >= COMMIT_WINDOW) {
            vm.expectRevert(
                abi.encodeWithSelector(IRoundLedger.WindowClosed.selector, START + COMMIT_WINDOW, START + delay)
            );
        }
        commitSeal(1, ALICE, SEAL);
    }

    function testFuzz_commit_revertsWithWrongRound(uint32 round) public {
        vm.assume(round != 1);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongRound.selector, 1, round));
        commitSeal(round, ALICE, SEAL);
    }

    function test_commit_revertsWithWrongPhase() public {
        commitAll(1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Commit, IRoundLedger.Phase.Reveal
            )
        );
        commitSeal(1, ALICE, SEAL);
    }

    function test_commit_revertsWithNotParticipant() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, MALLORY, 1));
        commitSeal(1, MALLORY, SEAL);
    }

    function test_commit_revertsWithAlreadyCommitted() public {
        commitSeal(1, ALICE, SEAL);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.AlreadyCommitted.selector, ALICE, 1));
        commitSeal(1, ALICE, SEAL);
    }

    function test_commit_revertsWithZeroDigest() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.ZeroDigest.selector));
        commitSeal(1, ALICE, 0);
    }

    function commitSeal(uint32 round, address account, bytes28 seal) private {
        vm.prank(account);
        ledger.commit(round, seal);
    }
}
