"""A1: the verdicts that finalized a round are those that its updates deserve."""

import numpy as np
import pytest

from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.round import Round
from chain.protocol.seal import Metadata
from fl_node.verify import Result, VerifiedUpdate, verdict_of, verify_accepted_set, verify_model, verify_shapes

DIGEST = Digest.of(b"anything")
METADATA = Metadata(DIGEST, DIGEST, 1, DIGEST, DIGEST, 1, DIGEST, 1, 1, 1, bytes(32))
ROSTER = {"0xA": 1, "0xB": 2, "0xC": 3, "0xD": 4}
U1 = verdicts.EXCLUDED[Code.U1]
GONE = Unavailable(Code.U1, "update", "no blob")


def round_of(*revealed: str) -> Round:
    round_ = Round(1, DIGEST, ROSTER, deadline=0, opened=0)
    round_.reveals = dict.fromkeys(revealed, METADATA)
    return round_


def good(who: str) -> VerifiedUpdate:
    return VerifiedUpdate(who, 1, ())


def bad(code: Code) -> VerificationError:
    return VerificationError(code, "update", "this", "that")


def attest(*numbers: int) -> bytes:
    """Verdicts on participants 1, 2, 3..."""
    return verdicts.encode(dict(enumerate(numbers, start=1)))


def refused(attested: bytes, results: dict[str, Result]) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        verify_accepted_set(attested, round_of(*results), results)
    assert caught.value.code == Code.A1
    return caught.value


def test_all_that_pass_are_accepted_by_participant_number() -> None:
    results: dict[str, Result] = {who: good(who) for who in ("0xC", "0xA", "0xB")}
    accepted = verify_accepted_set(attest(1, 1, 1), round_of(*results), results)
    assert [update.participant for update in accepted] == ["0xA", "0xB", "0xC"]


@pytest.mark.parametrize("code", list(verdicts.EXCLUDED))
def test_an_update_is_excluded_for_the_check_that_it_fails(code: Code) -> None:
    results: dict[str, Result] = {"0xA": good("0xA"), "0xB": bad(code)}
    accepted = verify_accepted_set(attest(1, verdicts.EXCLUDED[code]), round_of(*results), results)
    assert accepted == [good("0xA")]
    assert verdict_of(results["0xB"]) == verdicts.EXCLUDED[code]


@pytest.mark.parametrize("verdict", [1, 3, 4, 6, 7, 255])
def test_no_other_verdict_on_a_bad_update_stands(verdict: int) -> None:
    error = refused(attest(1, verdict), {"0xA": good("0xA"), "0xB": bad(Code.U4)})
    assert "0xB" in error.subject
    assert error.actual == verdicts.name(verdict) and error.expected.startswith("excluded U4")


@pytest.mark.parametrize("verdict", [3, 4, 5, 6, 7, 255])
def test_a_good_update_may_not_be_excluded(verdict: int) -> None:
    refused(attest(verdict, 1), {"0xA": good("0xA"), "0xB": good("0xB")})


@pytest.mark.parametrize(
    "result", [good("0xB"), bad(Code.U2), bad(Code.U1), GONE], ids=lambda item: type(item).__name__
)
def test_an_exclusion_for_u1_stands_whatever_is_found_later(result: Result) -> None:
    """The blob may have been withheld while the votes were cast."""
    results: dict[str, Result] = {"0xA": good("0xA"), "0xB": result}
    assert verify_accepted_set(attest(1, U1), round_of(*results), results) == [good("0xA")]


@pytest.mark.parametrize("result", [GONE, bad(Code.U1)], ids=["gone", "damaged since"])
@pytest.mark.parametrize("verdict", [1, 3, 6])
def test_a_blob_that_cannot_be_had_is_inconclusive_and_no_finding(verdict: int, result: Result) -> None:
    results: dict[str, Result] = {"0xA": good("0xA"), "0xB": result}
    with pytest.raises(Unavailable):
        verify_accepted_set(attest(1, verdict), round_of(*results), results)


def test_a_contradiction_elsewhere_outweighs_a_blob_that_is_gone() -> None:
    results: dict[str, Result] = {"0xA": GONE, "0xB": good("0xB"), "0xC": good("0xC")}
    assert "0xC" in refused(attest(1, 1, verdicts.EXCLUDED[Code.U3]), results).subject


def test_the_verdicts_are_on_those_who_revealed_and_no_other() -> None:
    results: dict[str, Result] = {"0xA": good("0xA"), "0xC": good("0xC")}
    assert len(verify_accepted_set(attest(1, 0, 1), round_of(*results), results)) == 2
    for wrong in (
        attest(1),
        attest(0, 0, 1),
        attest(1, 1, 1),
        attest(1, U1, 1),
        attest(1, 0, 1, 1),
        attest(1, 0, 1, U1),
    ):
        refused(wrong, results)
    refused(attest(1, 0, 1, 0, 0, 0, 0, 0, 1), results)  # a participant that there is not


def test_the_finalized_model_must_be_the_derived_one() -> None:
    round_ = round_of("0xA")
    round_.outcome = (DIGEST, b"\x01")
    verify_model(round_, DIGEST)
    with pytest.raises(VerificationError) as caught:
        verify_model(round_, Digest.of(b"another"))
    assert caught.value.code == Code.A2


@pytest.mark.parametrize("other", [{}, {"b": (2, 3)}, {"a": (3, 2)}, {"a": (2, 3), "b": (1,)}])
def test_a_model_of_other_tensors_than_its_base_is_u2(other: dict[str, tuple[int, ...]]) -> None:
    """A quorum can finalize anything; what follows must not be computed from it."""
    base, model = (
        {name: np.zeros(shape, np.float32) for name, shape in each.items()} for each in ({"a": (2, 3)}, other)
    )
    verify_shapes(base, base, "model of round 1")
    with pytest.raises(VerificationError) as caught:
        verify_shapes(model, base, "model of round 1")
    assert caught.value.code == Code.U2
