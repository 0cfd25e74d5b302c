"""Where a request comes from and whose it is: set once at its beginning, known wherever something is logged in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, cast

from sealstream.producers.event_fields import Party
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Actor, Context

_CONTEXT_NAMES: Final = tuple(Context.__slots__)


class Scope:
    """One request, or whatever else events are logged in.

    Arguments:
        make_context: Makes the context when it is first asked for: most requests log nothing, and should cost nothing.
        tenant: Whose trail the request's events belong to, if that is known already.
        actor: Who acts, if that is known already.
    """

    __slots__ = ("_context", "_make_context", "actor", "tenant")

    def __init__(
        self,
        make_context: Callable[[], Context] = Context,
        *,
        tenant: str | None = None,
        actor: Actor | Party | None = None,
    ) -> None:
        self._make_context = make_context
        self._context: Context | None = None
        self.tenant = tenant
        self.actor = actor

    @property
    def context(self) -> Context:
        """Where the request comes from."""
        if self._context is None:
            self._context = self._make_context()
        return self._context


# The scope and not what is in it: who is identified in a called task or thread is known to the caller as well.
SCOPE: Final[ContextVar[Scope | None]] = ContextVar("sealstream_scope", default=None)


def current_context() -> Context | None:
    """Return where the request at hand comes from; ``None`` outside of a request."""
    scope = SCOPE.get()
    return None if scope is None else scope.context


@contextmanager
def request_scope(
    context: Context | None = None, *, tenant: str | None = None, actor: Actor | Party | None = None
) -> Generator[Scope]:
    """Let what is logged in the block carry this context, tenant and actor, where it names none itself.

    For what is no HTTP request: a job, a consumed message, a command.
    """
    scope = Scope(tenant=tenant, actor=actor) if context is None else Scope(lambda: context, tenant=tenant, actor=actor)
    token = SCOPE.set(scope)
    try:
        yield scope
    finally:
        SCOPE.reset(token)


def identify(*, tenant: str | None = None, actor: Actor | Party | None = None) -> None:
    """Say whose the request at hand is, once that is known: behind the check of its credentials.

    Arguments:
        tenant: Whose trail its events belong to.
        actor: Who acts.

    Raises:
        EventInvalid: There is no request: neither middleware nor :func:`request_scope` is around.
    """
    scope = SCOPE.get()
    if scope is None:
        raise EventInvalid("context", "is of no request", hint="use the middleware, or request_scope()")
    scope.tenant = tenant if tenant is not None else scope.tenant
    scope.actor = actor if actor is not None else scope.actor


def completed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's fields with what the request at hand knows, where they do not say it themselves.

    A context that is given stays, and gets the request's values for what it leaves out.
    """
    scope = SCOPE.get()
    found = dict(fields)
    if scope is None:
        return found
    if scope.tenant is not None:
        found.setdefault("tenant", scope.tenant)
    if scope.actor is not None:
        found.setdefault("actor", scope.actor)
    found["context"] = _merged(found.get("context"), scope.context)
    return found


def _merged(own: Any, request: Context) -> Any:
    """Return a context, or a free mapping, with the request's values for what it leaves out."""
    if own is None:
        return request
    known = {name: value for name in _CONTEXT_NAMES if (value := getattr(request, name)) is not None}
    if isinstance(own, Context):
        given = {name: value for name in _CONTEXT_NAMES if (value := getattr(own, name)) is not None}
        return Context(**(known | given))
    if isinstance(own, Mapping):
        return known | dict(cast("Mapping[str, str]", own))
    return own  # of a wrong type: whoever makes the event says so
