// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Channels} from "../../src/libraries/Channels.sol";
import {Merkle6962} from "../../src/libraries/Merkle6962.sol";
import {Tagged, tagged} from "../../src/libraries/Tagged.sol";

/// @notice What halmos proves of the pure libraries, for all values at once. It does not get through SHA-256: proofs with
/// siblings are left to the vectors and the fuzzing.
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
