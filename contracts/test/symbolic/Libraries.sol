// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Channels} from "../../src/libraries/Channels.sol";
import {Merkle6962} from "../../src/libraries/Merkle6962.sol";
import {Tagged, tagged} from "../../src/libraries/Tagged.sol";

/// @notice What halmos proves of the pure libraries, for all values at once. SHA-256 is any function there.
contract LibrariesCheck {
    function check_tagged_givesBackBoth(bytes28 digest, uint32 number) external pure {
        Tagged word = tagged(digest, number);
        assert(word.digest() == digest && word.number() == number);
    }

    function check_channels_leavesCoverAllAndNoMore(uint32 sent) external pure {
        uint256 leaves = Channels.leaves(sent);
        assert(leaves * Channels.IN_A_LEAF >= sent);
        assert(leaves == 0 || (leaves - 1) * Channels.IN_A_LEAF < sent);
    }

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

    function check_merkle_aTreeOfTwoBindsThePosition(bytes32 left, bytes32 right) external view {
        bytes32 root = Merkle6962.nodeHash(left, right);
        assert(this.verify(root, left, 0, 2, one(right)));
        assert(this.verify(root, right, 1, 2, one(left)));
        assert(!this.verify(root, left, 0, 2, new bytes32[](0)));
    }

    function check_merkle_aTreeOfThreeLetsTheLastRise(bytes32 a, bytes32 b, bytes32 c) external view {
        bytes32 root = Merkle6962.nodeHash(Merkle6962.nodeHash(a, b), c);
        assert(this.verify(root, c, 2, 3, one(Merkle6962.nodeHash(a, b))));
        bytes32[] memory path = new bytes32[](2);
        (path[0], path[1]) = (a, c);
        assert(this.verify(root, b, 1, 3, path));
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
