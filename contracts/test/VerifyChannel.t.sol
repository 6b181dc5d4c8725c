// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ProofTest} from "./utils/ProofTest.sol";

contract VerifyChannelTest is ProofTest {
    function test_verifyChannel_agreesWithPython() public view {
        vm.assertEq(channelProofs.length, 13);
        for (uint256 i = 0; i < 13; ++i) {
            vm.assertTrue(holds(channelProofs[i]), vm.toString(i));
        }
    }

    function testFuzz_verifyChannel_refusesWhatIsAltered(uint256 which, uint8 part, uint256 bit) public view {
        ChannelProof memory proof = channelProofs[which % 13];
        if (part % 6 == 0) proof.metadata.channelRoot ^= bytes32(1 << bit % 256);
        if (part % 6 == 1) proof.channel ^= uint32(1 << bit % 32);
        if (part % 6 == 2) proof.squaredNorm ^= uint128(1 << bit % 128);
        if (part % 6 == 3) proof.position ^= uint32(1 << bit % 32);
        if (part % 6 == 4) proof.leaf[bit % proof.leaf.length] ^= 0x01;
        if (part % 6 == 5) proof.path = longer(proof.path, bytes32(bit));
        vm.assertFalse(holds(proof));
    }

    /// @dev An inner node is no leaf: leaves have a prefix of their own, and their size follows from the position.
    function test_verifyChannel_refusesALeafOfAnotherSize() public view {
        ChannelProof memory proof = channelProofs[12];
        proof.leaf = bytes.concat(proof.leaf, hex"00");
        vm.assertFalse(holds(proof));
        proof.leaf = "";
        vm.assertFalse(holds(proof));
    }

    function holds(ChannelProof memory p) private view returns (bool) {
        return ledger.verifyChannel(p.metadata, p.position, p.channel, p.squaredNorm, p.leaf, p.path);
    }
}
