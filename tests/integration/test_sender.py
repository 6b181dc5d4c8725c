"""An account's transactions when things go wrong on the way: each action is done once, whatever happens."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from chain.calls import Call
from chain.devnet import Devnet
from chain.devnet_process import Kind
from chain.errors import UnknownRevert
from chain.fees import Fees, raised
from chain.flight import transaction_hash
from chain.outbox import Entry, MemoryOutbox
from chain.protocol.errors import ConfigError, Pending, Unavailable
from chain.rpc import Rpc, RpcError
from chain.sender import Sender
from chain.signers import LocalSigner, decode
from tests.integration.harness import ETHER, wait_for


@pytest.fixture(scope="module")
def ganache() -> Iterator[Devnet]:
    with Devnet.start("ganache") as net:
        yield net


@pytest.fixture
def anvil() -> Iterator[Devnet]:
    """Its own: automatic mining is turned off, blocks are taken back."""
    with Devnet.start() as net:
        yield net


@pytest.fixture(params=["anvil", "ganache"])
def either(request: pytest.FixtureRequest) -> Devnet:
    kind: Kind = request.param
    net: Devnet = request.getfixturevalue(kind)
    return net


def payment(data: bytes, to: str = "0x" + "42" * 20) -> Call:
    """Some wei's worth of data to an address that does not mind."""
    return Call(to_checksum_address(to), data)


def rich(net: Devnet) -> LocalAccount:
    account: LocalAccount = Account.create()
    net.fund(account.address, ETHER)
    return account


def count(net: Devnet, account: LocalAccount, block: str = "latest") -> int:
    return int(net.rpc.call("eth_getTransactionCount", account.address, block), 16)


def mined(net: Devnet, account: LocalAccount) -> list[dict[str, Any]]:
    """The account's transactions in the chain, by nonce."""
    found = []
    for number in range(int(net.rpc.call("eth_blockNumber"), 16) + 1):
        block = net.rpc.call("eth_getBlockByNumber", hex(number), True)
        found += [tx for tx in block["transactions"] if to_checksum_address(tx["from"]) == account.address]
    assert [int(tx["nonce"], 16) for tx in found] == list(range(len(found)))
    return found


def data_of(transactions: list[dict[str, Any]]) -> list[bytes]:
    return [bytes.fromhex(tx["input"][2:]) for tx in transactions]


class Manual:
    """Mining by hand."""

    def __init__(self, net: Devnet) -> None:
        self.rpc = net.rpc

    def __enter__(self) -> Callable[[], None]:
        self.rpc.call("evm_setAutomine", False)
        return lambda: self.rpc.call("evm_mine")

    def __exit__(self, *_: object) -> None:
        self.rpc.call("evm_setAutomine", True)
        self.rpc.call("evm_mine")


# ------------------------------------------------------------------ each once


@pytest.mark.parametrize("arrives", [False, True])
def test_connection_lost_while_sending_then_a_restart_sends_the_same_bytes(either: Devnet, arrives: bool) -> None:
    """Whether the transaction got through or not: the program that starts again does not know, and need not."""
    account, outbox = rich(either), MemoryOutbox()
    real = Rpc(either.url)

    class Cut(Rpc):
        def call(self, method: str, *params: Any) -> Any:
            if method == "eth_sendRawTransaction":
                if arrives:
                    real.call(method, *params)
                raise self._unavailable("the line is dead")
            return super().call(method, *params)

    with pytest.raises(Unavailable, match="the line is dead"):
        Sender(Cut(either.url), account, outbox).send("commit 1", payment(b"once"))
    (written,) = outbox.entries()
    receipt = Sender(either.url, account, outbox).send("commit 1", payment(b"another seal, never used"))
    assert data_of(mined(either, account)) == [b"once"]
    assert receipt.transaction == transaction_hash(written.raw[0])
    assert outbox.entries() == []  # with depth 0, mined is done


def test_answer_is_asked_for_again_while_it_is_not_deep_enough(anvil: Devnet) -> None:
    account, outbox = rich(anvil), MemoryOutbox()
    first = Sender(anvil.url, account, outbox, depth=3).send("attest 1", payment(b"vote"))
    again = Sender(anvil.url, account, outbox, depth=3)
    assert again.send("attest 1", payment(b"vote")) == first
    again.keep_alive(first.block - 1)
    assert [entry.key for entry in outbox.entries()] == ["attest 1"]
    again.keep_alive(first.block)
    assert outbox.entries() == []
    assert data_of(mined(anvil, account)) == [b"vote"]


def test_nonces_go_on_from_chain_and_outbox_and_leave_no_gap(anvil: Devnet) -> None:
    """What the server forgot comes first, and a hole in the outbox is filled."""
    account, outbox = rich(anvil), MemoryOutbox()
    signer = LocalSigner(account)
    for nonce in (0, 2):
        fields = {"chainId": anvil.chain_id, "nonce": nonce, "gas": 50_000, "value": 0, "data": b"%d" % nonce}
        fields |= {"to": "0x" + "42" * 20, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}
        outbox.put(Entry(f"reveal {nonce}", nonce, (signer.sign_transaction(fields),)))
    sender = Sender(anvil.url, account, outbox)
    sender.send("attest 1", payment(b"1"))
    sender.send("attest 2", payment(b"3"))
    assert data_of(mined(anvil, account)) == [b"0", b"1", b"2", b"3"]


def test_transaction_that_fails_blocks_nothing_and_may_be_tried_again(anvil: Devnet) -> None:
    """It was fine when it was estimated, and is not when it is mined."""
    account, outbox, place = rich(anvil), MemoryOutbox(), "0x" + "77" * 20
    sender = Sender(anvil.url, account, outbox, depth=5, timeout=20)
    with Manual(anvil) as mine:
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(sender.send, "commit 1", payment(b"\1" * 32, place))
            wait_for(lambda: count(anvil, account, "pending") == 1)
            anvil.rpc.call("anvil_setCode", place, "0x600080fd")  # reverts
            mine()
        assert isinstance(sending.exception(), UnknownRevert)
    anvil.rpc.call("anvil_setCode", place, "0x00")
    sender.send("commit 2", payment(b"next", place))
    sender.send("commit 1", payment(b"again", place))
    assert data_of(mined(anvil, account)) == [b"\1" * 32, b"next", b"again"]


# ---------------------------------------------------------------- replacement


def test_stuck_transaction_is_replaced_by_a_dearer_one_and_mined_once(anvil: Devnet) -> None:
    account, outbox = rich(anvil), MemoryOutbox()
    sender = Sender(anvil.url, account, outbox, depth=5, timeout=0.1, replace_after=0.05)
    with Manual(anvil) as mine:
        for _ in range(2):
            with pytest.raises(Pending, match="is not mined"):
                sender.send("commit 1", payment(b"stuck"))
        (entry,) = outbox.entries()
        assert len(entry.raw) >= 2
        offers = [Fees.of(decode(raw)) for raw in entry.raw]
        for before, after in itertools.pairwise(offers):
            assert after.tip >= before.tip * 1.125 and after.limit >= before.limit * 1.125
        assert len({decode(raw)["nonce"] for raw in entry.raw}) == 1
        mine()
    assert [tx["hash"] for tx in mined(anvil, account)] == [transaction_hash(entry.raw[-1])]
    assert sender.send("commit 1", payment(b"stuck")).transaction == transaction_hash(entry.raw[-1])


def test_older_version_that_was_mined_after_all_counts(anvil: Devnet) -> None:
    account, outbox = rich(anvil), MemoryOutbox()
    sender = Sender(anvil.url, account, outbox, depth=5, timeout=0.1)
    with Manual(anvil) as mine:
        with pytest.raises(Pending):
            sender.send("commit 1", payment(b"x"))
        (entry,) = outbox.entries()
        dearer = LocalSigner(account).sign_transaction(
            {name: value for name, value in decode(entry.raw[0]).items() if value is not None}
            | {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**10}
        )
        outbox.put(Entry(entry.key, entry.nonce, (*entry.raw, dearer)))  # written down, and then the power failed
        mine()
    receipt = Sender(anvil.url, account, outbox, depth=5).send("commit 1", payment(b"x"))
    assert receipt.transaction == transaction_hash(entry.raw[0])
    assert count(anvil, account) == 1


def test_offer_that_has_become_too_low_is_raised_at_once(anvil: Devnet) -> None:
    account, outbox = rich(anvil), MemoryOutbox()
    sender = Sender(anvil.url, account, outbox, depth=5)
    sender.send("commit 1", payment(b"1"))  # looks at the fees, which are good for a while
    base = int(anvil.rpc.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    anvil.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(base * 5))
    anvil.rpc.call("evm_mine")
    anvil.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(base * 5))
    sender.send("commit 2", payment(b"2"))
    assert data_of(mined(anvil, account)) == [b"1", b"2"]
    assert len(outbox.entries()[-1].raw) > 1


@given(st.integers(0, 2**80), st.integers(0, 2**80), st.integers(0, 2**80), st.integers(0, 2**80))
def test_raised_offer_is_an_eighth_more_in_both_fields_or_none(tip: int, more: int, now_tip: int, base: int) -> None:
    paid, now, ceiling = Fees(tip, tip + more), Fees(now_tip, now_tip + base), 2**80
    higher = raised(paid, now, ceiling)
    if higher is None:  # nobody pays endlessly
        assert paid.limit >= 10 * now.limit or max(paid.limit * 9 // 8 + 1, now.limit, tip * 9 // 8 + 1) > ceiling
    else:
        assert 8 * higher.tip >= 9 * paid.tip and 8 * higher.limit >= 9 * paid.limit and higher.limit <= ceiling
        assert higher.tip >= now.tip and higher.limit >= max(now.limit, higher.tip)


def test_a_price_that_a_server_makes_up_is_not_offered(anvil: Devnet) -> None:
    class Dear(Rpc):
        def batch(self, calls: Sequence[Any]) -> list[Any]:
            named = zip(calls, super().batch(calls), strict=True)
            return [hex(10**15) if call[0] == "eth_maxPriorityFeePerGas" else answer for call, answer in named]

    account, outbox = rich(anvil), MemoryOutbox()
    Sender(Dear(anvil.url), account, outbox, depth=5, max_fee=10**10).send("commit 1", payment(b"x"))
    (entry,) = outbox.entries()
    assert Fees.of(decode(entry.raw[-1])) == Fees(10**10, 10**10)
    assert data_of(mined(anvil, account)) == [b"x"]


# ---------------------------------------------------------------------- funds


def test_account_without_funds_stops_clearly_and_goes_on_with_them(either: Devnet) -> None:
    account, outbox = Account.create(), MemoryOutbox()
    either.fund(account.address, 10**12)
    sender = Sender(either.url, account, outbox)
    with pytest.raises(ConfigError, match="not enough funds") as caught:
        sender.send("commit 1", payment(b"x"))
    assert caught.value.where == account.address
    assert "the balance is 1e-06 ether" in caught.value.problem
    either.fund(account.address, ETHER)
    sender.send("commit 1", payment(b"x"))
    assert data_of(mined(either, account)) == [b"x"]


def test_funds_that_ran_out_after_a_reorganisation_lose_nothing(anvil: Devnet) -> None:
    account, outbox = rich(anvil), MemoryOutbox()
    sender = Sender(anvil.url, account, outbox, depth=5)
    anvil.rpc.call("evm_mine")
    receipt = sender.send("commit 1", payment(b"x"))
    anvil.rpc.call("anvil_reorg", 1, [])
    anvil.fund(account.address, 5)
    with pytest.raises(ConfigError, match=r"not enough funds .* is needed"):
        sender.keep_alive(0)
    assert len(outbox.entries()) == 1
    anvil.fund(account.address, ETHER)
    sender.keep_alive(1)
    wait_for(lambda: count(anvil, account) == 1)
    assert [tx["hash"] for tx in mined(anvil, account)] == [receipt.transaction]


# -------------------------------------------------------------- reorganisations


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_what_a_reorganisation_throws_out_is_sent_again_in_order(anvil: Devnet, depth: int) -> None:
    account, outbox = rich(anvil), MemoryOutbox()
    sender = Sender(anvil.url, account, outbox, depth=depth)
    for _ in range(depth):
        anvil.rpc.call("evm_mine")
    receipts = [sender.send(f"commit {number}", payment(b"%d" % number)) for number in range(depth)]
    anvil.rpc.call("anvil_reorg", depth, [])
    assert count(anvil, account) == 0
    sender.keep_alive(receipts[0].block - 1)
    wait_for(lambda: count(anvil, account) == depth)
    assert [tx["hash"] for tx in mined(anvil, account)] == [receipt.transaction for receipt in receipts]
    sender.keep_alive(int(anvil.rpc.call("eth_blockNumber"), 16))
    assert outbox.entries() == []


def test_nonce_that_another_program_used_is_given_up(anvil: Devnet) -> None:
    """After a reorganisation the nonce belongs to something else: the action gets a new one."""
    account, outbox = rich(anvil), MemoryOutbox()
    sender = Sender(anvil.url, account, outbox, depth=5)
    anvil.rpc.call("evm_mine")
    sender.send("commit 1", payment(b"ours"))
    anvil.rpc.call("anvil_reorg", 1, [])
    Sender(anvil.url, account).send(None, payment(b"theirs"))
    sender.send("commit 1", payment(b"ours"))
    assert data_of(mined(anvil, account)) == [b"theirs", b"ours"]


def test_refusal_that_is_none_of_these_leaves_nothing_behind(anvil: Devnet) -> None:
    account, outbox = rich(anvil), MemoryOutbox()

    class Stubborn(Rpc):
        def call(self, method: str, *params: Any) -> Any:
            if method == "eth_sendRawTransaction":
                raise RpcError(method, -32000, "exceeds block gas limit")
            return super().call(method, *params)

    with pytest.raises(Unavailable, match="exceeds block gas limit"):
        Sender(Stubborn(anvil.url), account, outbox).send("commit 1", payment(b"x"))
    assert outbox.entries() == []
    Sender(anvil.url, account, outbox).send("commit 1", payment(b"x"))
    assert data_of(mined(anvil, account)) == [b"x"]


def test_nonce_that_a_server_made_up_is_given_up_in_time(anvil: Devnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.sender.REVIVE", 0.0)

    class Liar(Rpc):
        def batch(self, calls: Sequence[Any]) -> list[Any]:
            named = zip(calls, super().batch(calls), strict=True)
            return ["0x1000" if call[2:] == ("pending",) else answer for call, answer in named]

    account, outbox = rich(anvil), MemoryOutbox()
    with pytest.raises(Pending):
        Sender(Liar(anvil.url), account, outbox, depth=5, timeout=0.1).send("commit 1", payment(b"x"))
    assert [entry.nonce for entry in outbox.entries()] == [0x1000]
    sender = Sender(anvil.url, account, outbox, depth=5, replace_after=0.1)
    for _ in range(3):
        sender.keep_alive(0)
        time.sleep(0.11)
    assert outbox.entries() == []
    sender.send("commit 1", payment(b"x"))
    assert data_of(mined(anvil, account)) == [b"x"]


def test_what_is_refused_for_good_stops_nothing_else(anvil: Devnet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes it no more, as one with a lower limit of gas."""
    monkeypatch.setattr("chain.sender.REVIVE", 0.0)
    account, outbox = rich(anvil), MemoryOutbox()
    anvil.rpc.call("evm_mine")
    Sender(anvil.url, account, outbox, depth=5).send("commit 1", payment(b"x"))
    anvil.rpc.call("anvil_reorg", 1, [])

    class Strict(Rpc):
        def call(self, method: str, *params: Any) -> Any:
            if method == "eth_sendRawTransaction":
                raise RpcError(method, 3, "execution reverted")
            return super().call(method, *params)

    sender = Sender(Strict(anvil.url), account, outbox, depth=5, replace_after=0.1)
    for look in range(3):
        assert len(outbox.entries()) == (look < 2)
        sender.keep_alive(0)
        time.sleep(0.11)


def test_nonce_that_another_program_is_using_is_left_to_it(anvil: Devnet) -> None:
    """Where a server does not count what waits, both choose the same nonce: the second does not outbid the first."""
    account, outbox = rich(anvil), MemoryOutbox()

    class Forgetful(Rpc):
        def batch(self, calls: Sequence[Any]) -> list[Any]:
            return super().batch([(*call[:2], "latest") if call[2:] == ("pending",) else call for call in calls])

    with Manual(anvil) as mine:
        with pytest.raises(Pending):
            Sender(anvil.url, account, timeout=0.1).send(None, payment(b"theirs"))
        sender = Sender(Forgetful(anvil.url), account, outbox, depth=5)
        with pytest.raises(Unavailable, match="another program uses every nonce"):
            sender.send("commit 1", payment(b"ours"))
        assert outbox.entries() == []
        mine()
    sender.send("commit 1", payment(b"ours"))
    assert data_of(mined(anvil, account)) == [b"theirs", b"ours"]


@pytest.mark.parametrize("answer", ["0x" + "f" * 400, hex(2**63), hex(-1), 7, None, "", "0x", [], {}, 1e999])
@pytest.mark.parametrize(
    "method", ["eth_getTransactionCount", "eth_estimateGas", "eth_maxPriorityFeePerGas", "eth_getBalance"]
)
def test_numbers_of_no_chain_are_senseless(anvil: Devnet, method: str, answer: Any) -> None:
    class Senseless(Rpc):
        def call(self, asked: str, *params: Any) -> Any:
            if asked == "eth_sendRawTransaction" and method == "eth_getBalance":
                raise RpcError(asked, -32000, "insufficient funds")
            return answer if asked == method else super().call(asked, *params)

        def batch(self, calls: Sequence[Any]) -> list[Any]:
            return [self.call(*call) for call in calls]

    with pytest.raises((Unavailable, ConfigError)):
        Sender(Senseless(anvil.url), rich(anvil)).send("commit 1", payment(b"x"))


def test_waiting_for_a_block_can_be_ended_and_loses_nothing(anvil: Devnet) -> None:
    class Stopped(Exception):
        pass

    def stop(seconds: float) -> None:
        raise Stopped

    account, outbox = rich(anvil), MemoryOutbox()
    with Manual(anvil), pytest.raises(Stopped):
        Sender(anvil.url, account, outbox, pause=stop).send("commit 1", payment(b"x"))
    Sender(anvil.url, account, outbox).send("commit 1", payment(b"x"))
    assert data_of(mined(anvil, account)) == [b"x"]
