"""The table of decoders that the fuzzer and the property tests share."""

from functools import cache

from tests.reliability import of_files, of_ledger, of_updates
from tests.reliability.decoder import Decoder


@cache
def table() -> tuple[Decoder, ...]:
    """Every decoder of bytes from outside."""
    return (*of_updates.decoders(), *of_ledger.decoders(), *of_files.decoders())
