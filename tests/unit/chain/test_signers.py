"""Transactions that are written out here are those that eth-account makes, byte for byte."""

from typing import Any

from eth_account import Account
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from chain.signers import LocalSigner, decode

WORD = st.integers(0, 2**256 - 1)
KEYS = st.integers(1, 2**255).map(lambda key: Account.from_key(key.to_bytes(32)))
ADDRESSES = st.binary(min_size=20, max_size=20).map(to_checksum_address)
FIELDS = st.fixed_dictionaries(
    {
        "chainId": st.integers(1, 2**63),
        "nonce": st.integers(0, 2**63),
        "gas": st.integers(0, 2**63),
        "value": WORD,
        "maxFeePerGas": WORD,
        "maxPriorityFeePerGas": WORD,
        "data": st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: "0x" + data.hex()),
    },
    optional={"to": ADDRESSES},
)


@given(KEYS, FIELDS)
def test_a_signed_transaction_is_the_one_of_eth_account(account: Any, fields: dict[str, Any]) -> None:
    expected = bytes(account.sign_transaction({"type": 2, "to": b"", **fields}).raw_transaction)
    assert (raw := LocalSigner(account).sign_transaction(fields)) == expected
    assert Account.recover_transaction(raw) == account.address
    assert decode(raw)["nonce"] == fields["nonce"]
