"""Who sent an HTTP request: the peer, or whom a proxy that is trusted names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final, Literal, TypeAlias

from sealstream.producers.adapters.forwarded import forwarded_for
from sealstream.schemas.errors import ConfigError

Address: TypeAlias = IPv4Address | IPv6Address
ForwardedHeader: TypeAlias = Literal["x-forwarded-for", "forwarded"]

X_FORWARDED_FOR: Final[ForwardedHeader] = "x-forwarded-for"
FORWARDED: Final[ForwardedHeader] = "forwarded"

HOPS_MAX: Final = 20
_CHARACTERS_MAX: Final = 2_000
_REMEMBERED: Final = 1_024
"""So many addresses are remembered: proxies come again and again, and parsing one takes longer than all the rest."""


class TrustedProxies:
    """The networks whose word on the client's address is believed. None by default: anybody can write a header.

    Arguments:
        networks: Addresses or networks, such as ``10.0.0.0/8``.
        header: The one header that they write: ``x-forwarded-for``, or ``forwarded`` (RFC 7239). The other one is never
            read: proxies that do not write it let through what the client has written.

    Raises:
        ConfigError: One of the networks is none, or the header is another one.
    """

    def __init__(self, networks: Iterable[str] = (), *, header: ForwardedHeader = X_FORWARDED_FOR) -> None:
        if header not in (X_FORWARDED_FOR, FORWARDED):
            raise ConfigError(f"forwarded header {header!r}", hint=f"give {X_FORWARDED_FOR!r} or {FORWARDED!r}")
        if isinstance(networks, str):
            raise ConfigError(f"trusted proxies are the text {networks!r}", hint="give a list")
        self.header: Final = header
        self._networks: list[IPv4Network | IPv6Network] = []
        for network in networks:
            try:
                self._networks.append(ip_network(network))
            except ValueError as error:
                raise ConfigError(f"trusted proxy {network!r}: {error}", hint="give 10.0.0.0/8 or alike") from None

    def client_of(self, peer: str | None, forwarded: str) -> str | None:
        """Return the client's address: the nearest one that is no trusted proxy's.

        Where a proxy names no address, but ``unknown`` or a name of its own, its own address is the nearest known.

        Arguments:
            peer: Who connected; ``None`` or something else than an address for a socket in the file system.
            forwarded: The header, its lines joined by commas; the last hop stands last.
        """
        if peer is None:
            return None
        address = _address(peer)
        if address is None or not self._networks or not forwarded:
            return peer
        hops = forwarded_for if self.header == FORWARDED else _hops
        for hop in islice(hops(forwarded[-_CHARACTERS_MAX:]), HOPS_MAX):
            if not self._trusts(address):
                break
            found = None if hop is None else _address(_without_port(hop))
            if found is None:
                break  # what stands before it was written by nobody who is trusted
            address = found
        return str(address)

    def _trusts(self, address: Address) -> bool:
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks)


def _hops(value: str) -> Iterator[str]:
    """Yield the hops of ``X-Forwarded-For``, the last one first."""
    return (hop.strip() for hop in reversed(value.split(",")))


@lru_cache(_REMEMBERED)
def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _without_port(hop: str) -> str:
    """Return a hop without the port that some proxies add: ``192.0.2.1:80``, ``[2001:db8::1]:80``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
