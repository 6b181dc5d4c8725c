// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @notice What each call costs as a transaction of its own, with all that a transaction pays, in a federation of four.
/// Kept in snapshots/: a change of the contract shows there as a diff.
/// @dev Isolated: every call begins with cold storage, as on a chain.
/// forge-config: default.isolate = true
contract GasTest is LedgerTest {
    string private constant FILE = "RoundLedger";

    function test_gas_enrol() public {
        enrol(ALICE);
        snapshot("enrol, the very first");
        enrol(BOB);
        snapshot("enrol");
    }

    function test_gas_firstRound() public {
        enrolAll();
        open(1);
        snapshot("first round: open");
        commit(1, ALICE);
        snapshot("first round: commit");
        commit(1, BOB);
        commit(1, CAROL);
        commit(1, DAVE);
        revealAll(1);
        attest(1, ALICE);
        snapshot("first round: attest, first vote");
    }

    /// @dev From the second round on, all storage is overwritten.
    function test_gas_everyOtherRound() public {
        enrolAll();
        playRound(1);

        open(2);
        uint256 common = snapshot("open");

        commit(2, ALICE);
        uint256 own = snapshot("commit");
        commit(2, BOB);
        commit(2, CAROL);
        commit(2, DAVE);
        common += snapshot("commit, closing the commits") - own;

        reveal(2, ALICE);
        uint256 revealing = snapshot("reveal");
        reveal(2, BOB);
        reveal(2, CAROL);
        reveal(2, DAVE);
        common += snapshot("reveal, closing the reveals") - revealing;

        attest(2, ALICE);
        uint256 firstVote = snapshot("attest, first vote");
        attest(2, BOB);
        uint256 attesting = snapshot("attest");
        attest(2, CAROL);
        common += snapshot("attest, finalizing") + firstVote - 2 * attesting;

        vm.snapshotValue(FILE, "a participant's round: commit + reveal + attest", own + revealing + attesting);
        vm.snapshotValue(FILE, "a round's own: opening + closing + finalizing", common);
    }

    /// @dev The participants bear the least of it, one of them opening and two closing phases that somebody missed.
    function test_gas_everyOtherRoundClosedByAdvance() public {
        uint256 ofFour = roundsOwn(organisations());
        uint256 ofHundred = roundsOwn(manyActors(100));
        vm.snapshotValue(FILE, "a round's own, both phases closed by advance: 4 participants", ofFour);
        vm.snapshotValue(FILE, "a round's own, both phases closed by advance: 100 participants", ofHundred);
    }

    /// @dev Open, advance, advance, and what the first and the last vote cost more than another one.
    function roundsOwn(address[] memory all) private returns (uint256 own) {
        setUp();
        for (uint256 i = 0; i < all.length; ++i) {
            enrol(all[i]);
        }
        bytes memory verdicts = new bytes(all.length);
        for (uint256 i = 0; i < all.length; ++i) {
            verdicts[i] = 0x01;
        }
        uint256 needed = ledger.quorum(uint32(all.length));
        for (uint32 round = 1; round <= 2; ++round) {
            bytes32 model = modelOf(round);
            vm.prank(all[0]);
            ledger.open(round);
            own = lastGas();
            for (uint256 i = 0; i + 1 < all.length; ++i) {
                commit(round, all[i]);
            }
            own += advanceGas(round);
            for (uint256 i = 0; i + 2 < all.length; ++i) {
                reveal(round, all[i]);
            }
            own += advanceGas(round);
            uint256 another;
            for (uint256 i = 0; i < needed; ++i) {
                vm.prank(all[i]);
                ledger.attest(round, model, verdicts);
                if (i == 0) own += lastGas();
                if (i == 1) another = lastGas();
            }
            own += lastGas();
            own -= 2 * another;
            vm.assertEq(ledger.model(), model);
        }
    }

    /// @dev One participant's share of three batches that bring a hundred.
    function test_gas_relayedRound() public {
        address[] memory all = manyActors(100);
        for (uint256 i = 0; i < all.length; ++i) {
            enrol(all[i]);
        }
        bytes memory verdicts = new bytes(all.length);
        for (uint256 i = 0; i < all.length; ++i) {
            verdicts[i] = 0x01;
        }
        uint256 needed = ledger.quorum(100);
        uint256 spent;
        for (uint32 round = 1; round <= 2; ++round) {
            vm.prank(all[0]);
            ledger.open(round);
            assertTaken(ledger.relayCommits(round, signedCommits(round, all)));
            spent = snapshot("relayed: commits of 100");
            assertTaken(ledger.relayReveals(round, openings(round, all)));
            spent += snapshot("relayed: reveals of 100");
            bytes32 model = modelOf(round);
            IRoundLedger.Signature[] memory votes = signedAttestations(round, firstOf(all, needed), verdicts);
            assertTaken(ledger.relayAttestations(round, model, verdicts, votes));
            uint256 attesting = snapshot("relayed: attestations of the quorum, 67");
            spent += attesting * 100 / needed;
            vm.assertEq(ledger.model(), model);
        }
        vm.snapshotValue(FILE, "relayed, 100 participants: one participant's commit + reveal + attest", spent / 100);
    }

    function firstOf(address[] memory accounts, uint256 count) private pure returns (address[] memory first) {
        first = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            first[i] = accounts[i];
        }
    }

    function advanceGas(uint32 round) private returns (uint256) {
        vm.warp(ledger.currentRound().deadline);
        ledger.advance(round);
        return lastGas();
    }

    function lastGas() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }

    function snapshot(string memory name) private returns (uint256) {
        return vm.snapshotGasLastCall(FILE, name);
    }
}
