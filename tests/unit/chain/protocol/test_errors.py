"""Errors as they travel: from a process of a pool to the one that waits for it."""

import pickle
from dataclasses import fields

import pytest

from chain.errors import WrongPhase
from chain.protocol.errors import (
    Code,
    ConfigError,
    Pending,
    RoundledgerError,
    TrustError,
    Unavailable,
    VerificationError,
)
from chain.rpc import RpcError

ERRORS = [
    ConfigError("node.toml", "no key", "make one"),
    VerificationError(Code.U1, "round 1 update of 0x11", "this", "that"),
    TrustError(Code.L1, "genesis block", "0x1", "0x2"),
    Unavailable(Code.U1, "a blob", "it is not there"),
    Pending("not yet"),
    RpcError("eth_call", 3, "execution reverted", "0x11"),
    WrongPhase(*range(len(fields(WrongPhase)))),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_goes_from_one_process_to_another_as_it_is(error: RoundledgerError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert type(again) is type(error)
    assert (str(again), vars(again), again.exit_code) == (str(error), vars(error), error.exit_code)
