"""Who sent an HTTP request: the peer, or whom a proxy that is trusted names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from sealstream.schemas.errors import ConfigError

Address: TypeAlias = IPv4Address | IPv6Address

HOPS_MAX: Final = 20
_CHARACTERS_MAX: Final = 2_000
_REMEMBERED: Final = 1_024
"""So many addresses are remembered: proxies come again and again, and parsing one takes longer than all the rest."""


class TrustedProxies:
    """The networks whose ``X-Forwarded-For`` is believed. None by default: anybody can write that header.

    Arguments:
        networks: Addresses or networks, such as ``10.0.0.0/8``.

    Raises:
        ConfigError: One of them is none.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        if isinstance(networks, str):
            raise ConfigError(f"trusted proxies are the text {networks!r}", hint="give a list")
        self._networks: list[IPv4Network | IPv6Network] = []
        for network in networks:
            try:
                self._networks.append(ip_network(network))
            except ValueError as error:
                raise ConfigError(f"trusted proxy {network!r}: {error}", hint="give 10.0.0.0/8 or alike") from None

    def client_of(self, peer: str | None, forwarded_for: str) -> str | None:
        """Return the client's address: the nearest one that is no trusted proxy's.

        Arguments:
            peer: Who connected; ``None`` or something else than an address for a socket in the file system.
            forwarded_for: The header ``X-Forwarded-For``, its lines joined by commas; the last hop stands last.
        """
        if peer is None:
            return None
        address = _address(peer)
        if address is None or not self._networks or not forwarded_for:
            return peer
        for hop in reversed(forwarded_for[-_CHARACTERS_MAX:].split(",")[-HOPS_MAX:]):
            if not self._trusts(address):
                break
            found = _address(_without_port(hop.strip()))
            if found is None:
                break  # what stands before it was written by nobody who is trusted
            address = found
        return str(address)

    def _trusts(self, address: Address) -> bool:
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks)


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
