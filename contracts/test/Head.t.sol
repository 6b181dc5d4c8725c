// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {Ledger} from "./utils/Ledger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";
import {Vm} from "./utils/Vm.sol";

/// @notice The head is the fold of every log, after every kind of action.
contract HeadTest is LedgerTest {
    /// @dev What the logs since the last call give must be the head; `logs` says how many there are.
    modifier follows(uint256 logs) {
        vm.getRecordedLogs();
        bytes28 before = ledger.head();
        _;
        check(before, logs);
    }

    function setUp() public override {
        super.setUp();
        vm.recordLogs();
    }

    function test_head_followsTheConstructor() public {
        ledger = deploy(OPERATOR, defaultRules());
        check(0, 2);
    }

    function test_head_followsEnrol() public follows(1) {
        enrol(ALICE);
    }

    function test_head_followsRetireAndReturn() public follows(3) {
        enrol(ALICE);
        retire(ALICE);
        enrol(ALICE);
    }

    function test_head_followsOpen() public follows(5) {
        startCommits();
    }

    function test_head_followsEveryCommitAndTheirClose() public follows(10) {
        startReveals();
    }

    function test_head_followsEveryRevealAndTheirClose() public follows(15) {
        startAttestations();
    }

    function test_head_followsAttestAndFinalize() public follows(20) {
        enrolAll();
        playRound(1);
    }

    function test_head_followsTheAborts() public follows(18) {
        startCommits(); // 5 logs
        vm.warp(START + 1 days);
        ledger.advance(1);

        open(2);
        commitAll(2); // with the close: 5
        vm.warp(START + 2 days);
        ledger.advance(2);

        vm.assertEq(ledger.currentRound().number, 2);
        open(3);
        commit(3, ALICE);
        commit(3, BOB);
        vm.warp(START + 3 days);
        ledger.advance(3);
        vm.warp(START + 4 days);
        ledger.advance(3);
    }

    function test_head_followsTheAbortWithoutQuorum() public follows(18) {
        startAttestations();
        attest(1, ALICE);
        vm.warp(START + 1 days);
        ledger.advance(1);
    }

    function test_head_followsEveryChangeOfOwner() public follows(4) {
        vm.prank(OPERATOR);
        ledger.transferOwnership(CAROL);
        vm.prank(CAROL);
        ledger.acceptOwnership();
        vm.prank(CAROL);
        ledger.transferOwnership(address(0)); // withdraws the offer
        vm.prank(CAROL);
        ledger.renounceOwnership();
    }

    function test_head_differsWhenTheOrderDiffers() public {
        Ledger other = deploy(OPERATOR, defaultRules());
        enrol(ALICE);
        enrol(BOB);
        bytes28 here = ledger.head();
        ledger = other;
        enrol(BOB);
        enrol(ALICE);
        vm.assertNotEq(here, ledger.head());
    }

    function test_head_staysWhenACallReverts() public {
        bytes28 before = ledger.head();
        (bool done,) = address(ledger).call(abi.encodeCall(IRoundLedger.enrol, (ALICE)));
        vm.assertFalse(done);
        vm.assertEq(ledger.head(), before);
    }

    function check(bytes28 before, uint256 count) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, count, "logs");
        vm.assertEq(ledger.head(), fold(before, logs), "head");
    }
}

contract HeadAmongManyTest is LedgerTest {
    bytes32 private model;

    /// @dev 304 participants, so that long verdicts are valid; once, not in every run.
    function setUp() public override {
        super.setUp();
        for (uint160 i = 0; i < 300; ++i) {
            enrol(address(0xE000 + i));
        }
        enrolAll();
        open(1);
        commitAll(1);
        vm.warp(block.timestamp + COMMIT_WINDOW);
        ledger.advance(1);
        revealAll(1);
        model = modelOf(1);
        vm.recordLogs();
    }

    function testFuzz_head_followsVerdictsOfAnyLength(bytes memory verdicts) public {
        uint256 length = bound(verdicts.length, 1, 304);
        bytes memory some = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            some[i] = i < verdicts.length ? verdicts[i] : bytes1(0x01);
        }
        some[length - 1] = 0x02;
        bytes28 before = ledger.head();
        vm.getRecordedLogs();
        vm.prank(ALICE);
        ledger.attest(1, model, some);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 2, "logs");
        vm.assertEq(ledger.head(), fold(before, logs), "head");
    }
}
