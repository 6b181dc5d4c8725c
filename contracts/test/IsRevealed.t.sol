// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract IsRevealedTest is LedgerTest {
    function test_isRevealed_fromTheRevealToTheNextCommit() public {
        startReveals();
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        vm.assertFalse(ledger.isRevealed(1, ALICE, metadata));
        reveal(1, ALICE);
        vm.assertTrue(ledger.isRevealed(1, ALICE, metadata));
        vm.assertFalse(ledger.isRevealed(2, ALICE, metadata));
        vm.assertFalse(ledger.isRevealed(1, BOB, metadata));

        vm.warp(START + REVEAL_WINDOW);
        ledger.advance(1);
        open(2);
        vm.assertTrue(ledger.isRevealed(1, ALICE, metadata));
        commit(2, ALICE);
        vm.assertFalse(ledger.isRevealed(1, ALICE, metadata));
    }

    function testFuzz_isRevealed_ofNothingElse(IRoundLedger.Metadata memory metadata, uint32 round) public {
        startReveals();
        reveal(1, ALICE);
        vm.assertFalse(ledger.isRevealed(round, ALICE, metadata));
    }
}
