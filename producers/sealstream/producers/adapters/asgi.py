"""Middleware for ASGI applications: Starlette, FastAPI, Quart, Django under ASGI, and any other."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import Token
from typing import Any, Final, TypeAlias

from sealstream.producers.adapters.client_address import X_FORWARDED_FOR, ForwardedHeader, TrustedProxies
from sealstream.producers.adapters.context import SCOPE, Pending
from sealstream.producers.adapters.http_context import http_context
from sealstream.schemas.event import Context

AsgiScope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

_REQUESTS: Final = ("http", "websocket")
"""A tuple, since what is sought stands first in it: no set finds it as quickly."""

_set_scope: Final = SCOPE.set
_NOTHING: Final = Token.MISSING


class AuditMiddleware:
    """Lets whatever is logged within a request carry its address, user agent, request id and trace.

    It reads the headers when the first event of the request is logged, and not before. It logs nothing itself.

    Arguments:
        app: The application.
        trusted_proxies: Networks of your proxies, whose word on the client's address is believed; none by default.
        forwarded_header: The header in which they give it: ``x-forwarded-for`` or ``forwarded`` (RFC 7239).
        request_id_header: The header that names a request.

    Raises:
        ConfigError: A network is none, or the proxies' header is another one.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        trusted_proxies: Iterable[str] = (),
        forwarded_header: ForwardedHeader = X_FORWARDED_FOR,
        request_id_header: str = "x-request-id",
    ) -> None:
        self._app = app
        self._call: AsgiApp | None = None
        self._proxies = TrustedProxies(trusted_proxies, header=forwarded_header)
        self._forwarded_header = forwarded_header.encode()
        self._request_id_header = request_id_header.lower().encode()
        self._context_of = self.context_of  # bound once

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        # What stands here, each request pays for: `sealstream bench asgi` says how much.
        if scope["type"] not in _REQUESTS:
            await self._app(scope, receive, send)
            return
        call = self._call or self._bound()
        pending: Pending = [scope, self._context_of]
        token = _set_scope(pending)
        try:
            await call(scope, receive, send)
        finally:
            if pending[1] is None or token.old_value is not _NOTHING:
                SCOPE.reset(token)
            else:
                pending[0] = None  # as good as a reset, where nothing is around, and quicker

    def _bound(self) -> AsgiApp:
        """Return what calls the application.

        An object is looked up in its class at each call; its method, once bound, is not. That is done at the first
        request, when whatever instruments an application's class has done so.
        """
        method: Any = type(self._app).__call__
        self._call = method.__get__(self._app) if inspect.isfunction(method) else self._app
        return self._call

    def context_of(self, scope: AsgiScope) -> Context:
        """Return a request's context."""
        wanted: dict[bytes, list[bytes]] = {
            self._forwarded_header: [],
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
            forwarded=_text(b",".join(wanted[self._forwarded_header])),
            user_agent=_first(wanted[b"user-agent"]),
            request_id=_first(wanted[self._request_id_header]),
            traceparent=_first(trace) if len(trace) == 1 else None,  # two of them are none, as the standard says
        )


def _first(values: list[bytes]) -> str | None:
    return _text(values[0]) if values else None


def _text(value: bytes) -> str:
    return value.decode("latin-1")  # the bytes of a header are no text; each of them becomes one character
