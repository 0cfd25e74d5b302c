"""For Django: middleware that knows where a request comes from, and events for what is done to models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, cast

from django.conf import settings  # type: ignore[import-untyped]  # Django has no types
from django.db import transaction  # type: ignore[import-untyped]
from django.db.models.signals import post_delete, post_save  # type: ignore[import-untyped]
from django.utils.decorators import sync_and_async_middleware  # type: ignore[import-untyped]

from sealstream.producers.adapters.client_address import X_FORWARDED_FOR, TrustedProxies
from sealstream.producers.adapters.context import SCOPE, Scope
from sealstream.producers.adapters.http_context import http_context
from sealstream.producers.adapters.logs import Logs, make_event
from sealstream.producers.event_fields import Party
from sealstream.producers.outbox.driver import OutboxBase
from sealstream.schemas.event import Actor, Context, Target

TRUSTED_PROXIES: Final = "SEALSTREAM_TRUSTED_PROXIES"
FORWARDED_HEADER: Final = "SEALSTREAM_FORWARDED_HEADER"
FromInstance: TypeAlias = Callable[[Any], Any]
"""Takes the model's instance and returns a field's value."""


@cast("Callable[[Callable[[Any], Any]], Callable[[Any], Any]]", sync_and_async_middleware)
def audit_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let whatever is logged within a request carry its address, user agent, request id and trace.

    In a synchronous request the actor is the user who has logged in, ``user:<primary key>``, unless
    :func:`~sealstream.producers.adapters.context.identify` says another; an asynchronous one has to be told.

    The setting ``SEALSTREAM_TRUSTED_PROXIES`` lists the networks of your proxies, whose word on the client's address is
    believed; none by default. ``SEALSTREAM_FORWARDED_HEADER`` names the header in which they give it:
    ``x-forwarded-for``, which is the default, or ``forwarded`` (RFC 7239).

    Raises:
        ConfigError: A network is none, or the header is another one.
    """
    proxies = TrustedProxies(
        getattr(settings, TRUSTED_PROXIES, ()), header=getattr(settings, FORWARDED_HEADER, X_FORWARDED_FOR)
    )
    if inspect.iscoroutinefunction(get_response):

        async def handle_async(request: Any) -> Any:
            token = SCOPE.set(Scope(partial(_context_of, request, proxies)))
            try:
                return await get_response(request)
            finally:
                SCOPE.reset(token)

        return handle_async

    def handle(request: Any) -> Any:
        token = SCOPE.set(_UserScope(request, proxies))
        try:
            return get_response(request)
        finally:
            SCOPE.reset(token)

    return handle


class _UserScope(Scope):
    """The scope of one request; its actor is the request's user, looked up when it is first asked for."""

    __slots__ = ("_actor", "_request")

    def __init__(self, request: Any, proxies: TrustedProxies) -> None:
        self._request = request
        self._actor: Actor | Party | None = None
        super().__init__(partial(_context_of, request, proxies))

    @property
    def actor(self) -> Actor | Party | None:
        """Who acts."""
        user = getattr(self._request, "user", None)
        if self._actor is None and user is not None and user.is_authenticated:
            self._actor = Actor("user", str(user.pk))
        return self._actor

    @actor.setter
    def actor(self, actor: Actor | Party | None) -> None:
        self._actor = actor


def audit_models(
    audit: Logs,
    *models: Any,
    tenant: str | FromInstance | None = None,
    actor: Actor | Party | FromInstance | None = None,
    metadata: Mapping[str, str] | FromInstance | None = None,
) -> Callable[[], None]:
    """Log an event whenever an instance of a model is created, updated or deleted.

    The action is ``<model>.created``, ``.updated`` or ``.deleted``, the target ``<model>:<primary key>``. An event is
    made, and checked, with the change: one that breaks the model lets the change fail. With a ``DjangoOutbox`` it joins
    the transaction; with an audit log it is logged when the transaction has committed, and what the log then raises
    reaches whoever committed. Django sends no signal for ``QuerySet.update()`` and ``bulk_create()``.

    Arguments:
        audit: The audit log, or the outbox.
        models: The models.
        tenant: Whose trail the events belong to; that of the request at hand by default.
        actor: Who acts; that of the request at hand by default.
        metadata: Free text by key.

    The last three are values, or functions of the instance.

    Returns:
        A function that ends it.
    """
    given = {"tenant": tenant, "actor": actor, "metadata": metadata}

    def log(instance: Any, verb: str, using: str) -> None:
        name = instance._meta.model_name  # noqa: SLF001 - Django's public name for it
        fields = {field: value(instance) if callable(value) else value for field, value in given.items()}
        event = make_event(
            {"action": f"{name}.{verb}", "target": Target(name, str(instance.pk)), "outcome": "success"}
            | {field: value for field, value in fields.items() if value is not None}
        )
        if isinstance(audit, OutboxBase):
            audit.log(event)
        else:
            cast("Any", transaction).on_commit(lambda: audit.log(event), using=using)

    def saved(instance: Any, created: bool, using: str, **_: Any) -> None:
        log(instance, "created" if created else "updated", using)

    def deleted(instance: Any, using: str, **_: Any) -> None:
        log(instance, "deleted", using)

    signals = ((cast("Any", post_save), saved), (cast("Any", post_delete), deleted))
    for model in models:
        for signal, receiver in signals:
            signal.connect(receiver, sender=model, weak=False)

    def end() -> None:
        for model in models:
            for signal, receiver in signals:
                signal.disconnect(receiver, sender=model)

    return end


def _context_of(request: Any, proxies: TrustedProxies) -> Context:
    header = request.META.get
    return http_context(
        proxies,
        peer=header("REMOTE_ADDR") or None,
        forwarded=header(f"HTTP_{proxies.header.upper().replace('-', '_')}", ""),
        user_agent=header("HTTP_USER_AGENT"),
        request_id=header("HTTP_X_REQUEST_ID"),
        traceparent=header("HTTP_TRACEPARENT"),
    )
