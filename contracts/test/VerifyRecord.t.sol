// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {ProofTest} from "./utils/ProofTest.sol";

contract VerifyRecordTest is ProofTest {
    function test_verifyRecord_agreesWithPython() public view {
        vm.assertEq(recordProofs.length, 45);
        for (uint256 i = 0; i < 45; ++i) {
            vm.assertTrue(holds(recordProofs[i]), vm.toString(i));
        }
    }

    /// @dev One bit of anything altered, one step more or less: no proof.
    function testFuzz_verifyRecord_refusesWhatIsAltered(uint256 which, uint8 part, uint256 bit) public view {
        RecordProof memory proof = recordProofs[which % 45];
        bytes32 mask = bytes32(1 << bit % 256);
        if (part % 7 == 0) proof.metadata.dataRoot ^= mask;
        if (part % 7 == 1) proof.key ^= mask;
        if (part % 7 == 2) proof.content ^= mask;
        if (part % 7 == 3) proof.index ^= uint64(1 << bit % 64);
        if (part % 7 == 4) proof.path = longer(proof.path, mask);
        if (part % 7 == 5 && proof.path.length == 0) return;
        if (part % 7 == 5) proof.path[bit % proof.path.length] ^= mask;
        if (part % 7 == 6 && proof.path.length == 0) return;
        if (part % 7 == 6) proof.path = shorter(proof.path);
        vm.assertFalse(holds(proof));
    }

    /// @dev The size says how deep a leaf lies. Another size may give the same way up, never another position.
    function test_verifyRecord_refusesAnIndexOutsideTheTree() public view {
        RecordProof memory proof = recordProofs[0];
        proof.metadata.records = 0;
        vm.assertFalse(holds(proof));
        proof.metadata.records = 1;
        proof.index = 1;
        vm.assertFalse(holds(proof));
    }

    function holds(RecordProof memory proof) private view returns (bool) {
        return ledger.verifyRecord(proof.metadata, proof.index, proof.key, proof.content, proof.path);
    }
}
