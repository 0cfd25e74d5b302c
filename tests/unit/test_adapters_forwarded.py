"""The header ``Forwarded`` (RFC 7239): whom proxies name in it, and that nothing in it can raise or deceive."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.producers.adapters.client_address import HOPS_MAX, TrustedProxies
from sealstream.producers.adapters.forwarded import forwarded_for

PROXIES = TrustedProxies(["10.0.0.0/8"], header="forwarded")
CLIENTS = st.ip_addresses().map(str).filter(lambda address: PROXIES.client_of(address, "for=::") == address)
"""Addresses that are no trusted proxy's."""
TEXTS = st.text(alphabet='for=",;\\[]:._ 1\tx', max_size=200) | st.text(max_size=200)


def element(address: str, port: int | None) -> str:
    """Return what a proxy writes of whoever has connected to it."""
    is_v6 = ip_address(address).version == 6
    node = (f"[{address}]" if is_v6 else address) + ("" if port is None else f":{port}")
    return f'for="{node}"' if is_v6 or port is not None else f"for={node}"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        # The examples of RFC 7239, sections 4, 6 and 7.
        ('for="_gazonk"', "10.0.0.1"),
        ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        ('for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown', "10.0.0.1"),
        ("for=_hidden, for=_SEVKISEK", "10.0.0.1"),
        # Who is believed, and how far.
        ("for=203.0.113.5, for=198.51.100.1, for=10.0.0.2", "198.51.100.1"),
        ("for=198.51.100.1, for=unknown, for=10.0.0.2", "10.0.0.2"),
        (",".join(["for=198.51.100.1"] + ["for=10.0.0.2"] * HOPS_MAX), "10.0.0.2"),
        # What a client has opened swallows nothing of what stands behind it.
        ('for="203.0.113.5, for=198.51.100.1', "198.51.100.1"),
        ('for=a;x=", for="[2001:db8::1]:80"', "2001:db8::1"),
        ('for=a;x="\\, for=198.51.100.1;host="a, \\"b\\\\"', "198.51.100.1"),
        # What proxies write that leave out the quotes, or leave in what is empty.
        ("for=198.51.100.1:4711", "198.51.100.1"),
        ("for=[2001:db8::1]:4711", "2001:db8::1"),
        ('for="198.51.100.\\1"', "198.51.100.1"),
        (" , by=x ; FOR=198.51.100.1 ; proto=https , ,", "198.51.100.1"),
        # What is none.
        ("", "10.0.0.1"),
        (", ,", "10.0.0.1"),
        ("198.51.100.1", "10.0.0.1"),
        ("proto=https;by=10.0.0.2", "10.0.0.1"),
        ("for=198.51.100.1;for=198.51.100.2", "10.0.0.1"),
        ("for=198.51.100.1;proto", "10.0.0.1"),
        ('for="198.51.100.1" x', "10.0.0.1"),
        ('for=198.51.100.1"', "10.0.0.1"),
        ('for=198.51.100.1\\"', "10.0.0.1"),
        ("for=", "10.0.0.1"),
    ],
)
def test_it_is_the_nearest_address_that_is_no_trusted_proxys(value: str, client: str) -> None:
    """As with ``X-Forwarded-For``; who hides behind a name is as near as the proxy that says so."""
    assert PROXIES.client_of("10.0.0.1", value) == client


def test_nobody_else_is_believed() -> None:
    """A peer that is no trusted proxy, or no address, is the client; and by default nobody is a proxy."""
    assert PROXIES.client_of("192.0.2.9", "for=198.51.100.1") == "192.0.2.9"
    assert PROXIES.client_of("testclient", "for=198.51.100.1") == "testclient"
    assert PROXIES.client_of(None, "for=198.51.100.1") is None
    assert TrustedProxies(header="forwarded").client_of("10.0.0.1", "for=198.51.100.1") == "10.0.0.1"


@given(TEXTS)
def test_nothing_in_it_raises(value: str) -> None:
    """Whatever the header holds, the client is an address, and no more is looked at than is there."""
    client = PROXIES.client_of("10.0.0.1", value)

    assert client is not None
    assert ip_address(client)
    assert len(list(forwarded_for(value))) <= value.count(",") + 1


@given(TEXTS, CLIENTS, st.none() | st.integers(1, 65_535), st.booleans())
def test_what_a_client_writes_does_not_change_what_proxies_add(
    written: str, address: str, port: int | None, through_two: bool
) -> None:
    """Behind any text, the sender that the nearest proxy names is found, and behind a second one too."""
    value = f"{written}, {element(address, port)}" + (", for=10.0.0.9;host=example.com" if through_two else "")

    assert PROXIES.client_of("10.0.0.1", value) == address
