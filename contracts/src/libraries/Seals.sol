// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../interfaces/IRoundLedger.sol";

/// @title The EIP-712 struct hash behind a seal.
/// @notice The seal itself is keccak256(0x19 0x01 || domain separator || this hash). Participant and round are part of
/// the struct, chain id and contract part of the domain: a seal means one participant's update of one round of one
/// federation.
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
}
