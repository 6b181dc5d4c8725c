"""The blob store in a folder."""

import contextlib
import fcntl
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.files import write_atomic
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, Unavailable, VerificationError
from fl_node import store as store_module
from fl_node.store import BlobStore

MAX = 1 << 20


def file_of(folder: Path, digest: Digest) -> Path:
    return folder / "sha256" / digest.hex()[:2] / digest.hex()


@given(data=st.binary(max_size=200))
def test_what_was_put_comes_back(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    store = BlobStore(folder)
    digest = store.put(data)
    assert digest == Digest.of(data)
    assert store.get(digest, "test", len(data)) == data
    assert file_of(folder, digest).read_bytes() == data


def test_putting_it_again_changes_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"hello")
    before = file_of(tmp_path, digest).stat()
    assert store.put(b"hello") == digest
    after = file_of(tmp_path, digest).stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_many_writers_of_one_blob(tmp_path: Path) -> None:
    data = bytes(100_000)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: BlobStore(tmp_path).put(data), range(16))) == {Digest.of(data)}
    assert BlobStore(tmp_path).get(Digest.of(data), "test", MAX) == data
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file_of(tmp_path, Digest.of(data))]


def test_writers_at_the_same_moment_write_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def write(path: Path, *data: bytes) -> None:
        written.append(path)
        time.sleep(0.05)  # the others come meanwhile
        write_atomic(path, *data)

    monkeypatch.setattr(store_module, "write_atomic", write)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: BlobStore(tmp_path).put(b"hello"), range(8))) == {Digest.of(b"hello")}
    assert written == [file_of(tmp_path, Digest.of(b"hello"))]


def test_a_writer_that_never_ends_is_not_waited_for_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PATIENCE", 0.05)
    folder = file_of(tmp_path, Digest.of(b"hello")).parent
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # anybody who can read the folder can do that
        digest = BlobStore(tmp_path).put(b"hello")
    finally:
        os.close(handle)
    assert BlobStore(tmp_path).get(digest, "test", MAX) == b"hello"


def test_what_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no blob") as caught:
        BlobStore(tmp_path).get(Digest.of(b"absent"), "round 1 update", MAX)
    assert (caught.value.code, caught.value.subject) == (Code.U1, "round 1 update")


@pytest.mark.parametrize("damage", [b"", b"hell", b"hello!", b"jello"])
def test_other_bytes_under_its_name_are_u1(tmp_path: Path, damage: bytes) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"hello")
    file_of(tmp_path, digest).write_bytes(damage)
    with pytest.raises(VerificationError) as caught:
        store.get(digest, "test", MAX)
    assert caught.value.code == Code.U1
    assert store.put(b"hello") == digest  # nobody overwrites what lies there


def test_a_blob_that_is_too_large_is_u1(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(bytes(1000))
    assert store.get(digest, "test", 1000) == bytes(1000)
    with pytest.raises(VerificationError, match="at most 999 bytes") as caught:
        store.get(digest, "test", 999)
    assert caught.value.code == Code.U1


def test_a_folder_in_the_place_of_a_blob_is_unavailable(tmp_path: Path) -> None:
    digest = Digest.of(b"hello")
    file_of(tmp_path, digest).mkdir(parents=True)
    with pytest.raises(Unavailable):
        BlobStore(tmp_path).get(digest, "test", MAX)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "file", "nothing"])
def test_no_look_leaves_a_descriptor_open(tmp_path: Path, kind: str) -> None:
    digest = Digest.of(b"hello")
    path, store = file_of(tmp_path, digest), BlobStore(tmp_path)
    path.parent.mkdir(parents=True)
    plant(path, kind)
    before = descriptors()
    for _ in range(5):
        for look in (lambda: store.get(digest, "test", MAX), lambda: store.read(digest, "test", MAX)):
            with contextlib.suppress(Unavailable, VerificationError):
                look()
    assert descriptors() == before


def plant(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        bind(path)
    elif kind == "file":
        path.write_bytes(b"jello")


def bind(path: Path) -> None:
    """The longest path of a socket is shorter than most temporary folders."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name[:64])
    finally:
        os.chdir(before)


def test_a_socket_in_the_place_of_a_blob_is_no_evidence_and_is_replaced(tmp_path: Path) -> None:
    digest, store = Digest.of(b"hello"), BlobStore(tmp_path)
    file_of(tmp_path, digest).parent.mkdir(parents=True)
    bind(file_of(tmp_path, digest))
    with pytest.raises(Unavailable, match="a socket") as caught:
        store.get(digest, "test", MAX)
    assert caught.value.code == Code.U1
    store.put(b"hello")
    assert store.get(digest, "test", MAX) == b"hello"


def test_a_store_that_vanished_is_unavailable(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    digest = store.put(b"hello")
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        store.get(digest, "test", MAX)


def test_a_store_that_refuses_is_unavailable(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    (tmp_path / "blobs" / "sha256").write_bytes(b"a file where the folder should be")
    with pytest.raises(Unavailable) as caught:
        store.put(b"hello")
    assert caught.value.code == Code.U1 and "\n" not in caught.value.reason


def test_a_folder_is_made_only_if_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such blob folder"):
        BlobStore(tmp_path / "blobs", create=False)
    assert not (tmp_path / "blobs").exists()
    digest = BlobStore(tmp_path / "blobs").put(b"hello")
    assert BlobStore(f"file://{tmp_path}/blobs", create=False).get(digest, "test", MAX) == b"hello"


@pytest.mark.parametrize("url", ["file://elsewhere/blobs", "file://blobs", "file://"])
def test_a_folder_on_another_machine_is_none(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="not a folder on this machine"):
        BlobStore(url)
    assert not list(tmp_path.iterdir())


def test_a_folders_url_is_decoded(tmp_path: Path) -> None:
    BlobStore(f"file://localhost{tmp_path}/a%20b").put(b"hello")
    assert (tmp_path / "a b" / "sha256").is_dir()


@pytest.mark.parametrize(
    "url", ["s3://AKIA:SECRET@bucket/x", "https://me:SECRET@host/x", "https://host/x?sig=SECRET", "s3://SECRET@bucket"]
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="password or a token") as caught:
        BlobStore(url)
    assert "SECRET" not in str(caught.value)


def test_a_store_that_ends_with_the_process_is_none() -> None:
    with pytest.raises(ConfigError, match="gone with the process"):
        BlobStore("memory://")


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError):
        BlobStore(tmp_path / "file")


def test_an_unknown_kind_of_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="not a blob store"):
        BlobStore("gopher://example.invalid/blobs")


@pytest.mark.parametrize("planted", [b"", b"garbage", b"hellp"])
def test_putting_heals_what_lies_under_the_name(tmp_path: Path, planted: bytes) -> None:
    store, digest = BlobStore(tmp_path), Digest.of(b"hello")
    file_of(tmp_path, digest).parent.mkdir(parents=True)
    file_of(tmp_path, digest).write_bytes(planted)
    assert store.put(b"hello") == digest
    assert store.get(digest, "test", MAX) == b"hello"


def test_a_pipe_in_the_place_of_a_blob_does_not_block(tmp_path: Path) -> None:
    digest = Digest.of(b"hello")
    file_of(tmp_path, digest).parent.mkdir(parents=True)
    os.mkfifo(file_of(tmp_path, digest))
    with pytest.raises(Unavailable, match="something else") as caught:
        BlobStore(tmp_path).get(digest, "test", MAX)
    assert caught.value.code == Code.U1


@pytest.mark.parametrize("letter", ["a", "ü", "表"])
def test_a_file_may_have_the_longest_name_that_the_disk_allows(tmp_path: Path, letter: str) -> None:
    path = tmp_path / (letter * (251 // len(letter.encode())) + ".csv")
    write_atomic(path, b"x")
    write_atomic(path, b"y")
    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == [(path, b"y")]
