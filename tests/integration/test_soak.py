"""The short soak: real nodes, killed, reorganised, cut off and kept waiting, lose nothing. `make soak` is longer."""

import io

import pytest
from rich.console import Console

from tests.reliability.soak import soak


@pytest.mark.timeout(600)
def test_three_nodes_lose_nothing_in_a_short_soak() -> None:
    result, failed = soak(nodes=3, rounds=4, seed=3, console=Console(file=io.StringIO()))
    assert not failed
    assert result.holds, result
    assert (result.finalized, result.updates) == (4, 12)
    assert sum(result.faults.values()) >= 10, "nothing went wrong, so nothing was tried"
