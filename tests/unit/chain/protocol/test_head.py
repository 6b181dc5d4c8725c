"""The running head, over logs that a real contract emitted, and the replay of the history that they tell."""

import json
from pathlib import Path
from typing import Any

import pytest

from chain.protocol import events as ev
from chain.protocol.history import History

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "head.json").read_text())
LOGS = [entry for transaction in VECTORS["transactions"] for entry in transaction["logs"]]


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def log_of(entry: dict[str, Any], block: int = 1) -> ev.Log:
    return ev.Log(tuple(raw(topic) for topic in entry["topics"]), raw(entry["data"]), block)


def test_the_head_after_every_log_and_every_transaction() -> None:
    head = raw(VECTORS["start"])
    assert head == ev.EMPTY_HEAD
    for transaction in VECTORS["transactions"]:
        for entry in transaction["logs"]:
            head = ev.extend_head(head, log_of(entry))
            assert head == raw(entry["head"])
        assert head == raw(transaction["contractHead"])


@pytest.mark.parametrize("entry", LOGS, ids=lambda entry: entry["event"])
def test_every_log_decodes_to_its_event(entry: dict[str, Any]) -> None:
    assert type(ev.decode(log_of(entry))).__name__ == entry["event"]


def test_what_the_contract_did_is_a_legal_history() -> None:
    """The contract's rules and ours are the same: what it let pass, the replay lets pass."""
    history = History()
    for block, entry in enumerate(LOGS):
        history.apply(log_of(entry, block))
    assert history.head == raw(VECTORS["transactions"][-1]["contractHead"])
    assert history.events == len(LOGS)
    assert history.created is not None and history.created.chain_id == int(VECTORS["chainId"])
    assert history.created.ledger.lower() == VECTORS["contract"].lower()
    assert history.finalized


def test_the_head_depends_on_every_log_and_their_order() -> None:
    def fold(entries: list[dict[str, Any]]) -> bytes:
        head = ev.EMPTY_HEAD
        for entry in entries:
            head = ev.extend_head(head, log_of(entry))
        return head

    heads = {fold(LOGS)}
    for index in range(len(LOGS)):
        heads.add(fold(LOGS[:index] + LOGS[index + 1 :]))
        heads.add(fold(LOGS[: index + 1] + LOGS[index:]))
        if index:
            heads.add(fold([*LOGS[: index - 1], LOGS[index], LOGS[index - 1], *LOGS[index + 1 :]]))
    assert len(heads) == 3 * len(LOGS)
