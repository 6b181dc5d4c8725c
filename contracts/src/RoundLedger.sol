// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Membership} from "./Membership.sol";
import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Channels} from "./libraries/Channels.sol";
import {Merkle6962} from "./libraries/Merkle6962.sol";
import {Seals} from "./libraries/Seals.sol";

/// @title RoundLedger
/// @notice One federation. What everything means is said in IRoundLedger.
/// @dev What a participant does writes two slots, the tally and its own, and only reads two more; a change of phase writes
/// the state. A round on which all agree fills no new storage.
contract RoundLedger is Membership {
    /// @dev One slot an address: its newest seal, and what became of it.
    struct Sealed {
        bytes28 seal;
        uint32 turn; // twice the round, and 1 more once it is revealed
    }

    /// @dev The votes that one call brings: all for one outcome.
    struct Ballot {
        State state;
        Tally tally;
        bytes32 outcome;
        bytes32 model;
        bool first; // whether they count in the tally
        uint32 votes; // the earlier ones included
        uint32 needed;
    }

    uint16 private constant FORMAT_VERSION = 2;
    uint256 private constant ALL_BPS = 10_000;

    bytes32 private immutable RULES_DIGEST;
    bytes32 private immutable GENESIS_MODEL;
    uint32 private immutable COMMIT_WINDOW;
    uint32 private immutable REVEAL_WINDOW;
    uint32 private immutable ATTEST_WINDOW;
    uint32 private immutable MIN_UPDATES;
    uint16 private immutable QUORUM_BPS;

    /// @inheritdoc IRoundLedger
    bytes32 public model;

    mapping(address account => Sealed) private _seals;
    bytes32 private _firstOutcome; // what the first vote of the newest round was for
    mapping(bytes32 outcome => uint32) private _otherVotes; // only a dissenter pays for a slot

    constructor(address initialOwner, Rules memory fixedRules) Membership(initialOwner) {
        if (fixedRules.rulesDigest == 0) revert InvalidRules("rulesDigest");
        if (fixedRules.genesisModel == 0) revert InvalidRules("genesisModel");
        if (fixedRules.commitWindow == 0) revert InvalidRules("commitWindow");
        if (fixedRules.revealWindow == 0) revert InvalidRules("revealWindow");
        if (fixedRules.attestWindow == 0) revert InvalidRules("attestWindow");
        if (fixedRules.minUpdates == 0) revert InvalidRules("minUpdates");
        // Above one half, so that two outcomes can never both have it.
        if (fixedRules.quorumBps <= ALL_BPS / 2 || fixedRules.quorumBps > ALL_BPS) revert InvalidRules("quorumBps");

        RULES_DIGEST = fixedRules.rulesDigest;
        GENESIS_MODEL = fixedRules.genesisModel;
        COMMIT_WINDOW = fixedRules.commitWindow;
        REVEAL_WINDOW = fixedRules.revealWindow;
        ATTEST_WINDOW = fixedRules.attestWindow;
        MIN_UPDATES = fixedRules.minUpdates;
        QUORUM_BPS = fixedRules.quorumBps;
        model = fixedRules.genesisModel;

        emit Created(FORMAT_VERSION, block.chainid, address(this), fixedRules, _now());
        _record(abi.encode(head(), Created.selector, FORMAT_VERSION, block.chainid, address(this), fixedRules, _now()));
    }

    // --------------------------------------------------------------- rounds

    /// @inheritdoc IRoundLedger
    function open(uint32 round) external {
        State memory state = _state;
        if (round != state.number + 1) revert WrongRound(state.number + 1, round);
        if (state.phase != Phase.Idle) revert WrongPhase(Phase.Idle, state.phase);
        if (state.paused) revert AlreadyPaused();
        if (state.succeeded) revert HasSuccessor(successor);
        if (!_takesPart(round, _members[msg.sender])) revert NotParticipant(msg.sender, round);
        if (state.enrolled < MIN_UPDATES) revert TooFewParticipants(MIN_UPDATES, state.enrolled);

        state.number = round;
        state.phase = Phase.Commit;
        state.deadline = _after(COMMIT_WINDOW);
        state.roster = state.enrolled;
        (state.commits, state.reveals) = (0, 0);
        _state = state;

        bytes32 base = model;
        emit Opened(round, base, state.roster, state.deadline, _now());
        bytes memory record = abi.encode(head(), Opened.selector, round, base, state.roster, state.deadline, _now());
        _tally = Tally(_step(record), 0);
    }

    /// @inheritdoc IRoundLedger
    function commit(uint32 round, bytes28 seal) external {
        State memory state = _during(round, Phase.Commit);
        Tally memory tally = _tally;
        bytes memory refusal = _commit(round, msg.sender, seal, tally);
        if (refusal.length != 0) _revertWith(refusal);
        _afterCommits(state, tally);
    }

    /// @inheritdoc IRoundLedger
    function relayCommits(uint32 round, SignedCommit[] calldata commits) external returns (bytes[] memory refusals) {
        State memory state = _during(round, Phase.Commit);
        Tally memory tally = _tally;
        refusals = new bytes[](commits.length);
        for (uint256 i = 0; i < commits.length; ++i) {
            SignedCommit calldata entry = commits[i];
            bytes32 message = Seals.commitHash(round, entry.seal, entry.signature.deadline);
            (address signer, bytes memory refusal) = _signer(message, entry.signature);
            refusals[i] = refusal.length != 0 ? refusal : _commit(round, signer, entry.seal, tally);
        }
        _afterCommits(state, tally);
    }

    /// @inheritdoc IRoundLedger
    function reveal(uint32 round, address participant, Metadata calldata metadata) external {
        State memory state = _during(round, Phase.Reveal);
        Tally memory tally = _tally;
        bytes memory refusal = _reveal(round, participant, metadata, model, tally);
        if (refusal.length != 0) _revertWith(refusal);
        _afterReveals(state, tally);
    }

    /// @inheritdoc IRoundLedger
    function relayReveals(uint32 round, Opening[] calldata openings) external returns (bytes[] memory refusals) {
        State memory state = _during(round, Phase.Reveal);
        Tally memory tally = _tally;
        bytes32 base = model;
        refusals = new bytes[](openings.length);
        for (uint256 i = 0; i < openings.length; ++i) {
            refusals[i] = _reveal(round, openings[i].participant, openings[i].metadata, base, tally);
        }
        _afterReveals(state, tally);
    }

    /// @inheritdoc IRoundLedger
    function attest(uint32 round, bytes32 newModel, bytes calldata verdicts) external {
        Ballot memory ballot = _ballot(round, newModel, verdicts);
        bytes memory refusal = _attest(ballot, msg.sender, verdicts);
        if (refusal.length != 0) _revertWith(refusal);
        _afterVotes(ballot);
    }

    /// @inheritdoc IRoundLedger
    function relayAttestations(uint32 round, bytes32 newModel, bytes calldata verdicts, Signature[] calldata signatures)
        external
        returns (bytes[] memory refusals)
    {
        Ballot memory ballot = _ballot(round, newModel, verdicts);
        bytes32 verdictsHash = keccak256(verdicts);
        refusals = new bytes[](signatures.length);
        for (uint256 i = 0; i < signatures.length; ++i) {
            bytes32 message = Seals.attestationHash(round, newModel, verdictsHash, signatures[i].deadline);
            (address signer, bytes memory refusal) = _signer(message, signatures[i]);
            refusals[i] = refusal.length != 0 ? refusal : _attest(ballot, signer, verdicts);
        }
        _afterVotes(ballot);
    }

    /// @inheritdoc IRoundLedger
    function advance(uint32 round) external {
        State memory state = _state;
        if (round != state.number) revert WrongRound(state.number, round);
        if (state.phase == Phase.Idle) revert WrongPhase(Phase.Commit, Phase.Idle);
        if (block.timestamp < state.deadline) revert WindowOpen(state.deadline, _now());

        Tally memory tally = _tally;
        if (state.phase == Phase.Commit) _closeCommits(state, tally);
        else if (state.phase == Phase.Reveal) _closeReveals(state, tally);
        else _abort(state, tally, AbortReason.NoQuorum);
        _tally = tally;
    }

    // What one participant does. Each works on the caller's copy of the tally, which the caller stores, and returns what
    // the direct call reverts with and a batch reports; nothing if it is done.

    function _commit(uint32 round, address participant, bytes28 seal, Tally memory tally)
        private
        returns (bytes memory refusal)
    {
        if (!_takesPart(round, _members[participant])) {
            return _refusal(NotParticipant.selector, participant, round);
        }
        if (_seals[participant].turn >= 2 * round) return _refusal(AlreadyCommitted.selector, participant, round);
        if (seal == 0) return abi.encodeWithSelector(ZeroDigest.selector);

        _seals[participant] = Sealed(seal, 2 * round);
        ++tally.count;

        emit Committed(round, participant, seal, _now());
        tally.head = _step(abi.encode(tally.head, Committed.selector, round, participant, seal, _now()));
    }

    function _reveal(uint32 round, address participant, Metadata calldata metadata, bytes32 base, Tally memory tally)
        private
        returns (bytes memory refusal)
    {
        Sealed memory committed = _seals[participant];
        if (committed.turn < 2 * round) return _refusal(NotCommitted.selector, participant, round);
        if (committed.turn > 2 * round) return _refusal(AlreadyRevealed.selector, participant, round);
        if (metadata.baseModel != base) {
            return abi.encodeWithSelector(WrongBaseModel.selector, base, metadata.baseModel);
        }
        bytes28 seal = sealOf(round, participant, metadata);
        if (seal != committed.seal) return abi.encodeWithSelector(SealMismatch.selector, committed.seal, seal);

        _seals[participant] = Sealed(seal, 2 * round + 1);
        ++tally.count;

        emit Revealed(round, participant, metadata, _now());
        tally.head = _step(abi.encode(tally.head, Revealed.selector, round, participant, metadata, _now()));
    }

    function _attest(Ballot memory ballot, address participant, bytes calldata verdicts)
        private
        returns (bytes memory refusal)
    {
        uint32 round = ballot.state.number;
        if (ballot.votes == ballot.needed) {
            return abi.encodeWithSelector(WrongPhase.selector, Phase.Attest, Phase.Idle); // final by the votes before
        }
        Member storage member = _members[participant];
        if (!_takesPart(round, member)) return _refusal(NotParticipant.selector, participant, round);
        if (member.attested == round) return _refusal(AlreadyAttested.selector, participant, round);

        member.attested = round;
        if (ballot.votes++ == 0) _propose(ballot, verdicts);

        emit Attested(round, participant, ballot.outcome, _now());
        ballot.tally.head =
            _step(abi.encode(ballot.tally.head, Attested.selector, round, participant, ballot.outcome, _now()));
    }

    function _propose(Ballot memory ballot, bytes calldata verdicts) private {
        uint32 round = ballot.state.number;
        emit Proposed(round, ballot.outcome, ballot.model, _now(), verdicts);
        bytes memory topics = abi.encode(ballot.tally.head, Proposed.selector, round);
        ballot.tally.head = _step(bytes.concat(topics, abi.encode(ballot.outcome, ballot.model, _now(), verdicts)));
    }

    // Before and after the votes of one call, which are for one outcome.

    function _ballot(uint32 round, bytes32 newModel, bytes calldata verdicts) private view returns (Ballot memory) {
        State memory state = _during(round, Phase.Attest);
        Tally memory tally = _tally;
        if (newModel == 0) revert ZeroDigest();
        uint256 length = verdicts.length;
        if (length == 0 || length > state.registered || verdicts[length - 1] == 0) revert InvalidVerdicts();

        bytes32 outcome = keccak256(abi.encode(round, newModel, verdicts));
        bool first = tally.count == 0 || outcome == _firstOutcome;
        uint32 votes = first ? tally.count : _otherVotes[outcome];
        return Ballot(state, tally, outcome, newModel, first, votes, quorum(state.roster));
    }

    function _afterVotes(Ballot memory ballot) private {
        if (ballot.first) {
            if (ballot.tally.count == 0) _firstOutcome = ballot.outcome;
            ballot.tally.count = ballot.votes;
        } else {
            _otherVotes[ballot.outcome] = ballot.votes;
        }
        if (ballot.votes == ballot.needed) _finalize(ballot);
        _tally = ballot.tally;
    }

    function _afterCommits(State memory state, Tally memory tally) private {
        if (tally.count == state.roster) _closeCommits(state, tally);
        _tally = tally;
    }

    function _afterReveals(State memory state, Tally memory tally) private {
        if (tally.count == state.commits) _closeReveals(state, tally);
        _tally = tally;
    }

    // The ends of the phases. The caller stores the tally.

    function _closeCommits(State memory state, Tally memory tally) private {
        (state.commits, tally.count) = (tally.count, 0);
        if (state.commits < MIN_UPDATES) return _abort(state, tally, AbortReason.TooFewCommits);

        state.phase = Phase.Reveal;
        state.deadline = _after(REVEAL_WINDOW);
        _state = state;

        emit CommitsClosed(state.number, state.commits, state.deadline, _now());
        tally.head =
            _step(abi.encode(tally.head, CommitsClosed.selector, state.number, state.commits, state.deadline, _now()));
    }

    function _closeReveals(State memory state, Tally memory tally) private {
        (state.reveals, tally.count) = (tally.count, 0);
        if (state.reveals < MIN_UPDATES) return _abort(state, tally, AbortReason.TooFewReveals);

        state.phase = Phase.Attest;
        state.deadline = _after(ATTEST_WINDOW);
        _state = state;

        emit RevealsClosed(state.number, state.reveals, state.deadline, _now());
        tally.head =
            _step(abi.encode(tally.head, RevealsClosed.selector, state.number, state.reveals, state.deadline, _now()));
    }

    function _finalize(Ballot memory ballot) private {
        uint32 round = ballot.state.number;
        ballot.state.phase = Phase.Idle;
        _state = ballot.state;
        model = ballot.model;

        emit Finalized(round, ballot.model, ballot.votes, _now());
        ballot.tally.head =
            _step(abi.encode(ballot.tally.head, Finalized.selector, round, ballot.model, ballot.votes, _now()));
    }

    function _abort(State memory state, Tally memory tally, AbortReason reason) private {
        state.phase = Phase.Idle;
        _state = state;

        emit Aborted(state.number, reason, _now());
        tally.head = _step(abi.encode(tally.head, Aborted.selector, state.number, reason, _now()));
    }

    // ---------------------------------------------------------------- views

    /// @inheritdoc IRoundLedger
    function rules() external view returns (Rules memory) {
        return Rules({
            rulesDigest: RULES_DIGEST,
            genesisModel: GENESIS_MODEL,
            commitWindow: COMMIT_WINDOW,
            revealWindow: REVEAL_WINDOW,
            attestWindow: ATTEST_WINDOW,
            minUpdates: MIN_UPDATES,
            quorumBps: QUORUM_BPS
        });
    }

    /// @inheritdoc IRoundLedger
    function currentRound() external view returns (Round memory) {
        State memory state = _state;
        if (state.phase == Phase.Commit) state.commits = _tally.count;
        if (state.phase == Phase.Reveal) state.reveals = _tally.count;
        return Round(state.number, state.phase, state.deadline, state.roster, state.commits, state.reveals);
    }

    /// @inheritdoc IRoundLedger
    function participantOf(address account) external view returns (Participant memory) {
        Member memory member = _members[account];
        Sealed memory committed = _seals[account];
        return Participant({
            number: member.number,
            fromRound: member.fromRound,
            untilRound: member.untilRound,
            rotated: member.rotated,
            committed: committed.turn / 2,
            revealed: committed.turn % 2 == 1,
            attested: member.attested,
            seal: committed.seal
        });
    }

    /// @inheritdoc IRoundLedger
    function quorum(uint32 roster) public view returns (uint32) {
        // At most the roster, because QUORUM_BPS is at most ALL_BPS.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32((uint256(roster) * QUORUM_BPS + ALL_BPS - 1) / ALL_BPS);
    }

    /// @inheritdoc IRoundLedger
    function sealOf(uint32 round, address participant, Metadata calldata metadata) public view returns (bytes28) {
        return bytes28(_hashTypedDataV4(Seals.structHash(round, participant, metadata)));
    }

    /// @inheritdoc IRoundLedger
    function isRevealed(uint32 round, address participant, Metadata calldata metadata) external view returns (bool) {
        Sealed memory committed = _seals[participant];
        return committed.turn == 2 * uint256(round) + 1 && committed.seal == sealOf(round, participant, metadata);
    }

    /// @inheritdoc IRoundLedger
    function verifyRecord(
        Metadata calldata metadata,
        uint64 index,
        bytes32 key,
        bytes32 content,
        bytes32[] calldata path
    ) external pure returns (bool) {
        bytes32 node = Merkle6962.leafHash(bytes.concat(key, content));
        return Merkle6962.verify(metadata.dataRoot, node, index, metadata.records, path);
    }

    /// @inheritdoc IRoundLedger
    function verifyChannel(
        Metadata calldata metadata,
        uint32 position,
        uint32 channel,
        uint128 squaredNorm,
        bytes calldata leaf,
        bytes32[] calldata path
    ) external pure returns (bool) {
        if (position >= metadata.sent) return false;
        if (!Channels.holds(leaf, metadata.sent, position, channel, squaredNorm)) return false;
        uint256 index = position / Channels.IN_A_LEAF;
        uint256 size = Channels.leaves(metadata.sent);
        return Merkle6962.verify(metadata.channelRoot, Merkle6962.leafHash(leaf), index, size, path);
    }

    // -------------------------------------------------------------- helpers

    /// @dev The state, if `round` is the newest, in this phase, and the window is open.
    function _during(uint32 round, Phase phase) private view returns (State memory state) {
        state = _state;
        if (round != state.number) revert WrongRound(state.number, round);
        if (phase != state.phase) revert WrongPhase(phase, state.phase);
        if (block.timestamp >= state.deadline) revert WindowClosed(state.deadline, _now());
    }

    function _after(uint32 window) private view returns (uint40) {
        return uint40(block.timestamp) + window;
    }
}
