// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract RotateTest is LedgerTest {
    address private immutable NEW_KEY = actor("alice's new key");

    function test_rotate_theOldKeyEndsTheRoundAndTheNewOneGoesOn() public {
        startCommits();
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Rotated(ALICE, NEW_KEY, 1, 2, START);
        rotate(ALICE, NEW_KEY);
        assertMember(ALICE, 1, 1, 1);
        assertMember(NEW_KEY, 1, 2, NOT_RETIRED);
        vm.assertTrue(ledger.participantOf(ALICE).rotated);
        vm.assertFalse(ledger.participantOf(NEW_KEY).rotated);

        expectNotParticipant(NEW_KEY, 1);
        commitAll(1);
        revealAll(1);
        attest(1, ALICE);
        attest(1, BOB);
        attest(1, CAROL);
        vm.prank(NEW_KEY);
        ledger.open(2);
        vm.assertEq(ledger.currentRound().roster, 4);
        expectNotParticipant(ALICE, 2);
        commit(2, NEW_KEY);
    }

    /// @dev So whoever sees that it is to be retired, and rotates in front of it, does so once.
    function test_rotate_revertsTwiceInARound() public {
        startCommits();
        rotate(ALICE, NEW_KEY);
        expectNoRotation(NEW_KEY, MALLORY, 1);
        retire(NEW_KEY);
        assertMember(NEW_KEY, 1, 2, 1); // never
        commitAll(1);
        enrol(NEW_KEY); // back without a gap, and yet in no round so far
        expectNoRotation(NEW_KEY, MALLORY, 1);

        revealAll(1);
        attest(1, ALICE);
        attest(1, BOB);
        attest(1, CAROL);
        vm.prank(NEW_KEY);
        ledger.open(2);
        rotate(NEW_KEY, MALLORY);
        assertMember(MALLORY, 1, 3, NOT_RETIRED);
    }

    function test_rotate_asOftenAsOneLikesBeforeTheFirstRound() public {
        enrol(ALICE);
        rotate(ALICE, NEW_KEY);
        rotate(NEW_KEY, MALLORY);
        assertMember(NEW_KEY, 1, 1, 0); // never
        assertMember(MALLORY, 1, 1, NOT_RETIRED);
    }

    function test_rotate_aRotatedKeyNeverComesBack() public {
        startCommits();
        rotate(ALICE, NEW_KEY);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.KeyRotated.selector, ALICE));
        enrol(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotEnrolled.selector, ALICE));
        retire(ALICE);

        retire(NEW_KEY);
        enrol(NEW_KEY);
        assertMember(NEW_KEY, 1, 2, NOT_RETIRED);
    }

    function test_rotate_revertsWithNotEnrolled() public {
        enrol(ALICE);
        retire(ALICE);
        IRoundLedger.Signature memory consent = signRotation(ALICE, NEW_KEY, NO_DEADLINE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotEnrolled.selector, ALICE));
        vm.prank(ALICE);
        ledger.rotate(NEW_KEY, consent);

        consent = signRotation(MALLORY, NEW_KEY, NO_DEADLINE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotEnrolled.selector, MALLORY));
        vm.prank(MALLORY);
        ledger.rotate(NEW_KEY, consent);
    }

    function test_rotate_revertsWithAlreadyEnrolled() public {
        enrolAll();
        retire(BOB);
        address[3] memory known = [ALICE, BOB, CAROL]; // itself, one retired, one enrolled
        for (uint256 i = 0; i < 3; ++i) {
            IRoundLedger.Signature memory consent = signRotation(ALICE, known[i], NO_DEADLINE);
            vm.expectRevert(abi.encodeWithSelector(IRoundLedger.AlreadyEnrolled.selector, known[i]));
            vm.prank(ALICE);
            ledger.rotate(known[i], consent);
        }
    }

    /// @dev Nobody takes an address that is not its own.
    function test_rotate_revertsWithoutTheConsentOfTheReplacement() public {
        enrolAll();
        IRoundLedger.Signature[3] memory bad = [
            signRotation(BOB, NEW_KEY, NO_DEADLINE), // consents to take over from Bob
            signRotation(ALICE, MALLORY, NO_DEADLINE), // another's consent
            signRotation(ALICE, NEW_KEY, NO_DEADLINE)
        ];
        bad[2].vs ^= bytes32(uint256(1));
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IRoundLedger.InvalidSignature.selector));
            vm.prank(ALICE);
            ledger.rotate(NEW_KEY, bad[i]);
        }
    }

    function test_rotate_revertsWithSignatureExpired() public {
        enrolAll();
        IRoundLedger.Signature memory consent = signRotation(ALICE, NEW_KEY, START);
        vm.warp(START + 1);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.SignatureExpired.selector, START, START + 1));
        vm.prank(ALICE);
        ledger.rotate(NEW_KEY, consent);
    }

    function expectNoRotation(address account, address replacement, uint32 newest) private {
        IRoundLedger.Signature memory consent = signRotation(account, replacement, NO_DEADLINE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, account, newest));
        vm.prank(account);
        ledger.rotate(replacement, consent);
    }

    function expectNotParticipant(address account, uint32 round) private {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, account, round));
        vm.prank(account);
        ledger.commit(round, "seal");
    }
}
