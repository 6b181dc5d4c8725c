// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract EnrolTest is LedgerTest {
    function test_enrol_numbersInOrderFromTheNextRound() public {
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Enrolled(ALICE, 1, 1, START);
        enrol(ALICE);
        enrol(BOB);

        assertMember(ALICE, 1, 1, NOT_RETIRED);
        assertMember(BOB, 2, 1, NOT_RETIRED);
        assertMember(CAROL, 0, 0, 0);
    }

    function test_enrol_duringARoundCountsFromTheNext() public {
        startCommits();
        enrol(MALLORY);
        assertMember(MALLORY, 5, 2, NOT_RETIRED);
        vm.assertEq(ledger.currentRound().roster, 4);

        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, MALLORY, 1));
        vm.prank(MALLORY);
        ledger.commit(1, "seal");
    }

    function test_enrol_revertsWithAlreadyEnrolled() public {
        enrol(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.AlreadyEnrolled.selector, ALICE));
        enrol(ALICE);
    }

    function testFuzz_enrol_revertsForAnybodyButTheOwner(address caller) public {
        vm.assume(caller != OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, caller));
        vm.prank(caller);
        ledger.enrol(ALICE);
    }

    function test_enrol_againGivesTheOldNumberBack() public {
        enrolAll();
        retire(BOB);
        open(1); // without Bob
        enrol(MALLORY);

        vm.expectEmit(address(ledger));
        emit IRoundLedger.Enrolled(BOB, 2, 2, START);
        enrol(BOB);
        assertMember(BOB, 2, 2, NOT_RETIRED);
        vm.assertEq(ledger.currentRound().roster, 3);

        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, BOB, 1));
        vm.prank(BOB);
        ledger.commit(1, "seal");
    }

    /// @dev Bob counts in the open round's roster. Were his first round moved on, the roster could never be complete.
    function test_enrol_againInTheRoundOfRetirementKeepsTheMembership() public {
        startCommits();
        retire(BOB);
        assertMember(BOB, 2, 1, 1);

        vm.expectEmit(address(ledger));
        emit IRoundLedger.Enrolled(BOB, 2, 1, START);
        enrol(BOB);
        assertMember(BOB, 2, 1, NOT_RETIRED);

        commitAll(1);
        assertPhase(IRoundLedger.Phase.Reveal);
    }

    /// @dev Enrolled, retired and enrolled again during one round: a member of the next, not of this one.
    function test_enrol_againBeforeTheFirstRound() public {
        startCommits();
        enrol(MALLORY);
        retire(MALLORY);
        assertMember(MALLORY, 5, 2, 1);
        enrol(MALLORY);
        assertMember(MALLORY, 5, 2, NOT_RETIRED);

        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, MALLORY, 1));
        vm.prank(MALLORY);
        ledger.commit(1, "seal");
    }
}
