"""What tests share: one real chain for each worker process."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from chain.devnet import Devnet


@pytest.fixture(scope="session")
def devnet() -> Iterator[Devnet]:
    """A running Anvil for all tests of this worker: fund fresh keys, deploy your own contract, assume no height."""
    with Devnet.start() as net:
        yield net


settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")
