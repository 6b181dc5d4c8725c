"""Several RPC servers: one that dies is replaced, one that is behind is waited for, one that lies is found."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chain import servers
from chain.blocks import Depth
from chain.client import LedgerClient
from chain.devnet import Devnet
from chain.protocol.errors import Code, ConfigError, TrustError, Unavailable, VerificationError
from chain.reader import LedgerReader
from chain.rpc import AnswerTooLong, Rpc, RpcError
from chain.servers import Servers, connect
from fl_node.ledger import Ledger
from tests.integration.harness import Federation, Nodes, found_federation, proxy

LONG = {"commit_window": 600, "reveal_window": 600, "attest_window": 600}
NOBODY = "http://127.0.0.1:1"


def honest(method: str, params: list[Any], result: Any) -> Any:
    return result


def another_head(method: str, params: list[Any], result: Any) -> Any:
    return "0x66" + result[4:] if method == "eth_call" else result


def senseless(method: str, params: list[Any], result: Any) -> Any:
    return {"eth_call": "0x12", "eth_getBlockByNumber": {}}.get(method, result)


def behind(method: str, params: list[Any], result: Any) -> Any:
    """It has no block above 2."""
    if method == "eth_getBlockByNumber" and (result is None or int(result["number"], 16) > 2):
        return None
    if method == "eth_call" and int(params[1], 16) > 2:
        raise RpcError(method, -32602, "unknown block")
    return result


@pytest.fixture
def net() -> Iterator[Devnet]:
    with Devnet.start() as chain:
        yield chain


@pytest.fixture
def made(net: Devnet, tmp_path: Path) -> Federation:
    return found_federation(tmp_path / "federation", net, 2, 1, None, **LONG)


def ledger(made: Federation, *urls: str, depth: Depth = 0) -> Ledger:
    return Ledger(LedgerReader(connect(urls), made.deployment), made.rules, depth=depth)


def test_logs_of_which_too_many_come_at_once_are_asked_for_in_parts(made: Federation) -> None:
    """Anybody can make many of them."""
    whole = ledger(made, made.url)
    owner = LedgerClient(made.url, made.deployment, made.owner)
    for number in range(1, 151):
        owner.enrol("0x" + f"{number:040x}")
    history = whole.sync()
    few = Rpc(made.url, max_reply=80_000)  # enough for the contract's code
    with pytest.raises(AnswerTooLong):
        few.call("eth_getLogs", {"address": made.deployment.address, "fromBlock": "0x0", "toBlock": "latest"})
    for rpc in (few, Servers([few])):
        assert Ledger(LedgerReader(rpc, made.deployment), made.rules).sync().head == history.head


def test_head_that_is_ahead_of_its_block_for_a_moment_is_read_again(made: Federation) -> None:
    wrong = []

    def ahead(method: str, params: list[Any], result: Any) -> Any:
        """While Anvil adds a block, the newest one has the head of that."""
        return another_head(method, params, result) if method == "eth_call" and wrong and wrong.pop() else result

    with proxy(made.url, ahead) as server:
        reading = ledger(made, server)
        before = reading.sync()
        made.client(1).open(1)
        wrong.append(True)
        assert len(reading.sync().rounds) == 1
        assert not wrong
        assert reading.history is before, "everything was replayed"


# ------------------------------------------------------------------- failing over


def test_server_that_dies_is_replaced_and_taken_back(made: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "RETRY", 0.0)
    with ExitStack() as stack:
        first = stack.enter_context(proxy(made.url, honest))
        reading = ledger(made, first, made.url)
        assert len(reading.sync().members) == 2
        assert reading.reader.rpc.name == first
    made.client(1).open(1)
    assert reading.sync().current is not None
    assert reading.reader.rpc.name == made.url


def test_server_that_is_away_is_not_asked_all_the_time(net: Devnet) -> None:
    asked: list[str] = []

    def count(method: str, params: list[Any], result: Any) -> Any:
        asked.append(method)
        return result

    with ExitStack() as stack:
        first = stack.enter_context(proxy(net.url, count))
        rpc = connect([first, net.url])
        rpc.call("eth_chainId")
        assert rpc.name == first
        stack.close()
        for _ in range(3):
            rpc.call("eth_chainId")
        assert (rpc.name, asked) == (net.url, ["eth_chainId"])


def test_all_servers_down_is_unavailable_and_shows_no_key() -> None:
    rpc = connect([NOBODY + "/v3/SECRET", "http://127.0.0.1:2/v3/SECRET"])
    with pytest.raises(Unavailable, match="cannot connect") as caught:
        rpc.call("eth_chainId")
    assert "SECRET" not in str(caught.value)
    with pytest.raises(Unavailable):
        rpc.batch([("eth_chainId",), ("eth_blockNumber",)])
    assert rpc.elsewhere([("eth_chainId",)], "") == []


def test_refusal_is_an_answer_and_no_reason_to_ask_another(net: Devnet) -> None:
    def refuse(method: str, params: list[Any], result: Any) -> Any:
        raise RpcError(method, -32000, "not today")

    with proxy(net.url, refuse) as url, pytest.raises(RpcError, match="not today"):
        connect([url, net.url]).call("eth_chainId")


@pytest.mark.parametrize("urls", [[], ["http://a", "http://a"]])
def test_servers_none_or_twice_is_a_usage_error(urls: list[str]) -> None:
    with pytest.raises(ConfigError, match="name at least one server, and each once"):
        connect(urls)


def test_one_server_needs_no_comparison(net: Devnet) -> None:
    assert not isinstance(connect([net.url]), Servers)


def test_replacement_of_another_chain_is_not_trusted(made: Federation) -> None:
    with Devnet.start() as other, ExitStack() as stack:
        for _ in range(5):
            other.increase_time(1)
        first = stack.enter_context(proxy(made.url, honest))
        reading = ledger(made, first, other.url)
        reading.sync()
        stack.close()
        # Two chains of the same second have the same genesis block.
        with pytest.raises((TrustError, ConfigError), match=r"genesis block|no contract at this address"):
            reading.sync()


def test_node_goes_on_when_its_first_server_dies(net: Devnet, made: Federation, nodes: Nodes) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(proxy(net.url, honest))
        for seat in (1, 2):
            config = made.config(seat)
            config.write_text(config.read_text().replace(f'rpc = "{net.url}"', f'rpc = ["{first}", "{net.url}"]'))
        nodes.start(made.config(1))
        nodes.wait("commit", "node-1", 1)
        stack.close()
        nodes.start(made.config(2))
        for name in ("node-1", "node-2"):
            assert nodes.wait("done", name).round == 1
    assert made.audit()[0] == 0


# -------------------------------------------------------------------- comparing


@pytest.mark.parametrize("liar_first", [False, True])
def test_servers_that_disagree_about_the_head_are_both_named(made: Federation, liar_first: bool) -> None:
    with proxy(made.url, another_head) as liar:
        urls = [liar, made.url] if liar_first else [made.url, liar]
        reading = ledger(made, *urls)
        with pytest.raises(VerificationError) as caught:
            reading.sync()
    honest_head = LedgerReader(connect(made.url), made.deployment).head(reading.reader.block_number())
    error = caught.value
    assert (error.code, error.exit_code) == (Code.L2, 1)
    assert {error.expected, error.actual} == {
        f"0x66{honest_head.hex()[2:]} ({liar})",
        f"0x{honest_head.hex()} ({made.url})",
    }
    assert str(error).startswith("L2 head at block ")


def test_server_that_is_away_or_senseless_does_not_disagree(made: Federation) -> None:
    assert len(ledger(made, made.url, NOBODY).sync().members) == 2
    with proxy(made.url, senseless) as url:
        assert len(ledger(made, made.url, url).sync().members) == 2


def test_block_that_another_server_does_not_have_yet_is_waited_for(made: Federation) -> None:
    """Whoever invents blocks is always ahead. One that has had no new block for long no longer follows the chain."""
    with proxy(made.url, behind_latest) as slow:
        reading = ledger(made, made.url, slow)
        with pytest.raises(Unavailable) as caught:
            reading.sync()
        assert made.url in str(caught.value) and f"{slow} ends at block 2" in str(caught.value)
        assert reading.history.events == 0, "nothing of it was believed"
    with proxy(made.url, stopped) as stale:
        assert len(ledger(made, made.url, stale).sync().members) == 2


def test_server_that_goes_away_after_its_answer_is_compared_all_the_same(made: Federation) -> None:
    """Which server gave the reading counts, not which one answered last."""
    with proxy(made.url, another_head) as liar:
        rpc = connect([liar, made.url])
        assert isinstance(rpc, Servers)
        reader = LedgerReader(rpc, made.deployment)
        reading = reader.read(made.deployment.block, reader.block_number())
        assert reading.server == liar
        rpc.pass_over()
        rpc.call("eth_chainId")
        assert rpc.name == made.url
        with pytest.raises(VerificationError, match=r"L2 head at block \d+"):
            reader.compare(reading, buried=False)


def test_first_server_that_stands_still_is_reported_with_the_one_that_is_ahead(
    made: Federation, net: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = net.rpc.call("eth_getBlockByNumber", "0x2", False)

    def still(method: str, params: list[Any], result: Any) -> Any:
        latest = method == "eth_getBlockByNumber" and params[0] == "latest"
        return second if latest else behind_latest(method, params, result)

    for _ in range(3):
        net.increase_time(1)
    with proxy(made.url, still) as stale:
        reading = ledger(made, stale, made.url)
        reading.sync()
        monkeypatch.setattr("fl_node.ledger.RECHECK", 0.0)
        with pytest.raises(Unavailable, match=rf"{stale}.*it ends at block 2, {made.url} at"):
            reading.sync()


def test_server_that_is_behind_what_was_seen_is_passed_over(made: Federation) -> None:
    seen = ledger(made, made.url)
    seen.sync()
    with proxy(made.url, behind_latest) as slow:
        rpc = connect([slow, made.url])
        again = Ledger(LedgerReader(rpc, made.deployment), made.rules, seen.save())
        with pytest.raises(Unavailable, match="was seen before"):
            again.sync()
        assert again.sync().events == seen.history.events
        assert rpc.name == made.url


def test_server_that_has_not_come_to_the_ledger_yet_has_no_other_contract(made: Federation) -> None:
    def syncing(method: str, params: list[Any], result: Any) -> Any:
        return {"eth_blockNumber": "0x0", "eth_getCode": "0x"}.get(method, result)

    with proxy(made.url, syncing) as url, pytest.raises(Unavailable, match="it is at block 0, the ledger was deployed"):
        ledger(made, url).sync()


def test_server_that_is_behind_is_waited_for_after_a_failure(made: Federation) -> None:
    """What one server has shown is not taken back because the next one does not know of it yet."""
    with proxy(made.url, stopped) as slow, ExitStack() as stack:
        first = stack.enter_context(proxy(made.url, honest))
        reading = ledger(made, first, slow)
        seen = reading.sync().events
        stack.close()
        assert reading.sync().events == seen
        assert reading.replays == 0


def behind_latest(method: str, params: list[Any], result: Any) -> Any:
    """Its newest block is the second."""
    if method == "eth_blockNumber":
        return "0x2"
    if method == "eth_getBlockByNumber" and params[0] == "latest":
        return result | {"number": "0x2"}
    return behind(method, params, result)


def stopped(method: str, params: list[Any], result: Any) -> Any:
    """The same, and that was long ago."""
    found = behind_latest(method, params, result)
    if method == "eth_getBlockByNumber" and params[0] == "latest":
        return found | {"timestamp": hex(int(time.time()) - 600)}
    return found


@pytest.fixture
def branched(made: Federation, net: Devnet, tmp_path: Path) -> Iterator[Callable[[], Devnet]]:
    """Another server of the same chain, with the blocks up to now in common, and others of its own on top."""
    with ExitStack() as stack:

        def start() -> Devnet:
            net.save_state(tmp_path / "chain.json")
            other = stack.enter_context(Devnet.start(state=tmp_path / "chain.json"))
            for chain, seconds in ((other, 5), (net, 0)):
                for _ in range(4):
                    chain.increase_time(seconds)
            return other

        yield start


def test_servers_that_disagree_about_buried_blocks_are_both_named(
    made: Federation, branched: Callable[[], Devnet]
) -> None:
    other = branched()
    with pytest.raises(VerificationError, match=r"L2 hash of block \d+") as caught:
        ledger(made, made.url, other.url, depth=2).sync()
    assert caught.value.expected.endswith(f"({made.url})")
    assert caught.value.actual.endswith(f"({other.url})")


def test_servers_on_branches_that_are_not_buried_do_not_disagree_yet(
    made: Federation, branched: Callable[[], Devnet]
) -> None:
    other = branched()
    assert len(ledger(made, made.url, other.url).sync().members) == 2  # depth 0: everything may still change
    assert len(ledger(made, made.url, other.url, depth=4).sync().members) == 2  # what lies deep enough is the same
