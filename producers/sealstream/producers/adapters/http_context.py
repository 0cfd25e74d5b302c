"""The context of an HTTP request, from its headers; each value bounded, because anybody may send anything."""

from __future__ import annotations

from typing import Final

from sealstream.producers.adapters.client_address import TrustedProxies
from sealstream.producers.headers import is_traceparent
from sealstream.schemas.event import Context

USER_AGENT_CHARACTERS_MAX: Final = 1_000
REQUEST_ID_CHARACTERS_MAX: Final = 200


def http_context(
    proxies: TrustedProxies,
    *,
    peer: str | None,
    forwarded: str,
    user_agent: str | None,
    request_id: str | None,
    traceparent: str | None,
) -> Context:
    """Return a request's context.

    User agent, request id and trace are what the client says: no proof of anything.

    Arguments:
        proxies: Whose word on the client's address counts.
        peer: Who connected.
        forwarded: The header that the proxies write, ``proxies.header``; empty if there is none.
        user_agent: The header ``User-Agent``.
        request_id: The header that names the request.
        traceparent: The header ``traceparent``; passed on only if it is a valid one (W3C Trace Context).
    """
    return Context(
        ip=proxies.client_of(peer, forwarded),
        user_agent=_bounded(user_agent, USER_AGENT_CHARACTERS_MAX),
        request_id=_bounded(request_id, REQUEST_ID_CHARACTERS_MAX),
        traceparent=traceparent if traceparent is not None and is_traceparent(traceparent) else None,
    )


def _bounded(text: str | None, characters_max: int) -> str | None:
    return text[:characters_max] if text else None
