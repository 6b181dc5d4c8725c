// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {Ledger} from "./utils/Ledger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

contract QuorumTest is LedgerTest {
    function test_quorum_examples() public {
        vm.assertEq(withQuorum(6667).quorum(3), 3); // two thirds, rounded up, is more than two thirds
        vm.assertEq(withQuorum(6667).quorum(4), 3);
        vm.assertEq(withQuorum(6666).quorum(3), 2);
        vm.assertEq(withQuorum(5001).quorum(2), 2);
        vm.assertEq(withQuorum(5001).quorum(1), 1);
        vm.assertEq(withQuorum(10_000).quorum(7), 7);
    }

    function testFuzz_quorum_isTheSmallestSufficientCount(uint16 bps, uint32 roster) public {
        bps = uint16(bound(bps, 5001, 10_000));
        uint256 votes = withQuorum(bps).quorum(roster);
        vm.assertTrue(votes * 10_000 >= uint256(roster) * bps, "enough");
        vm.assertTrue(votes == 0 || (votes - 1) * 10_000 < uint256(roster) * bps, "no more than enough");
    }

    function testFuzz_quorum_twoNeverFit(uint16 bps, uint32 roster) public {
        vm.assume(roster != 0);
        bps = uint16(bound(bps, 5001, 10_000));
        uint256 votes = withQuorum(bps).quorum(roster);
        vm.assertTrue(2 * votes > roster, "a majority");
        vm.assertTrue(votes <= roster, "within reach");
    }

    function withQuorum(uint16 bps) private returns (Ledger) {
        IRoundLedger.Rules memory some = defaultRules();
        some.quorumBps = bps;
        return deploy(OPERATOR, some);
    }
}
