"""Django: the request at hand, and events for what is done to models."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

from sealstream.producers.adapters.context import current_context, identify
from sealstream.producers.adapters.logs import make_event
from sealstream.schemas.errors import EventInvalid, QueueFull
from sealstream.schemas.event import Actor, Context
from support import django_app
from support.taken import Taken

META = {
    "REMOTE_ADDR": "10.0.0.1",
    "HTTP_X_FORWARDED_FOR": "198.51.100.7",
    "HTTP_USER_AGENT": "curl/8",
    "HTTP_X_REQUEST_ID": "r-1",
}
CONTEXT = Context(ip="198.51.100.7", user_agent="curl/8", request_id="r-1")


@pytest.fixture(scope="module")
def adapter() -> Any:
    """The adapter's module, imported once Django is set up."""
    django_app.set_up()
    from sealstream.producers.adapters import django as module  # noqa: PLC0415

    return module


@pytest.fixture
def group(adapter: Any) -> Generator[Any]:
    """One of Django's own models, with its table."""
    del adapter
    django_app.migrate()
    from django.contrib.auth.models import Group  # type: ignore[import-untyped]  # noqa: PLC0415

    yield Group
    Group.objects.all().delete()


def request(**user: object) -> SimpleNamespace:
    """Return a request of a user."""
    return SimpleNamespace(META=META, user=SimpleNamespace(**user))


def name_of(group: Any) -> str:
    """Return a group's name."""
    return str(group.name)


class TestMiddleware:
    """The middleware."""

    def test_a_request_brings_context_and_user(self, adapter: Any) -> None:
        """The address is the client's behind a trusted proxy, the actor the user who has logged in."""
        seen: list[Any] = []

        def view(_request: Any) -> str:
            seen.append(make_event({"tenant": "acme", "action": "a.b"}))
            identify(actor="service:job")
            seen.append(make_event({"tenant": "acme", "action": "a.b"}))
            return "answer"

        answer = adapter.audit_middleware(view)(request(is_authenticated=True, pk=42))

        assert answer == "answer"
        assert [(event.actor, event.context) for event in seen] == [
            (Actor("user", "42"), CONTEXT),
            (Actor("service", "job"), CONTEXT),
        ]
        assert current_context() is None

    def test_nobody_is_no_actor(self, adapter: Any) -> None:
        """A request without a login has to say who acts."""

        def view(_request: Any) -> None:
            make_event({"tenant": "acme", "action": "a.b"})

        with pytest.raises(EventInvalid, match="actor"):
            adapter.audit_middleware(view)(request(is_authenticated=False, pk=None))

    def test_an_asynchronous_request_is_told_who_acts(self, adapter: Any) -> None:
        """The user is not looked up there, which would wait for the database."""

        async def view(_request: Any) -> Any:
            with pytest.raises(EventInvalid, match="actor"):
                make_event({"tenant": "acme", "action": "a.b"})
            identify(actor="user:42")
            return make_event({"tenant": "acme", "action": "a.b"})

        event = asyncio.run(adapter.audit_middleware(view)(request(is_authenticated=True, pk=42)))

        assert (event.actor, event.context) == (Actor("user", "42"), CONTEXT)


class TestModels:
    """The signals."""

    def test_changes_are_logged_when_they_commit(self, adapter: Any, group: Any) -> None:
        """Created, updated and deleted instances are events, after the commit; what is rolled back is none."""
        taken = Taken()
        end = adapter.audit_models(taken, group, tenant="acme", actor="user:42")
        try:
            with django_app.atomic("default"):
                made = group.objects.create(name="a")
                assert taken.events == []
            made.name = "b"
            made.save()
            with django_app.atomic("default", rollback=True):
                group.objects.create(name="c")
            key = made.pk
            made.delete()
        finally:
            end()
        group.objects.create(name="d")

        assert taken.actions() == [f"group.{verb} group:{key}" for verb in ("created", "updated", "deleted")]

    def test_an_event_that_cannot_be_made_lets_the_change_fail(self, adapter: Any, group: Any) -> None:
        """What would leave no trace is not saved."""
        end = adapter.audit_models(Taken(), group, tenant=name_of, actor="user:42")
        try:
            with pytest.raises(EventInvalid), django_app.atomic("default"):
                group.objects.create(name="no tenant")
        finally:
            end()

        assert not group.objects.exists()

    def test_what_the_log_raises_reaches_whoever_commits(self, adapter: Any, group: Any) -> None:
        """The change has committed; that its event was not taken is no secret."""
        end = adapter.audit_models(Taken(QueueFull("full")), group, tenant="acme", actor="user:42")
        try:
            with pytest.raises(QueueFull):
                group.objects.create(name="a")
        finally:
            end()

        assert group.objects.exists()
