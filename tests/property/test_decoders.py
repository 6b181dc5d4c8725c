"""Every decoder of bytes from outside, against damaged encodings: what comes out is a value or a documented error.

`python -m tests.reliability.fuzz` is the long form of this.
"""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability.decoder import Decoder
from tests.reliability.decoders import table
from tests.reliability.mutate import mutated

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("decoder", table(), ids=lambda decoder: decoder.name)
def test_only_documented_errors_come_out(decoder: Decoder, tmp_path: Path) -> None:
    decode, seeds = decoder.make(tmp_path), list(decoder.seeds(tmp_path))
    decode(seeds[0])

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**64).map(lambda seed: mutated(Random(seed), seeds)) | st.binary(max_size=200))  # noqa: S311
    def decodes_or_refuses(data: bytes) -> None:
        with suppress(decoder.documented):
            decode(data)

    decodes_or_refuses()


def test_bombs_are_refused_in_bounded_memory_and_time() -> None:
    """In processes of their own, which may take 256 MiB (keystores: what a key may cost) and 20 seconds an input."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.fuzz", "--inputs", "10", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    said = json.loads(done.stdout)
    assert [found for found in said["decoders"] if found["escapes"]] == []
    assert len(said["decoders"]) == len(table())
    assert done.returncode == 0


def test_the_fuzzer_sees_an_escape() -> None:
    """Otherwise none would mean nothing: a decoder that documents less than it raises."""
    from tests.reliability.fuzz import try_inputs

    (strict,) = (decoder for decoder in table() if decoder.name == "model")
    lax = Decoder("undocumented", strict.make, strict.seeds, (KeyError,))
    outcome = try_inputs(lax, 50, 1, ROOT)
    assert 0 < outcome.escapes <= outcome.inputs == 50
    assert "VerificationError" in outcome.described[0]
