// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @notice A window has passed with somebody missing, and nobody calls `advance`: the next phase's first action closes it.
contract LateCloseTest is LedgerTest {
    uint64 private constant COMMITS_END = START + COMMIT_WINDOW;
    uint64 private constant REVEALS_END = COMMITS_END + REVEAL_WINDOW;

    bytes32 private model = modelOf(1);

    function setUp() public override {
        super.setUp();
        startCommits();
        commit(1, ALICE);
        commit(1, BOB);
        commit(1, CAROL);
    }

    function testFuzz_reveal_closesTheCommits(uint64 delay) public {
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        uint64 time = START + uint64(bound(delay, 0, 2 * COMMIT_WINDOW));
        vm.warp(time);
        if (time < COMMITS_END) expectWrongPhase(IRoundLedger.Phase.Reveal, IRoundLedger.Phase.Commit);
        else expectCommitsClosed(time);
        if (time >= COMMITS_END) {
            vm.expectEmit(address(ledger));
            emit IRoundLedger.Revealed(1, ALICE, metadata, time);
        }
        ledger.reveal(1, ALICE, metadata);
    }

    /// @dev As after `advance`: nobody commits any more, and the others have a window of their own to reveal in.
    function test_reveal_thatClosedTheCommitsLeavesTheRoundToGoOn() public {
        vm.warp(COMMITS_END);
        reveal(1, ALICE);
        bytes28 seal = sealOf(1, DAVE);
        expectWrongPhase(IRoundLedger.Phase.Commit, IRoundLedger.Phase.Reveal);
        vm.prank(DAVE);
        ledger.commit(1, seal);
        vm.warp(REVEALS_END - 1);
        reveal(1, BOB);
        reveal(1, CAROL);
        assertPhase(IRoundLedger.Phase.Attest);
    }

    function test_reveal_thatIsRefusedClosesNothing() public {
        vm.warp(COMMITS_END);
        IRoundLedger.Metadata memory metadata = metadataOf(1, DAVE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotCommitted.selector, DAVE, 1));
        ledger.reveal(1, DAVE, metadata);
        assertPhase(IRoundLedger.Phase.Commit);
    }

    function test_relayReveals_closesTheCommits() public {
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        vm.warp(COMMITS_END);
        expectCommitsClosed(COMMITS_END);
        bytes[] memory refusals = ledger.relayReveals(1, all);
        assertSkipped(refusals, 3, abi.encodeWithSelector(IRoundLedger.NotCommitted.selector, DAVE, 1));
        assertPhase(IRoundLedger.Phase.Attest); // all who committed have revealed
    }

    function testFuzz_attest_closesTheReveals(uint64 delay) public {
        revealTwo();
        uint64 time = COMMITS_END + uint64(bound(delay, 0, 2 * REVEAL_WINDOW));
        vm.warp(time);
        if (time < REVEALS_END) expectWrongPhase(IRoundLedger.Phase.Attest, IRoundLedger.Phase.Reveal);
        else expectRevealsClosed(time);
        vm.prank(ALICE);
        ledger.attest(1, model, ALL_ACCEPTED);
    }

    function test_attest_thatClosedTheRevealsLeavesTheRoundToGoOn() public {
        revealTwo();
        vm.warp(REVEALS_END);
        attest(1, ALICE);
        IRoundLedger.Metadata memory metadata = metadataOf(1, CAROL);
        expectWrongPhase(IRoundLedger.Phase.Reveal, IRoundLedger.Phase.Attest);
        ledger.reveal(1, CAROL, metadata);
        vm.warp(REVEALS_END + ATTEST_WINDOW - 1);
        attest(1, BOB);
        attest(1, DAVE);
        vm.assertEq(ledger.model(), model);
    }

    function test_relayAttestations_closesTheReveals() public {
        revealTwo();
        IRoundLedger.Signature[] memory votes = signedAttestations(1, organisations(), ALL_ACCEPTED);
        vm.warp(REVEALS_END);
        expectRevealsClosed(REVEALS_END);
        ledger.relayAttestations(1, model, ALL_ACCEPTED, votes);
        vm.assertEq(ledger.model(), model);
    }

    /// @dev Too few is an abort, and that is for `advance` alone.
    function test_tooFewAreNotClosed() public {
        vm.warp(COMMITS_END);
        reveal(1, ALICE);
        vm.warp(REVEALS_END);
        expectWrongPhase(IRoundLedger.Phase.Attest, IRoundLedger.Phase.Reveal);
        vm.prank(ALICE);
        ledger.attest(1, model, ALL_ACCEPTED);
        ledger.advance(1);
        open(2);
        commit(2, ALICE);
        IRoundLedger.Metadata memory metadata = metadataOf(2, ALICE);
        vm.warp(REVEALS_END + COMMIT_WINDOW);
        expectWrongPhase(IRoundLedger.Phase.Reveal, IRoundLedger.Phase.Commit);
        ledger.reveal(2, ALICE, metadata);
    }

    /// @dev One phase at a time: nothing was revealed that one could vote on.
    function test_attest_doesNotCloseTheCommits() public {
        vm.warp(START + 1 days);
        expectWrongPhase(IRoundLedger.Phase.Attest, IRoundLedger.Phase.Commit);
        vm.prank(ALICE);
        ledger.attest(1, model, ALL_ACCEPTED);
    }

    function revealTwo() private {
        vm.warp(COMMITS_END);
        reveal(1, ALICE);
        reveal(1, BOB);
    }

    function expectCommitsClosed(uint64 time) private {
        vm.expectEmit(address(ledger));
        emit IRoundLedger.CommitsClosed(1, 3, time + REVEAL_WINDOW, time);
    }

    function expectRevealsClosed(uint64 time) private {
        vm.expectEmit(address(ledger));
        emit IRoundLedger.RevealsClosed(1, 2, time + ATTEST_WINDOW, time);
    }

    function expectWrongPhase(IRoundLedger.Phase expected, IRoundLedger.Phase actual) private {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongPhase.selector, expected, actual));
    }
}
