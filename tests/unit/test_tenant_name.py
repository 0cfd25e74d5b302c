"""The names of chains in names of files and objects: each its own, wherever case does not count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.errors import NameInvalid
from sealstream.schemas.tenant_name import decode_tenant, encode_tenant, is_chain

TENANTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
CHAINS = TENANTS | st.integers(0, 2**31 - 1).map("!partition-{}".format)


@pytest.mark.parametrize(
    ("chain", "name"),
    [
        ("acme", "acme"),
        ("acme-7.eu", "acme-7.eu"),
        ("Acme", "_acme"),
        ("a_b", "a__b"),
        ("A_B", "_a___b"),
        ("acme.", "acme_0"),
        ("a..", "a._0"),
        ("!partition-0", "_1partition-0"),
        ("!partition-2147483647", "_1partition-2147483647"),
    ],
)
def test_names(chain: str, name: str) -> None:
    """An ordinary name stays as it is; what a file system may confuse is written with an underscore."""
    assert encode_tenant(chain) == name
    assert decode_tenant(name) == chain


@given(CHAINS, CHAINS)
def test_injective_without_case(one: str, other: str) -> None:
    """Two chains never share a name, not even where capitals do not count; none is longer than 128 characters."""
    assert (encode_tenant(one).lower() == encode_tenant(other).lower()) == (one == other)
    assert decode_tenant(encode_tenant(one)) == one
    assert len(encode_tenant(one)) <= 128
    assert not encode_tenant(one).endswith(".")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "Acme", "a/b", "a_", "_", "_2", "a_0b", "a_0_0", "_0", "a.", "__", "_1partition-01", "_1", "a b",
     "_1partition-2147483648", "_1partition-" + "9" * 200, "a" * 129, "größe", "a\n"],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    """A file that we did not name so is told apart from one that we did."""
    with pytest.raises(NameInvalid):
        decode_tenant(name)


@pytest.mark.parametrize("chain", ["", "!partition-", "!partition-01", "!x", "a/b", "../a", "_a", "a" * 65, "a\n"])
def test_other_chains_are_refused(chain: str) -> None:
    """Nothing but a chain's name gets into the name of a file."""
    assert not is_chain(chain)
    with pytest.raises(NameInvalid):
        encode_tenant(chain)


@given(st.text(alphabet="ab_01.-!AZ", max_size=12))
def test_decoding_is_exact(name: str) -> None:
    """What decodes is exactly what encoding gives."""
    try:
        chain = decode_tenant(name)
    except NameInvalid:
        return
    assert encode_tenant(chain) == name
