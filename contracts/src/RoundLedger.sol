// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Membership} from "./Membership.sol";
import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Batch, Batches} from "./libraries/Batches.sol";
import {Channels} from "./libraries/Channels.sol";
import {Merkle6962} from "./libraries/Merkle6962.sol";
import {Seals} from "./libraries/Seals.sol";
import {Tagged, tagged} from "./libraries/Tagged.sol";

/// @title RoundLedger
/// @notice One federation. What everything means is said in IRoundLedger.
/// @dev What a participant does writes two slots, the tally and its own, and only reads two more; a change of phase writes
/// the state. A round on which all agree fills no new storage.
contract RoundLedger is Membership {
    using Batches for Batch;

    /// @dev The outcome that a call votes for, and how it stands.
    struct Ballot {
        uint32 round;
        bytes32 model;
        bytes32 outcome;
        bool first; // that was voted for in this round: its votes are counted in the tally
        uint32 votes;
        uint32 needed;
    }

    uint16 private constant FORMAT_VERSION = 3;
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

    mapping(address account => Tagged) private _seals; // the newest seal, and 2 * its round, + 1 once it is revealed
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

        _record(
            abi.encode(head(), Created.selector, FORMAT_VERSION, block.chainid, address(this), fixedRules, _now()), 1, 0
        );
    }

    // --------------------------------------------------------------- rounds

    /// @inheritdoc IRoundLedger
    function open(uint32 round) external {
        State storage state = _state;
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

        _record(abi.encode(head(), Opened.selector, round, model, state.roster, state.deadline, _now()), 2, 0);
    }

    /// @inheritdoc IRoundLedger
    function commit(uint32 round, bytes28 seal) external {
        _requirePhase(round, Phase.Commit);
        _orRevert(_commit(round, msg.sender, seal));

        Tagged tally = _tally;
        bytes memory record = abi.encode(tally.digest(), Committed.selector, round, msg.sender, seal, _now());
        _record(record, 3, tally.number() + 1);
        _afterCommits();
    }

    /// @inheritdoc IRoundLedger
    function relayCommits(uint32 round, SignedCommit[] calldata commits) external returns (bytes[] memory refusals) {
        _requirePhase(round, Phase.Commit);
        refusals = new bytes[](commits.length);
        Batch memory batch = Batches.begin(abi.encode(CommitsRelayed.selector, round, _now()), 2 * commits.length);
        for (uint256 i = 0; i < commits.length; ++i) {
            (bytes28 seal, Signature calldata signature) = (commits[i].seal, commits[i].signature);
            (address signer, bytes memory refusal) =
                _signer(Seals.commitHash(round, seal, signature.deadline), signature);
            if (refusal.length == 0) refusal = _commit(round, signer, seal);
            if (refusal.length == 0) batch.take(signer, seal);
            else refusals[i] = refusal;
        }
        if (batch.count == 0) return refusals;

        _record(batch.end(head()), 2, _tally.number() + batch.count);
        _afterCommits();
    }

    /// @inheritdoc IRoundLedger
    function reveal(uint32 round, address participant, Metadata calldata metadata) external {
        _requirePhase(round, Phase.Reveal);
        Tagged tally = _tally;
        bytes memory record = abi.encode(tally.digest(), Revealed.selector, round, participant, metadata, _now());
        _orRevert(_reveal(round, participant, model, metadata.baseModel, Seals.metadataHashIn(record, 4)));

        _record(record, 3, tally.number() + 1);
        _afterReveals();
    }

    /// @inheritdoc IRoundLedger
    function relayReveals(uint32 round, Opening[] calldata openings) external returns (bytes[] memory refusals) {
        _requirePhase(round, Phase.Reveal);
        bytes32 base = model;
        refusals = new bytes[](openings.length);
        Batch memory batch = Batches.begin(abi.encode(RevealsRelayed.selector, round, _now()), 12 * openings.length);
        for (uint256 i = 0; i < openings.length; ++i) {
            (address participant, Metadata calldata metadata) = (openings[i].participant, openings[i].metadata);
            bytes32 metadataHash = Seals.copyMetadata(metadata, batch.next);
            bytes memory refusal = _reveal(round, participant, base, metadata.baseModel, metadataHash);
            if (refusal.length == 0) batch.take(participant, 12);
            else refusals[i] = refusal;
        }
        if (batch.count == 0) return refusals;

        _record(batch.end(head()), 2, _tally.number() + batch.count);
        _afterReveals();
    }

    /// @inheritdoc IRoundLedger
    function attest(uint32 round, bytes32 newModel, bytes calldata verdicts) external {
        _requirePhase(round, Phase.Attest);
        Ballot memory ballot = _ballot(round, newModel, verdicts);
        _orRevert(_attest(round, msg.sender));

        if (ballot.votes == 0) _propose(ballot, verdicts);
        uint32 count = _count(ballot, 1);
        _record(abi.encode(head(), Attested.selector, round, msg.sender, ballot.outcome, _now()), 3, count);
        _afterAttestations(ballot);
    }

    /// @inheritdoc IRoundLedger
    function relayAttestations(uint32 round, bytes32 newModel, bytes calldata verdicts, Signature[] calldata signatures)
        external
        returns (bytes[] memory refusals)
    {
        _requirePhase(round, Phase.Attest);
        Ballot memory ballot = _ballot(round, newModel, verdicts);
        bytes32 verdictsHash = keccak256(verdicts);
        refusals = new bytes[](signatures.length);
        Batch memory batch =
            Batches.begin(abi.encode(AttestationsRelayed.selector, round, ballot.outcome, _now()), signatures.length);
        for (uint256 i = 0; i < signatures.length; ++i) {
            if (ballot.votes + batch.count == ballot.needed) {
                // The votes before make the round final.
                refusals[i] = abi.encodeWithSelector(WrongPhase.selector, Phase.Attest, Phase.Idle);
                continue;
            }
            bytes32 message = Seals.attestationHash(round, newModel, verdictsHash, signatures[i].deadline);
            (address signer, bytes memory refusal) = _signer(message, signatures[i]);
            if (refusal.length == 0) refusal = _attest(round, signer);
            if (refusal.length == 0) batch.take(signer);
            else refusals[i] = refusal;
        }
        if (batch.count == 0) return refusals;

        if (ballot.votes == 0) _propose(ballot, verdicts);
        uint32 count = _count(ballot, batch.count);
        _record(batch.end(head()), 3, count);
        _afterAttestations(ballot);
    }

    /// @inheritdoc IRoundLedger
    function advance(uint32 round) external {
        State storage state = _state;
        if (round != state.number) revert WrongRound(state.number, round);
        if (state.phase == Phase.Idle) revert WrongPhase(Phase.Commit, Phase.Idle);
        if (block.timestamp < state.deadline) revert WindowOpen(state.deadline, _now());

        if (state.phase == Phase.Commit) _closeCommits();
        else if (state.phase == Phase.Reveal) _closeReveals();
        else _abort(AbortReason.NoQuorum);
    }

    // What one participant does, but for the record. Returns what the direct call reverts with and a batch reports, and
    // then has done nothing; nothing if it is done.

    function _commit(uint32 round, address participant, bytes28 seal) private returns (bytes memory refusal) {
        if (!_takesPart(round, _members[participant])) return _refusal(NotParticipant.selector, participant, round);
        if (_seals[participant].number() >= 2 * round) {
            return _refusal(AlreadyCommitted.selector, participant, round);
        }
        if (seal == 0) return abi.encodeWithSelector(ZeroDigest.selector);

        _seals[participant] = tagged(seal, 2 * round);
    }

    function _reveal(uint32 round, address participant, bytes32 base, bytes32 claimedBase, bytes32 metadataHash)
        private
        returns (bytes memory refusal)
    {
        Tagged committed = _seals[participant];
        if (committed.number() < 2 * round) return _refusal(NotCommitted.selector, participant, round);
        if (committed.number() > 2 * round) return _refusal(AlreadyRevealed.selector, participant, round);
        if (claimedBase != base) return abi.encodeWithSelector(WrongBaseModel.selector, base, claimedBase);
        bytes28 seal = _seal(round, participant, metadataHash);
        if (seal != committed.digest()) {
            return abi.encodeWithSelector(SealMismatch.selector, committed.digest(), seal);
        }

        _seals[participant] = tagged(seal, 2 * round + 1);
    }

    function _attest(uint32 round, address participant) private returns (bytes memory refusal) {
        Member storage member = _members[participant];
        if (!_takesPart(round, member)) return _refusal(NotParticipant.selector, participant, round);
        if (member.attested == round) return _refusal(AlreadyAttested.selector, participant, round);

        member.attested = round;
    }

    // How an outcome stands.

    function _ballot(uint32 round, bytes32 newModel, bytes calldata verdicts) private view returns (Ballot memory) {
        if (newModel == 0) revert ZeroDigest();
        uint256 length = verdicts.length;
        if (length == 0 || length > _state.registered || verdicts[length - 1] == 0) revert InvalidVerdicts();
        bytes32 outcome = keccak256(abi.encode(round, newModel, verdicts));
        uint32 count = _tally.number();
        bool first = count == 0 || outcome == _firstOutcome;
        uint32 votes = first ? count : _otherVotes[outcome];
        return Ballot(round, newModel, outcome, first, votes, quorum(_state.roster));
    }

    /// @dev The first vote for an outcome spells it out.
    function _propose(Ballot memory ballot, bytes calldata verdicts) private {
        if (ballot.first) _firstOutcome = ballot.outcome;
        bytes memory topics = abi.encode(head(), Proposed.selector, ballot.round);
        _record(bytes.concat(topics, abi.encode(ballot.outcome, ballot.model, _now(), verdicts)), 2);
    }

    /// @dev Adds votes. Returns the count that belongs into the tally.
    function _count(Ballot memory ballot, uint32 votes) private returns (uint32) {
        ballot.votes += votes;
        if (ballot.first) return ballot.votes;
        _otherVotes[ballot.outcome] = ballot.votes;
        return _tally.number();
    }

    // The ends of the phases.

    function _afterAttestations(Ballot memory ballot) private {
        if (ballot.votes == ballot.needed) _finalize(ballot);
    }

    function _afterCommits() private {
        if (_tally.number() == _state.roster) _closeCommits();
    }

    function _afterReveals() private {
        if (_tally.number() == _state.commits) _closeReveals();
    }

    function _closeCommits() private {
        State storage state = _state;
        state.commits = _tally.number();
        if (state.commits < MIN_UPDATES) return _abort(AbortReason.TooFewCommits);

        state.phase = Phase.Reveal;
        state.deadline = _after(REVEAL_WINDOW);

        _record(abi.encode(head(), CommitsClosed.selector, state.number, state.commits, state.deadline, _now()), 2, 0);
    }

    function _closeReveals() private {
        State storage state = _state;
        state.reveals = _tally.number();
        if (state.reveals < MIN_UPDATES) return _abort(AbortReason.TooFewReveals);

        state.phase = Phase.Attest;
        state.deadline = _after(ATTEST_WINDOW);

        _record(abi.encode(head(), RevealsClosed.selector, state.number, state.reveals, state.deadline, _now()), 2, 0);
    }

    function _finalize(Ballot memory ballot) private {
        _state.phase = Phase.Idle;
        model = ballot.model;

        _record(abi.encode(head(), Finalized.selector, ballot.round, ballot.model, ballot.votes, _now()), 2, 0);
    }

    function _abort(AbortReason reason) private {
        _state.phase = Phase.Idle;

        _record(abi.encode(head(), Aborted.selector, _state.number, reason, _now()), 2, 0);
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
        if (state.phase == Phase.Commit) state.commits = _tally.number();
        if (state.phase == Phase.Reveal) state.reveals = _tally.number();
        return Round(state.number, state.phase, state.deadline, state.roster, state.commits, state.reveals);
    }

    /// @inheritdoc IRoundLedger
    function participantOf(address account) external view returns (Participant memory) {
        Member memory member = _members[account];
        Tagged committed = _seals[account];
        return Participant({
            number: member.number,
            fromRound: member.fromRound,
            untilRound: member.untilRound,
            rotated: member.rotated,
            committed: committed.number() / 2,
            revealed: committed.number() % 2 == 1,
            attested: member.attested,
            seal: committed.digest()
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
        return _seal(round, participant, Seals.metadataHash(metadata));
    }

    /// @inheritdoc IRoundLedger
    function isRevealed(uint32 round, address participant, Metadata calldata metadata) external view returns (bool) {
        Tagged committed = _seals[participant];
        bytes28 seal = sealOf(round, participant, metadata);
        return committed.number() == 2 * uint256(round) + 1 && committed.digest() == seal;
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

    /// @dev `round` is the newest, in this phase, and the window is open.
    function _requirePhase(uint32 round, Phase phase) private {
        State storage state = _state;
        if (round != state.number) revert WrongRound(state.number, round);
        if (phase == state.phase) {
            if (block.timestamp >= state.deadline) revert WindowClosed(state.deadline, _now());
        } else if (!_closePhaseBefore(phase)) {
            revert WrongPhase(phase, state.phase);
        }
    }

    /// @dev Closes the phase before, as `advance` would, if its window has passed: false, and nothing, if not.
    function _closePhaseBefore(Phase phase) private returns (bool) {
        State storage state = _state;
        if (block.timestamp < state.deadline || _tally.number() < MIN_UPDATES) return false;
        if (phase == Phase.Reveal && state.phase == Phase.Commit) _closeCommits();
        else if (phase == Phase.Attest && state.phase == Phase.Reveal) _closeReveals();
        else return false;
        return true;
    }

    function _seal(uint32 round, address participant, bytes32 metadataHash) private view returns (bytes28) {
        return bytes28(_hashTypedDataV4(Seals.structHash(round, participant, metadataHash)));
    }

    function _after(uint32 window) private view returns (uint40) {
        return uint40(block.timestamp) + window;
    }
}
