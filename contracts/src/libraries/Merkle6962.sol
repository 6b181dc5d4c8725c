// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Inclusion proofs in Merkle trees of RFC 6962, section 2.1: SHA-256, leaf prefix 0x00, node prefix 0x01.
/// @notice Index and tree size decide on which side each sibling stands, so a proof binds the position.
library Merkle6962 {
    function leafHash(bytes memory leaf) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"00", leaf));
    }

    function nodeHash(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"01", left, right));
    }

    /// @notice Whether a leaf with hash `node` stands at `index` of the `size` leaves under `root` (the algorithm of RFC
    /// 9162, 2.1.3.2).
    /// @param path the siblings, lowest first; one too many or too few fails
    function verify(bytes32 root, bytes32 node, uint256 index, uint256 size, bytes32[] calldata path)
        internal
        pure
        returns (bool)
    {
        if (index >= size) return false;
        uint256 last = size - 1; // index of the last node on the level of `node`
        for (uint256 i = 0; i < path.length; ++i) {
            if (last == 0) return false;
            if (index % 2 == 1 || index == last) {
                node = nodeHash(path[i], node);
                // An odd last node rose to a level where it has a sibling to its left.
                while (index % 2 == 0 && index != 0) (index, last) = (index / 2, last / 2);
            } else {
                node = nodeHash(node, path[i]);
            }
            (index, last) = (index / 2, last / 2);
        }
        return last == 0 && node == root;
    }
}
