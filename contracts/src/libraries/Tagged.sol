// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A digest and a number in one word: what the slots hold that are written most.
/// @notice The digest is keccak cut to 224 bits; IRoundLedger says what that means.
type Tagged is bytes32;

using {digest, number} for Tagged global;

function tagged(bytes28 digest_, uint32 number_) pure returns (Tagged) {
    return Tagged.wrap(bytes32(digest_) | bytes32(uint256(number_)));
}

function digest(Tagged self) pure returns (bytes28) {
    // forge-lint: disable-next-line(unsafe-typecast) - the first 28 bytes are meant
    return bytes28(Tagged.unwrap(self));
}

function number(Tagged self) pure returns (uint32) {
    // forge-lint: disable-next-line(unsafe-typecast) - the last four bytes are meant
    return uint32(uint256(Tagged.unwrap(self)));
}
