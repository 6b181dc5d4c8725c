// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {Seals} from "../src/libraries/Seals.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @notice The golden vectors of tests/vectors, which the Python tests read too.
contract VectorsTest is LedgerTest {
    function test_vectors_seal() public {
        bytes memory code = address(ledger).code;
        string memory file = vm.readFile("../tests/vectors/seal.json");
        vm.assertEq(vm.parseJsonUint(file, ".formatVersion"), 1);

        uint256 count;
        for (; vm.keyExistsJson(file, entry(".cases", count)); ++count) {
            string memory each = entry(".cases", count);
            // The contract's code, standing where the case says: the domain follows.
            address place = vm.parseJsonAddress(file, string.concat(each, ".contract"));
            vm.etch(place, code);
            vm.chainId(vm.parseJsonUint(file, string.concat(each, ".chainId")));

            IRoundLedger.Metadata memory metadata = readMetadata(file, string.concat(each, ".metadata"));
            vm.assertEq(this.metadataHash(metadata), digest(file, string.concat(each, ".metadataHash")), each);

            uint32 round = uint32(vm.parseJsonUint(file, string.concat(each, ".round")));
            address participant = vm.parseJsonAddress(file, string.concat(each, ".participant"));
            bytes28 seal = bytes28(vm.parseJsonBytes(file, string.concat(each, ".seal")));
            vm.assertEq(IRoundLedger(place).sealOf(round, participant, metadata), seal, each);

            bytes32 domain = digest(file, string.concat(each, ".domainSeparator"));
            bytes32 message = this.structHash(round, participant, metadata);
            vm.assertEq(seal, bytes28(keccak256(abi.encodePacked(hex"1901", domain, message))), each);
        }
        vm.assertTrue(count >= 4, "at least four cases");
    }

    function test_vectors_head() public view {
        string memory file = vm.readFile("../tests/vectors/head.json");
        vm.assertEq(vm.parseJsonUint(file, ".formatVersion"), 3);

        bytes28 folded = bytes28(vm.parseJsonBytes(file, ".start"));
        uint256 total;
        for (uint256 i = 0; vm.keyExistsJson(file, entry(".transactions", i)); ++i) {
            string memory transaction = entry(".transactions", i);
            string memory logs = string.concat(transaction, ".logs");
            for (uint256 j = 0; vm.keyExistsJson(file, entry(logs, j)); ++j) {
                bytes32[] memory topics = vm.parseJsonBytes32Array(file, string.concat(entry(logs, j), ".topics"));
                bytes memory data = vm.parseJsonBytes(file, string.concat(entry(logs, j), ".data"));
                folded = bytes28(keccak256(abi.encodePacked(bytes32(folded), topics, data)));
                vm.assertEq(folded, bytes28(vm.parseJsonBytes(file, string.concat(entry(logs, j), ".head"))));
                ++total;
            }
            vm.assertEq(folded, bytes28(vm.parseJsonBytes(file, string.concat(transaction, ".contractHead"))));
        }
        vm.assertTrue(total >= 15, "a whole round");
    }

    // ------------------------------------------- the library, as an outsider

    function metadataHash(IRoundLedger.Metadata calldata metadata) external pure returns (bytes32) {
        return Seals.metadataHash(metadata);
    }

    function structHash(uint32 round, address participant, IRoundLedger.Metadata calldata metadata)
        external
        pure
        returns (bytes32)
    {
        return Seals.structHash(round, participant, Seals.metadataHash(metadata));
    }

    // -------------------------------------------------------------- reading

    function readMetadata(string memory file, string memory key)
        private
        pure
        returns (IRoundLedger.Metadata memory metadata)
    {
        metadata.baseModel = digest(file, string.concat(key, ".baseModel"));
        metadata.updateDigest = digest(file, string.concat(key, ".updateDigest"));
        metadata.updateBytes = uint64(vm.parseJsonUint(file, string.concat(key, ".updateBytes")));
        metadata.dataRoot = digest(file, string.concat(key, ".dataRoot"));
        metadata.secretCommitment = digest(file, string.concat(key, ".secretCommitment"));
        metadata.records = uint64(vm.parseJsonUint(file, string.concat(key, ".records")));
        metadata.channelRoot = digest(file, string.concat(key, ".channelRoot"));
        metadata.channels = uint32(vm.parseJsonUint(file, string.concat(key, ".channels")));
        metadata.sent = uint32(vm.parseJsonUint(file, string.concat(key, ".sent")));
        metadata.threshold = uint128(vm.parseJsonUint(file, string.concat(key, ".threshold")));
        metadata.salt = digest(file, string.concat(key, ".salt"));
    }

    function digest(string memory file, string memory key) private pure returns (bytes32) {
        return vm.parseJsonBytes32(file, key);
    }

    function entry(string memory list, uint256 index) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(index), "]");
    }
}
