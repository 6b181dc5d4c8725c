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
/// Relaying. A participant that has no coin, or wants to share the fees, signs its commit or attestation (EIP-712), and
/// anybody may bring many of them in one transaction: `relayCommits`, `relayReveals`, `relayAttestations`. A reveal
/// needs no signature, the seal is its authority. An entry that the direct call would refuse is skipped and stops
/// nobody else's; the functions return why, for whoever asks by eth_call first. There is no nonce: a participant
/// commits and attests once a round, so nothing can be replayed, and no straggler blocks another. A signature is good
/// until its own deadline. The direct calls stay open to all: no relayer can keep anybody out. Signatures are those of
/// keys (ECDSA); contracts as participants (EIP-1271) use the direct calls.
///
/// The running head. `head` commits to every state change that ever happened here:
///
///     head' = the first 28 bytes of keccak256(head || 0x00000000 || topics || data)
///
/// over every log of this contract in the order of emission, starting from 28 zero bytes; topics (the event's signature
/// first) are 32 bytes each, data is the log's data as it stands. Every log counts, the inherited ones too. Replaying
/// the logs must give the head: whoever drops, adds, alters or reorders logs contradicts it.
///
/// Head and seals are keccak cut to 224 bits, so that a counter fits into the same storage slot. A second history with
/// the same head, or a second opening of the same seal, takes a collision: about 2^112 steps. A given one is harder
/// still to meet: 2^224.
///
/// Roles and trust assumptions.
///  * The owner, the federation's administrator, hands over in two steps. It decides who is enrolled, from the next
///    round on, names the pauser, and may once name a successor. It cannot touch a round that is open, or the past.
///    Who decides the roster decides the quorum of later rounds, so every change of it is an event and part of the head.
///  * The pauser can stop new rounds from being opened, and let them again. A round that is open goes on to its end. The
///    owner may end a pause too: a federation that renounces its owner should do without a pauser.
///  * A participant is a number for ever and an address for some rounds: it may rotate its key. Whoever steals its key
///    can do that too; then the owner retires the number's new address.
///  * The successor is a pointer for those who look: the contract that goes on where this one ends. No new round opens
///    here afterwards. Nothing is copied, and what stands here stays as it is.
///  * The contract checks order, time, membership, seals, signatures and the count of votes. It does not check what the
///    digests stand for: every node does that before it attests, and any auditor afterwards.
///
/// Time is `block.timestamp` in seconds. A window is open while `block.timestamp < deadline`; a signature is good while
/// `block.timestamp <= deadline`. A phase ends when all have acted, or after its deadline: then the first action of the
/// next one closes it, if there are enough to go on.
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

    /// @notice A reveal as a relayer brings it.
    struct Opening {
        address participant;
        Metadata metadata;
    }

    /// @notice An ECDSA signature in its short form (EIP-2098), good until `deadline`. Who signed follows from it.
    struct Signature {
        uint64 deadline;
        bytes32 r;
        bytes32 vs; // s, and the parity of y in the topmost bit
    }

    /// @notice A commit as a relayer brings it: signed as `Commit(uint32 round,bytes28 seal,uint64 deadline)`.
    struct SignedCommit {
        bytes28 seal;
        Signature signature;
    }

    /// @notice A commit that was relayed, in the event.
    struct Sealing {
        address participant;
        bytes28 seal;
    }

    /// @notice An enrolled address. Rounds count from 1, and there are fewer than 2^31.
    struct Participant {
        uint32 number; // 1, 2, 3... in order of enrolment; 0: never enrolled
        uint32 fromRound; // first round of the membership
        uint32 untilRound; // last round of the membership; type(uint32).max: not retired
        bool rotated; // the number has gone on to another address
        uint32 committed; // the last round in which it committed
        bool revealed; // whether it has revealed what it committed then
        uint32 attested; // the last round in which it attested
        bytes28 seal; // what it committed last
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
    // slither-disable-next-line unindexed-event-address - there is one, and its address is that of every log
    event Created(uint16 version, uint256 chainId, address ledger, Rules rules, uint64 time);
    event Enrolled(address indexed participant, uint32 number, uint32 fromRound, uint64 time);
    event Retired(address indexed participant, uint32 untilRound, uint64 time);
    /// @notice `participant` acts to the end of the round before `fromRound`, `replacement` from then on.
    event Rotated(
        address indexed participant, address indexed replacement, uint32 number, uint32 fromRound, uint64 time
    );
    event PauserChanged(address indexed pauser, uint64 time);
    event Paused(address indexed pauser, uint64 time);
    event Unpaused(address indexed account, uint64 time);
    event Succeeded(address indexed successor, uint64 time);
    event Opened(uint32 indexed round, bytes32 baseModel, uint32 roster, uint64 deadline, uint64 time);
    event Committed(uint32 indexed round, address indexed participant, bytes28 seal, uint64 time);
    /// @notice Stands for as many Committed: those that a batch brought, in its order, the skipped ones left out.
    event CommitsRelayed(uint32 indexed round, uint64 time, Sealing[] commits);
    event CommitsClosed(uint32 indexed round, uint32 commits, uint64 deadline, uint64 time);
    event Revealed(uint32 indexed round, address indexed participant, Metadata metadata, uint64 time);
    event RevealsRelayed(uint32 indexed round, uint64 time, Opening[] reveals);
    event RevealsClosed(uint32 indexed round, uint32 reveals, uint64 deadline, uint64 time);
    /// @notice The first vote for an outcome spells it out; it follows at once. `outcome` is
    /// keccak256(abi.encode(round, model, verdicts)). `verdicts[n - 1]` is the verdict on participant number n:
    /// 0 nothing revealed, 1 accepted, otherwise the number of the check that excluded its update. No trailing zeros.
    event Proposed(uint32 indexed round, bytes32 outcome, bytes32 model, uint64 time, bytes verdicts);
    event Attested(uint32 indexed round, address indexed participant, bytes32 outcome, uint64 time);
    event AttestationsRelayed(uint32 indexed round, bytes32 indexed outcome, uint64 time, address[] participants);
    event Finalized(uint32 indexed round, bytes32 model, uint32 attestations, uint64 time);
    event Aborted(uint32 indexed round, AbortReason reason, uint64 time);

    // --------------------------------------------------------------- errors

    error InvalidRules(string field);
    error ZeroDigest();
    error ZeroAddress();
    error NotParticipant(address participant, uint32 round);
    error AlreadyEnrolled(address participant);
    error NotEnrolled(address participant);
    error KeyRotated(address participant);
    error NotPauser(address account);
    error AlreadyPaused();
    error NotPaused();
    error HasSuccessor(address successor);
    error TooFewParticipants(uint32 required, uint32 enrolled);
    error WrongRound(uint32 expected, uint32 actual);
    error WrongPhase(Phase expected, Phase actual);
    error WindowClosed(uint64 deadline, uint64 time);
    error WindowOpen(uint64 deadline, uint64 time);
    error SignatureExpired(uint64 deadline, uint64 time);
    error InvalidSignature();
    error AlreadyCommitted(address participant, uint32 round);
    error NotCommitted(address participant, uint32 round);
    error AlreadyRevealed(address participant, uint32 round);
    error AlreadyAttested(address participant, uint32 round);
    error WrongBaseModel(bytes32 expected, bytes32 actual);
    error SealMismatch(bytes28 expected, bytes28 actual);
    error InvalidVerdicts();

    // ----------------------------------------------------------- membership

    /// @notice Enrols `participant` from the next round on. An address that was retired gets its old number back; if it
    /// was retired in the newest round, its membership goes on without a gap, with the first round that it had. One
    /// that rotated its key never comes back: its number is another address's now. The owner only.
    function enrol(address participant) external;

    /// @notice Retires `participant`; in a round that is open it stays a member to the end. The owner only.
    function retire(address participant) external;

    /// @notice Gives the caller's number to `replacement` from the next round on; to the end of an open round the caller
    /// acts. The caller was a participant of the newest round, if there was one: a number changes hands once a round, so
    /// who is to be retired cannot run away for ever. `replacement` was never enrolled, and consents: it signs
    /// `Rotation(address participant,address replacement,uint64 deadline)`. So nobody can take an address that is not
    /// its own, and keep its owner from being enrolled.
    function rotate(address replacement, Signature calldata consent) external;

    /// @notice Names who may pause; zero: nobody. The owner only.
    function setPauser(address newPauser) external;

    /// @notice Stops new rounds, and nothing else. The pauser only.
    function pause() external;

    /// @notice Lets new rounds be opened again. The pauser or the owner.
    function unpause() external;

    /// @notice Names the contract that goes on after this one, once and for ever. The owner only.
    function setSuccessor(address newSuccessor) external;

    // --------------------------------------------------------------- rounds

    /// @notice Opens round `round`, which must be the next one. Participants of that round only.
    function open(uint32 round) external;

    /// @notice Commits the caller's seal. Closes the commits when it is the last of the roster.
    function commit(uint32 round, bytes28 seal) external;

    /// @notice Opens the seal of `participant`. Anybody who knows the metadata may bring it: the seal is the authority.
    /// Closes the commits first, if their deadline has passed.
    function reveal(uint32 round, address participant, Metadata calldata metadata) external;

    /// @notice Votes for an outcome of the round; any participant of its roster may, also one that did not commit. Closes
    /// the reveals first, if their deadline has passed.
    function attest(uint32 round, bytes32 newModel, bytes calldata verdicts) external;

    /// @notice Closes the present phase after its deadline: to the next phase, or to an abort. Only an abort needs it.
    function advance(uint32 round) external;

    // ------------------------------------------------------------- relaying

    /// @notice Many commits, each signed by its participant. Anybody may call it.
    /// @return refusals for each entry the error that it was skipped for, as it stands in a revert; empty: it was taken
    function relayCommits(uint32 round, SignedCommit[] calldata commits) external returns (bytes[] memory refusals);

    /// @notice Many reveals. Anybody may call it.
    /// @return refusals as those of `relayCommits`
    function relayReveals(uint32 round, Opening[] calldata openings) external returns (bytes[] memory refusals);

    /// @notice Many votes for one outcome, each signed by its participant as
    /// `Attestation(uint32 round,bytes32 model,bytes verdicts,uint64 deadline)`. Anybody may call it. At the quorum the
    /// round is final, and the rest is skipped.
    /// @return refusals as those of `relayCommits`
    function relayAttestations(uint32 round, bytes32 newModel, bytes calldata verdicts, Signature[] calldata signatures)
        external
        returns (bytes[] memory refusals);

    // ---------------------------------------------------------------- views

    function head() external view returns (bytes28);
    /// @notice The newest finalized model.
    function model() external view returns (bytes32);
    /// @notice Who may pause; zero: nobody.
    function pauser() external view returns (address);
    /// @notice Whether new rounds are stopped.
    function paused() external view returns (bool);
    /// @notice The contract that goes on after this one; zero: none yet.
    function successor() external view returns (address);
    function rules() external view returns (Rules memory);
    function currentRound() external view returns (Round memory);
    function participantOf(address account) external view returns (Participant memory);
    /// @notice Identical attestations that finalize a round with this roster.
    function quorum(uint32 roster) external view returns (uint32);
    /// @notice The seal that `commit` expects for this metadata.
    function sealOf(uint32 round, address participant, Metadata calldata metadata) external view returns (bytes28);

    // --------------------------------------------------------------- proofs
    //
    // A root is in the logs, and in storage only under a seal, the participant's newest. So a proof is checked against
    // metadata that the caller brings, and `isRevealed` says whether that is what the participant revealed; after its
    // next commit the answer is in the logs alone, which `head` binds. The tree's size comes from the same metadata:
    // a proof binds the position too.

    /// @notice Whether this metadata was revealed, as far as storage knows: only for the round of the participant's
    /// newest commit; false for an older round means nothing.
    function isRevealed(uint32 round, address participant, Metadata calldata metadata) external view returns (bool);

    /// @notice Whether record `index` under the metadata's data root has this key and this content digest, which is
    /// SHA-256(nonce || canonical record): an inclusion proof of RFC 6962, 2.1.1, lowest sibling first.
    function verifyRecord(
        Metadata calldata metadata,
        uint64 index,
        bytes32 key,
        bytes32 content,
        bytes32[] calldata path
    ) external pure returns (bool);

    /// @notice Whether the sent channel at `position` (from 0, in ascending order) under the metadata's channel root is
    /// `channel`, with this squared norm in units of 2^-60.
    /// @param leaf the leaf that holds it: 64 channels, the last leaf fewer; of each u32 channel || u128 norm
    function verifyChannel(
        Metadata calldata metadata,
        uint32 position,
        uint32 channel,
        uint128 squaredNorm,
        bytes calldata leaf,
        bytes32[] calldata path
    ) external pure returns (bool);
}
