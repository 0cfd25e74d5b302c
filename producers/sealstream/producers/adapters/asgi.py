"""Middleware for ASGI applications: Starlette, FastAPI, Quart, Django under ASGI, and any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, TypeAlias

from sealstream.producers.adapters.client_address import TrustedProxies
from sealstream.producers.adapters.context import SCOPE, UNUSED, Pending
from sealstream.producers.adapters.http_context import http_context
from sealstream.schemas.event import Context

AsgiScope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

_REQUESTS: Final = frozenset({"http", "websocket"})


class AuditMiddleware:
    """Lets whatever is logged within a request carry its address, user agent, request id and trace.

    It reads the headers when the first event of the request is logged, and not before. It logs nothing itself.

    Arguments:
        app: The application.
        trusted_proxies: Networks of your proxies, whose ``X-Forwarded-For`` is believed; none by default.
        request_id_header: The header that names a request.

    Raises:
        ConfigError: A network is none.
    """

    def __init__(
        self, app: AsgiApp, *, trusted_proxies: Iterable[str] = (), request_id_header: str = "x-request-id"
    ) -> None:
        self._app = app
        self._proxies = TrustedProxies(trusted_proxies)
        self._request_id_header = request_id_header.lower().encode()
        self._context_of = self.context_of  # bound once

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] not in _REQUESTS:
            await self._app(scope, receive, send)
            return
        pending: Pending = [scope, self._context_of]
        token = SCOPE.set(pending)
        try:
            await self._app(scope, receive, send)
        finally:
            SCOPE.reset(token)
            if len(pending) == UNUSED:
                pending.clear()

    def context_of(self, scope: AsgiScope) -> Context:
        """Return a request's context."""
        wanted: dict[bytes, list[bytes]] = {
            b"x-forwarded-for": [],
            b"user-agent": [],
            b"traceparent": [],
            self._request_id_header: [],
        }
        for name, value in scope["headers"]:
            if name in wanted:
                wanted[name].append(value)
        client = scope.get("client")
        trace = wanted[b"traceparent"]
        return http_context(
            self._proxies,
            peer=client[0] if client else None,
            forwarded_for=_text(b",".join(wanted[b"x-forwarded-for"])),
            user_agent=_first(wanted[b"user-agent"]),
            request_id=_first(wanted[self._request_id_header]),
            traceparent=_first(trace) if len(trace) == 1 else None,  # two of them are none, as the standard says
        )


def _first(values: list[bytes]) -> str | None:
    return _text(values[0]) if values else None


def _text(value: bytes) -> str:
    return value.decode("latin-1")  # the bytes of a header are no text; each of them becomes one character
