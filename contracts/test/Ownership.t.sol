// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {LedgerTest} from "./utils/LedgerTest.sol";

contract OwnershipTest is LedgerTest {
    function test_transferOwnership_needsAcceptance() public {
        vm.prank(OPERATOR);
        ledger.transferOwnership(CAROL);
        vm.assertEq(ledger.owner(), OPERATOR);

        vm.prank(CAROL);
        ledger.acceptOwnership();
        vm.assertEq(ledger.owner(), CAROL);
    }

    function testFuzz_transferOwnership_revertsForAnybodyButTheOwner(address caller) public {
        vm.assume(caller != OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, caller));
        vm.prank(caller);
        ledger.transferOwnership(caller);
    }

    function test_acceptOwnership_revertsForAnybodyElse() public {
        vm.prank(OPERATOR);
        ledger.transferOwnership(CAROL);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, MALLORY));
        vm.prank(MALLORY);
        ledger.acceptOwnership();
    }

    /// @dev Without an owner the membership is frozen and the rounds go on.
    function test_renounceOwnership_leavesTheRoundsRunning() public {
        enrolAll();
        vm.prank(OPERATOR);
        ledger.renounceOwnership();
        vm.assertEq(ledger.owner(), address(0));

        playRound(1);
        vm.assertEq(ledger.model(), modelOf(1));

        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, OPERATOR));
        enrol(MALLORY);
    }
}
