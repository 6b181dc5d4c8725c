"""The outbox in the journal: what was put is there after a restart, in its order."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chain.outbox import Entry, MemoryOutbox, Outbox
from fl_node.journal import Journal

FIRST = Entry("commit 7", 3, (b"\x02abc",))
SECOND = Entry("attest 7", 4, (b"\x02def", b"", b"\x02ghi"))


@pytest.fixture(params=["memory", "journal"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Outbox:
    return MemoryOutbox() if request.param == "memory" else Journal(tmp_path / "state").outbox


def test_entries_come_back_by_nonce(outbox: Outbox) -> None:
    assert outbox.entries() == []
    outbox.put(SECOND)
    outbox.put(FIRST)
    assert outbox.entries() == [FIRST, SECOND]


def test_a_second_entry_of_a_nonce_replaces_the_first(outbox: Outbox) -> None:
    outbox.put(SECOND)
    for again in (Entry("attest 7", 4, (b"one",)), Entry("open 8", 4, (b"one", b"two"))):
        outbox.put(again)
        assert outbox.entries() == [again]


def test_removing_is_by_nonce_and_never_an_error(outbox: Outbox) -> None:
    outbox.put(FIRST)
    outbox.put(SECOND)
    outbox.remove(3)
    outbox.remove(3)
    assert outbox.entries() == [SECOND]


def test_entries_outlive_the_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.outbox.put(FIRST)
    journal.outbox.put(SECOND)
    journal.outbox.remove(3)
    journal.close()
    assert Journal(tmp_path).outbox.entries() == [SECOND]


def test_threads_may_share_it(tmp_path: Path) -> None:
    outbox = Journal(tmp_path).outbox
    entries = [Entry(f"commit {nonce}", nonce, (bytes([nonce]),)) for nonce in range(64)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(outbox.put, entries))
        list(pool.map(outbox.remove, range(0, 64, 2)))
    assert outbox.entries() == entries[1::2]


def test_an_entry_has_a_transaction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a transaction"):
        Journal(tmp_path).outbox.put(Entry("commit 7", 3, ()))
