// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @dev All calls come from the test contract, which is nobody: anybody may advance.
contract AdvanceTest is LedgerTest {
    function test_advance_closesTheCommits() public {
        startCommits();
        commit(1, ALICE);
        commit(1, BOB);
        uint64 time = START + COMMIT_WINDOW;
        vm.warp(time);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.CommitsClosed(1, 2, time + REVEAL_WINDOW, time);
        ledger.advance(1);
        assertPhase(IRoundLedger.Phase.Reveal);
    }

    function test_advance_abortsWithTooFewCommits() public {
        startCommits();
        commit(1, ALICE);
        vm.warp(START + COMMIT_WINDOW);
        expectAborted(IRoundLedger.AbortReason.TooFewCommits, START + COMMIT_WINDOW);
    }

    function test_advance_closesTheReveals() public {
        startReveals();
        reveal(1, ALICE);
        reveal(1, BOB);
        uint64 time = START + REVEAL_WINDOW;
        vm.warp(time);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.RevealsClosed(1, 2, time + ATTEST_WINDOW, time);
        ledger.advance(1);
        assertPhase(IRoundLedger.Phase.Attest);
    }

    function test_advance_abortsWithTooFewReveals() public {
        startReveals();
        reveal(1, ALICE);
        vm.warp(START + REVEAL_WINDOW);
        expectAborted(IRoundLedger.AbortReason.TooFewReveals, START + REVEAL_WINDOW);
    }

    function test_advance_abortsWithNoQuorum() public {
        startAttestations();
        attest(1, ALICE);
        attest(1, BOB);
        vm.warp(START + ATTEST_WINDOW);
        expectAborted(IRoundLedger.AbortReason.NoQuorum, START + ATTEST_WINDOW);
    }

    function testFuzz_advance_revertsWithWindowOpen(uint64 delay) public {
        startCommits();
        commit(1, ALICE);
        delay = uint64(bound(delay, 0, 2 * COMMIT_WINDOW));
        vm.warp(START + delay);
        if (delay < COMMIT_WINDOW) {
            vm.expectRevert(
                abi.encodeWithSelector(IRoundLedger.WindowOpen.selector, START + COMMIT_WINDOW, START + delay)
            );
        }
        ledger.advance(1);
    }

    function test_advance_revertsWithWrongPhase() public {
        bytes memory idle = abi.encodeWithSelector(
            IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Commit, IRoundLedger.Phase.Idle
        );
        vm.expectRevert(idle);
        ledger.advance(0);

        enrolAll();
        playRound(1);
        vm.warp(START + 1 days);
        vm.expectRevert(idle);
        ledger.advance(1);
    }

    function testFuzz_advance_revertsWithWrongRound(uint32 round) public {
        vm.assume(round != 1);
        startCommits();
        vm.warp(START + 1 days);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongRound.selector, 1, round));
        ledger.advance(round);
    }

    function expectAborted(IRoundLedger.AbortReason reason, uint64 time) private {
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Aborted(1, reason, time);
        ledger.advance(1);
        assertPhase(IRoundLedger.Phase.Idle);
        vm.assertEq(ledger.model(), GENESIS);
    }
}
