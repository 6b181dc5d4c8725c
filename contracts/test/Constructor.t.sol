// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";
import {Vm} from "./utils/Vm.sol";

contract ConstructorTest is LedgerTest {
    function test_constructor_setsRulesModelAndOwner() public view {
        vm.assertEq(abi.encode(ledger.rules()), abi.encode(defaultRules()));
        vm.assertEq(ledger.model(), GENESIS);
        vm.assertEq(ledger.owner(), OPERATOR);
        vm.assertEq(ledger.currentRound().number, 0);
        assertPhase(IRoundLedger.Phase.Idle);
    }

    function test_constructor_logsOwnerThenCreated() public {
        vm.recordLogs();
        ledger = deploy(OPERATOR, defaultRules());
        Vm.Log[] memory logs = vm.getRecordedLogs();

        vm.assertEq(logs.length, 2);
        vm.assertEq(logs[0].topics[0], Ownable.OwnershipTransferred.selector);
        vm.assertEq(logs[1].topics[0], IRoundLedger.Created.selector);
        vm.assertEq(logs[1].data, abi.encode(uint16(3), block.chainid, address(ledger), defaultRules(), START));
        vm.assertEq(ledger.head(), fold(0, logs));
    }

    function test_constructor_revertsWithInvalidRules() public {
        IRoundLedger.Rules memory bad = defaultRules();
        bad.rulesDigest = 0;
        expectInvalid(bad, "rulesDigest");

        bad = defaultRules();
        bad.genesisModel = 0;
        expectInvalid(bad, "genesisModel");

        bad = defaultRules();
        bad.commitWindow = 0;
        expectInvalid(bad, "commitWindow");

        bad = defaultRules();
        bad.revealWindow = 0;
        expectInvalid(bad, "revealWindow");

        bad = defaultRules();
        bad.attestWindow = 0;
        expectInvalid(bad, "attestWindow");

        bad = defaultRules();
        bad.minUpdates = 0;
        expectInvalid(bad, "minUpdates");
    }

    function testFuzz_constructor_acceptsQuorumAboveHalfOnly(uint16 quorumBps) public {
        IRoundLedger.Rules memory some = defaultRules();
        some.quorumBps = quorumBps;
        if (quorumBps <= 5000 || quorumBps > 10_000) return expectInvalid(some, "quorumBps");

        vm.assertEq(deploy(OPERATOR, some).rules().quorumBps, quorumBps);
    }

    function test_constructor_revertsWithOwnerZero() public {
        IRoundLedger.Rules memory good = defaultRules();
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableInvalidOwner.selector, address(0)));
        deploy(address(0), good);
    }

    function expectInvalid(IRoundLedger.Rules memory bad, string memory field) private {
        vm.expectRevert(abi.encodeWithSelector(IRoundLedger.InvalidRules.selector, field));
        deploy(OPERATOR, bad);
    }
}
