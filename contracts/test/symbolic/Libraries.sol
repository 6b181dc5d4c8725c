// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../../src/interfaces/IRoundLedger.sol";
import {Batch, Batches} from "../../src/libraries/Batches.sol";
import {Channels} from "../../src/libraries/Channels.sol";
import {Merkle6962} from "../../src/libraries/Merkle6962.sol";
import {Seals} from "../../src/libraries/Seals.sol";
import {Tagged, tagged} from "../../src/libraries/Tagged.sol";

/// @notice What halmos proves of the pure libraries, for all values at once. It does not get through SHA-256: proofs with
/// siblings are left to the vectors and the fuzzing. Keccak it takes for a function without collisions.
contract LibrariesCheck {
    using Batches for Batch;

    // --------------------------------------------------------------- Tagged

    function check_tagged_givesBackBoth(bytes28 digest, uint32 number) external pure {
        Tagged word = tagged(digest, number);
        assert(word.digest() == digest && word.number() == number);
    }

    // ------------------------------------------------------------- Channels

    function check_channels_leavesCoverAllAndNoMore(uint32 sent) external pure {
        uint256 leaves = Channels.leaves(sent);
        assert(leaves * Channels.IN_A_LEAF >= sent);
        assert(leaves == 0 || (leaves - 1) * Channels.IN_A_LEAF < sent);
    }

    // ----------------------------------------------------------- Merkle6962

    function check_merkle_nothingStandsOutsideTheTree(
        bytes32 root,
        bytes32 node,
        uint256 index,
        uint256 size,
        bytes32 sibling
    ) external view {
        if (index < size) return;
        assert(!this.verify(root, node, index, size, one(sibling)));
    }

    function check_merkle_aTreeOfOneHasNoSiblings(bytes32 root, bytes32 node, bytes32 sibling) external view {
        assert(!this.verify(root, node, 0, 1, one(sibling)));
        assert(this.verify(root, node, 0, 1, new bytes32[](0)) == (root == node));
    }

    // ---------------------------------------------------------------- Seals

    function check_seals_metadataHashIsItsEncodings(IRoundLedger.Metadata calldata metadata) external pure {
        assert(Seals.metadataHash(metadata) == keccak256(encoded(metadata)));
    }

    /// @dev The word behind a record's head is borrowed, and given back.
    function check_seals_hashInARecordIsTheSame(bytes28 head, uint32 round, IRoundLedger.Metadata calldata metadata)
        external
        pure
    {
        bytes memory record = abi.encode(head, round, metadata);
        bytes32 before = keccak256(record);
        assert(Seals.metadataHashIn(record, 2) == Seals.metadataHash(metadata));
        assert(keccak256(record) == before);
    }

    function check_seals_copiedHashIsTheSame(IRoundLedger.Metadata calldata metadata) external pure {
        bytes memory room = new bytes(0x180);
        assert(Seals.copyMetadata(metadata, placeIn(room)) == Seals.metadataHash(metadata));
        assert(keccak256(room) == keccak256(encoded(metadata)));
    }

    /// @dev The compiler's encoding reverts on a word with bits that its type does not have; so must the copy.
    function check_seals_copyTakesWhatTheEncodingTakes(bytes32[11] calldata words) external view {
        bytes memory metadata = abi.encodePacked(words);
        (bool encodes,) = address(this).staticcall(bytes.concat(this.encode.selector, metadata));
        (bool copies,) = address(this).staticcall(bytes.concat(this.copy.selector, metadata));
        assert(encodes == copies);
    }

    function check_seals_bindRoundParticipantAndMetadata(
        uint32 round,
        address participant,
        bytes32 metadataHash,
        uint32 otherRound,
        address otherParticipant,
        bytes32 otherHash
    ) external pure {
        bool same =
            round == otherRound && participant == otherParticipant && metadataHash == otherHash;
        assert(
            same
                == (Seals.structHash(round, participant, metadataHash)
                    == Seals.structHash(otherRound, otherParticipant, otherHash))
        );
    }

    function check_seals_noMessageIsAnothersKind(
        uint32 round,
        bytes28 seal,
        bytes32 word,
        address participant,
        address replacement,
        uint64 deadline
    ) external pure {
        bytes32 commit = Seals.commitHash(round, seal, deadline);
        bytes32 attestation = Seals.attestationHash(round, word, word, deadline);
        bytes32 rotation = Seals.rotationHash(participant, replacement, deadline);
        assert(commit != attestation && attestation != rotation && rotation != commit);
    }

    // -------------------------------------------------------------- Batches

    /// @dev For no entry, one and two: halmos wants a number for the size of what is copied.
    function check_batches_twoWordEntriesAreAbiEncoded(
        bytes28 head,
        bytes32 selector,
        uint32 round,
        uint64 time,
        address[2] memory participants,
        bytes28[2] memory seals
    ) external pure {
        for (uint256 count = 0; count <= 2; ++count) {
            Batch memory batch = Batches.begin(abi.encode(selector, round, time), 4);
            IRoundLedger.Sealing[] memory entries = new IRoundLedger.Sealing[](count);
            for (uint256 i = 0; i < count; ++i) {
                batch.take(participants[i], seals[i]);
                entries[i] = IRoundLedger.Sealing(participants[i], seals[i]);
            }
            bytes memory expected = bytes.concat(abi.encode(head, selector, round), abi.encode(time, entries));
            assert(keccak256(batch.end(head)) == keccak256(expected));
        }
    }

    function check_batches_oneWordEntriesAreAbiEncoded(
        bytes28 head,
        bytes32 selector,
        bytes32 topic,
        uint64 time,
        address[2] memory participants
    ) external pure {
        for (uint256 count = 0; count <= 2; ++count) {
            Batch memory batch = Batches.begin(abi.encode(selector, topic, time), 2);
            address[] memory entries = new address[](count);
            for (uint256 i = 0; i < count; ++i) {
                batch.take(participants[i]);
                entries[i] = participants[i];
            }
            bytes memory expected = bytes.concat(abi.encode(head, selector, topic), abi.encode(time, entries));
            assert(keccak256(batch.end(head)) == keccak256(expected));
        }
    }

    // -------------------------------------------------------------- helpers

    function encode(IRoundLedger.Metadata calldata metadata) external pure returns (bytes32) {
        return Seals.metadataHash(metadata);
    }

    function copy(IRoundLedger.Metadata calldata metadata) external pure returns (bytes32) {
        return Seals.copyMetadata(metadata, placeIn(new bytes(0x180)));
    }

    /// @dev The encodeData of EIP-712, its type written out: not the library's constant.
    function encoded(IRoundLedger.Metadata calldata metadata) private pure returns (bytes memory) {
        bytes32 typehash = keccak256(
            "Metadata(bytes32 baseModel,bytes32 updateDigest,uint64 updateBytes,bytes32 dataRoot,"
            "bytes32 secretCommitment,uint64 records,bytes32 channelRoot,uint32 channels,uint32 sent,"
            "uint128 threshold,bytes32 salt)"
        );
        return abi.encode(typehash, metadata);
    }

    function placeIn(bytes memory room) private pure returns (uint256 place) {
        assembly ("memory-safe") {
            place := add(room, 0x20)
        }
    }

    function verify(bytes32 root, bytes32 node, uint256 index, uint256 size, bytes32[] calldata path)
        external
        pure
        returns (bool)
    {
        return Merkle6962.verify(root, node, index, size, path);
    }

    function one(bytes32 sibling) private pure returns (bytes32[] memory path) {
        path = new bytes32[](1);
        path[0] = sibling;
    }
}
