"""Every attack is refused or excluded for the expected reason; the honest nodes agree on the model that they would have
had without it; and the audit names round, participant and check.
"""

from collections import Counter
from pathlib import Path

import pytest

from tests.simulator.attack import Attack, honest_models, play
from tests.simulator.table import ATTACKS


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(attack: Attack, tmp_path: Path) -> None:
    result = play(attack, tmp_path)
    assert (result.got, result.agreed) == (attack.expected, True)
    assert result.audited, [
        f"{found.status} {found.code} {found.round} {found.message}" for found in result.audit.findings
    ]


def test_no_two_attacks_have_one_name() -> None:
    assert not [name for name, count in Counter(attack.name for attack in ATTACKS).items() if count > 1]


def test_models_that_the_attacks_are_measured_by_differ() -> None:
    """Otherwise an update that was wrongly accepted, or a round that was wrongly aborted, would go unseen."""
    everybody, without = honest_models(2, without=False), honest_models(2, without=True)
    models = {*everybody, without[2], honest_models(1, without=True)[1]}
    assert len(models) == 5
    assert honest_models(2, without=False) == everybody
