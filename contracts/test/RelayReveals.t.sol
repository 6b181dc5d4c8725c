// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @dev All calls come from the test contract, which is nobody: anybody may relay.
contract RelayRevealsTest is LedgerTest {
    function setUp() public override {
        super.setUp();
        startReveals();
    }

    function test_relayReveals_takesThemAll() public {
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        vm.expectEmit(address(ledger));
        emit IRoundLedger.RevealsRelayed(1, START, all);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.RevealsClosed(1, 4, START + ATTEST_WINDOW, START);
        assertTaken(ledger.relayReveals(1, all));
        assertPhase(IRoundLedger.Phase.Attest);
        for (uint256 i = 0; i < 4; ++i) {
            vm.assertTrue(ledger.isRevealed(1, all[i].participant, all[i].metadata));
        }
    }

    function test_relayReveals_skipsADuplicateAndWhatWasRevealed() public {
        reveal(1, BOB);
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        all[3] = all[0];
        bytes[] memory refusals = ledger.relayReveals(1, all);
        vm.assertEq(refusals[0], "");
        vm.assertEq(refusals[1], abi.encodeWithSelector(IRoundLedger.AlreadyRevealed.selector, BOB, 1));
        vm.assertEq(refusals[2], "");
        vm.assertEq(refusals[3], abi.encodeWithSelector(IRoundLedger.AlreadyRevealed.selector, ALICE, 1));
        vm.assertEq(ledger.currentRound().reveals, 3);
    }

    function test_relayReveals_skipsOneThatDoesNotOpenTheSeal() public {
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        all[2].metadata.salt = "another salt";
        bytes28 actual = ledger.sealOf(1, CAROL, all[2].metadata);
        bytes memory refusal = abi.encodeWithSelector(IRoundLedger.SealMismatch.selector, sealOf(1, CAROL), actual);
        assertSkipped(ledger.relayReveals(1, all), 2, refusal);
        vm.assertFalse(ledger.participantOf(CAROL).revealed);
    }

    function test_relayReveals_skipsOneOnAnotherBase() public {
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        all[0].metadata.baseModel = sha256("another model");
        bytes memory refusal =
            abi.encodeWithSelector(IRoundLedger.WrongBaseModel.selector, GENESIS, all[0].metadata.baseModel);
        assertSkipped(ledger.relayReveals(1, all), 0, refusal);
    }

    function test_relayReveals_skipsAStrangers() public {
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        all[1].participant = MALLORY;
        bytes memory refusal = abi.encodeWithSelector(IRoundLedger.NotCommitted.selector, MALLORY, 1);
        assertSkipped(ledger.relayReveals(1, all), 1, refusal);
    }

    /// @dev The direct call and the batch hash metadata in two ways: they must be one.
    function testFuzz_relayReveals_opensWhatSealOfSeals(IRoundLedger.Metadata memory metadata) public {
        vm.warp(START + REVEAL_WINDOW);
        ledger.advance(1);
        open(2);
        metadata.baseModel = GENESIS;
        for (uint256 i = 0; i < 4; ++i) {
            bytes28 seal = ledger.sealOf(2, organisations()[i], metadata);
            vm.prank(organisations()[i]);
            ledger.commit(2, seal);
        }
        IRoundLedger.Opening[] memory two = new IRoundLedger.Opening[](2);
        two[0] = IRoundLedger.Opening(DAVE, metadata);
        two[1] = IRoundLedger.Opening(ALICE, metadata);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.RevealsRelayed(2, uint64(block.timestamp), two);
        assertTaken(ledger.relayReveals(2, two));
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Revealed(2, BOB, metadata, uint64(block.timestamp));
        ledger.reveal(2, BOB, metadata);
    }

    /// @dev A field with more bits than its type has would stand in the event, and no reader could decode it.
    function testFuzz_relayReveals_revertsForADirtyField(uint8 field, uint8 bit) public {
        uint8[6] memory words = [0, 3, 6, 8, 9, 10]; // participant, updateBytes, records, channels, sent, threshold
        uint8[6] memory bits = [160, 64, 64, 32, 32, 128];
        uint256 word = words[field % 6];
        uint256 dirt = 1 << bound(bit, bits[field % 6], 255);
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        bytes memory data = abi.encodeCall(IRoundLedger.relayReveals, (1, all));
        uint256 place = 4 + 0x20 * (3 + 12 * 2 + word) + 0x20; // of the third entry, after the length
        assembly ("memory-safe") {
            let at := add(data, place)
            mstore(at, or(mload(at), dirt))
        }
        (bool done,) = address(ledger).call(data);
        vm.assertFalse(done);
        (done,) = address(ledger).call(abi.encodeCall(IRoundLedger.relayReveals, (1, all)));
        vm.assertTrue(done);
    }

    function test_relayReveals_revertsWithWrongPhase() public {
        IRoundLedger.Opening[] memory all = openings(1, organisations());
        revealAll(1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Reveal, IRoundLedger.Phase.Attest
            )
        );
        ledger.relayReveals(1, all);
    }
}
