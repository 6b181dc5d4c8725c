"""Real chains: nothing is left running, nothing that was saved is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from chain import devnet as background
from chain import devnet_state
from chain.calls import Call
from chain.devnet import Devnet
from chain.devnet_process import Kind, start_time
from chain.protocol.errors import ConfigError, RoundledgerError, Unavailable
from chain.rpc import Rpc, RpcError
from chain.sender import Sender

KINDS: list[Kind] = ["anvil", "ganache"]
ETHER = 10**18

# Stores the first word of the call data in slot 0 and logs it with topic 42; without call data reverts with 0xdeadbeef.
RUNTIME = "361560175760003580600055600052602a60206000a1005b63deadbeef60e01b60005260046000fd"
CREATION = f"0x60{len(RUNTIME) // 2:02x}80600b6000396000f3{RUNTIME}"


def wait_for(what: Callable[[], Any], limit: float = 10) -> Any:
    deadline = time.monotonic() + limit
    while not (value := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def wait_for_next_second() -> None:
    now = int(time.time())
    wait_for(lambda: int(time.time()) > now)


def crash(net: Devnet) -> None:
    os.kill(net.pid, signal.SIGKILL)
    wait_for(lambda: not start_time(net.pid))
    with suppress(Unavailable):
        net.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class User:
    """A funded key that sends transactions and waits for them."""

    def __init__(self, net: Devnet, account: LocalAccount | None = None) -> None:
        self.rpc, self.chain_id = net.rpc, net.chain_id
        self.account = account or Account.create()
        if account is None:
            net.fund(self.account.address, ETHER)

    def send(self, to: str | None, data: str) -> dict[str, Any]:
        nonce = int(self.rpc.call("eth_getTransactionCount", self.account.address, "pending"), 16)
        transaction: dict[str, Any] = {"nonce": nonce, "gas": 300_000, "data": data, "chainId": self.chain_id}
        transaction |= {"type": 2, "value": 0}
        transaction |= {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}
        transaction |= {"to": to_checksum_address(to)} if to else {}
        signed = self.account.sign_transaction(transaction)
        number = self.rpc.call("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        receipt: dict[str, Any] = wait_for(lambda: self.rpc.call("eth_getTransactionReceipt", number))
        return receipt

    def deploy(self) -> str:
        return str(self.send(None, CREATION)["contractAddress"])

    def store(self, contract: str, *values: int) -> None:
        for value in values:
            assert self.send(contract, f"0x{value:064x}")["status"] == "0x1"


def everything(rpc: Rpc, contract: str, account: str, until: int) -> dict[str, Any]:
    """What a reader can see of the chain up to a block."""
    blocks = [rpc.call("eth_getBlockByNumber", hex(number), True) for number in range(until + 1)]
    hashes = [transaction["hash"] for block in blocks for transaction in block["transactions"]]
    return {
        "chain": rpc.call("eth_chainId"),
        "blocks": blocks,
        "receipts": [rpc.call("eth_getTransactionReceipt", number) for number in hashes],
        "logs": rpc.call("eth_getLogs", {"fromBlock": "0x0", "toBlock": hex(until)}),
        "code": rpc.call("eth_getCode", contract, hex(until)),
        "storage": [rpc.call("eth_getStorageAt", contract, "0x0", hex(number)) for number in range(2, until + 1)],
        "balance": rpc.call("eth_getBalance", account, hex(until)),
        "nonce": rpc.call("eth_getTransactionCount", account, hex(until)),
    }


def height(rpc: Rpc) -> int:
    return int(rpc.call("eth_blockNumber"), 16)


def times(rpc: Rpc) -> list[int]:
    numbers = range(height(rpc) + 1)
    return [int(rpc.call("eth_getBlockByNumber", hex(number), False)["timestamp"], 16) for number in numbers]


@pytest.mark.parametrize("kind", KINDS)
def test_start_stop_leaves_no_process(kind: Kind) -> None:
    with Devnet.start(kind, chain_id=4711) as net:
        assert (net.kind, net.chain_id) == (kind, 4711)
        assert int(net.rpc.call("eth_chainId"), 16) == 4711
        assert net.rpc.call("eth_accounts") == []
        assert os.getpgid(net.pid) == net.pid != os.getpgid(0)
        assert start_time(net.pid)
    assert not start_time(net.pid)
    with pytest.raises(Unavailable):
        Rpc(net.url).call("eth_chainId")
    net.stop()  # again


def test_start_listens_on_loopback_only(devnet: Devnet) -> None:
    port = int(devnet.url.rpartition(":")[2])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


@pytest.mark.parametrize("kind", KINDS)
def test_stop_kills_a_process_that_does_not_listen(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.devnet_process.STOP_LIMIT", 0.2)
    with Devnet.start(kind) as net:
        os.kill(net.pid, signal.SIGSTOP)
    assert not start_time(net.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tie a child to its parent")
@pytest.mark.parametrize("kind", KINDS)
def test_kill_of_the_parent_kills_the_chain(kind: Kind) -> None:
    code = f"""
import sys
from chain.devnet import Devnet
with Devnet.start({kind!r}) as net:
    print(net.pid, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert start_time(pid)
        parent.kill()
    wait_for(lambda: not start_time(pid))


@pytest.mark.parametrize("kind", KINDS)
def test_start_portInUse_namesThePort(kind: Kind) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        begin = time.monotonic()
        with pytest.raises(ConfigError, match=f"port {port}: Address already in use"):
            Devnet.start(kind, port=port)
        assert time.monotonic() - begin < 1


@pytest.mark.parametrize("kind", KINDS)
def test_start_neverTakesAnothersServerForItsOwn(kind: Kind, devnet: Devnet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes the port between the check and the start, and answers as a chain with the right id."""
    monkeypatch.setattr("chain.devnet_process._check_free", lambda port: port)
    with pytest.raises(ConfigError, match="ended with status"):
        Devnet.start(kind, port=int(devnet.url.rpartition(":")[2]), chain_id=devnet.chain_id)


def test_start_given_port_can_be_used_again_at_once() -> None:
    port = free_port()
    for _ in range(3):
        with Devnet.start(port=port) as net:
            assert net.url == f"http://127.0.0.1:{port}"
            net.rpc.call("eth_blockNumber")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_start_refuses_what_is_no_port(port: int) -> None:
    with pytest.raises(ConfigError, match="not a port number"):
        Devnet.start(port=port)


@pytest.mark.parametrize("kind", KINDS)
def test_fund_and_increase_time(kind: Kind) -> None:
    address = Account.create().address
    with Devnet.start(kind) as net:
        net.fund(address, 7 * ETHER)
        assert int(net.rpc.call("eth_getBalance", address, "latest"), 16) == 7 * ETHER
        before = times(net.rpc)
        net.increase_time(86_400)
        after = times(net.rpc)
        assert len(after) == len(before) + 1
        assert 86_400 <= after[-1] - before[-1] < 86_460


@pytest.mark.parametrize("kind", KINDS)
def test_revert_bytes_are_found(kind: Kind) -> None:
    with Devnet.start(kind) as net:
        contract = User(net).deploy()
        for method in ("eth_call", "eth_estimateGas"):
            with pytest.raises(RpcError) as caught:
                net.rpc.call(method, {"to": contract})
            assert caught.value.revert == b"\xde\xad\xbe\xef"


@pytest.mark.parametrize("kind", KINDS)
def test_state_survives_kills_and_reloads(kind: Kind, tmp_path: Path) -> None:
    state = tmp_path / "state"
    net = Devnet.start(kind, state=state)
    user = User(net)
    contract = user.deploy()
    user.store(contract, 1, 2)
    net.increase_time(7200)  # the chain's clock is ahead of ours from here on
    user.store(contract, 3)
    until = height(net.rpc)
    net.save_state(state)
    before = everything(net.rpc, contract, user.account.address, until)
    assert len(before["logs"]) == 3
    crash(net)
    for value in (4, 5, 6):  # Anvil's genesis goes wrong only at the second reload
        wait_for_next_second()
        net = Devnet.start(kind, state=state)
        assert everything(net.rpc, contract, user.account.address, until) == before
        user = User(net, user.account)
        user.store(contract, value)
        assert int(net.rpc.call("eth_getStorageAt", contract, "0x0", "latest"), 16) == value
        net.rpc.call("eth_call", {"to": contract, "data": f"0x{9:064x}"}, "latest")
        seen = times(net.rpc)
        assert seen == sorted(seen)
        assert len(net.rpc.call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})) == value
        net.save_state(state)
        crash(net)


def test_stop_says_that_a_dead_chain_was_not_saved(tmp_path: Path) -> None:
    net = Devnet.start(state=tmp_path / "state.json")
    os.kill(net.pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        net.stop()
    assert not start_time(net.pid)


def test_state_is_saved_when_the_block_ends_with_an_error(tmp_path: Path) -> None:
    state = tmp_path / "state.json"

    def work() -> None:
        with Devnet.start(state=state) as net:
            net.increase_time(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    with Devnet.start(state=state) as net:
        assert height(net.rpc) == 1


def test_state_clock_follows_the_machine_after_a_reload(tmp_path: Path) -> None:
    with Devnet.start(state=tmp_path / "state.json") as net:
        net.increase_time(0)
    with Devnet.start(state=tmp_path / "state.json") as net:
        net.increase_time(0)
        assert abs(times(net.rpc)[-1] - time.time()) < 10


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"blocks": [], "accounts": {}}', None])
def test_state_damaged_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    state = tmp_path / "state.json"
    if content is None:  # torn
        with Devnet.start(state=state):
            pass
        content = state.read_bytes()[:-100]
    state.write_bytes(content)
    with pytest.raises(ConfigError, match=r"state\.json: not a saved devnet"):
        Devnet.start(state=state)
    assert state.read_bytes() == content


@pytest.mark.parametrize("reply", [None, 7, "0x", "0xzz", "0x1f8b", "0x1f8b08", {}])
def test_save_nothing_usable_keeps_the_old_file(tmp_path: Path, reply: object) -> None:
    class Broken(Rpc):
        def call(self, method: str, *params: Any) -> Any:
            return reply

    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(Unavailable):
        devnet_state.save(Broken("http://127.0.0.1:1"), path)
    assert [path.read_text(), len(list(tmp_path.iterdir()))] == ["old", 1]


def test_save_ganache_elsewhere_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigError, match="only in the folder")
    with Devnet.start("ganache", state=tmp_path / "here") as net, refused:
        net.save_state(tmp_path / "there")


def test_log_is_kept_and_does_not_grow_with_requests(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in (1, 2):
        with Devnet.start(log=log) as net:
            size = log.stat().st_size
            for _ in range(20):
                net.rpc.call("eth_blockNumber")
            assert log.stat().st_size == size
        assert log.read_text().count("Listening on") == number


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where a devnet runs in the background; none does afterwards."""
    yield tmp_path / "net"
    info = background.status(tmp_path / "net").info
    if info is not None and start_time(info.pid) == info.started:
        os.kill(info.pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", KINDS)
def test_up_survives_its_starter_and_down_saves(kind: Kind, directory: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from chain.devnet import up; "
    code += f"up(Path(sys.argv[1]), {kind!r}, state=Path(sys.argv[2]))"
    start = [sys.executable, "-c", code, str(directory), str(tmp_path / "state")]
    assert background.status(directory) == background.DevnetStatus(False, None, None)
    for expected in (0, 1):
        subprocess.run(start, check=True, timeout=60)
        status = background.status(directory)
        assert (status.running, status.height) == (True, expected)
        assert status.info is not None
        Rpc(status.info.url).call("evm_mine")
        assert background.down(directory)
        assert not start_time(status.info.pid)
        assert not (directory / background.RECORD).exists()
    assert not background.down(directory)


def test_up_second_is_refused(directory: Path) -> None:
    port = free_port()
    info = background.up(directory, port=port)
    assert info.url == f"http://127.0.0.1:{port}"
    with pytest.raises(ConfigError, match=f"running already at {info.url}"):
        background.up(directory)
    assert background.status(directory).height == 0
    assert background.down(directory)


def test_up_after_a_crash_starts_afresh(directory: Path) -> None:
    info = background.up(directory)
    os.kill(info.pid, signal.SIGKILL)
    wait_for(lambda: not background.status(directory).running)
    assert background.status(directory).info == info
    again = background.up(directory)
    assert again.pid != info.pid
    assert background.down(directory)


def test_down_never_touches_a_process_that_got_the_same_pid(directory: Path) -> None:
    info = background.up(directory)
    record = directory / background.RECORD
    document = json.loads(record.read_text())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        record.write_text(json.dumps(document | {"pid": bystander.pid}))
        assert not background.status(directory).running
        assert not background.down(directory)
        assert bystander.poll() is None
    record.write_text(json.dumps(document))
    assert background.down(directory)
    assert not start_time(info.pid)


def test_up_refuses_a_place_that_nothing_can_be_saved_to(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        background.up(directory, state=tmp_path / "file" / "state.json")
    assert not background.status(directory).running


def test_down_leaves_a_chain_alone_that_was_put_in_the_place_of_its_own(directory: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    background.up(directory, state=state)
    state.write_text("another demo's")
    with pytest.raises(ConfigError, match="another file than the devnet was started with"):
        background.down(directory)
    assert background.status(directory).running
    assert state.read_text() == "another demo's"
    state.unlink()
    assert background.down(directory)
    background.up(directory, state=state)  # the same file, this time, that it was started with
    assert background.down(directory)


def test_down_that_cannot_save_leaves_the_chain_running(directory: Path, tmp_path: Path) -> None:
    info = background.up(directory, state=tmp_path / "gone" / "state.json")
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").touch()
    with pytest.raises(ConfigError, match="cannot be saved"):
        background.down(directory)
    assert background.status(directory).running
    assert start_time(info.pid)


def test_down_saves_the_last_block_while_others_go_on(directory: Path, tmp_path: Path) -> None:
    """What is mined while the state is saved would be lost."""
    state, account = tmp_path / "state.json", Account.create()
    info = background.up(directory, state=state)
    background.fund(directory, account.address, 10**20)
    mined = [0]

    def send() -> None:
        with suppress(RoundledgerError), Rpc(info.url, 1.0) as rpc:
            sender = Sender(rpc, account, timeout=1.0)
            while True:
                mined[0] = sender.send(None, Call(account.address, b"x" * 1000)).block

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        wait_for(lambda: mined[0] > 50)
        assert background.down(directory)
        sending.result()
    background.up(directory, state=state)
    assert (background.status(directory).height or 0) >= mined[0]
    assert background.down(directory)


def test_up_failure_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("torn")
    with pytest.raises(ConfigError, match="not a saved devnet"):
        background.up(directory, state=tmp_path / "state.json")
    assert background.status(directory) == background.DevnetStatus(False, None, None)


RECORD = {"version": 1, "url": "u", "kind": "anvil", "chain_id": 1, "state": None, "log": ""}


@pytest.mark.parametrize("pid", [0, -1, 1, True, "2"])
def test_a_record_of_no_process_of_ours_is_damaged(directory: Path, pid: object) -> None:
    """Signals to 0 or -1 would reach a whole group, or everything."""
    directory.mkdir()
    (directory / background.RECORD).write_text(json.dumps(RECORD | {"pid": pid, "started": ""}))
    with pytest.raises(ConfigError, match="not a devnet record"):
        background.down(directory)
    (directory / background.RECORD).unlink()


def test_a_process_without_a_start_is_not_alive(directory: Path) -> None:
    directory.mkdir()
    (directory / background.RECORD).write_text(json.dumps(RECORD | {"pid": 99_999_999, "started": ""}))
    assert not background.status(directory).running
    assert not background.down(directory)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2}', '{"version": 1}'])
def test_status_damaged_record_is_named(directory: Path, content: str) -> None:
    directory.mkdir()
    (directory / background.RECORD).write_text(content)
    with pytest.raises(ConfigError, match=r"devnet\.json"):
        background.status(directory)
    (directory / background.RECORD).unlink()
