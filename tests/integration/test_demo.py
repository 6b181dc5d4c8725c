"""`make demo` in small, and the audit of what it leaves: on the saved chain, from deployment record and blobs alone."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.devnet_process import start_time
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.rpc import Rpc
from fl_node.demo import MARK, clear
from fl_node.packing import CODED
from tests.integration.conftest import ROUNDS, Finished
from tests.integration.harness import command, invoke, processes_with, wait_for


def test_demo_passes_and_says_so(finished: Finished) -> None:
    lines = finished.done.out.strip().splitlines()
    assert finished.done.code == 0, finished.done.out + finished.done.err
    assert lines[-1].startswith(f"audit: PASS rounds={ROUNDS} aborted=0 updates={4 * ROUNDS} ")
    assert finished.done.err == ""
    for number in range(1, ROUNDS + 1):
        assert sum(line.startswith(f"round  {number}/{ROUNDS}  accuracy 0.") for line in lines) == 1


def test_demo_leaves_everything(finished: Finished) -> None:
    names = ["deployment.json", "federation.toml", "chain.json", "audit.json", "classified.csv"]
    names += [f"node-{seat}.toml" for seat in range(1, 5)]
    names += [f"models/round-{number:03d}.safetensors" for number in range(1, ROUNDS + 1)]
    names += [f"data/hospital-{seat}.csv" for seat in range(1, 5)] + ["data/held-out.csv", "logs/anvil.log"]
    assert [name for name in names if not (finished.folder / name).is_file()] == []
    blobs = [path for path in (finished.folder / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == 4 * ROUNDS + ROUNDS + 2  # updates, models, and genesis model and rules
    packed = [path for path in blobs if path.name != Digest.of(path.read_bytes()).hex()]
    assert len(packed) == 4 * ROUNDS  # the updates, under the digest of what they unpack to
    assert all(path.read_bytes()[:1] in CODED for path in packed)
    with (finished.folder / "classified.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = sum(row["predicted"] == row["label"] for row in rows)
    assert right / len(rows) > 0.85
    assert f"accuracy {right / len(rows):.4f}" in finished.done.out


def test_demo_keeps_keys_and_secrets_to_itself(finished: Finished) -> None:
    private = [*(finished.folder / "keys").iterdir(), *(finished.folder / "state").rglob("secret")]
    assert len(private) == 2 * 5 + 4
    assert [path for path in private if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    passwords = [path.read_text().strip() for path in private if path.suffix == ".password"]
    logs = "".join(path.read_text() for path in (finished.folder / "logs").iterdir())
    assert not any(password in logs + finished.done.out for password in passwords)


def test_demo_leaves_no_process(finished: Finished) -> None:
    wait_for(lambda: not processes_with(finished.marker), 10)


def test_demo_refuses_a_folder_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = invoke("demo", "--dir", tmp_path)
    assert done.code == 2
    assert f"{tmp_path}: not empty, and not an earlier demo" in done.said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_demo_leaves_alone_what_only_looks_like_a_demo(tmp_path: Path) -> None:
    """An organisation whose folder is laid out like the demo's."""
    (tmp_path / "keys").mkdir()
    for name in ("keys/operator.json", "federation.toml"):
        (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match="not an earlier demo"):
        clear(tmp_path)
    assert (tmp_path / "keys" / "operator.json").read_text() == "precious"


@pytest.mark.parametrize("earlier", [["federation.toml"], ["data/a.csv"], ["keys/a", "federation.toml", ".hidden"], []])
def test_an_earlier_demo_is_removed_wherever_it_was_stopped(tmp_path: Path, earlier: list[str]) -> None:
    folder, elsewhere = tmp_path / "link", tmp_path / "folder"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    clear(folder)
    for name in earlier:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    clear(folder)
    assert [path.name for path in elsewhere.iterdir()] == [MARK]


@pytest.mark.parametrize(
    ("number", "started", "code"),
    [
        (signal.SIGTERM, 4, 143),
        (signal.SIGTERM, 1, 143),  # while it starts the others
        (signal.SIGINT, 2, 130),
        (signal.SIGKILL, 4, -9),
    ],
)
def test_demo_stopped_leaves_no_process(number: signal.Signals, started: int, code: int, tmp_path: Path) -> None:
    marker = f"roundledger-test-{tmp_path}"
    words = [sys.executable, "-m", "fl_node.cli", "demo", "--dir", str(tmp_path / "demo")]
    with subprocess.Popen(
        words,
        env=os.environ | {"ROUNDLEDGER_TEST": marker},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as demo:
        wait_for(lambda: sum("node run" in line for line in processes_with(marker)) >= started)
        demo.send_signal(number)
        _, said = demo.communicate(timeout=60)
    assert demo.returncode == code
    assert b"Traceback" not in said
    wait_for(lambda: not processes_with(marker), 15)


@pytest.fixture(scope="module")
def url(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The saved chain again, by `roundledger devnet up`."""
    folder = tmp_path_factory.mktemp("again")
    (folder / "chain.json").write_bytes((finished.folder / "chain.json").read_bytes())
    up = command("devnet", "up", "--dir", folder, "--state", folder / "chain.json", "--port", 0, "--json")
    assert up.code == 0, up.err
    try:
        yield up.json["url"]
    finally:
        assert command("devnet", "down", "--dir", folder).code == 0
        assert not start_time(up.json["pid"])


def test_audit_of_the_saved_chain_gives_the_same_bits(finished: Finished, url: str) -> None:
    words = ["audit", "--deployment", finished.folder / "deployment.json", "--rpc", url]
    shown = json.loads((finished.folder / "audit.json").read_text())
    words += ["--blobs", finished.folder / "blobs", "--head", shown["head"], "--json", "--threads"]
    one, two = command(*words, 1), command(*words, 2)
    assert (one.code, two.code) == (0, 0), one.err
    assert one.out == two.out
    assert one.json.keys() >= {"verdict", "rounds", "findings", "head", "model"}
    assert one.json["verdict"] == "pass"
    assert [summary["round"] for summary in one.json["rounds"]] == list(range(1, ROUNDS + 1))
    assert one.json == shown
    head, model = (finished.folder / "models" / f"round-{ROUNDS:03d}.safetensors", one.json["model"])
    assert str(Digest.of(head.read_bytes())) == model


def test_audit_report_and_people_see_the_same(finished: Finished, url: str, tmp_path: Path) -> None:
    words = ["audit", "--deployment", finished.folder / "deployment.json", "--rpc", url]
    shown = json.loads((finished.folder / "audit.json").read_text())
    words += ["--blobs", finished.folder / "blobs", "--head", shown["head"]]
    done = invoke(*words, "--report", tmp_path / "r.json", "--verbose")
    report = json.loads((tmp_path / "r.json").read_text())
    assert done.code == 0
    assert report == shown
    assert done.out.strip().splitlines()[-1] == report["summary"]
    assert "\x1b" not in done.out
    for finding in report["findings"]:
        assert finding["message"] in done.out


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_audit_whose_reader_has_gone_is_no_finding(finished: Finished, url: str, more: list[str]) -> None:
    words = ["-m", "fl_node.cli", "audit", "--deployment", finished.folder / "deployment.json", "--rpc", url]
    words += ["--blobs", finished.folder / "blobs", *more]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as audit:
        assert audit.stdout is not None
        audit.stdout.close()  # `roundledger audit | head -0`
        assert audit.stderr is not None
        assert b"Traceback" not in audit.stderr.read()
    assert audit.returncode == 141


def test_status_shows_every_round(finished: Finished, url: str) -> None:
    words = ["status", "--deployment", finished.folder / "deployment.json", "--rpc", url]
    report = invoke(*words, "--json").json
    assert [(r["round"], r["phase"], len(r["commits"])) for r in report["rounds"]] == [
        (number, "finalized", 4) for number in range(1, ROUNDS + 1)
    ]
    assert report["head"] + 8 * "0" == Rpc(url).call("eth_call", _head_call(finished), "latest")
    assert f"{ROUNDS} rounds, {ROUNDS} finalized" in invoke(*words).said


def _head_call(finished: Finished) -> dict[str, str]:
    address = json.loads((finished.folder / "deployment.json").read_text())["address"]
    return {"to": address, "data": "0x8f7dcfa3"}
