"""A bucket (of S3's protocol, as far as a blob store needs it) that fails as it is told, and a disk that is small."""

import contextlib
import hashlib
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.serving import Handler, serving


@dataclass(frozen=True)
class Answer:
    """What to answer instead. `length`: what the header says where that is not the truth: the connection is cut."""

    status: int = 200
    body: bytes = b""
    length: int | None = None


Fault = Callable[[str, str, bytes | None], Answer | None]


@dataclass
class Bucket:
    """`fault(method, path, what lies there)` gives the answer to a request, or None for the right one."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    fault: Fault = lambda method, path, found: None
    asked: Counter[str] = field(default_factory=Counter)  # by method


@contextlib.contextmanager
def bucket(patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket at 127.0.0.1, and the environment that lets this process use it."""
    made = Bucket("s3://bucket")

    class Stored(Handler):
        def do_PUT(self) -> None:
            data = self.body()
            self._answer("PUT", lambda: made.objects.update({self.path: data}))

        def do_GET(self) -> None:
            self._answer("GET")

        def do_HEAD(self) -> None:
            self._answer("HEAD")

        def _answer(self, method: str, work: Callable[[], object] = lambda: None) -> None:
            made.asked[method] += 1
            found = made.objects.get(self.path)
            answer = made.fault(method, self.path, found)
            if answer is None:
                work()
                answer = Answer(200, found or b"") if method == "PUT" or found is not None else Answer(404)
            body = b"" if method == "PUT" else answer.body
            if method == "GET" and answer.status == 200 and answer.length is None and "Range" in self.headers:
                start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
                whole, body = body, body[int(start) : int(end or len(body)) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{int(start) + len(body) - 1}/{len(whole)}")
            else:
                self.send_response(answer.status)
            self.send_header("Content-Length", str(len(body) if answer.length is None else answer.length))
            self.send_header("ETag", f'"{hashlib.sha256(answer.body).hexdigest()}"')
            self.send_header("Last-Modified", "Tue, 24 Nov 2026 00:00:00 GMT")
            self.end_headers()
            if method != "HEAD":
                self.wfile.write(body)
            self.close_connection = answer.length is not None

    with serving(Stored) as url:
        for name, value in {
            "AWS_ENDPOINT": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            patch.setenv(name, value)
        yield made


def failing_first(times: int, answer: Answer) -> Fault:
    """The first `times` requests for each object get `answer`; a write is never answered with a lie."""
    seen: Counter[str] = Counter()

    def fault(method: str, path: str, found: bytes | None) -> Answer | None:
        if method == "PUT" and answer.status == 200:
            return None
        seen[path] += 1
        return answer if seen[path] <= times else None

    return fault


def slow(seconds: float) -> Fault:
    def fault(method: str, path: str, found: bytes | None) -> Answer | None:
        time.sleep(seconds)
        return None

    return fault


# ----------------------------------------------------------------- small disks


@contextlib.contextmanager
def small_disk(path: Path, size: str = "1m") -> Iterator[Path]:
    """A real file system of this size at `path`; skips the test where none can be mounted."""
    path.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {getattr(error, 'stderr', '') or error}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


@contextlib.contextmanager
def filled(disk: Path, leave: int = 0) -> Iterator[None]:
    """Nothing but `leave` bytes is free on the disk."""
    filler, spare = disk / "filler", disk / "spare"
    spare.write_bytes(bytes(leave))
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    spare.unlink()
    try:
        yield
    finally:
        filler.unlink()
