"""The part of the contract that its owner, its pauser and its participants' keys decide; its logs and its head."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_keys.datatypes import Signature as EcdsaSignature
from eth_keys.exceptions import BadSignature, ValidationError
from eth_utils.crypto import keccak

from chain import errors
from chain.protocol.events import Log, OnChainRules
from chain.protocol.seal import domain_separator
from chain.signing import Signature
from tests.simulator.words import Array, data, struct_hash, word

IDLE, COMMIT, REVEAL, ATTEST = range(4)
NOT_RETIRED = 2**32 - 1
NOBODY = "0x" + "0" * 40
FORMAT = 3
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
RULES = "(bytes32,bytes32,uint32,uint32,uint32,uint32,uint16)"


@dataclass(slots=True)
class Member:
    number: int = 0
    from_round: int = 0
    until_round: int = 0
    rotated: bool = False
    committed: int = 0
    revealed: bool = False
    attested: int = 0
    seal: bytes = bytes(28)


@dataclass(slots=True)
class State:
    """The newest round."""

    number: int = 0
    phase: int = IDLE
    deadline: int = 0
    roster: int = 0
    commits: int = 0
    reveals: int = 0
    votes: dict[bytes, int] = field(default_factory=dict)


class Membership:
    """`now` and `block` are what the chain says. A call raises the contract's error and changes nothing, or adds to
    `logs`.
    """

    def __init__(self, chain_id: int, address: str, owner: str, rules: OnChainRules, now: int, block: int) -> None:
        self.address, self.rules, self.now, self.block = address, rules, now, block
        self.domain = domain_separator(chain_id, address)
        self.logs: list[Log] = []
        self.head = bytes(28)
        self.owner, self.pending_owner, self.pauser, self.successor = NOBODY, NOBODY, NOBODY, NOBODY
        self.paused, self.registered = False, 0
        self.members: dict[str, Member] = {}
        self.state = State()
        self._own(owner)
        self._emit(f"Created(uint16,uint256,address,{RULES},uint64)", [], [FORMAT, chain_id, address, rules, now])

    def enrol(self, sender: str, participant: str) -> None:
        self._only_owner(sender)
        member, newest = self.member(participant), self.state.number
        if member.rotated:
            raise errors.KeyRotated(participant)
        if not member.number:
            self.registered += 1
            member.number, member.from_round = self.registered, newest + 1
        elif member.until_round == NOT_RETIRED:
            raise errors.AlreadyEnrolled(participant)
        elif member.until_round != newest:
            member.from_round = newest + 1
        member.until_round = NOT_RETIRED
        self.members[participant] = member
        values = [member.number, member.from_round, self.now]
        self._emit("Enrolled(address,uint32,uint32,uint64)", [participant], values)

    def retire(self, sender: str, participant: str) -> None:
        self._only_owner(sender)
        member = self._enrolled(participant)
        member.until_round = self.state.number
        self._emit("Retired(address,uint32,uint64)", [participant], [member.until_round, self.now])

    def rotate(self, sender: str, replacement: str, consent: Signature) -> None:
        member = self._enrolled(sender)
        if self.state.number and member.from_round > self.state.number:
            raise errors.NotParticipant(sender, self.state.number)
        if self.member(replacement).number:
            raise errors.AlreadyEnrolled(replacement)
        kind = "Rotation(address participant,address replacement,uint64 deadline)"
        if self._signer(struct_hash(kind, sender, replacement, consent.deadline), consent) != replacement:
            raise errors.InvalidSignature()
        first = self.state.number + 1
        member.until_round, member.rotated = self.state.number, True
        self.members[replacement] = Member(member.number, first, NOT_RETIRED)
        values = [member.number, first, self.now]
        self._emit("Rotated(address,address,uint32,uint32,uint64)", [sender, replacement], values)

    def set_pauser(self, sender: str, pauser: str) -> None:
        self._only_owner(sender)
        self.pauser = pauser
        self._emit("PauserChanged(address,uint64)", [pauser], [self.now])

    def pause(self, sender: str) -> None:
        if sender != self.pauser:
            raise errors.NotPauser(sender)
        if self.paused:
            raise errors.AlreadyPaused()
        self.paused = True
        self._emit("Paused(address,uint64)", [sender], [self.now])

    def unpause(self, sender: str) -> None:
        if sender not in (self.pauser, self.owner):
            raise errors.NotPauser(sender)
        if not self.paused:
            raise errors.NotPaused()
        self.paused = False
        self._emit("Unpaused(address,uint64)", [sender], [self.now])

    def set_successor(self, sender: str, successor: str) -> None:
        self._only_owner(sender)
        if successor == NOBODY:
            raise errors.ZeroAddress()
        if self.successor != NOBODY:
            raise errors.HasSuccessor(self.successor)
        self.successor = successor
        self._emit("Succeeded(address,uint64)", [successor], [self.now])

    def transfer_ownership(self, sender: str, owner: str) -> None:
        self._only_owner(sender)
        self.pending_owner = owner
        self._emit("OwnershipTransferStarted(address,address)", [self.owner, owner], [])

    def accept_ownership(self, sender: str) -> None:
        if sender != self.pending_owner:
            raise errors.OwnableUnauthorizedAccount(sender)
        self._own(sender)

    def renounce_ownership(self, sender: str) -> None:
        self._only_owner(sender)
        self._own(NOBODY)

    # -------------------------------------------------------------- helpers

    def member(self, account: str) -> Member:
        return self.members.get(account) or Member()

    def _own(self, owner: str) -> None:
        before, self.owner, self.pending_owner = self.owner, owner, NOBODY
        self._emit("OwnershipTransferred(address,address)", [before, owner], [])

    def _only_owner(self, sender: str) -> None:
        if sender != self.owner:
            raise errors.OwnableUnauthorizedAccount(sender)

    def _enrolled(self, account: str) -> Member:
        member = self.member(account)
        if not member.number or member.until_round != NOT_RETIRED:
            raise errors.NotEnrolled(account)
        return member

    def _emit(
        self, signature: str, indexed: Sequence[Any], values: Sequence[Any], last: bytes | Array | None = None
    ) -> None:
        log = Log((keccak(text=signature), *map(word, indexed)), data(values, last), self.block)
        self.logs.append(log)
        self.head = keccak(self.head + bytes(4) + b"".join(log.topics) + log.data)[:28]

    def _signer(self, struct: bytes, signature: Signature) -> str:
        if self.now > signature.deadline:
            raise errors.SignatureExpired(signature.deadline, self.now)
        r, vs = int.from_bytes(signature.r, "big"), int.from_bytes(signature.vs, "big")
        s, parity = vs & (1 << 255) - 1, vs >> 255
        if s > HALF_ORDER:
            raise errors.InvalidSignature()
        try:
            key = EcdsaSignature(vrs=(parity, r, s)).recover_public_key_from_msg_hash(self.digest(struct))
        except (BadSignature, ValidationError):
            raise errors.InvalidSignature() from None
        return key.to_checksum_address()

    def digest(self, struct: bytes) -> bytes:
        """What a key signs, and what a seal is the beginning of."""
        return keccak(b"\x19\x01" + self.domain + struct)
