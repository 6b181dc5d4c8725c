// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The ledger of one federation: what was committed, revealed, attested and finalized, round by round.
/// @notice This file is the specification. One deployed contract is one federation; its rules never change.
///
/// A round goes  open -> commit -> reveal -> attest -> finalized,  or is aborted on the way.
///
///  * `open`    names the finalized model that the round builds on and fixes the roster.
///  * `commit`  stores a participant's seal: the EIP-712 digest of (participant, round, metadata). The domain binds the
///              chain id and this contract, so a seal copied from anyone, any round, chain or ledger cannot be opened.
///  * `reveal`  publishes the metadata, which must hash to the seal.
///  * `attest`  is one participant's vote for a whole outcome: the digest of the new model and one verdict for every
///              participant. Identical votes that reach the quorum finalize the round at once.
///  * `advance` closes a phase whose window has passed; anybody may call it. The commits close early when the whole
///              roster has committed, the reveals when all who committed have revealed, the attestations when one
///              outcome has the quorum.
///
/// The running head. `head` commits to every state change that ever happened here:
///
///     head' = keccak256(head || topics || data)
///
/// over every log of this contract in the order of emission, starting from zero; topics (the event's signature first)
/// are 32 bytes each, data is the log's data as it stands. Every log counts, the inherited ones too. Replaying the logs
/// must give the head: whoever drops, adds, alters or reorders logs contradicts it.
///
/// Trust assumptions. The owner decides who is enrolled, from the next round on, and nothing else; it cannot touch a
/// round or the past. Who decides the roster decides the quorum of later rounds, so every change of it is an event and
/// part of the head. The contract checks order, time, membership, seals and the count of votes. It does not check what the digests
/// stand for: every node does that before it attests, and any auditor afterwards.
///
/// Time is `block.timestamp` in seconds. A window is open while `block.timestamp < deadline`.
interface IRoundLedger {
    // ---------------------------------------------------------------- types

    enum Phase {
        Idle,
        Commit,
        Reveal,
        Attest
    }

    enum AbortReason {
        TooFewCommits,
        TooFewReveals,
        NoQuorum
    }

    /// @notice The rules that the contract itself enforces. `rulesDigest` covers these and all the others.
    struct Rules {
        bytes32 rulesDigest; // SHA-256 of the canonical rules of the federation
        bytes32 genesisModel; // SHA-256 of the model that round 1 builds on
        uint32 commitWindow; // seconds, from opening
        uint32 revealWindow; // seconds, from the close of the commits
        uint32 attestWindow; // seconds, from the close of the reveals
        uint32 minUpdates; // fewer commits or reveals than this abort the round; at least 1
        uint16 quorumBps; // share of the roster that must attest one outcome, in 1/10000; above 5000, at most 10000
    }

    /// @notice What a participant publishes about its update.
    struct Metadata {
        bytes32 baseModel; // SHA-256 of the model that the update builds on
        bytes32 updateDigest; // SHA-256 of the update blob
        uint64 updateBytes; // size of the update blob
        bytes32 dataRoot; // Merkle root over the training records
        bytes32 secretCommitment; // commitment to the secret behind the data root's keys and nonces
        uint64 records; // number of training records
        bytes32 channelRoot; // Merkle root of the channel table
        uint32 channels; // channels in the table
        uint32 sent; // channels sent
        uint128 threshold; // the smallest selected norm, squared, in units of 2^-60; 0 if nothing was sent
        bytes32 salt; // random, so that the seal hides the rest
    }

    /// @notice An enrolled address. Rounds count from 1.
    struct Participant {
        uint32 number; // 1, 2, 3... in order of enrolment; 0: never enrolled
        uint32 fromRound; // first round of the membership
        uint32 untilRound; // last round of the membership; type(uint32).max: not retired
        uint32 committed; // the last round in which it committed, revealed, attested
        uint32 revealed;
        uint32 attested;
    }

    /// @notice The newest round. Past rounds live in the logs and in the head.
    struct Round {
        uint32 number; // 0: no round was ever opened
        Phase phase; // Idle: the round is finalized or aborted
        uint64 deadline; // end of the present window
        uint32 roster; // participants that may take part
        uint32 commits;
        uint32 reveals;
    }

    // --------------------------------------------------------------- events

    /// @notice Always the first event but for the owner's: format version, place and rules.
    event Created(uint16 version, uint256 chainId, address ledger, Rules rules, uint64 time);
    event Enrolled(address indexed participant, uint32 number, uint32 fromRound, uint64 time);
    event Retired(address indexed participant, uint32 untilRound, uint64 time);
    event Opened(uint32 indexed round, bytes32 baseModel, uint32 roster, uint64 deadline, uint64 time);
    event Committed(uint32 indexed round, address indexed participant, bytes32 seal, uint64 time);
    event CommitsClosed(uint32 indexed round, uint32 commits, uint64 deadline, uint64 time);
    event Revealed(uint32 indexed round, address indexed participant, Metadata metadata, uint64 time);
    event RevealsClosed(uint32 indexed round, uint32 reveals, uint64 deadline, uint64 time);
    /// @notice `verdicts[n - 1]` is the verdict on participant number n: 0 nothing revealed, 1 accepted, otherwise the
    /// number of the check that excluded its update. No trailing zeros.
    event Attested(uint32 indexed round, address indexed participant, bytes32 model, uint64 time, bytes verdicts);
    event Finalized(uint32 indexed round, bytes32 model, uint32 attestations, uint64 time);
    event Aborted(uint32 indexed round, AbortReason reason, uint64 time);

    // --------------------------------------------------------------- errors

    error InvalidRules(string field);
    error ZeroDigest();
    error NotParticipant(address participant, uint32 round);
    error AlreadyEnrolled(address participant);
    error NotEnrolled(address participant);
    error TooFewParticipants(uint32 required, uint32 enrolled);
    error WrongRound(uint32 expected, uint32 actual);
    error WrongPhase(Phase expected, Phase actual);
    error WindowClosed(uint64 deadline, uint64 time);
    error WindowOpen(uint64 deadline, uint64 time);
    error AlreadyCommitted(address participant, uint32 round);
    error NotCommitted(address participant, uint32 round);
    error AlreadyRevealed(address participant, uint32 round);
    error AlreadyAttested(address participant, uint32 round);
    error WrongBaseModel(bytes32 expected, bytes32 actual);
    error SealMismatch(bytes32 expected, bytes32 actual);
    error InvalidVerdicts();

    // ----------------------------------------------------------- membership

    /// @notice Enrols `participant` from the next round on. An address that was retired gets its old number back; if it
    /// was retired in the newest round, its membership goes on without a gap, with the first round that it had.
    function enrol(address participant) external;

    /// @notice Retires `participant`; in a round that is open it stays a member to the end.
    function retire(address participant) external;

    // --------------------------------------------------------------- rounds

    /// @notice Opens round `round`, which must be the next one. Participants of that round only.
    function open(uint32 round) external;

    /// @notice Commits the caller's seal. Closes the commits when it is the last of the roster.
    function commit(uint32 round, bytes32 seal) external;

    /// @notice Opens the seal of `participant`. Anybody who knows the metadata may bring it: the seal is the authority.
    function reveal(uint32 round, address participant, Metadata calldata metadata) external;

    /// @notice Votes for an outcome of the round; any participant of its roster may, also one that did not commit.
    function attest(uint32 round, bytes32 model, bytes calldata verdicts) external;

    /// @notice Closes the present phase after its deadline: to the next phase, or to an abort.
    function advance(uint32 round) external;

    // ---------------------------------------------------------------- views

    function head() external view returns (bytes32);
    /// @notice The newest finalized model.
    function model() external view returns (bytes32);
    function rules() external view returns (Rules memory);
    function currentRound() external view returns (Round memory);
    function participantOf(address account) external view returns (Participant memory);
    /// @notice Identical attestations that finalize a round with this roster.
    function quorum(uint32 roster) external view returns (uint32);
    /// @notice The seal that `commit` expects for this metadata.
    function sealOf(uint32 round, address participant, Metadata calldata metadata) external view returns (bytes32);
}
