// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";

/// @notice The proofs of tests/vectors/proofs.json, which the Python implementation made.
abstract contract ProofTest is LedgerTest {
    struct RecordProof {
        IRoundLedger.Metadata metadata;
        uint64 index;
        bytes32 key;
        bytes32 content;
        bytes32[] path;
    }

    struct ChannelProof {
        IRoundLedger.Metadata metadata;
        uint32 position;
        uint32 channel;
        uint128 squaredNorm;
        bytes leaf;
        bytes32[] path;
    }

    // Kept decoded: to read the file again in each of thousands of fuzz runs would take minutes.
    RecordProof[] internal recordProofs;
    ChannelProof[] internal channelProofs;
    string private file;

    function setUp() public override {
        super.setUp();
        file = vm.readFile("../tests/vectors/proofs.json");
        while (has(".records", recordProofs.length)) recordProofs.push(readRecordProof(recordProofs.length));
        while (has(".channels", channelProofs.length)) channelProofs.push(readChannelProof(channelProofs.length));
    }

    function has(string memory list, uint256 index) private view returns (bool) {
        return vm.keyExistsJson(file, entry(list, index));
    }

    function readRecordProof(uint256 index) private view returns (RecordProof memory proof) {
        string memory each = entry(".records", index);
        proof.metadata.dataRoot = vm.parseJsonBytes32(file, string.concat(each, ".dataRoot"));
        proof.metadata.records = uint64(number(each, ".records"));
        proof.index = uint64(number(each, ".index"));
        proof.key = vm.parseJsonBytes32(file, string.concat(each, ".key"));
        proof.content = vm.parseJsonBytes32(file, string.concat(each, ".content"));
        proof.path = pathOf(each);
    }

    function readChannelProof(uint256 index) private view returns (ChannelProof memory proof) {
        string memory each = entry(".channels", index);
        proof.metadata.channelRoot = vm.parseJsonBytes32(file, string.concat(each, ".channelRoot"));
        proof.metadata.sent = uint32(number(each, ".sent"));
        proof.position = uint32(number(each, ".position"));
        proof.channel = uint32(number(each, ".channel"));
        proof.squaredNorm = uint128(number(each, ".squaredNorm"));
        proof.leaf = vm.parseJsonBytes(file, string.concat(each, ".leaf"));
        proof.path = pathOf(each);
    }

    function longer(bytes32[] memory path, bytes32 last) internal pure returns (bytes32[] memory copy) {
        copy = new bytes32[](path.length + 1);
        for (uint256 i = 0; i < path.length; ++i) {
            copy[i] = path[i];
        }
        copy[path.length] = last;
    }

    function shorter(bytes32[] memory path) internal pure returns (bytes32[] memory copy) {
        copy = new bytes32[](path.length - 1);
        for (uint256 i = 0; i < copy.length; ++i) {
            copy[i] = path[i];
        }
    }

    function pathOf(string memory each) private view returns (bytes32[] memory) {
        string memory key = string.concat(each, ".path");
        if (!vm.keyExistsJson(file, string.concat(key, "[0]"))) return new bytes32[](0);
        return vm.parseJsonBytes32Array(file, key);
    }

    function number(string memory each, string memory key) private view returns (uint256) {
        return vm.parseJsonUint(file, string.concat(each, key));
    }

    function entry(string memory list, uint256 index) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(index), "]");
    }
}
