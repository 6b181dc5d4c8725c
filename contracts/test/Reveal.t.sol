// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract RevealTest is LedgerTest {
    function setUp() public override {
        super.setUp();
        startCommits();
    }

    function test_reveal_publishesTheMetadata() public {
        commitAll(1);
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Revealed(1, ALICE, metadata, START);
        reveal(1, ALICE);

        vm.assertEq(ledger.currentRound().reveals, 1);
        vm.assertTrue(ledger.participantOf(ALICE).revealed);
        assertPhase(IRoundLedger.Phase.Reveal);
    }

    function test_reveal_mayBeBroughtByAnybody() public {
        commitAll(1);
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        vm.prank(MALLORY);
        ledger.reveal(1, ALICE, metadata);
        vm.assertTrue(ledger.participantOf(ALICE).revealed);
    }

    function test_reveal_ofEveryCommitClosesTheReveals() public {
        commitAll(1);
        reveal(1, ALICE);
        reveal(1, BOB);
        reveal(1, CAROL);
        vm.warp(START + 9);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.RevealsClosed(1, 4, START + 9 + ATTEST_WINDOW, START + 9);
        reveal(1, DAVE);
        assertPhase(IRoundLedger.Phase.Attest);
    }

    function test_reveal_closesWithoutThoseWhoDidNotCommit() public {
        commit(1, ALICE);
        commit(1, BOB);
        vm.warp(START + COMMIT_WINDOW);
        ledger.advance(1);
        reveal(1, ALICE);
        reveal(1, BOB);
        assertPhase(IRoundLedger.Phase.Attest);
    }

    function testFuzz_reveal_isOpenUntilTheDeadline(uint64 delay) public {
        commitAll(1);
        delay = uint64(bound(delay, 0, 2 * REVEAL_WINDOW));
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        vm.warp(START + delay);
        if (delay >= REVEAL_WINDOW) {
            vm.expectRevert(
                abi.encodeWithSelector(IRoundLedger.WindowClosed.selector, START + REVEAL_WINDOW, START + delay)
            );
        }
        ledger.reveal(1, ALICE, metadata);
    }

    function test_reveal_revertsWithWrongPhase() public {
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        commit(1, ALICE);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Reveal, IRoundLedger.Phase.Commit
            )
        );
        ledger.reveal(1, ALICE, metadata);
    }

    function testFuzz_reveal_revertsWithWrongRound(uint32 round) public {
        vm.assume(round != 1);
        commitAll(1);
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongRound.selector, 1, round));
        ledger.reveal(round, ALICE, metadata);
    }

    function test_reveal_revertsWithNotCommitted() public {
        commit(1, ALICE);
        commit(1, BOB);
        vm.warp(START + COMMIT_WINDOW);
        ledger.advance(1);
        IRoundLedger.Metadata memory metadata = metadataOf(1, CAROL);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotCommitted.selector, CAROL, 1));
        ledger.reveal(1, CAROL, metadata);
    }

    function test_reveal_revertsWithAlreadyRevealed() public {
        commitAll(1);
        reveal(1, ALICE);
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.AlreadyRevealed.selector, ALICE, 1));
        ledger.reveal(1, ALICE, metadata);
    }

    function test_reveal_revertsWithWrongBaseModel() public {
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        metadata.baseModel = sha256("another model");
        bytes28 seal = ledger.sealOf(1, ALICE, metadata);
        vm.prank(ALICE);
        ledger.commit(1, seal);
        commit(1, BOB);
        commit(1, CAROL);
        commit(1, DAVE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongBaseModel.selector, GENESIS, metadata.baseModel));
        ledger.reveal(1, ALICE, metadata);
    }

    function test_reveal_revertsWithSealMismatch() public {
        commitAll(1);
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        bytes28 committed = ledger.sealOf(1, ALICE, metadata);
        metadata.salt = "another salt";
        bytes28 actual = ledger.sealOf(1, ALICE, metadata);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.SealMismatch.selector, committed, actual));
        ledger.reveal(1, ALICE, metadata);
    }

    /// @dev Mallory's trick: commit what Alice committed, and open it with what Alice reveals.
    function test_reveal_revertsForACopiedSeal() public {
        bytes28 copied = ledger.sealOf(1, ALICE, metadataOf(1, ALICE));
        commit(1, ALICE);
        vm.prank(BOB);
        ledger.commit(1, copied);
        commit(1, CAROL);
        commit(1, DAVE);
        reveal(1, ALICE);

        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        bytes28 actual = ledger.sealOf(1, BOB, metadata);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.SealMismatch.selector, copied, actual));
        ledger.reveal(1, BOB, metadata);
    }
}
