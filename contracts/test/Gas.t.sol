// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @notice What each call costs as a transaction of its own, with all that a transaction pays, in a federation of four.
/// Kept in snapshots/: a change of the contract shows there as a diff.
/// @dev Isolated: every call begins with cold storage, as on a chain.
/// forge-config: default.isolate = true
contract GasTest is LedgerTest {
    enum Close {
        Early,
        Late,
        Advance
    }

    string private constant FILE = "RoundLedger";

    bytes private verdicts;

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

    /// @dev The same however many take part and whoever is missing. Closed early: the last one of all closes a phase. Closed
    /// late: one is missing in each, and the next phase's first action closes it. By `advance`: somebody spends two
    /// transactions on what the next action would do; nobody must, but for an abort.
    function test_gas_everyOtherRoundsOwn() public {
        address[] memory four = organisations();
        address[] memory hundred = manyActors(100);
        vm.snapshotValue(FILE, "a round's own, closed early: 100 participants", roundsOwn(hundred, Close.Early));
        vm.snapshotValue(FILE, "a round's own, both phases closed late: 4 participants", roundsOwn(four, Close.Late));
        vm.snapshotValue(
            FILE, "a round's own, both phases closed late: 100 participants", roundsOwn(hundred, Close.Late)
        );
        vm.snapshotValue(FILE, "a round's own, closed by advance: 100 participants", roundsOwn(hundred, Close.Advance));
    }

    /// @dev Opening it, and what the first and the last action of a phase cost more than another one: they close a phase,
    /// propose an outcome, make it final.
    function roundsOwn(address[] memory all, Close close) private returns (uint256 own) {
        setUp();
        for (uint256 i = 0; i < all.length; ++i) {
            enrol(all[i]);
        }
        verdicts = allAccepted(all.length);
        uint256 missing = close == Close.Early ? 0 : 1;
        for (uint32 round = 1; round <= 2; ++round) {
            vm.prank(all[0]);
            ledger.open(round);
            own = lastGas();
            own = withSurplus(own, commitGas, round, all, all.length - missing);
            own += letPass(round, close);
            own = withSurplus(own, revealGas, round, all, all.length - 2 * missing);
            own += letPass(round, close);
            own = withSurplus(own, attestGas, round, all, ledger.quorum(uint32(all.length)));
            vm.assertEq(ledger.model(), modelOf(round));
        }
    }

    function withSurplus(
        uint256 own,
        function(uint32, address) returns (uint256) action,
        uint32 round,
        address[] memory all,
        uint256 count
    ) private returns (uint256) {
        uint256 first = action(round, all[0]);
        uint256 another;
        for (uint256 i = 1; i + 1 < count; ++i) {
            another = action(round, all[i]);
        }
        uint256 last = action(round, all[count - 1]);
        if (another == 0) another = first < last ? first : last;
        return own + first + last - 2 * another;
    }

    function letPass(uint32 round, Close close) private returns (uint256) {
        if (close == Close.Early) return 0;
        vm.warp(ledger.currentRound().deadline);
        if (close == Close.Late) return 0;
        ledger.advance(round);
        return lastGas();
    }

    function commitGas(uint32 round, address account) private returns (uint256) {
        commit(round, account);
        return lastGas();
    }

    function revealGas(uint32 round, address account) private returns (uint256) {
        reveal(round, account);
        return lastGas();
    }

    function attestGas(uint32 round, address account) private returns (uint256) {
        bytes32 model = modelOf(round);
        vm.prank(account);
        ledger.attest(round, model, verdicts);
        return lastGas();
    }

    function allAccepted(uint256 count) private pure returns (bytes memory accepted) {
        accepted = new bytes(count);
        for (uint256 i = 0; i < count; ++i) {
            accepted[i] = 0x01;
        }
    }

    /// @dev One participant's share of three batches that bring a hundred.
    function test_gas_relayedRound() public {
        address[] memory all = manyActors(100);
        for (uint256 i = 0; i < all.length; ++i) {
            enrol(all[i]);
        }
        uint256 needed = ledger.quorum(100);
        verdicts = allAccepted(all.length);
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

    function lastGas() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }

    function snapshot(string memory name) private returns (uint256) {
        return vm.snapshotGasLastCall(FILE, name);
    }
}
