// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @notice What each call costs as a transaction of its own, with everything a transaction pays. Recorded in snapshots/.
/// @dev Isolated: every call starts cold, as on a chain. The figures without "first" are those of every round but the first.
/// forge-config: default.isolate = true
contract GasTest is LedgerTest {
    string private constant FILE = "RoundLedger";

    function setUp() public override {
        super.setUp();
        enrolAll();
    }

    function test_gas_round() public {
        playRound(1);
        open(2);
        uint256 opening = vm.snapshotGasLastCall(FILE, "open");

        commit(2, ALICE);
        uint256 own = vm.snapshotGasLastCall(FILE, "commit");
        commit(2, BOB);
        commit(2, CAROL);
        commit(2, DAVE);
        uint256 lastCommit = vm.snapshotGasLastCall(FILE, "commit, closing the commits");

        reveal(2, ALICE);
        own += vm.snapshotGasLastCall(FILE, "reveal");
        reveal(2, BOB);
        reveal(2, CAROL);
        reveal(2, DAVE);
        vm.snapshotGasLastCall(FILE, "reveal, closing the reveals");

        attest(2, ALICE);
        vm.snapshotGasLastCall(FILE, "attest, first vote for an outcome");
        attest(2, BOB);
        own += vm.snapshotGasLastCall(FILE, "attest");
        attest(2, CAROL);
        vm.snapshotGasLastCall(FILE, "attest, finalizing");
        vm.snapshotValue(FILE, "commit + reveal + attest", own);
        opening;
        lastCommit;
    }
}
