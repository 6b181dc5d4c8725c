// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../../src/interfaces/IRoundLedger.sol";

/// @notice All that the contract can be called for: its own functions and those of OpenZeppelin's Ownable2Step.
/// @dev The tests import no source of the contract, so that they can be compiled with cheaper settings than it is.
interface Ledger is IRoundLedger {
    function owner() external view returns (address);
    function transferOwnership(address newOwner) external;
    function acceptOwnership() external;
    function renounceOwnership() external;
}
