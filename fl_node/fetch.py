"""What the ledger names by digest, out of the blob store: rules and models, fetched with a cap, checked, decoded."""

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, VerificationError
from chain.protocol.rules import Rules
from fl_node.store import BlobStore
from fl_node.tensorfile import Tensors
from fl_node.weights import decode_model

MAX_RULES = 1 << 24  # bytes of a rules blob


def fetch_rules(store: BlobStore, digest: Digest) -> Rules:
    """The rules that the ledger pins. Raises Unavailable, or VerificationError: U1 for other bytes, L4 for no rules."""
    data = store.get(digest, "rules", MAX_RULES)
    try:
        return Rules.from_canonical(data, "rules blob")
    except ConfigError as error:
        raise VerificationError(Code.L4, "rules blob", "canonical rules", error) from None


def fetch_model(store: BlobStore, digest: Digest, rules: Rules, subject: str = "") -> Tensors:
    """The tensors of a finalized (or the genesis) model. Raises Unavailable, or VerificationError: U1, U2."""
    limit = rules.limits.model_bytes
    return decode_model(store.get(digest, subject or f"model {digest.short}", limit), digest, limit)
