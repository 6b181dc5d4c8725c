// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract PauseTest is LedgerTest {
    address private immutable WATCH = actor("watch");

    function setUp() public override {
        super.setUp();
        enrolAll();
        vm.expectEmit(address(ledger));
        emit IRoundLedger.PauserChanged(WATCH, START);
        vm.prank(OPERATOR);
        ledger.setPauser(WATCH);
    }

    function test_pause_stopsNewRoundsAlone() public {
        open(1);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Paused(WATCH, START);
        pause();
        vm.assertTrue(ledger.paused());

        commitAll(1);
        revealAll(1);
        attest(1, ALICE);
        enrol(MALLORY);
        retire(MALLORY);
        attest(1, BOB);
        attest(1, CAROL);
        vm.assertEq(ledger.model(), modelOf(1));

        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.AlreadyPaused.selector));
        open(2);
        vm.prank(WATCH);
        ledger.unpause();
        open(2);
    }

    function test_pause_aPausedRoundEndsByTheClockToo() public {
        open(1);
        pause();
        vm.warp(START + COMMIT_WINDOW);
        ledger.advance(1);
        assertPhase(IRoundLedger.Phase.Idle);
    }

    function test_unpause_byTheOwner() public {
        pause();
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Unpaused(OPERATOR, START);
        vm.prank(OPERATOR);
        ledger.unpause();
        vm.assertFalse(ledger.paused());
        open(1);
    }

    function testFuzz_pause_revertsForAnybodyElse(address caller) public {
        vm.assume(caller != WATCH);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotPauser.selector, caller));
        vm.prank(caller);
        ledger.pause();
    }

    function testFuzz_unpause_revertsForAnybodyElse(address caller) public {
        vm.assume(caller != WATCH && caller != OPERATOR);
        pause();
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotPauser.selector, caller));
        vm.prank(caller);
        ledger.unpause();
    }

    function test_pause_revertsWithAlreadyPaused() public {
        pause();
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.AlreadyPaused.selector));
        pause();
    }

    function test_unpause_revertsWithNotPaused() public {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotPaused.selector));
        vm.prank(OPERATOR);
        ledger.unpause();
    }

    function testFuzz_setPauser_revertsForAnybodyButTheOwner(address caller) public {
        vm.assume(caller != OPERATOR);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, caller));
        vm.prank(caller);
        ledger.setPauser(caller);
    }

    function test_setPauser_takesTheOldOneItsRight() public {
        vm.prank(OPERATOR);
        ledger.setPauser(address(0));
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotPauser.selector, WATCH));
        pause();
        vm.assertEq(ledger.pauser(), address(0));
    }

    function pause() private {
        vm.prank(WATCH);
        ledger.pause();
    }
}
