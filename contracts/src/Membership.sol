// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Seals} from "./libraries/Seals.sol";
import {Tagged, tagged} from "./libraries/Tagged.sol";

/// @title Membership
/// @notice The part of a federation that its owner, its pauser and its participants' keys decide; and the head.
/// @dev Every event is first encoded as `head || topics || data`, signature and indexed values being the topics; `_record`
/// then logs and hashes these bytes. All values but the verdicts have a fixed size: one `abi.encode` does it.
abstract contract Membership is IRoundLedger, Ownable2Step, EIP712 {
    /// @dev The slot that a participant only reads: the newest round, the membership's counters, who may open.
    struct State {
        uint32 number;
        Phase phase;
        uint40 deadline; // enough for 34,000 years
        uint32 roster;
        uint32 commits; // once they are closed
        uint32 reveals; // once they are closed
        uint32 registered; // numbers ever given; the newest one
        uint32 enrolled; // and not retired: the roster of the next round
        bool paused;
        bool succeeded;
    }

    /// @dev One slot an address. Its number belongs to one address at a time.
    struct Member {
        uint32 number;
        uint32 fromRound;
        uint32 untilRound;
        uint32 attested; // the last round
        bool rotated;
    }

    uint32 private constant NOT_RETIRED = type(uint32).max;

    /// @dev What every action writes: the head, and the count of the present phase: commits, then reveals, then votes
    /// for the outcome that was voted for first.
    Tagged internal _tally;
    State internal _state;
    mapping(address account => Member) internal _members;
    /// @inheritdoc IRoundLedger
    address public pauser;
    /// @inheritdoc IRoundLedger
    address public successor;

    constructor(address initialOwner) Ownable(initialOwner) EIP712("roundledger", "1") {}

    // ----------------------------------------------------------- membership

    /// @inheritdoc IRoundLedger
    function enrol(address participant) external onlyOwner {
        Member memory member = _members[participant];
        uint32 newest = _state.number;
        if (member.rotated) revert KeyRotated(participant);
        if (member.number == 0) {
            member.number = ++_state.registered;
            member.fromRound = newest + 1;
        } else if (member.untilRound == NOT_RETIRED) {
            revert AlreadyEnrolled(participant);
        } else if (member.untilRound != newest) {
            member.fromRound = newest + 1;
        } // else retired in the newest round, where it may still act: it never left, and keeps its first round

        member.untilRound = NOT_RETIRED;
        _members[participant] = member;
        ++_state.enrolled;

        _record(abi.encode(head(), Enrolled.selector, participant, member.number, member.fromRound, _now()), 2);
    }

    /// @inheritdoc IRoundLedger
    function retire(address participant) external onlyOwner {
        Member storage member = _requireEnrolled(participant);

        uint32 untilRound = _state.number;
        member.untilRound = untilRound;
        --_state.enrolled;

        _record(abi.encode(head(), Retired.selector, participant, untilRound, _now()), 2);
    }

    /// @inheritdoc IRoundLedger
    function rotate(address replacement, Signature calldata consent) external {
        Member storage member = _requireEnrolled(msg.sender);
        uint32 newest = _state.number;
        if (newest != 0 && member.fromRound > newest) revert NotParticipant(msg.sender, newest);
        if (_members[replacement].number != 0) revert AlreadyEnrolled(replacement);
        bytes32 message = Seals.rotationHash(msg.sender, replacement, consent.deadline);
        (address signer, bytes memory refusal) = _signer(message, consent);
        _orRevert(refusal);
        if (signer != replacement) revert InvalidSignature();

        uint32 number = member.number;
        member.untilRound = newest;
        member.rotated = true;
        _members[replacement] = Member(number, newest + 1, NOT_RETIRED, 0, false);

        _record(abi.encode(head(), Rotated.selector, msg.sender, replacement, number, newest + 1, _now()), 3);
    }

    // --------------------------------------------- pauses, and the successor

    /// @inheritdoc IRoundLedger
    function setPauser(address newPauser) external onlyOwner {
        // slither-disable-next-line missing-zero-check - zero means that nobody may pause
        pauser = newPauser;

        _record(abi.encode(head(), PauserChanged.selector, newPauser, _now()), 2);
    }

    /// @inheritdoc IRoundLedger
    function pause() external {
        if (msg.sender != pauser) revert NotPauser(msg.sender);
        if (_state.paused) revert AlreadyPaused();

        _state.paused = true;

        _record(abi.encode(head(), Paused.selector, msg.sender, _now()), 2);
    }

    /// @inheritdoc IRoundLedger
    function unpause() external {
        if (msg.sender != pauser && msg.sender != owner()) revert NotPauser(msg.sender);
        if (!_state.paused) revert NotPaused();

        _state.paused = false;

        _record(abi.encode(head(), Unpaused.selector, msg.sender, _now()), 2);
    }

    /// @inheritdoc IRoundLedger
    function setSuccessor(address newSuccessor) external onlyOwner {
        if (newSuccessor == address(0)) revert ZeroAddress();
        if (_state.succeeded) revert HasSuccessor(successor);

        successor = newSuccessor;
        _state.succeeded = true;

        _record(abi.encode(head(), Succeeded.selector, newSuccessor, _now()), 2);
    }

    // ---------------------------------------------------------------- owner

    /// @inheritdoc Ownable2Step
    function transferOwnership(address newOwner) public override {
        super.transferOwnership(newOwner); // checks the caller
        _follow(abi.encode(head(), OwnershipTransferStarted.selector, owner(), newOwner));
    }

    /// @dev Every change of owner comes through here: from the constructor, by acceptance, and by renouncing. That is
    /// allowed: it freezes the membership for ever, which a federation may want, and no round needs an owner.
    function _transferOwnership(address newOwner) internal override {
        address previousOwner = owner();
        super._transferOwnership(newOwner);
        _follow(abi.encode(head(), OwnershipTransferred.selector, previousOwner, newOwner));
    }

    // ---------------------------------------------------------------- views

    /// @inheritdoc IRoundLedger
    function head() public view returns (bytes28) {
        return _tally.digest();
    }

    /// @inheritdoc IRoundLedger
    function paused() external view returns (bool) {
        return _state.paused;
    }

    // -------------------------------------------------------------- helpers

    function _takesPart(uint32 round, Member storage member) internal view returns (bool) {
        return member.fromRound <= round && round <= member.untilRound;
    }

    function _requireEnrolled(address account) internal view returns (Member storage member) {
        member = _members[account];
        if (member.number == 0 || member.untilRound != NOT_RETIRED) revert NotEnrolled(account);
    }

    /// @dev Who signed this struct, or why the signature is not good.
    function _signer(bytes32 structHash, Signature calldata signature)
        internal
        view
        returns (address signer, bytes memory refusal)
    {
        if (block.timestamp > signature.deadline) {
            return (address(0), abi.encodeWithSelector(SignatureExpired.selector, signature.deadline, _now()));
        }
        // slither-disable-next-line unused-return - signer zero says that there is an error; which one does not matter
        (signer,,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), signature.r, signature.vs);
        if (signer == address(0)) refusal = abi.encodeWithSelector(InvalidSignature.selector);
    }

    function _refusal(bytes4 selector, address participant, uint32 round) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, participant, round);
    }

    function _orRevert(bytes memory refusal) internal pure {
        if (refusal.length == 0) return;
        assembly ("memory-safe") {
            revert(add(refusal, 0x20), mload(refusal))
        }
    }

    /// @dev Logs what follows the head in `record`, the first words as topics, and steps the head. `count` goes beside it.
    function _record(bytes memory record, uint256 topics, uint32 count) internal {
        assembly ("memory-safe") {
            let topic := add(record, 0x40) // after the length and the head
            let data := add(topic, shl(5, topics))
            let size := sub(mload(record), shl(5, add(topics, 1)))
            switch topics
            case 1 { log1(data, size, mload(topic)) }
            case 2 { log2(data, size, mload(topic), mload(add(topic, 0x20))) }
            default { log3(data, size, mload(topic), mload(add(topic, 0x20)), mload(add(topic, 0x40))) }
        }
        _tally = tagged(bytes28(keccak256(record)), count);
    }

    /// @dev The same, the count untouched.
    function _record(bytes memory record, uint256 topics) internal {
        _record(record, topics, _tally.number());
    }

    /// @dev Only the step of the head: somebody else logged it.
    function _follow(bytes memory record) private {
        _tally = tagged(bytes28(keccak256(record)), _tally.number());
    }

    function _now() internal view returns (uint64) {
        return uint64(block.timestamp);
    }
}
