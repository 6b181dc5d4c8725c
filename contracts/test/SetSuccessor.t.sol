// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract SetSuccessorTest is LedgerTest {
    address private constant NEXT = address(0xA2);

    function test_setSuccessor_endsTheRoundsAndNotTheOpenOne() public {
        startCommits();
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Succeeded(NEXT, START);
        succeed(NEXT);
        vm.assertEq(ledger.successor(), NEXT);

        commitAll(1);
        revealAll(1);
        attest(1, ALICE);
        attest(1, BOB);
        attest(1, CAROL);
        vm.assertEq(ledger.model(), modelOf(1));
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.HasSuccessor.selector, NEXT));
        open(2);
    }

    function test_setSuccessor_revertsWithHasSuccessor() public {
        succeed(NEXT);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.HasSuccessor.selector, NEXT));
        succeed(address(0xA3));
    }

    function test_setSuccessor_revertsWithZeroAddress() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.ZeroAddress.selector));
        succeed(address(0));
    }

    function testFuzz_setSuccessor_revertsForAnybodyButTheOwner(address caller) public {
        vm.assume(caller != OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, caller));
        vm.prank(caller);
        ledger.setSuccessor(NEXT);
    }

    function succeed(address next) private {
        vm.prank(OPERATOR);
        ledger.setSuccessor(next);
    }
}
