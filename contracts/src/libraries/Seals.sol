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

    function structHash(uint32 round, address participant, IRoundLedger.Metadata calldata metadata)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(SEAL_TYPEHASH, participant, round, metadataHash(metadata)));
    }

    /// @dev Every field has a fixed size, so the ABI encoding of the struct is its EIP-712 encodeData.
    function metadataHash(IRoundLedger.Metadata calldata metadata) internal pure returns (bytes32) {
        return keccak256(abi.encode(METADATA_TYPEHASH, metadata));
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
