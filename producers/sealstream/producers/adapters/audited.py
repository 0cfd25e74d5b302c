"""A decorator: each call of a function is an event."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, cast

from sealstream.producers.adapters.logs import Logs, make_event
from sealstream.producers.event_fields import Party
from sealstream.schemas.errors import ConfigError
from sealstream.schemas.event import Actor, AuditEvent, Outcome, Target, now

P = ParamSpec("P")
R = TypeVar("R")

FromCall: TypeAlias = Callable[..., Any]
"""Takes the function's arguments, as it was called, and returns a field's value."""

_ERROR_KEY: Final = "error"


def audited(
    action: str,
    audit: Logs | Callable[[], Logs],
    *,
    tenant: str | FromCall | None = None,
    actor: Actor | Party | FromCall | None = None,
    target: Target | Party | FromCall | None = None,
    metadata: Mapping[str, str] | FromCall | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Log an event for each call of a function or coroutine function, with its outcome.

    The event is made, and checked, before the function runs: an event that breaks the model stops a call that would
    leave no trace. It is logged when the function has ended: with success; with ``denied`` after a ``PermissionError``;
    with ``failure`` after any other exception, whose type stands in the metadata as ``error``, and whose text, which
    may hold anything, does not.

    Arguments:
        action: What the function does, as ``object.verb``.
        audit: The audit log, or a function that returns it, where it is made later than the decorator runs. What it
            raises, by its policy, reaches the caller, be it in place of the function's result.
        tenant: Whose trail the event belongs to; that of the request at hand by default.
        actor: Who acts; that of the request at hand by default.
        target: What it is done to.
        metadata: Free text by key.

    Each of the last four is a value, or a function of the call's arguments.

    Raises:
        ConfigError: What is decorated is a generator, which has no one end.
    """
    given = {"tenant": tenant, "actor": actor, "target": target, "metadata": metadata}

    def event_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AuditEvent:
        fields = {name: value(*args, **kwargs) if callable(value) else value for name, value in given.items()}
        return make_event({"action": action} | {name: value for name, value in fields.items() if value is not None})

    def log(event: AuditEvent, outcome: Outcome, error: BaseException | None = None) -> None:
        ended = replace(event, outcome=outcome, occurred_at=now())
        if error is not None:
            ended = replace(ended, metadata={**event.metadata, _ERROR_KEY: type(error).__name__})
        (audit() if callable(audit) else audit).log(ended)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"{function.__qualname__} is a generator", hint="audit the function that consumes it")
        if inspect.iscoroutinefunction(function):
            return cast("Callable[P, R]", _around_coroutine(function, event_of, log))

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            event = event_of(args, kwargs)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                log(event, _outcome(error), error)
                raise
            log(event, Outcome.SUCCESS)
            return result

        return call

    return decorate


def _around_coroutine(
    function: Callable[..., Any], event_of: Callable[..., AuditEvent], log: Callable[..., None]
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        event = event_of(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:  # a cancelled call has not succeeded
            log(event, _outcome(error), error)
            raise
        log(event, Outcome.SUCCESS)
        return result

    return call


def _outcome(error: BaseException) -> Outcome:
    return Outcome.DENIED if isinstance(error, PermissionError) else Outcome.FAILURE
