// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @dev All calls come from the test contract, which is nobody: anybody may relay.
contract RelayCommitsTest is LedgerTest {
    IRoundLedger.SignedCommit[] private commits;

    function setUp() public override {
        super.setUp();
        startCommits();
        for (uint256 i = 0; i < 4; ++i) {
            address account = organisations()[i];
            commits.push(signCommit(1, account, sealOf(1, account), START + 60));
        }
    }

    function test_relayCommits_takesThemAll() public {
        IRoundLedger.Sealing[] memory sealings = new IRoundLedger.Sealing[](4);
        for (uint256 i = 0; i < 4; ++i) {
            sealings[i] = IRoundLedger.Sealing(organisations()[i], commits[i].seal);
        }
        vm.expectEmit(address(ledger));
        emit IRoundLedger.CommitsRelayed(1, START, sealings);
        vm.expectEmit(address(ledger));
        emit IRoundLedger.CommitsClosed(1, 4, START + REVEAL_WINDOW, START);
        assertTaken(ledger.relayCommits(1, commits));

        assertPhase(IRoundLedger.Phase.Reveal);
        revealAll(1);
        assertPhase(IRoundLedger.Phase.Attest);
    }

    function test_relayCommits_besideDirectOnes() public {
        commit(1, BOB);
        assertSkipped(
            ledger.relayCommits(1, commits), 1, abi.encodeWithSelector(IRoundLedger.AlreadyCommitted.selector, BOB, 1)
        );
        assertPhase(IRoundLedger.Phase.Reveal);
        vm.assertEq(ledger.currentRound().commits, 4);
    }

    function test_relayCommits_skipsADuplicate() public {
        commits[3] = commits[0];
        bytes memory refusal = abi.encodeWithSelector(IRoundLedger.AlreadyCommitted.selector, ALICE, 1);
        assertSkipped(ledger.relayCommits(1, commits), 3, refusal);
        vm.assertEq(ledger.currentRound().commits, 3);
    }

    function test_relayCommits_skipsAnExpiredSignature() public {
        commits[2] = signCommit(1, CAROL, sealOf(1, CAROL), START + 9);
        vm.warp(START + 10);
        bytes memory refusal = abi.encodeWithSelector(IRoundLedger.SignatureExpired.selector, START + 9, START + 10);
        assertSkipped(ledger.relayCommits(1, commits), 2, refusal);
        vm.assertEq(ledger.participantOf(CAROL).committed, 0);
    }

    function test_relayCommits_takesASignatureUpToItsDeadline() public {
        vm.warp(START + 60);
        assertTaken(ledger.relayCommits(1, commits));
    }

    function test_relayCommits_skipsAStrangers() public {
        commits[1] = signCommit(1, MALLORY, sealOf(1, BOB), NO_DEADLINE);
        bytes memory refusal = abi.encodeWithSelector(IRoundLedger.NotParticipant.selector, MALLORY, 1);
        assertSkipped(ledger.relayCommits(1, commits), 1, refusal);
    }

    function test_relayCommits_skipsWhatIsNoSignature() public {
        commits[0].signature.r = 0;
        assertSkipped(
            ledger.relayCommits(1, commits), 0, abi.encodeWithSelector(IRoundLedger.InvalidSignature.selector)
        );
    }

    function test_relayCommits_skipsAZeroSeal() public {
        commits[0] = signCommit(1, ALICE, 0, NO_DEADLINE);
        assertSkipped(ledger.relayCommits(1, commits), 0, abi.encodeWithSelector(IRoundLedger.ZeroDigest.selector));
    }

    /// @dev Whatever a relayer alters, nobody commits what they did not sign.
    function testFuzz_relayCommits_anAlteredEntryCommitsNothingOfAlices(uint8 field, uint256 bit) public {
        IRoundLedger.SignedCommit memory entry = commits[0];
        uint256 mask = 1 << bit % 256;
        if (field % 4 == 0) entry.seal = bytes28(uint224(entry.seal) ^ uint224(1 << bit % 224));
        else if (field % 4 == 1) entry.signature.deadline ^= uint64(1 << bit % 64);
        else if (field % 4 == 2) entry.signature.r ^= bytes32(mask);
        else entry.signature.vs ^= bytes32(mask);
        commits[0] = entry;
        bytes28 before = ledger.head();
        ledger.relayCommits(1, first());
        vm.assertEq(ledger.participantOf(ALICE).committed, 0);
        vm.assertEq(ledger.head(), before);
    }

    function test_relayCommits_ofAnotherRoundChainOrContractCountForNothing() public {
        IRoundLedger.SignedCommit[] memory one = first();
        vm.warp(START + COMMIT_WINDOW);
        ledger.advance(1);
        open(2);
        one[0] = signCommit(1, ALICE, commits[0].seal, NO_DEADLINE); // signed for round 1
        ledger.relayCommits(2, one);
        vm.assertEq(ledger.participantOf(ALICE).committed, 0);

        one[0] = signCommit(2, ALICE, commits[0].seal, NO_DEADLINE);
        vm.chainId(block.chainid + 1);
        ledger.relayCommits(2, one);
        vm.assertEq(ledger.participantOf(ALICE).committed, 0);
    }

    function test_relayCommits_ofNothingChangesNothing() public {
        bytes28 before = ledger.head();
        vm.assertEq(ledger.relayCommits(1, new IRoundLedger.SignedCommit[](0)).length, 0);
        vm.assertEq(ledger.head(), before);
    }

    function test_relayCommits_revertsWithWindowClosed() public {
        vm.warp(START + COMMIT_WINDOW);
        vm.expectRevert(
            abi.encodeWithSelector(IRoundLedger.WindowClosed.selector, START + COMMIT_WINDOW, START + COMMIT_WINDOW)
        );
        ledger.relayCommits(1, commits);
    }

    function test_relayCommits_revertsWithWrongPhase() public {
        commitAll(1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.WrongPhase.selector, IRoundLedger.Phase.Commit, IRoundLedger.Phase.Reveal
            )
        );
        ledger.relayCommits(1, commits);
    }

    function first() private view returns (IRoundLedger.SignedCommit[] memory one) {
        one = new IRoundLedger.SignedCommit[](1);
        one[0] = commits[0];
    }
}
