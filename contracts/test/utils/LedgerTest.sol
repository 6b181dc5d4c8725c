// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../../src/interfaces/IRoundLedger.sol";
import {Ledger} from "./Ledger.sol";
import {Vm} from "./Vm.sol";

/// @notice A federation of four organisations, its operator, a stranger, and what they do in a round that goes well.
abstract contract LedgerTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint64 internal constant START = 1_800_000_000;
    uint32 internal constant COMMIT_WINDOW = 1 hours;
    uint32 internal constant REVEAL_WINDOW = 2 hours;
    uint32 internal constant ATTEST_WINDOW = 3 hours;
    uint32 internal constant MIN_UPDATES = 2;
    uint16 internal constant QUORUM_BPS = 6667; // three of four
    uint32 internal constant NOT_RETIRED = type(uint32).max;
    uint64 internal constant NO_DEADLINE = type(uint64).max;
    bytes32 internal constant GENESIS = sha256("genesis model");
    bytes internal constant ALL_ACCEPTED = hex"01010101";

    address internal immutable OPERATOR = actor("operator");
    address internal immutable ALICE = actor("alice");
    address internal immutable BOB = actor("bob");
    address internal immutable CAROL = actor("carol");
    address internal immutable DAVE = actor("dave");
    address internal immutable MALLORY = actor("mallory");

    Ledger internal ledger;
    mapping(address account => uint256) private privateKeys;

    function setUp() public virtual {
        vm.warp(START);
        ledger = deploy(OPERATOR, defaultRules());
    }

    function deploy(address owner, IRoundLedger.Rules memory rules) internal returns (Ledger) {
        return Ledger(vm.deployCode("RoundLedger.sol:RoundLedger", abi.encode(owner, rules)));
    }

    // --------------------------------------------------------------- actors

    function actor(string memory name) internal returns (address account) {
        uint256 privateKey = uint256(keccak256(bytes(name)));
        account = vm.addr(privateKey);
        privateKeys[account] = privateKey;
        vm.label(account, name);
    }

    function manyActors(uint256 count) internal returns (address[] memory accounts) {
        accounts = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            accounts[i] = actor(string.concat("organisation ", vm.toString(i + 1)));
        }
    }

    function organisations() internal view returns (address[] memory members) {
        members = new address[](4);
        (members[0], members[1], members[2], members[3]) = (ALICE, BOB, CAROL, DAVE);
    }

    // ---------------------------------------------------------------- facts

    function defaultRules() internal pure returns (IRoundLedger.Rules memory) {
        return IRoundLedger.Rules({
            rulesDigest: sha256("rules"),
            genesisModel: GENESIS,
            commitWindow: COMMIT_WINDOW,
            revealWindow: REVEAL_WINDOW,
            attestWindow: ATTEST_WINDOW,
            minUpdates: MIN_UPDATES,
            quorumBps: QUORUM_BPS
        });
    }

    function modelOf(uint32 round) internal pure returns (bytes32) {
        return sha256(abi.encode("model", round));
    }

    /// @dev The update of `account` in `round`: every field differs from every other participant's and round's.
    function metadataOf(uint32 round, address account) internal view returns (IRoundLedger.Metadata memory) {
        return IRoundLedger.Metadata({
            baseModel: ledger.model(),
            updateDigest: sha256(abi.encode("update", round, account)),
            updateBytes: 1_000_000 + uint64(uint160(account) % 1000),
            dataRoot: sha256(abi.encode("data", round, account)),
            secretCommitment: sha256(abi.encode("secret", account)),
            records: 60_000 + round,
            channelRoot: sha256(abi.encode("channels", round, account)),
            channels: 1290,
            sent: 129,
            threshold: 1 << 59,
            salt: sha256(abi.encode("salt", round, account))
        });
    }

    function sealOf(uint32 round, address account) internal view returns (bytes28) {
        return ledger.sealOf(round, account, metadataOf(round, account));
    }

    function openingOf(uint32 round, address account) internal view returns (IRoundLedger.Opening memory) {
        return IRoundLedger.Opening(account, metadataOf(round, account));
    }

    // ----------------------------------------------------------- signatures
    //
    // Written out from the text of EIP-712, without the contract's own library.

    function sign(address account, bytes32 structHash, uint64 deadline)
        internal
        view
        returns (IRoundLedger.Signature memory)
    {
        bytes32 domainType =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain =
            keccak256(abi.encode(domainType, keccak256("roundledger"), keccak256("1"), block.chainid, address(ledger)));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, structHash));
        (bytes32 r, bytes32 vs) = vm.signCompact(privateKeys[account], digest);
        return IRoundLedger.Signature(deadline, r, vs);
    }

    function signCommit(uint32 round, address account, bytes28 seal, uint64 deadline)
        internal
        view
        returns (IRoundLedger.SignedCommit memory)
    {
        bytes32 structType = keccak256("Commit(uint32 round,bytes28 seal,uint64 deadline)");
        bytes32 structHash = keccak256(abi.encode(structType, round, seal, deadline));
        return IRoundLedger.SignedCommit(seal, sign(account, structHash, deadline));
    }

    function signAttestation(uint32 round, address account, bytes32 model, bytes memory verdicts, uint64 deadline)
        internal
        view
        returns (IRoundLedger.Signature memory)
    {
        bytes32 structType = keccak256("Attestation(uint32 round,bytes32 model,bytes verdicts,uint64 deadline)");
        return sign(account, keccak256(abi.encode(structType, round, model, keccak256(verdicts), deadline)), deadline);
    }

    /// @dev The consent of `replacement` to take over from `account`.
    function signRotation(address account, address replacement, uint64 deadline)
        internal
        view
        returns (IRoundLedger.Signature memory)
    {
        bytes32 structType = keccak256("Rotation(address participant,address replacement,uint64 deadline)");
        return sign(replacement, keccak256(abi.encode(structType, account, replacement, deadline)), deadline);
    }

    function signedCommits(uint32 round, address[] memory accounts)
        internal
        view
        returns (IRoundLedger.SignedCommit[] memory commits)
    {
        commits = new IRoundLedger.SignedCommit[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            commits[i] = signCommit(round, accounts[i], sealOf(round, accounts[i]), NO_DEADLINE);
        }
    }

    function openings(uint32 round, address[] memory accounts)
        internal
        view
        returns (IRoundLedger.Opening[] memory all)
    {
        all = new IRoundLedger.Opening[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            all[i] = openingOf(round, accounts[i]);
        }
    }

    function signedAttestations(uint32 round, address[] memory accounts, bytes memory verdicts)
        internal
        view
        returns (IRoundLedger.Signature[] memory signatures)
    {
        signatures = new IRoundLedger.Signature[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            signatures[i] = signAttestation(round, accounts[i], modelOf(round), verdicts, NO_DEADLINE);
        }
    }

    // -------------------------------------------------------------- actions

    function enrol(address account) internal {
        vm.prank(OPERATOR);
        ledger.enrol(account);
    }

    function retire(address account) internal {
        vm.prank(OPERATOR);
        ledger.retire(account);
    }

    function enrolAll() internal {
        address[] memory members = organisations();
        for (uint256 i = 0; i < members.length; ++i) {
            enrol(members[i]);
        }
    }

    function open(uint32 round) internal {
        vm.prank(ALICE);
        ledger.open(round);
    }

    function commit(uint32 round, address account) internal {
        bytes28 seal = sealOf(round, account);
        vm.prank(account);
        ledger.commit(round, seal);
    }

    function reveal(uint32 round, address account) internal {
        IRoundLedger.Metadata memory metadata = metadataOf(round, account);
        vm.prank(account);
        ledger.reveal(round, account, metadata);
    }

    function attest(uint32 round, address account) internal {
        bytes32 model = modelOf(round); // before the prank: the SHA-256 precompile is a call too
        vm.prank(account);
        ledger.attest(round, model, ALL_ACCEPTED);
    }

    function rotate(address account, address replacement) internal {
        IRoundLedger.Signature memory consent = signRotation(account, replacement, NO_DEADLINE);
        vm.prank(account);
        ledger.rotate(replacement, consent);
    }

    function commitAll(uint32 round) internal {
        address[] memory members = organisations();
        for (uint256 i = 0; i < members.length; ++i) {
            commit(round, members[i]);
        }
    }

    function revealAll(uint32 round) internal {
        address[] memory members = organisations();
        for (uint256 i = 0; i < members.length; ++i) {
            reveal(round, members[i]);
        }
    }

    /// @dev One whole round that the first three attestations finalize.
    function playRound(uint32 round) internal {
        open(round);
        commitAll(round);
        revealAll(round);
        attest(round, ALICE);
        attest(round, BOB);
        attest(round, CAROL);
    }

    // ---------------------------------------------- the beginning of a phase

    function startCommits() internal {
        enrolAll();
        open(1);
    }

    function startReveals() internal {
        startCommits();
        commitAll(1);
    }

    function startAttestations() internal {
        startReveals();
        revealAll(1);
    }

    // --------------------------------------------------------------- checks

    /// @dev What the head must be after `logs`, beginning at `head`.
    function fold(bytes28 head, Vm.Log[] memory logs) internal view returns (bytes28) {
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter != address(ledger)) continue;
            head = bytes28(keccak256(abi.encodePacked(bytes32(head), logs[i].topics, logs[i].data)));
        }
        return head;
    }

    function assertMember(address account, uint32 number, uint32 fromRound, uint32 untilRound) internal view {
        IRoundLedger.Participant memory member = ledger.participantOf(account);
        vm.assertEq(member.number, number, "number");
        vm.assertEq(member.fromRound, fromRound, "fromRound");
        vm.assertEq(member.untilRound, untilRound, "untilRound");
    }

    /// @dev Every entry but those at `odd` was taken, and those were skipped for this error.
    function assertSkipped(bytes[] memory refusals, uint256 odd, bytes memory refusal) internal pure {
        for (uint256 i = 0; i < refusals.length; ++i) {
            vm.assertEq(refusals[i], i == odd ? refusal : bytes(""), vm.toString(i));
        }
    }

    function assertTaken(bytes[] memory refusals) internal pure {
        assertSkipped(refusals, type(uint256).max, "");
    }

    function assertPhase(IRoundLedger.Phase expected) internal view {
        vm.assertEq(uint256(ledger.currentRound().phase), uint256(expected), "phase");
    }

    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }
}
