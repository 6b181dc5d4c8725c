"""The verdicts of an attestation as bytes."""

from hypothesis import given
from hypothesis import strategies as st

from chain.protocol import verdicts
from chain.protocol.errors import Code

VERDICTS = st.dictionaries(st.integers(1, 40), st.integers(1, 255), max_size=10)


@given(VERDICTS)
def test_round_trip(given_: dict[int, int]) -> None:
    data = verdicts.encode(given_)
    assert verdicts.decode(data) == given_
    assert len(data) == max(given_, default=0)


@given(VERDICTS, st.integers(1, 60))
def test_absent_ones_leave_no_trace(given_: dict[int, int], absent: int) -> None:
    rest = {number: verdict for number, verdict in given_.items() if number != absent}
    assert verdicts.encode(rest | {absent: verdicts.ABSENT}) == verdicts.encode(rest)


@given(st.binary(max_size=40))
def test_every_reading_writes_back_but_for_trailing_zeros(data: bytes) -> None:
    assert verdicts.encode(verdicts.decode(data)) == data.rstrip(b"\0")


def test_the_numbers_on_the_ledger_never_change() -> None:
    assert (verdicts.ABSENT, verdicts.ACCEPTED) == (0, 1)
    assert verdicts.EXCLUDED == {Code.U1: 2, Code.U2: 3, Code.U3: 4, Code.U4: 5, Code.U5: 6}
    assert verdicts.encode({1: 1, 3: verdicts.EXCLUDED[Code.U2]}) == b"\x01\x00\x03"


def test_names() -> None:
    assert [verdicts.name(number) for number in (0, 1, 2, 6)] == ["absent", "accepted", "excluded U1", "excluded U5"]
    assert verdicts.name(77) == "unknown verdict 77"
