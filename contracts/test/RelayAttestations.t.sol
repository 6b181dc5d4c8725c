// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @dev All calls come from the test contract, which is nobody: anybody may relay.
contract RelayAttestationsTest is LedgerTest {
    bytes32 private model = modelOf(1);
    bytes32 private outcome = keccak256(abi.encode(1, model, ALL_ACCEPTED));

    function setUp() public override {
        super.setUp();
        startAttestations();
    }

    function test_relayAttestations_finalizesAndSkipsTheRest() public {
        IRoundLedger.Signature[] memory votes = signedAttestations(1, organisations(), ALL_ACCEPTED);
        address[] memory voters = new address[](3);
        (voters[0], voters[1], voters[2]) = (ALICE, BOB, CAROL);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Proposed(1, outcome, model, START, ALL_ACCEPTED);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.AttestationsRelayed(1, outcome, START, voters);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Finalized(1, model, 3, START);
        bytes[] memory refusals = ledger.relayAttestations(1, model, ALL_ACCEPTED, votes);

        bytes memory tooLate = abi.encodeWithSelector(
            IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Attest, IRoundLedger.Phase.Idle
        );
        assertSkipped(refusals, 3, tooLate);
        vm.assertEq(ledger.model(), model);
        vm.assertEq(ledger.participantOf(DAVE).attested, 0);
    }

    function test_relayAttestations_besideDirectOnes() public {
        attest(1, ALICE);
        IRoundLedger.Signature[] memory votes = signedAttestations(1, organisations(), ALL_ACCEPTED);
        bytes[] memory refusals = ledger.relayAttestations(1, model, ALL_ACCEPTED, votes);
        vm.assertEq(refusals[0], abi.encodeWithSelector(IRoundLedger.AlreadyAttested.selector, ALICE, 1));
        assertPhase(IRoundLedger.Phase.Idle);
        vm.assertEq(ledger.model(), model);
    }

    /// @dev Whoever comes first, relayed and direct votes for the same outcome add up, and no others.
    function testFuzz_relayAttestations_countsByOutcome(bool dissentFirst) public {
        bytes32 other = sha256("other");
        if (dissentFirst) vote(DAVE, other);
        IRoundLedger.Signature[] memory votes = new IRoundLedger.Signature[](2);
        votes[0] = signAttestation(1, BOB, model, ALL_ACCEPTED, NO_DEADLINE);
        votes[1] = signAttestation(1, ALICE, model, ALL_ACCEPTED, NO_DEADLINE);
        assertTaken(ledger.relayAttestations(1, model, ALL_ACCEPTED, votes));
        if (!dissentFirst) vote(DAVE, other);
        assertPhase(IRoundLedger.Phase.Attest);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Finalized(1, model, 3, START);
        vote(CAROL, model);
    }

    function test_relayAttestations_skipsSignaturesForAnotherOutcome() public {
        IRoundLedger.Signature[] memory votes = signedAttestations(1, organisations(), hex"010101");
        ledger.relayAttestations(1, model, ALL_ACCEPTED, votes);
        assertPhase(IRoundLedger.Phase.Attest);
        for (uint256 i = 0; i < 4; ++i) {
            vm.assertEq(ledger.participantOf(organisations()[i]).attested, 0);
        }
    }

    function test_relayAttestations_skipsADuplicateAnExpiredOneAndAStrangers() public {
        vm.warp(START + 5);
        IRoundLedger.Signature[] memory votes = new IRoundLedger.Signature[](4);
        votes[0] = signAttestation(1, ALICE, model, ALL_ACCEPTED, NO_DEADLINE);
        votes[1] = votes[0];
        votes[2] = signAttestation(1, BOB, model, ALL_ACCEPTED, START + 4);
        votes[3] = signAttestation(1, MALLORY, model, ALL_ACCEPTED, NO_DEADLINE);
        bytes[] memory refusals = ledger.relayAttestations(1, model, ALL_ACCEPTED, votes);
        vm.assertEq(refusals[0], "");
        vm.assertEq(refusals[1], abi.encodeWithSelector(IRoundLedger.AlreadyAttested.selector, ALICE, 1));
        bytes memory expired = abi.encodeWithSelector(IRoundLedger.SignatureExpired.selector, START + 4, START + 5);
        vm.assertEq(refusals[2], expired);
        vm.assertEq(refusals[3], abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, MALLORY, 1));
    }

    function test_relayAttestations_proposesNothingWithoutAVote() public {
        bytes28 before = ledger.head();
        IRoundLedger.Signature[] memory votes = new IRoundLedger.Signature[](1);
        votes[0] = signAttestation(1, MALLORY, model, ALL_ACCEPTED, NO_DEADLINE);
        ledger.relayAttestations(1, model, ALL_ACCEPTED, votes);
        vm.assertEq(ledger.head(), before);
    }

    function test_relayAttestations_revertsWithInvalidVerdicts() public {
        IRoundLedger.Signature[] memory votes = signedAttestations(1, organisations(), hex"0100");
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.InvalidVerdicts.selector));
        ledger.relayAttestations(1, model, hex"0100", votes);
    }

    function test_relayAttestations_revertsWithZeroDigest() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.ZeroDigest.selector));
        ledger.relayAttestations(1, 0, ALL_ACCEPTED, new IRoundLedger.Signature[](0));
    }

    function vote(address account, bytes32 newModel) private {
        vm.prank(account);
        ledger.attest(1, newModel, ALL_ACCEPTED);
    }
}
