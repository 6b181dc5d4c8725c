// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The leaves of a channel table: 64 sent channels each, of every one u32 channel || u128 squared norm.
library Channels {
    uint256 internal constant IN_A_LEAF = 64;
    uint256 private constant SIZE = 20; // bytes of one channel

    /// @notice Leaves of a table of `sent` channels.
    function leaves(uint256 sent) internal pure returns (uint256) {
        return (sent + IN_A_LEAF - 1) / IN_A_LEAF;
    }

    /// @notice Whether `leaf` has the size of the one that holds `position`, and has this channel there.
    /// @dev `position` is below `sent`.
    function holds(bytes calldata leaf, uint256 sent, uint256 position, uint32 channel, uint128 squaredNorm)
        internal
        pure
        returns (bool)
    {
        uint256 first = position - position % IN_A_LEAF;
        uint256 count = sent - first < IN_A_LEAF ? sent - first : IN_A_LEAF;
        if (leaf.length != count * SIZE) return false;
        uint256 start = (position - first) * SIZE;
        // forge-lint: disable-next-line(unsafe-typecast) - a slice of exactly twenty bytes
        return bytes20(leaf[start:start + SIZE]) == bytes20(abi.encodePacked(channel, squaredNorm));
    }
}
