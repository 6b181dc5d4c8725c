// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../interfaces/IRoundLedger.sol";

/// @title The EIP-712 struct hashes: of what a seal hides, and of what a key signs.
/// @notice The digest itself is keccak256(0x19 0x01 || domain separator || struct hash); a seal is its first 28 bytes.
/// Participant and round are part of the seal, chain id and contract part of the domain: a seal means one participant's
/// update of one round of one federation. A signed struct names no participant: whoever signed is meant.
library Seals {
    bytes32 internal constant METADATA_TYPEHASH = keccak256(
        "Metadata(bytes32 baseModel,bytes32 updateDigest,uint64 updateBytes,bytes32 dataRoot,bytes32 secretCommitment,"
        "uint64 records,bytes32 channelRoot,uint32 channels,uint32 sent,uint128 threshold,bytes32 salt)"
    );

    /// @dev A type that names another one is followed by the other's definition (EIP-712, encodeType).
    bytes32 internal constant SEAL_TYPEHASH = keccak256(
        "Seal(address participant,uint32 round,Metadata metadata)"
        "Metadata(bytes32 baseModel,bytes32 updateDigest,uint64 updateBytes,bytes32 dataRoot,bytes32 secretCommitment,"
        "uint64 records,bytes32 channelRoot,uint32 channels,uint32 sent,uint128 threshold,bytes32 salt)"
    );

    bytes32 internal constant COMMIT_TYPEHASH = keccak256("Commit(uint32 round,bytes28 seal,uint64 deadline)");
    bytes32 internal constant ATTESTATION_TYPEHASH =
        keccak256("Attestation(uint32 round,bytes32 model,bytes verdicts,uint64 deadline)");
    bytes32 internal constant ROTATION_TYPEHASH =
        keccak256("Rotation(address participant,address replacement,uint64 deadline)");

    function structHash(uint32 round, address participant, bytes32 metadataHash_) internal pure returns (bytes32) {
        return keccak256(abi.encode(SEAL_TYPEHASH, participant, round, metadataHash_));
    }

    /// @dev Every field has a fixed size, so the ABI encoding of the struct is its EIP-712 encodeData.
    function metadataHash(IRoundLedger.Metadata calldata metadata) internal pure returns (bytes32) {
        return keccak256(abi.encode(METADATA_TYPEHASH, metadata));
    }

    /// @dev The same of metadata that stands encoded in `record` after `words` other words, one at least. Encoding it
    /// once more would cost more than borrowing the word before it for the type hash.
    function metadataHashIn(bytes memory record, uint256 words) internal pure returns (bytes32 hash) {
        bytes32 typehash = METADATA_TYPEHASH;
        assembly ("memory-safe") {
            let before := add(record, shl(5, words)) // the word of the length makes up for the one before
            let borrowed := mload(before)
            mstore(before, typehash)
            hash := keccak256(before, 0x180) // the type hash and eleven fields
            mstore(before, borrowed)
        }
    }

    /// @dev Encodes metadata by copying it into memory, one word behind `place`, and hashes it. As in the compiler's own
    /// encoding, which this spares, a field with bits that its type does not have reverts.
    function copyMetadata(IRoundLedger.Metadata calldata metadata, uint256 place) internal pure returns (bytes32 hash) {
        bytes32 typehash = METADATA_TYPEHASH;
        assembly ("memory-safe") {
            mstore(place, typehash)
            calldatacopy(add(place, 0x20), metadata, 0x160)
            hash := keccak256(place, 0x180)
            let excess := or(shr(64, mload(add(place, 0x60))), shr(64, mload(add(place, 0xc0)))) // updateBytes, records
            excess := or(excess, shr(32, or(mload(add(place, 0x100)), mload(add(place, 0x120))))) // channels, sent
            if or(excess, shr(128, mload(add(place, 0x140)))) { revert(0, 0) } // threshold
        }
    }

    function commitHash(uint32 round, bytes28 seal, uint64 deadline) internal pure returns (bytes32) {
        return keccak256(abi.encode(COMMIT_TYPEHASH, round, seal, deadline));
    }

    /// @param verdictsHash keccak256 of the verdicts: one hash for all votes of a batch
    function attestationHash(uint32 round, bytes32 model, bytes32 verdictsHash, uint64 deadline)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(ATTESTATION_TYPEHASH, round, model, verdictsHash, deadline));
    }

    function rotationHash(address participant, address replacement, uint64 deadline) internal pure returns (bytes32) {
        return keccak256(abi.encode(ROTATION_TYPEHASH, participant, replacement, deadline));
    }
}
