"""Who sends: what a key or a token allows, and the way from a request's header to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TOKEN_BYTES_MAX: Final = 8_192


@dataclass(frozen=True, slots=True)
class Credential:
    """What its holder may do.

    Arguments:
        name: Tells it from all others, over its life; a key's id, or a token's issuer and subject. No secret.
        tenant: The tenant whose trail it may write to.
        actions: What the actions that it may log begin with; empty for all of them.
        events_per_second: How many events a second, where that is its own; else the gateway's setting.
    """

    name: str
    tenant: str
    actions: tuple[str, ...] = ()
    events_per_second: float | None = None

    def allows(self, action: str) -> bool:
        """Return whether it may log an action."""
        return not self.actions or action.startswith(self.actions)


def bearer_token(header: bytes) -> bytes | None:
    """Return the token in an ``Authorization`` header of the scheme ``Bearer`` (RFC 6750 section 2.1)."""
    scheme, _, token = header.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token or len(token) > TOKEN_BYTES_MAX or not token.isascii():
        return None
    return token
