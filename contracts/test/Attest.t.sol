// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract AttestTest is LedgerTest {
    bytes32 private model = modelOf(1);

    function setUp() public override {
        super.setUp();
        startAttestations();
    }

    function test_attest_countsAVote() public {
        bytes32 outcome = keccak256(abi.encode(1, model, ALL_ACCEPTED));
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Proposed(1, outcome, model, START, ALL_ACCEPTED);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Attested(1, ALICE, outcome, START);
        attest(1, ALICE);

        vm.assertEq(ledger.participantOf(ALICE).attested, 1);
        vm.assertEq(ledger.model(), GENESIS);
        assertPhase(IRoundLedger.Phase.Attest);
    }

    function test_attest_atTheQuorumFinalizes() public {
        attest(1, ALICE);
        attest(1, BOB);
        assertPhase(IRoundLedger.Phase.Attest);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Finalized(1, model, 3, START);
        attest(1, CAROL);

        vm.assertEq(ledger.model(), model);
        assertPhase(IRoundLedger.Phase.Idle);
    }

    function test_attest_byOneWhoDidNotCommit() public {
        vm.warp(START + ATTEST_WINDOW);
        ledger.advance(1);
        open(2);
        commit(2, ALICE);
        commit(2, BOB);
        vm.warp(START + ATTEST_WINDOW + COMMIT_WINDOW);
        ledger.advance(2);
        reveal(2, ALICE);
        reveal(2, BOB);
        vote(2, CAROL, model, hex"0101");
        vm.assertEq(ledger.participantOf(CAROL).attested, 2);
    }

    /// @dev Whichever outcome comes first, only identical votes add up.
    function testFuzz_attest_finalizesOnlyWithIdenticalVotes(uint8 dissenter, bool otherModel) public {
        address[] memory members = organisations();
        uint256 odd = dissenter % 4;
        bytes32 wrong = otherModel ? sha256("wrong") : model;
        bytes memory verdicts = otherModel ? ALL_ACCEPTED : bytes(hex"010101");
        for (uint256 i = 0; i < 4; ++i) {
            assertPhase(IRoundLedger.Phase.Attest); // three equal votes of four finalize: not before the last
            if (i == odd) vote(1, members[i], wrong, verdicts);
            else vote(1, members[i], model, ALL_ACCEPTED);
            if (odd == 3 && i == 2) break;
        }
        vm.assertEq(ledger.model(), model);
        assertPhase(IRoundLedger.Phase.Idle);
    }

    function test_attest_withoutAQuorumWaitsForTheDeadline() public {
        vote(1, ALICE, model, ALL_ACCEPTED);
        vote(1, BOB, sha256("other"), ALL_ACCEPTED);
        vote(1, CAROL, model, ALL_ACCEPTED);
        vote(1, DAVE, sha256("other"), ALL_ACCEPTED);
        assertPhase(IRoundLedger.Phase.Attest);
        vm.assertEq(ledger.model(), GENESIS);
    }

    /// @dev The votes of an aborted round must not help the next one, be they for its first outcome or for another.
    function test_attest_votesDoNotOutliveTheRound() public {
        bytes32 other = sha256("other");
        vote(1, ALICE, model, ALL_ACCEPTED);
        vote(1, BOB, model, ALL_ACCEPTED);
        vote(1, CAROL, other, ALL_ACCEPTED);
        vote(1, DAVE, other, ALL_ACCEPTED);
        vm.warp(START + ATTEST_WINDOW);
        ledger.advance(1);

        open(2);
        commitAll(2);
        revealAll(2);
        vote(2, ALICE, model, ALL_ACCEPTED);
        assertPhase(IRoundLedger.Phase.Attest);
        vote(2, BOB, other, ALL_ACCEPTED);
        assertPhase(IRoundLedger.Phase.Attest);
        vote(2, CAROL, model, ALL_ACCEPTED);
        assertPhase(IRoundLedger.Phase.Attest);
        vote(2, DAVE, model, ALL_ACCEPTED);
        assertPhase(IRoundLedger.Phase.Idle);
    }

    function testFuzz_attest_isOpenUntilTheDeadline(uint64 delay) public {
        delay = uint64(bound(delay, 0, 2 * ATTEST_WINDOW));
        vm.warp(START + delay);
        if (delay >= ATTEST_WINDOW) {
            vm.expectRevert(
                abi.encodeWithSelector(IRoundLedger.WindowClosed.selector, START + ATTEST_WINDOW, START + delay)
            );
        }
        vote(1, ALICE, model, ALL_ACCEPTED);
    }

    function testFuzz_attest_revertsWithWrongRound(uint32 round) public {
        vm.assume(round != 1);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongRound.selector, 1, round));
        vote(round, ALICE, model, ALL_ACCEPTED);
    }

    function test_attest_revertsWithWrongPhase() public {
        attest(1, ALICE);
        attest(1, BOB);
        attest(1, CAROL);
        vm.expectRevert(
            abi.encodeWithSelector(IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Attest, IRoundLedger.Phase.Idle)
        );
        vote(1, DAVE, model, ALL_ACCEPTED);
    }

    function test_attest_revertsWithNotParticipant() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, MALLORY, 1));
        vote(1, MALLORY, model, ALL_ACCEPTED);
    }

    function test_attest_revertsWithAlreadyAttested() public {
        attest(1, ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.AlreadyAttested.selector, ALICE, 1));
        vote(1, ALICE, "another model", ALL_ACCEPTED);
    }

    function test_attest_revertsWithZeroDigest() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.ZeroDigest.selector));
        vote(1, ALICE, 0, ALL_ACCEPTED);
    }

    function testFuzz_attest_revertsWithInvalidVerdicts(bytes memory verdicts) public {
        bool valid = verdicts.length != 0 && verdicts.length <= 4 && verdicts[verdicts.length - 1] != 0;
        if (!valid) vm.expectRevert(abi.encodeWithSelector(IRoundLedger.InvalidVerdicts.selector));
        vote(1, ALICE, model, verdicts);
    }

    function test_attest_revertsWithInvalidVerdicts() public {
        bytes[3] memory invalid = [bytes(""), hex"01010100", hex"0101010101"];
        for (uint256 i = 0; i < invalid.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IRoundLedger.InvalidVerdicts.selector));
            vote(1, ALICE, model, invalid[i]);
        }
    }

    function vote(uint32 round, address account, bytes32 newModel, bytes memory verdicts) private {
        vm.prank(account);
        ledger.attest(round, newModel, verdicts);
    }
}
