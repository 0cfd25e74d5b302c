"""Where a request comes from and whose it is: set once at its beginning, known wherever something is logged in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Final, TypeAlias, cast

from sealstream.producers.event_fields import Party
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Actor, Context

_CONTEXT_NAMES: Final = tuple(Context.__slots__)


class Scope:
    """One request, or whatever else events are logged in.

    Arguments:
        context: Where it comes from; or makes that when it is first asked for, since most requests log nothing.
        tenant: Whose trail the request's events belong to, if that is known already.
        actor: Who acts, if that is known already.
    """

    __slots__ = ("_context", "actor", "tenant")

    def __init__(
        self,
        context: Context | Callable[[], Context] = Context,
        *,
        tenant: str | None = None,
        actor: Actor | Party | None = None,
    ) -> None:
        self._context = context
        self.tenant = tenant
        self.actor = actor

    @property
    def context(self) -> Context:
        """Where the request comes from."""
        found = self._context
        if not isinstance(found, Context):
            found = self._context = found()
        return found


Pending: TypeAlias = list[Any]
"""A request whose scope nobody has asked for yet: most requests log nothing, and must cost next to nothing.

It is a list of two, because nothing else is made as quickly: the request and what makes its context; once that was
asked for, its scope and ``None``. When the request is over, whoever has made the list puts ``None`` in its place:
servers keep contexts, in timers for instance, for longer than that. A scope stays: a task that outlives its request
knows it.
"""

_making: Final = Lock()

SCOPE: Final[ContextVar[Scope | Pending | None]] = ContextVar("sealstream_scope", default=None)
"""The request at hand. Not what is known of it: who is identified in a called task or thread is known to the caller."""


def current_scope() -> Scope | None:
    """Return the scope of the request at hand; ``None`` outside of one, or behind one that nobody had asked for it."""
    found = SCOPE.get()
    if not isinstance(found, list):
        return found
    with _making:
        held, context_of = found
        if held is not None and context_of is not None:
            held = Scope(context_of(held))
            found[:] = held, None
        return cast("Scope | None", held)


def current_context() -> Context | None:
    """Return where the request at hand comes from; ``None`` outside of a request."""
    scope = current_scope()
    return None if scope is None else scope.context


@contextmanager
def request_scope(
    context: Context | None = None, *, tenant: str | None = None, actor: Actor | Party | None = None
) -> Generator[Scope]:
    """Let what is logged in the block carry this context, tenant and actor, where it names none itself.

    For what is no HTTP request: a job, a consumed message, a command.
    """
    scope = Scope(context or Context(), tenant=tenant, actor=actor)
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
    scope = current_scope()
    if scope is None:
        raise EventInvalid("context", "is of no request", hint="use the middleware, or request_scope()")
    scope.tenant = tenant if tenant is not None else scope.tenant
    scope.actor = actor if actor is not None else scope.actor


def completed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's fields with what the request at hand knows, where they do not say it themselves.

    A context that is given stays, and gets the request's values for what it leaves out.
    """
    scope = current_scope()
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
