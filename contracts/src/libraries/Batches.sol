// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A record that grows: `head || topics || data` of an event whose last value is an array.
struct Batch {
    bytes record; // with room for all entries
    uint256 length; // where in memory the array's length goes
    uint256 next; // where in memory the next entry goes
    uint32 count; // entries so far
}

/// @title The event of a batch, written in place: encoding an array in the end would cost every entry once more.
library Batches {
    /// @param start topics and one word of data: what stands between the head and the array
    /// @param words the room to keep: of all entries together
    function begin(bytes memory start, uint256 words) internal pure returns (Batch memory batch) {
        bytes memory record = new bytes(start.length + 0x60 + 0x20 * words);
        uint256 length;
        assembly ("memory-safe") {
            let size := mload(start)
            for { let at := 0x20 } iszero(gt(at, size)) { at := add(at, 0x20) } {
                mstore(add(add(record, 0x20), at), mload(add(start, at))) // the head's word stays free
            }
            let offset := add(add(record, 0x40), size)
            mstore(offset, 0x40) // where the array begins in the data: behind this word and the one before
            length := add(offset, 0x20)
        }
        (batch.record, batch.length, batch.next) = (record, length, length + 0x20);
    }

    /// @notice Adds an entry of one word.
    function take(Batch memory batch, address participant) internal pure {
        take(batch, participant, 1);
    }

    /// @notice Adds an entry of two words.
    function take(Batch memory batch, address participant, bytes28 seal) internal pure {
        uint256 place = batch.next + 0x20;
        bytes32 word = seal; // cleaned: assembly would store whatever stands behind a narrower value
        assembly ("memory-safe") {
            mstore(place, word)
        }
        take(batch, participant, 2);
    }

    /// @notice Adds an entry of this many words, which stand there already, but for the first.
    function take(Batch memory batch, address participant, uint256 words) internal pure {
        (uint256 place, uint256 word) = (batch.next, uint160(participant));
        assembly ("memory-safe") {
            mstore(place, word)
        }
        batch.next = place + 0x20 * words;
        ++batch.count;
    }

    /// @notice The record after this head, cut to the entries that there are.
    function end(Batch memory batch, bytes28 head) internal pure returns (bytes memory record) {
        record = batch.record;
        (uint256 length, uint256 next, uint256 count) = (batch.length, batch.next, batch.count);
        bytes32 first = head;
        assembly ("memory-safe") {
            mstore(record, sub(sub(next, record), 0x20))
            mstore(add(record, 0x20), first)
            mstore(length, count)
        }
    }
}
