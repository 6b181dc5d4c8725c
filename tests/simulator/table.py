"""Every attack, once: what the tests play and `python -m tests.simulator` prints."""

from tests.simulator.at_bytes import BOMBS, BYTES
from tests.simulator.at_ledger import SEALS, VOTES
from tests.simulator.at_members import MEMBERS, OPERATOR
from tests.simulator.at_relays import RELAYS
from tests.simulator.at_servers import SERVERS
from tests.simulator.at_store import BLOBS, NAMED
from tests.simulator.at_updates import CLAIMS
from tests.simulator.attack import Attack

ATTACKS: tuple[Attack, ...] = (
    *(*SEALS, *VOTES, *RELAYS),
    *(*CLAIMS, *BYTES, *BOMBS),
    *(*BLOBS, *NAMED),
    *SERVERS,
    *(*MEMBERS, *OPERATOR),
)
