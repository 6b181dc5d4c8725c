// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract OpenTest is LedgerTest {
    function test_open_fixesBaseModelAndRoster() public {
        enrolAll();
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Opened(1, GENESIS, 4, START + COMMIT_WINDOW, START);
        open(1);

        IRoundLedger.Round memory expected =
            IRoundLedger.Round(1, IRoundLedger.Phase.Commit, START + COMMIT_WINDOW, 4, 0, 0);
        vm.assertEq(abi.encode(ledger.currentRound()), abi.encode(expected));
    }

    function test_open_afterAFinalizedRoundBuildsOnItsModel() public {
        enrolAll();
        playRound(1);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Opened(2, modelOf(1), 4, START + COMMIT_WINDOW, START);
        open(2);
    }

    function test_open_afterAnAbortedRoundBuildsOnTheSameModel() public {
        startCommits();
        vm.warp(START + COMMIT_WINDOW);
        ledger.advance(1);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.Opened(2, GENESIS, 4, START + 2 * COMMIT_WINDOW, START + COMMIT_WINDOW);
        open(2);
    }

    function testFuzz_open_revertsWithWrongRound(uint32 round) public {
        vm.assume(round != 1);
        enrolAll();
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongRound.selector, 1, round));
        open(round);
    }

    function test_open_revertsWithWrongPhaseInEveryOtherPhase() public {
        startCommits();
        expectWrongPhase(IRoundLedger.Phase.Commit);
        commitAll(1);
        expectWrongPhase(IRoundLedger.Phase.Reveal);
        revealAll(1);
        expectWrongPhase(IRoundLedger.Phase.Attest);
    }

    function test_open_revertsWithNotParticipant() public {
        enrolAll();
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, MALLORY, 1));
        vm.prank(MALLORY);
        ledger.open(1);

        retire(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, ALICE, 1));
        open(1);
    }

    function test_open_revertsWithTooFewParticipants() public {
        enrol(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.TooFewParticipants.selector, MIN_UPDATES, 1));
        open(1);
        enrol(BOB);
        open(1);
    }

    function expectWrongPhase(IRoundLedger.Phase actual) private {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Idle, actual));
        open(2);
    }
}
