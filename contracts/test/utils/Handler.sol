// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IRoundLedger} from "../../src/interfaces/IRoundLedger.sol";
import {Ledger} from "./Ledger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {Vm} from "./Vm.sol";

/// @notice Does anything that is legal at the moment, in any order, and keeps two books of what happened: what the actions
/// should have done, and what the logs say. Participants are counted by number: a key that was rotated is the same one.
/// @dev Nothing here may revert (fail_on_revert): an action that is not legal now is skipped, or seen to be refused.
contract Handler is LedgerTest {
    struct Seat {
        uint32 number;
        uint32 fromRound;
        uint32 untilRound;
        bool rotated;
    }

    struct Deeds {
        uint256 commits;
        uint256 reveals;
        uint256 attestations;
    }

    /// @dev What is wrong with an entry of a batch.
    enum Flaw {
        None,
        Forged,
        Expired,
        Empty
    }

    uint256 private constant MOST_ACCOUNTS = 16;
    bytes private constant VERDICTS = hex"01";

    address private immutable SECOND_OPERATOR = actor("second operator");
    address private immutable WATCH = actor("watch");
    address private immutable RELAYER = actor("relayer");
    address private immutable STRANGER = actor("stranger"); // is never anything

    address[] public accounts; // all that were ever enrolled, or may be

    // By the actions.
    address public owner;
    address public pauser;
    bool public paused;
    address public successor;
    bytes32 public expectedModel = GENESIS;
    mapping(uint32 round => mapping(uint32 number => Deeds)) private _done;
    mapping(uint32 round => mapping(address account => bool)) private _sealed;
    mapping(uint32 round => mapping(bytes32 model => uint32)) private _votesFor;

    // By the logs.
    bytes28 public folded;
    uint32 public numbers;
    mapping(address account => Seat) private _seats;
    mapping(uint32 round => mapping(uint32 number => Deeds)) private _logged;
    mapping(uint32 round => bool) private _ended;

    modifier booked() {
        vm.recordLogs();
        _;
        replay(vm.getRecordedLogs());
    }

    constructor() {
        vm.warp(START);
        vm.recordLogs();
        ledger = deploy(OPERATOR, defaultRules());
        owner = OPERATOR;
        accounts = [ALICE, BOB, CAROL, DAVE, MALLORY];
        enrolAll();
        replay(vm.getRecordedLogs());
    }

    // -------------------------------------------- actions: the administrator's

    function toggleMembership(uint256 seed) external booked {
        address account = anyOf(seed);
        Seat memory seat = _seats[account];
        vm.prank(owner);
        if (seat.rotated) refused(abi.encodeCall(IRoundLedger.enrol, (account)));
        else if (seat.number != 0 && seat.untilRound == NOT_RETIRED) ledger.retire(account);
        else ledger.enrol(account);
    }

    function handOver(uint256 seed) external booked {
        address heir = [OPERATOR, SECOND_OPERATOR, anyOf(seed)][seed % 3];
        vm.prank(owner);
        ledger.transferOwnership(heir);
        if (mixed(seed) % 2 == 0) return; // an offer that nobody accepts
        vm.prank(heir);
        ledger.acceptOwnership();
        owner = heir;
    }

    function changePauser(uint256 seed) external booked {
        pauser = [WATCH, anyOf(seed), address(0)][seed % 3];
        vm.prank(owner);
        ledger.setPauser(pauser);
    }

    function togglePause(uint256 seed) external booked {
        if (!paused && pauser == address(0)) return;
        vm.prank(paused && (seed % 2 == 0 || pauser == address(0)) ? owner : pauser);
        if (paused) ledger.unpause();
        else ledger.pause();
        paused = !paused;
    }

    function nameSuccessor(uint256 seed) external booked {
        if (mixed(seed) % 16 != 0) return; // no round follows
        vm.prank(owner);
        if (successor != address(0)) return refused(abi.encodeCall(IRoundLedger.setSuccessor, (STRANGER)));
        successor = address(uint160(mixed(seed)));
        ledger.setSuccessor(successor);
    }

    // --------------------------------------------- actions: the participants'

    function rotateKey(uint256 seed) external booked {
        if (accounts.length == MOST_ACCOUNTS) return;
        address account = pick(seed);
        address replacement = actor(string.concat("key ", vm.toString(accounts.length)));
        IRoundLedger.Signature memory consent = signRotation(account, replacement, NO_DEADLINE);
        Seat memory seat = _seats[account];
        uint32 newest = ledger.currentRound().number;
        bool may = seat.number != 0 && seat.untilRound == NOT_RETIRED && (newest == 0 || seat.fromRound <= newest);
        bool forged = mixed(seed) % 4 == 0;
        if (forged) consent.vs ^= bytes32(uint256(1));
        vm.prank(account);
        if (forged || !may) return refused(abi.encodeCall(IRoundLedger.rotate, (replacement, consent)));
        ledger.rotate(replacement, consent);
        accounts.push(replacement);
    }

    function openNext(uint256 seed) external booked {
        IRoundLedger.Round memory current = ledger.currentRound();
        if (current.phase != IRoundLedger.Phase.Idle) return;
        uint32 next = current.number + 1;
        address account = pick(seed);
        uint256 enrolled = membersIn(next);
        bool may = !paused && successor == address(0) && enrolled >= MIN_UPDATES && isMember(next, account);
        vm.prank(account);
        if (!may) return refused(abi.encodeCall(IRoundLedger.open, (next)));
        ledger.open(next);
        vm.assertEq(ledger.currentRound().roster, enrolled, "roster");
    }

    /// @dev One participant does its part of the present phase.
    function act(uint256 seed) external booked {
        commitOne(seed);
        revealOne(seed);
        attestOne(seed);
    }

    function commitOne(uint256 seed) private {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Commit);
        address account = pick(seed);
        if (!now_) return;
        bytes28 seal = sealOf(round, account);
        bool may = bookCommit(round, account);
        vm.prank(account);
        if (may) ledger.commit(round, seal);
        else refused(abi.encodeCall(IRoundLedger.commit, (round, seal)));
    }

    function revealOne(uint256 seed) private {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Reveal);
        address account = pick(seed);
        if (!now_) return;
        IRoundLedger.Metadata memory metadata = metadataOf(round, account);
        if (bookReveal(round, account)) ledger.reveal(round, account, metadata);
        else refused(abi.encodeCall(IRoundLedger.reveal, (round, account, metadata)));
    }

    function attestOne(uint256 seed) private {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Attest);
        address account = pick(seed);
        if (!now_) return;
        bytes32 model = outcomeOf(round, mixed(seed) % 5 == 0);
        bool may = bookVote(round, account, model);
        vm.prank(account);
        if (may) ledger.attest(round, model, VERDICTS);
        else refused(abi.encodeCall(IRoundLedger.attest, (round, model, VERDICTS)));
    }

    // ---------------------------------------------------- actions: anybody's

    function pass(uint256 seconds_) external {
        vm.warp(block.timestamp + bound(seconds_, 1, COMMIT_WINDOW / 3));
    }

    function advance(bool patient) external booked {
        IRoundLedger.Round memory current = ledger.currentRound();
        if (current.phase == IRoundLedger.Phase.Idle) return;
        if (block.timestamp < current.deadline) {
            if (!patient) return refused(abi.encodeCall(IRoundLedger.advance, (current.number)));
            vm.warp(current.deadline);
        }
        ledger.advance(current.number);
    }

    /// @dev A relayer brings what belongs into the present phase: good, bad and repeated entries in one batch.
    function relay(uint256 seed) external booked {
        relaySomeCommits(seed);
        relaySomeReveals(seed);
        relaySomeAttestations(seed);
    }

    function relaySomeCommits(uint256 seed) private {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Commit);
        if (!now_) return;
        IRoundLedger.SignedCommit[] memory commits = new IRoundLedger.SignedCommit[](1 + seed % 6);
        bool[] memory good = new bool[](commits.length);
        for (uint256 i = 0; i < commits.length; ++i) {
            (address account, Flaw flaw, bool again) = entryOf(seed, i);
            if (again) {
                commits[i] = commits[i - 1];
                continue;
            }
            bytes28 seal = flaw == Flaw.Empty ? bytes28(0) : sealOf(round, account);
            commits[i] = signCommit(round, account, seal, deadlineOf(flaw));
            if (flaw == Flaw.Forged) commits[i].signature.vs ^= bytes32(uint256(1));
            good[i] = flaw == Flaw.None && bookCommit(round, account);
        }
        vm.prank(RELAYER);
        assertTaken(ledger.relayCommits(round, commits), good);
    }

    function relaySomeReveals(uint256 seed) private {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Reveal);
        if (!now_) return;
        IRoundLedger.Opening[] memory all = new IRoundLedger.Opening[](1 + seed % 6);
        bool[] memory good = new bool[](all.length);
        for (uint256 i = 0; i < all.length; ++i) {
            (address account, Flaw flaw, bool again) = entryOf(seed, i);
            if (again) {
                all[i] = all[i - 1];
                continue;
            }
            all[i] = openingOf(round, account);
            if (flaw == Flaw.Forged) ++all[i].metadata.sent;
            if (flaw == Flaw.Expired) all[i].metadata.baseModel = sha256("an older model");
            if (flaw == Flaw.Empty) all[i].participant = address(0);
            good[i] = flaw == Flaw.None && bookReveal(round, account);
        }
        vm.prank(RELAYER);
        assertTaken(ledger.relayReveals(round, all), good);
    }

    function relaySomeAttestations(uint256 seed) private {
        (uint32 round, bool now_) = acting(IRoundLedger.Phase.Attest);
        if (!now_) return;
        bytes32 model = outcomeOf(round, mixed(seed) % 5 == 0);
        IRoundLedger.Signature[] memory votes = new IRoundLedger.Signature[](1 + seed % 6);
        bool[] memory good = new bool[](votes.length);
        for (uint256 i = 0; i < votes.length; ++i) {
            (address account, Flaw flaw, bool again) = entryOf(seed, i);
            if (again) {
                votes[i] = votes[i - 1];
                continue;
            }
            bytes32 signed = flaw == Flaw.Empty ? bytes32(0) : model;
            votes[i] = signAttestation(round, account, signed, VERDICTS, deadlineOf(flaw));
            if (flaw == Flaw.Forged) votes[i].vs ^= bytes32(uint256(1));
            good[i] = flaw == Flaw.None && bookVote(round, account, model);
        }
        vm.prank(RELAYER);
        assertTaken(ledger.relayAttestations(round, model, VERDICTS, votes), good);
    }

    // --------------------------------------------- actions: all are refused

    /// @dev Who is nothing here tries everything, and whoever is not in the roster to act in the round.
    function intrude(uint256 seed) external {
        bytes28 head = ledger.head();
        uint32 round = ledger.currentRound().number;
        IRoundLedger.Signature memory consent = signRotation(STRANGER, RELAYER, NO_DEADLINE);
        bytes[10] memory calls = [
            abi.encodeCall(IRoundLedger.enrol, (STRANGER)),
            abi.encodeCall(IRoundLedger.retire, (anyOf(seed))),
            abi.encodeCall(IRoundLedger.rotate, (RELAYER, consent)),
            abi.encodeCall(IRoundLedger.setPauser, (STRANGER)),
            abi.encodeCall(IRoundLedger.pause, ()),
            abi.encodeCall(IRoundLedger.unpause, ()),
            abi.encodeCall(IRoundLedger.setSuccessor, (STRANGER)),
            abi.encodeCall(IRoundLedger.open, (round + 1)),
            abi.encodeCall(Ownable2Step.transferOwnership, (STRANGER)),
            abi.encodeCall(Ownable2Step.acceptOwnership, ())
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(STRANGER);
            refused(calls[i]);
        }
        intrudeAs(round, STRANGER);
        if (!isMember(round, anyOf(seed))) intrudeAs(round, anyOf(seed));
        vm.assertEq(ledger.head(), head, "changed by an intruder");
    }

    function intrudeAs(uint32 round, address account) private {
        bytes28 seal = sealOf(round, account);
        bytes32 model = modelOf(round);
        vm.prank(account);
        refused(abi.encodeCall(IRoundLedger.commit, (round, seal)));
        vm.prank(account);
        refused(abi.encodeCall(IRoundLedger.attest, (round, model, VERDICTS)));
        refused(abi.encodeCall(IRoundLedger.reveal, (round, account, metadataOf(round, account))));

        address[] memory alone = new address[](1);
        alone[0] = account;
        bool commits = isOpen(IRoundLedger.Phase.Commit);
        bool reveals = isOpen(IRoundLedger.Phase.Reveal);
        bool votes = isOpen(IRoundLedger.Phase.Attest);
        bool[] memory none = new bool[](1);
        if (commits) assertTaken(ledger.relayCommits(round, signedCommits(round, alone)), none);
        if (reveals) assertTaken(ledger.relayReveals(round, openings(round, alone)), none);
        if (votes) {
            IRoundLedger.Signature[] memory signed = signedAttestations(round, alone, VERDICTS);
            assertTaken(ledger.relayAttestations(round, model, VERDICTS, signed), none);
        }
    }

    /// @dev Somebody who may act tries to act in a round that is over.
    function revisit(uint256 seed) external {
        IRoundLedger.Round memory current = ledger.currentRound();
        uint32 newest = current.phase == IRoundLedger.Phase.Idle ? current.number : current.number - 1;
        if (newest == 0) return;
        bytes28 head = ledger.head();
        uint32 round = uint32(bound(seed, 1, newest));
        address[] memory one = new address[](1);
        one[0] = pick(seed);
        bytes32 model = outcomeOf(round, true);
        IRoundLedger.Signature[] memory votes = signedAttestations(round, one, VERDICTS);
        bytes[7] memory calls = [
            abi.encodeCall(IRoundLedger.commit, (round, sealOf(round, one[0]))),
            abi.encodeCall(IRoundLedger.reveal, (round, one[0], metadataOf(round, one[0]))),
            abi.encodeCall(IRoundLedger.attest, (round, model, VERDICTS)),
            abi.encodeCall(IRoundLedger.advance, (round)),
            abi.encodeCall(IRoundLedger.relayCommits, (round, signedCommits(round, one))),
            abi.encodeCall(IRoundLedger.relayReveals, (round, openings(round, one))),
            abi.encodeCall(IRoundLedger.relayAttestations, (round, modelOf(round), VERDICTS, votes))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(one[0]);
            refused(calls[i]);
        }
        vm.assertEq(ledger.head(), head, "a round that is over changed");
    }

    // -------------------------------------------------------------- queries

    function theLedger() external view returns (Ledger) {
        return ledger;
    }

    function allAccounts() external view returns (address[] memory) {
        return accounts;
    }

    function seatOf(address account) external view returns (Seat memory) {
        return _seats[account];
    }

    function done(uint32 round, uint32 number) external view returns (Deeds memory) {
        return _done[round][number];
    }

    function logged(uint32 round, uint32 number) external view returns (Deeds memory) {
        return _logged[round][number];
    }

    function hasSealed(uint32 round, address account) external view returns (bool) {
        return _sealed[round][account];
    }

    function isMember(uint32 round, address account) public view returns (bool) {
        Seat memory seat = _seats[account];
        return seat.number != 0 && seat.fromRound <= round && round <= seat.untilRound;
    }

    function membersIn(uint32 round) public view returns (uint256 count) {
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (isMember(round, accounts[i])) ++count;
        }
    }

    // -------------------------------------------------- the book of actions
    //
    // Whether this may be done now; if so, it is noted as done.

    function bookCommit(uint32 round, address account) private returns (bool) {
        Deeds storage deeds = _done[round][_seats[account].number];
        if (!isMember(round, account) || deeds.commits != 0) return false;
        _sealed[round][account] = true;
        deeds.commits = 1;
        return true;
    }

    function bookReveal(uint32 round, address account) private returns (bool) {
        Deeds storage deeds = _done[round][_seats[account].number];
        if (!_sealed[round][account] || deeds.reveals != 0) return false;
        deeds.reveals = 1;
        return true;
    }

    function bookVote(uint32 round, address account, bytes32 model) private returns (bool) {
        Deeds storage deeds = _done[round][_seats[account].number];
        uint32 needed = ledger.quorum(ledger.currentRound().roster);
        if (!isMember(round, account) || deeds.attestations != 0 || _votesFor[round][model] == needed) return false;
        deeds.attestations = 1;
        if (++_votesFor[round][model] == needed) expectedModel = model;
        return true;
    }

    // ----------------------------------------------------- the book of logs

    function replay(Vm.Log[] memory logs) private {
        folded = fold(folded, logs);
        for (uint256 i = 0; i < logs.length; ++i) {
            bytes32 kind = logs[i].topics[0];
            if (isOfMembership(kind)) replayMembership(kind, logs[i]);
            else if (isOfRound(kind)) replayRound(kind, logs[i]);
        }
    }

    function replayMembership(bytes32 kind, Vm.Log memory log) private {
        address account = address(uint160(uint256(log.topics[1])));
        Seat storage seat = _seats[account];
        if (kind == IRoundLedger.Enrolled.selector) {
            (uint32 number, uint32 fromRound,) = abi.decode(log.data, (uint32, uint32, uint64));
            vm.assertEq(number, seat.number == 0 ? ++numbers : seat.number, "number");
            _seats[account] = Seat(number, fromRound, NOT_RETIRED, false);
        } else if (kind == IRoundLedger.Retired.selector) {
            (seat.untilRound,) = abi.decode(log.data, (uint32, uint64));
        } else {
            (uint32 number, uint32 fromRound,) = abi.decode(log.data, (uint32, uint32, uint64));
            vm.assertEq(number, seat.number, "the number goes on");
            (seat.untilRound, seat.rotated) = (fromRound - 1, true);
            _seats[address(uint160(uint256(log.topics[2])))] = Seat(number, fromRound, NOT_RETIRED, false);
        }
    }

    function replayRound(bytes32 kind, Vm.Log memory log) private {
        uint32 round = uint32(uint256(log.topics[1]));
        vm.assertFalse(_ended[round]);
        if (kind == IRoundLedger.Committed.selector) {
            ++_logged[round][numberIn(log.topics[2])].commits;
        } else if (kind == IRoundLedger.Revealed.selector) {
            ++_logged[round][numberIn(log.topics[2])].reveals;
        } else if (kind == IRoundLedger.Attested.selector) {
            ++_logged[round][numberIn(log.topics[2])].attestations;
        } else if (kind == IRoundLedger.CommitsRelayed.selector) {
            (, IRoundLedger.Sealing[] memory all) = abi.decode(log.data, (uint64, IRoundLedger.Sealing[]));
            for (uint256 i = 0; i < all.length; ++i) {
                ++_logged[round][_seats[all[i].participant].number].commits;
            }
        } else if (kind == IRoundLedger.RevealsRelayed.selector) {
            (, IRoundLedger.Opening[] memory all) = abi.decode(log.data, (uint64, IRoundLedger.Opening[]));
            for (uint256 i = 0; i < all.length; ++i) {
                ++_logged[round][_seats[all[i].participant].number].reveals;
            }
        } else if (kind == IRoundLedger.AttestationsRelayed.selector) {
            (, address[] memory all) = abi.decode(log.data, (uint64, address[]));
            for (uint256 i = 0; i < all.length; ++i) {
                ++_logged[round][_seats[all[i]].number].attestations;
            }
        } else if (kind == IRoundLedger.Finalized.selector || kind == IRoundLedger.Aborted.selector) {
            _ended[round] = true;
        }
    }

    function numberIn(bytes32 topic) private view returns (uint32) {
        return _seats[address(uint160(uint256(topic)))].number;
    }

    function isOfMembership(bytes32 kind) private pure returns (bool) {
        return kind == IRoundLedger.Enrolled.selector || kind == IRoundLedger.Retired.selector
            || kind == IRoundLedger.Rotated.selector;
    }

    function isOfRound(bytes32 kind) private pure returns (bool found) {
        bytes32[12] memory kinds = [
            IRoundLedger.Opened.selector,
            IRoundLedger.Committed.selector,
            IRoundLedger.CommitsRelayed.selector,
            IRoundLedger.CommitsClosed.selector,
            IRoundLedger.Revealed.selector,
            IRoundLedger.RevealsRelayed.selector,
            IRoundLedger.RevealsClosed.selector,
            IRoundLedger.Proposed.selector,
            IRoundLedger.Attested.selector,
            IRoundLedger.AttestationsRelayed.selector,
            IRoundLedger.Finalized.selector,
            IRoundLedger.Aborted.selector
        ];
        for (uint256 i = 0; i < kinds.length; ++i) {
            found = found || kind == kinds[i];
        }
    }

    // -------------------------------------------------------------- helpers

    /// @dev The newest round, and whether one may act in this phase now, also when that closes the phase before.
    function acting(IRoundLedger.Phase phase) private view returns (uint32 round, bool now_) {
        IRoundLedger.Round memory current = ledger.currentRound();
        bool over = block.timestamp >= current.deadline;
        bool enough = current.phase == IRoundLedger.Phase.Commit
            ? current.commits >= MIN_UPDATES
            : current.phase == IRoundLedger.Phase.Reveal && current.reveals >= MIN_UPDATES;
        bool next = uint256(current.phase) + 1 == uint256(phase) && over && enough;
        return (current.number, isOpen(phase) || next);
    }

    function isOpen(IRoundLedger.Phase phase) private view returns (bool) {
        IRoundLedger.Round memory current = ledger.currentRound();
        return current.phase == phase && block.timestamp < current.deadline;
    }

    function outcomeOf(uint32 round, bool dissents) private pure returns (bytes32) {
        return dissents ? sha256(abi.encode("dissent", round)) : modelOf(round);
    }

    /// @dev Entry `index` of a batch: whose, what is wrong with it, and whether it is the one before once more.
    function entryOf(uint256 seed, uint256 index) private view returns (address account, Flaw flaw, bool again) {
        uint256 luck = uint256(keccak256(abi.encode(seed, index)));
        uint256 odd = (luck >> 200) % 8;
        flaw = odd < 4 ? Flaw.None : Flaw(odd - 4);
        return (pick(luck), flaw, index > 0 && (luck >> 220) % 5 == 0);
    }

    function deadlineOf(Flaw flaw) private view returns (uint64) {
        return flaw == Flaw.Expired ? uint64(block.timestamp) - 1 : NO_DEADLINE;
    }

    function mixed(uint256 seed) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed)));
    }

    function anyOf(uint256 seed) private view returns (address) {
        return accounts[seed % accounts.length];
    }

    /// @dev Mostly somebody who takes part, or will in the next round.
    function pick(uint256 seed) private view returns (address) {
        if (mixed(seed) % 4 == 0) return anyOf(seed);
        uint32 round = ledger.currentRound().number;
        for (uint256 i = 0; i < accounts.length; ++i) {
            address account = accounts[(seed % accounts.length + i) % accounts.length];
            if (isMember(round, account) || isMember(round + 1, account)) return account;
        }
        return anyOf(seed);
    }

    function refused(bytes memory call) private {
        (bool done_,) = address(ledger).call(call);
        vm.assertFalse(done_);
    }

    function assertTaken(bytes[] memory refusals, bool[] memory good) private pure {
        for (uint256 i = 0; i < good.length; ++i) {
            vm.assertEq(refusals[i].length == 0, good[i]);
        }
    }
}
