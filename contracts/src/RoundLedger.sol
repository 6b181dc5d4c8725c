// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Seals} from "./libraries/Seals.sol";

/// @title RoundLedger
/// @notice One federation. What everything means is said in IRoundLedger.
/// @dev Every `emit` is followed by the step of the head over the same values: signature, indexed values, the others.
/// All of them but the verdicts have a fixed size, so their joint ABI encoding is `head || topics || data`.
///
/// A round on which all agree fills no new storage: its state, its seals and its votes overwrite the old ones.
contract RoundLedger is IRoundLedger, Ownable2Step, EIP712 {
    /// @dev The newest round and two counters, in one slot.
    struct State {
        uint32 number;
        Phase phase;
        uint40 deadline; // enough for 34,000 years
        uint32 roster;
        uint32 commits;
        uint32 reveals;
        uint32 votes; // attestations of `_firstOutcome`
        uint32 registered; // addresses ever enrolled; the number of the last one
    }

    uint16 private constant FORMAT_VERSION = 1;
    uint32 private constant NOT_RETIRED = type(uint32).max;
    uint256 private constant ALL_BPS = 10_000;

    bytes32 private immutable RULES_DIGEST;
    bytes32 private immutable GENESIS_MODEL;
    uint32 private immutable COMMIT_WINDOW;
    uint32 private immutable REVEAL_WINDOW;
    uint32 private immutable ATTEST_WINDOW;
    uint32 private immutable MIN_UPDATES;
    uint16 private immutable QUORUM_BPS;

    /// @inheritdoc IRoundLedger
    bytes32 public head;
    /// @inheritdoc IRoundLedger
    bytes32 public model;

    State private _state;
    uint32 private _enrolled; // and not retired: the roster of the next round
    mapping(address account => Participant) private _participants;
    mapping(address participant => bytes32) private _seals; // each participant's newest
    bytes32 private _firstOutcome; // what the first vote of the newest round was for
    mapping(bytes32 outcome => uint32) private _otherVotes; // only a dissenter pays for a slot

    constructor(address initialOwner, Rules memory fixedRules) Ownable(initialOwner) EIP712("roundledger", "1") {
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
        head = keccak256(
            abi.encode(head, Created.selector, FORMAT_VERSION, block.chainid, address(this), fixedRules, _now())
        );
    }

    // ----------------------------------------------------------- membership

    /// @inheritdoc IRoundLedger
    function enrol(address participant) external onlyOwner {
        Participant memory member = _participants[participant];
        uint32 newest = _state.number;
        if (member.number == 0) {
            member.number = ++_state.registered;
            member.fromRound = newest + 1;
        } else if (member.untilRound == NOT_RETIRED) {
            revert AlreadyEnrolled(participant);
        } else if (member.untilRound != newest) {
            member.fromRound = newest + 1;
        } // else retired in the newest round, where it may still act: it never left, and keeps its first round

        member.untilRound = NOT_RETIRED;
        _participants[participant] = member;
        ++_enrolled;

        emit Enrolled(participant, member.number, member.fromRound, _now());
        head = keccak256(abi.encode(head, Enrolled.selector, participant, member.number, member.fromRound, _now()));
    }

    /// @inheritdoc IRoundLedger
    function retire(address participant) external onlyOwner {
        Participant storage member = _participants[participant];
        if (member.number == 0 || member.untilRound != NOT_RETIRED) revert NotEnrolled(participant);

        uint32 untilRound = _state.number;
        member.untilRound = untilRound;
        --_enrolled;

        emit Retired(participant, untilRound, _now());
        head = keccak256(abi.encode(head, Retired.selector, participant, untilRound, _now()));
    }

    // --------------------------------------------------------------- rounds

    /// @inheritdoc IRoundLedger
    function open(uint32 round) external {
        State memory state = _state;
        if (round != state.number + 1) revert WrongRound(state.number + 1, round);
        if (state.phase != Phase.Idle) revert WrongPhase(Phase.Idle, state.phase);
        _requireParticipant(round, msg.sender);
        uint32 roster = _enrolled;
        if (roster < MIN_UPDATES) revert TooFewParticipants(MIN_UPDATES, roster);

        uint40 deadline = _after(COMMIT_WINDOW);
        _state = State({
            number: round,
            phase: Phase.Commit,
            deadline: deadline,
            roster: roster,
            commits: 0,
            reveals: 0,
            votes: 0,
            registered: state.registered
        });

        bytes32 baseModel = model;
        emit Opened(round, baseModel, roster, deadline, _now());
        head = keccak256(abi.encode(head, Opened.selector, round, baseModel, roster, deadline, _now()));
    }

    /// @inheritdoc IRoundLedger
    function commit(uint32 round, bytes32 seal) external {
        State memory state = _during(round, Phase.Commit);
        Participant storage member = _requireParticipant(round, msg.sender);
        if (member.committed == round) revert AlreadyCommitted(msg.sender, round);
        if (seal == 0) revert ZeroDigest();

        member.committed = round;
        _seals[msg.sender] = seal;
        ++state.commits;

        emit Committed(round, msg.sender, seal, _now());
        head = keccak256(abi.encode(head, Committed.selector, round, msg.sender, seal, _now()));

        if (state.commits == state.roster) _closeCommits(state);
        _state = state;
    }

    /// @inheritdoc IRoundLedger
    function reveal(uint32 round, address participant, Metadata calldata metadata) external {
        State memory state = _during(round, Phase.Reveal);
        Participant storage member = _participants[participant];
        if (member.committed != round) revert NotCommitted(participant, round);
        if (member.revealed == round) revert AlreadyRevealed(participant, round);
        if (metadata.baseModel != model) revert WrongBaseModel(model, metadata.baseModel);
        bytes32 seal = sealOf(round, participant, metadata);
        if (seal != _seals[participant]) revert SealMismatch(_seals[participant], seal);

        member.revealed = round;
        ++state.reveals;

        emit Revealed(round, participant, metadata, _now());
        head = keccak256(abi.encode(head, Revealed.selector, round, participant, metadata, _now()));

        if (state.reveals == state.commits) _closeReveals(state);
        _state = state;
    }

    /// @inheritdoc IRoundLedger
    function attest(uint32 round, bytes32 newModel, bytes calldata verdicts) external {
        State memory state = _during(round, Phase.Attest);
        Participant storage member = _requireParticipant(round, msg.sender);
        if (member.attested == round) revert AlreadyAttested(msg.sender, round);
        if (newModel == 0) revert ZeroDigest();
        uint256 length = verdicts.length;
        if (length == 0 || length > state.registered || verdicts[length - 1] == 0) revert InvalidVerdicts();

        member.attested = round;
        bytes32 outcome = keccak256(abi.encode(round, newModel, verdicts));
        if (state.votes == 0) _firstOutcome = outcome;
        uint32 votes = outcome == _firstOutcome ? ++state.votes : ++_otherVotes[outcome];

        emit Attested(round, msg.sender, newModel, _now(), verdicts);
        bytes memory topics = abi.encode(Attested.selector, round, msg.sender);
        head = keccak256(bytes.concat(head, topics, abi.encode(newModel, _now(), verdicts)));

        if (votes == quorum(state.roster)) _finalize(state, newModel, votes);
        _state = state;
    }

    /// @inheritdoc IRoundLedger
    function advance(uint32 round) external {
        State memory state = _state;
        if (round != state.number) revert WrongRound(state.number, round);
        if (state.phase == Phase.Idle) revert WrongPhase(Phase.Commit, Phase.Idle);
        if (block.timestamp < state.deadline) revert WindowOpen(state.deadline, _now());

        if (state.phase == Phase.Commit) _closeCommits(state);
        else if (state.phase == Phase.Reveal) _closeReveals(state);
        else _abort(state, AbortReason.NoQuorum);
        _state = state;
    }

    // The ends of the phases. Each works on the caller's copy of the state, which the caller stores.

    function _closeCommits(State memory state) private {
        if (state.commits < MIN_UPDATES) return _abort(state, AbortReason.TooFewCommits);

        state.phase = Phase.Reveal;
        state.deadline = _after(REVEAL_WINDOW);

        emit CommitsClosed(state.number, state.commits, state.deadline, _now());
        head = keccak256(abi.encode(head, CommitsClosed.selector, state.number, state.commits, state.deadline, _now()));
    }

    function _closeReveals(State memory state) private {
        if (state.reveals < MIN_UPDATES) return _abort(state, AbortReason.TooFewReveals);

        state.phase = Phase.Attest;
        state.deadline = _after(ATTEST_WINDOW);

        emit RevealsClosed(state.number, state.reveals, state.deadline, _now());
        head = keccak256(abi.encode(head, RevealsClosed.selector, state.number, state.reveals, state.deadline, _now()));
    }

    function _finalize(State memory state, bytes32 newModel, uint32 votes) private {
        state.phase = Phase.Idle;
        model = newModel;

        emit Finalized(state.number, newModel, votes, _now());
        head = keccak256(abi.encode(head, Finalized.selector, state.number, newModel, votes, _now()));
    }

    function _abort(State memory state, AbortReason reason) private {
        state.phase = Phase.Idle;

        emit Aborted(state.number, reason, _now());
        head = keccak256(abi.encode(head, Aborted.selector, state.number, reason, _now()));
    }

    // ---------------------------------------------------------------- owner

    /// @inheritdoc Ownable2Step
    function transferOwnership(address newOwner) public override {
        super.transferOwnership(newOwner); // checks the caller
        head = keccak256(abi.encode(head, OwnershipTransferStarted.selector, owner(), newOwner));
    }

    /// @dev Every change of owner comes through here: from the constructor, by acceptance, and by renouncing. That is
    /// allowed: it freezes the membership for ever, which a federation may want, and no round needs an owner.
    function _transferOwnership(address newOwner) internal override {
        address previousOwner = owner();
        super._transferOwnership(newOwner);
        head = keccak256(abi.encode(head, OwnershipTransferred.selector, previousOwner, newOwner));
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
        return Round(state.number, state.phase, state.deadline, state.roster, state.commits, state.reveals);
    }

    /// @inheritdoc IRoundLedger
    function participantOf(address account) external view returns (Participant memory) {
        return _participants[account];
    }

    /// @inheritdoc IRoundLedger
    function quorum(uint32 roster) public view returns (uint32) {
        // At most the roster, because QUORUM_BPS is at most ALL_BPS.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32((uint256(roster) * QUORUM_BPS + ALL_BPS - 1) / ALL_BPS);
    }

    /// @inheritdoc IRoundLedger
    function sealOf(uint32 round, address participant, Metadata calldata metadata) public view returns (bytes32) {
        return _hashTypedDataV4(Seals.structHash(round, participant, metadata));
    }

    /// @dev The state, if `round` is the newest, in this phase, and the window is open.
    function _during(uint32 round, Phase phase) private view returns (State memory state) {
        state = _state;
        if (round != state.number) revert WrongRound(state.number, round);
        if (phase != state.phase) revert WrongPhase(phase, state.phase);
        if (block.timestamp >= state.deadline) revert WindowClosed(state.deadline, _now());
    }

    function _requireParticipant(uint32 round, address account) private view returns (Participant storage member) {
        member = _participants[account];
        if (round < member.fromRound || round > member.untilRound) revert NotParticipant(account, round);
    }

    function _now() private view returns (uint64) {
        return uint64(block.timestamp);
    }

    function _after(uint32 window) private view returns (uint40) {
        return uint40(block.timestamp) + window;
    }
}
