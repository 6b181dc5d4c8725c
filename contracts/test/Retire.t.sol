// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract RetireTest is LedgerTest {
    function test_retire_staysAMemberOfTheOpenRound() public {
        startCommits();
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Retired(BOB, 1, START);
        retire(BOB);
        assertMember(BOB, 2, 1, 1);

        commitAll(1);
        revealAll(1);
        attest(1, ALICE);
        attest(1, BOB);
        attest(1, CAROL);
        vm.assertEq(ledger.model(), modelOf(1));

        open(2);
        vm.assertEq(ledger.currentRound().roster, 3);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, BOB, 2));
        vm.prank(BOB);
        ledger.commit(2, "seal");
    }

    function test_retire_beforeTheFirstRound() public {
        enrol(ALICE);
        retire(ALICE);
        assertMember(ALICE, 1, 1, 0);
        enrol(ALICE);
        assertMember(ALICE, 1, 1, NOT_RETIRED);
    }

    /// @dev Verdicts go by number, and numbers go beyond the size of the roster then.
    function test_retire_ofALowNumberLeavesTheHigherOnesTheirVerdicts() public {
        enrolAll();
        enrol(MALLORY);
        retire(ALICE);
        vm.prank(BOB);
        ledger.open(1);
        address[4] memory members = [BOB, CAROL, DAVE, MALLORY];
        for (uint256 i = 0; i < 4; ++i) {
            commit(1, members[i]);
        }
        for (uint256 i = 0; i < 4; ++i) {
            reveal(1, members[i]);
        }
        bytes32 model = modelOf(1);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(members[i]);
            ledger.attest(1, model, hex"0001010101");
        }
        vm.assertEq(ledger.model(), model);
    }

    function test_retire_revertsWithNotEnrolled() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotEnrolled.selector, MALLORY));
        retire(MALLORY);

        enrol(ALICE);
        retire(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotEnrolled.selector, ALICE));
        retire(ALICE);
    }

    function testFuzz_retire_revertsForAnybodyButTheOwner(address caller) public {
        vm.assume(caller != OPERATOR);
        enrol(ALICE);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, caller));
        vm.prank(caller);
        ledger.retire(ALICE);
    }
}
