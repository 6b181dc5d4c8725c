// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @notice A seal binds the place, the participant, the round and every single field.
contract SealTest is LedgerTest {
    function testFuzz_seal_isTheTypedDataHash(uint32 round, address account, IRoundLedger.Metadata memory m)
        public
        view
    {
        // Written out once more, from the text of EIP-712, without the ABI encoding of a struct.
        string memory metadataType = "Metadata(bytes32 baseModel,bytes32 updateDigest,uint64 updateBytes,"
            "bytes32 dataRoot,bytes32 secretCommitment,uint64 records,bytes32 channelRoot,uint32 channels,uint32 sent,"
            "uint128 threshold,bytes32 salt)";
        bytes memory first = abi.encode(keccak256(bytes(metadataType)), m.baseModel, m.updateDigest, m.updateBytes);
        bytes memory second = abi.encode(m.dataRoot, m.secretCommitment, m.records, m.channelRoot);
        bytes memory third = abi.encode(m.channels, m.sent, m.threshold, m.salt);
        bytes32 sealType =
            keccak256(bytes.concat("Seal(address participant,uint32 round,Metadata metadata)", bytes(metadataType)));
        bytes32 structHash =
            keccak256(abi.encode(sealType, account, round, keccak256(bytes.concat(first, second, third))));
        bytes32 domainType =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain =
            keccak256(abi.encode(domainType, keccak256("roundledger"), keccak256("1"), block.chainid, address(ledger)));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, structHash));
        vm.assertEq(ledger.sealOf(round, account, m), bytes28(digest));
    }

    function testFuzz_seal_bindsParticipantAndRound(
        uint32 round,
        address account,
        uint32 otherRound,
        address otherAccount
    ) public view {
        vm.assume(round != otherRound && account != otherAccount);
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        bytes28 seal = ledger.sealOf(round, account, metadata);
        vm.assertNotEq(seal, ledger.sealOf(otherRound, account, metadata));
        vm.assertNotEq(seal, ledger.sealOf(round, otherAccount, metadata));
    }

    function test_seal_bindsTheContract() public {
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        bytes28 seal = ledger.sealOf(1, ALICE, metadata);
        for (uint256 i = 0; i < 4; ++i) {
            vm.assertNotEq(seal, deploy(OPERATOR, defaultRules()).sealOf(1, ALICE, metadata));
        }
    }

    function testFuzz_seal_bindsTheChain(uint64 chainId) public {
        vm.assume(chainId != 0 && chainId != block.chainid);
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        bytes28 seal = ledger.sealOf(1, ALICE, metadata);
        vm.chainId(chainId); // a fork of the chain, with the same contract on it
        vm.assertNotEq(seal, ledger.sealOf(1, ALICE, metadata));
    }

    /// @dev Every field is one word of the ABI encoding: flip each bit of the narrowest one's size in each of them.
    function test_seal_bindsEveryField() public view {
        IRoundLedger.Metadata memory metadata = metadataOf(1, ALICE);
        bytes28 seal = ledger.sealOf(1, ALICE, metadata);
        uint256 words = abi.encode(metadata).length / 32;
        vm.assertEq(words, 11);
        for (uint256 word = 0; word < words; ++word) {
            for (uint256 bit = 0; bit < 32; ++bit) {
                bytes memory altered = abi.encode(metadata);
                uint256 place = word * 32 + 31 - bit / 8;
                altered[place] = altered[place] ^ bytes1(uint8(1 << bit % 8));
                vm.assertNotEq(seal, ledger.sealOf(1, ALICE, abi.decode(altered, (IRoundLedger.Metadata))));
            }
        }
    }
}
