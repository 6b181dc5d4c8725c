"""How often something large is written."""

import pytest

from fl_node import pace
from fl_node.pace import SMALL, Pace


def test_a_large_one_is_written_when_that_costs_little_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, written, paced = 100.0, [], Pace()
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    for cost in (1.0, 3.0, 1.0):
        while not paced.due(SMALL + 1):
            now += 1
        written.append(now)
        with paced.writing():
            now += cost
    assert written == [100.0, 151.0, 304.0]  # 50 and 150 seconds after it was over
    assert paced.due(SMALL) and not paced.due(SMALL + 1)


def test_what_could_not_be_written_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    paced = Pace()
    monkeypatch.setattr(pace.time, "monotonic", lambda: 5.0)
    with pytest.raises(OSError), paced.writing():
        raise OSError("disk full")
    assert paced.due(SMALL + 1)
