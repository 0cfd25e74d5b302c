"""The adapters: what they make of what an application already has, and that no event is lost without a word."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Generator, MutableMapping
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from sealstream.producers import EventInvalid, QueueFull, SyncAuditLog
from sealstream.producers.adapters.asgi import AuditMiddleware
from sealstream.producers.adapters.audited import audited
from sealstream.producers.adapters.client_address import HOPS_MAX, TrustedProxies
from sealstream.producers.adapters.context import current_context, current_scope, identify, request_scope
from sealstream.producers.adapters.http_context import USER_AGENT_CHARACTERS_MAX
from sealstream.producers.adapters.logs import make_event
from sealstream.producers.adapters.stdlib_logging import AuditHandler
from sealstream.producers.adapters.structlog_processor import AuditProcessor
from sealstream.schemas.errors import ConfigError, DeliveryError
from sealstream.schemas.event import Actor, Context, Outcome
from support.taken import Taken

FIELDS = {"tenant": "acme", "actor": "user:42", "action": "document.updated"}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOWHERE = "127.0.0.1:1"
EVERY_LEVEL = structlog.make_filtering_bound_logger(0)
"""Whatever other tests of this process have configured for all loggers."""


class TestScope:
    """The request at hand."""

    def test_it_completes_what_an_event_leaves_out(self) -> None:
        """Tenant, actor and context come from the request where the event names none; its own words count more."""
        with request_scope(Context(ip="192.0.2.1", session="s-1")):
            identify(tenant="acme", actor="user:42")
            plain = make_event({"action": "a.b"})
            own = make_event(
                {
                    "action": "a.b",
                    "tenant": "globex",
                    "actor": Actor("job", "j"),
                    "context": {"ip": "::1", "job": "j-1"},
                }
            )
            merged = make_event({"action": "a.b", "context": Context(session="s-2")})

        assert (plain.tenant, plain.actor, plain.context) == (
            "acme",
            Actor("user", "42"),
            Context(ip="192.0.2.1", session="s-1"),
        )
        assert (own.tenant, own.actor) == ("globex", Actor("job", "j"))
        assert (own.context, own.metadata) == (Context(ip="::1", session="s-1"), {"job": "j-1"})
        assert merged.context == Context(ip="192.0.2.1", session="s-2")

    def test_it_ends_with_the_request(self) -> None:
        """Behind a request nothing of it is left, and nobody can be identified."""
        with request_scope(Context(ip="192.0.2.1"), tenant="acme"):
            assert current_context() == Context(ip="192.0.2.1")

        assert current_context() is None
        with pytest.raises(EventInvalid, match="tenant"):
            make_event({"action": "a.b"})
        with pytest.raises(EventInvalid, match="no request"):
            identify(tenant="acme")

    def test_who_is_identified_in_a_thread_is_known_outside_of_it(self) -> None:
        """A check of credentials that runs in a thread, as frameworks do, tells the whole request."""
        with request_scope():
            copied = contextvars.copy_context()
            thread = threading.Thread(target=copied.run, args=(lambda: identify(tenant="acme", actor="user:1"),))
            thread.start()
            thread.join(10)
            assert make_event({"action": "a.b"}).tenant == "acme"

    def test_importing_the_sdk_imports_no_library_of_an_adapter(self) -> None:
        """Neither the SDK nor an adapter brings in what the application does not use."""
        modules = ["asgi", "audited", "context", "stdlib_logging", "structlog_processor"]
        script = "\n".join(
            [
                "import sys, sealstream.producers, sealstream.producers.outbox",
                *(f"import sealstream.producers.adapters.{module}" for module in modules),
                "print([n for n in ('django', 'sqlalchemy', 'structlog', 'psycopg', 'starlette') if n in sys.modules])",
            ]
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

        assert done.stdout == "[]\n"


class TestClientAddress:
    """Who sent a request."""

    @pytest.mark.parametrize(
        ("peer", "forwarded", "client"),
        [
            ("192.0.2.9", "198.51.100.1", "192.0.2.9"),  # the peer is no proxy: anybody can write the header
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "203.0.113.5, 198.51.100.1", "198.51.100.1"),  # the first one was written by the client
            ("10.0.0.1", "203.0.113.5, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
            ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, evil", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", ",".join(["198.51.100.1"] + ["10.0.0.2"] * HOPS_MAX), "10.0.0.2"),
            (None, "198.51.100.1", None),
            ("testclient", "198.51.100.1", "testclient"),
        ],
    )
    def test_only_a_trusted_proxy_is_believed(self, peer: str | None, forwarded: str, client: str | None) -> None:
        """It is the nearest address that is no trusted proxy's, whatever stands before it."""
        assert TrustedProxies(["10.0.0.0/8"]).client_of(peer, forwarded) == client

    def test_by_default_nobody_is_believed(self) -> None:
        """Without the setting the peer's address counts, whatever the header says."""
        assert TrustedProxies().client_of("10.0.0.1", "198.51.100.1") == "10.0.0.1"

    @pytest.mark.parametrize("networks", ["10.0.0.0/8", ["10.0.0.1/8"], ["proxy"], ["*"]])
    def test_what_is_no_network_is_refused(self, networks: Any) -> None:
        """A setting that would trust nobody, or everybody, by mistake is met at the start."""
        with pytest.raises(ConfigError):
            TrustedProxies(networks)

    def test_another_header_is_refused(self) -> None:
        """A misspelt one would never be read, without a word."""
        header: Any = "x-real-ip"
        with pytest.raises(ConfigError, match="x-real-ip"):
            TrustedProxies(["10.0.0.0/8"], header=header)


class TestAsgi:
    """The middleware."""

    def request(
        self,
        headers: list[tuple[bytes, bytes]],
        *,
        kind: str = "http",
        client: tuple[str, int] | None = ("10.0.0.1", 1),
        **settings: Any,
    ) -> Context | None:
        """Send a request through the middleware and return the context that the application sees."""
        seen: list[Context | None] = []

        async def app(*_: Any) -> None:
            seen.append(current_context())

        async def receive() -> MutableMapping[str, Any]:
            return {}

        async def send(_: MutableMapping[str, Any]) -> None:
            return

        middleware = AuditMiddleware(app, trusted_proxies=["10.0.0.0/8"], **settings)
        asyncio.run(middleware({"type": kind, "headers": headers, "client": client}, receive, send))
        assert current_context() is None
        return seen[0]

    def test_a_request_brings_its_context(self) -> None:
        """Address, user agent, request id and trace are the request's."""
        context = self.request(
            [
                (b"user-agent", b"curl/8"),
                (b"x-forwarded-for", b"203.0.113.5"),
                (b"x-forwarded-for", b"198.51.100.7"),
                (b"x-request-id", b"r-1"),
                (b"traceparent", TRACEPARENT.encode()),
            ]
        )

        assert context == Context(ip="198.51.100.7", user_agent="curl/8", request_id="r-1", traceparent=TRACEPARENT)

    def test_one_header_of_the_proxies_counts_and_never_the_other(self) -> None:
        """A proxy lets through the one that it does not write: there the client's own word would count."""
        headers = [
            (b"x-forwarded-for", b"203.0.113.5"),
            (b"forwarded", b'for="_client'),
            (b"forwarded", b'for="[2001:db8::7]:4711";proto=https'),
        ]

        forwarded = self.request(headers, forwarded_header="forwarded")
        x_forwarded = self.request(headers)

        assert (forwarded, x_forwarded) == (Context(ip="2001:db8::7"), Context(ip="203.0.113.5"))

    def test_what_a_client_sends_is_bounded(self) -> None:
        """Endless or broken headers make an event that can be logged nevertheless."""
        trace = (b"traceparent", TRACEPARENT.encode())
        context = self.request([(b"user-agent", b"\xff" * 100_000), (b"x-request-id", b""), trace, trace], client=None)

        assert context == Context(user_agent="ÿ" * USER_AGENT_CHARACTERS_MAX)
        assert make_event(FIELDS | {"context": context}).context == context

    def test_what_is_no_request_passes(self) -> None:
        """The application's start and end are none of the middleware's business."""
        assert self.request([], kind="lifespan") is None
        assert self.request([], kind="websocket") == Context(ip="10.0.0.1")

    async def test_a_task_that_outlives_its_request_knows_it_if_the_request_was_asked_for(self) -> None:
        """Who was identified in it is still known to the task; of a request that nobody used nothing is kept."""
        over, tasks = asyncio.Event(), list[asyncio.Task[Context | None]]()

        async def later() -> Context | None:
            await over.wait()
            return current_context()

        async def app(scope: MutableMapping[str, Any], _receive: Any, _send: Any) -> None:
            if scope["client"][0] == "192.0.2.1":
                identify(tenant="acme")
            tasks.append(asyncio.create_task(later()))

        middleware = AuditMiddleware(app)
        for ip in ("192.0.2.1", "192.0.2.2"):
            await middleware({"type": "http", "headers": [], "client": (ip, 1)}, _nothing, _nothing)
        over.set()

        assert await asyncio.gather(*tasks) == [Context(ip="192.0.2.1"), None]

    async def test_requests_one_after_the_other_in_one_task_leave_nothing_behind(self) -> None:
        """Where requests share a task, as in a client's process: each is itself, and behind it all is as before."""
        seen: list[tuple[str | None, str | None]] = []

        async def app(scope: MutableMapping[str, Any], _receive: Any, _send: Any) -> None:
            if scope["path"] == "/used":
                identify(tenant=scope["client"][0])
            if scope["path"] != "/unused":
                found = current_scope()
                assert found is not None
                seen.append((found.tenant, found.context.ip))
            if scope["path"] == "/error":
                raise ValueError("own")

        middleware = AuditMiddleware(app)

        async def ask(path: str, ip: str) -> None:
            with contextlib.suppress(ValueError):
                await middleware({"type": "http", "path": path, "headers": [], "client": (ip, 1)}, _nothing, _nothing)

        for number, path in enumerate(("/unused", "/used", "/seen", "/unused", "/error", "/seen")):
            await ask(path, f"192.0.2.{number}")
            assert current_scope() is None
        with request_scope(Context(ip="198.51.100.1"), tenant="job") as outer:
            for number, path in enumerate(("/unused", "/used", "/error", "/seen"), start=6):
                await ask(path, f"192.0.2.{number}")
                assert current_scope() is outer
        assert current_scope() is None

        assert seen == [
            ("192.0.2.1", "192.0.2.1"),
            (None, "192.0.2.2"),
            (None, "192.0.2.4"),
            (None, "192.0.2.5"),
            ("192.0.2.7", "192.0.2.7"),
            (None, "192.0.2.8"),
            (None, "192.0.2.9"),
        ]

    async def test_middleware_within_middleware_is_the_nearest_ones(self) -> None:
        """A mounted application with a middleware of its own: within it its setting counts, behind it the other's."""
        seen: list[Context | None] = []
        request = {"type": "http", "headers": [(b"x-a", b"a"), (b"x-b", b"b")], "client": ("192.0.2.1", 1)}

        async def inner(*_: Any) -> None:
            seen.append(current_context())

        mounted = AuditMiddleware(inner, request_id_header="X-B")

        async def app(*given: Any) -> None:
            await mounted(*given)
            seen.append(current_context())

        await AuditMiddleware(app, request_id_header="X-A")(request, _nothing, _nothing)

        assert [context and context.request_id for context in seen] == ["b", "a"]

    async def test_what_instruments_an_applications_class_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tracing that replaces a class's call when the middleware is there already is not gone past."""
        called: list[str] = []

        class App:
            async def __call__(self, *_: Any) -> None:
                called.append("plain")

        async def traced(_app: App, *_: Any) -> None:
            called.append("traced")

        middleware = AuditMiddleware(App())
        monkeypatch.setattr(App, "__call__", traced)
        await middleware({"type": "http", "headers": [], "client": None}, _nothing, _nothing)

        assert called == ["traced"]

    def test_a_request_that_nobody_asked_for_is_let_go(self) -> None:
        """What keeps the context of a request, as timers of servers do, does not keep the request."""
        kept: list[contextvars.Context] = []

        class Request(dict[str, Any]):
            """A mapping that can be watched."""

        async def app(*_: Any) -> None:
            kept.append(contextvars.copy_context())

        request = Request({"type": "http", "headers": [], "client": None})
        watched = weakref.ref(request)
        asyncio.run(AuditMiddleware(app)(request, _nothing, _nothing))
        del request
        gc.collect()

        assert watched() is None
        assert kept[0].run(current_scope) is None

    async def test_requests_do_not_see_each_other(self) -> None:
        """Requests at the same time, in one event loop, each have their own context."""
        seen: dict[str, str | None] = {}
        together = asyncio.Barrier(2)

        async def app(scope: MutableMapping[str, Any], _receive: Any, _send: Any) -> None:
            identify(tenant=scope["client"][0])
            await together.wait()
            event = make_event({"action": "a.b", "actor": "user:1"})
            seen[event.tenant] = event.context.ip

        middleware = AuditMiddleware(app)
        async with asyncio.timeout(10):
            await asyncio.gather(
                *(
                    middleware({"type": "http", "headers": [], "client": (ip, 1)}, _nothing, _nothing)
                    for ip in ("192.0.2.1", "192.0.2.2")
                )
            )

        assert seen == {"192.0.2.1": "192.0.2.1", "192.0.2.2": "192.0.2.2"}


async def _nothing(*_: Any) -> Any:
    return {}


@pytest.fixture
def logger() -> Generator[logging.Logger]:
    """A logger of the test's own."""
    made = logging.getLogger("tests.documents")
    made.setLevel(logging.INFO)
    made.propagate = False
    yield made
    made.handlers.clear()


class TestLogging:
    """The handler for logging."""

    def test_a_record_with_an_event_is_logged(self, logger: logging.Logger) -> None:
        """Its fields are the event's, its time too; other records are passed over."""
        taken = Taken()
        logger.addHandler(AuditHandler(taken))
        before = datetime.now(UTC)

        logger.info("renamed", extra={"audit": FIELDS})
        logger.info("nothing")

        [event] = taken.events
        assert (event.tenant, event.action, event.actor) == ("acme", "document.updated", Actor("user", "42"))
        assert before.replace(microsecond=0) <= event.occurred_at <= datetime.now(UTC)

    @pytest.mark.parametrize("fields", ["no mapping", {"tenant": "acme"}, FIELDS | {"tenant": "no tenant"}])
    def test_a_record_that_is_no_event_reaches_its_maker(self, logger: logging.Logger, fields: object) -> None:
        """A mistake is raised where the record was logged, and not printed somewhere."""
        logger.addHandler(AuditHandler(Taken()))

        with pytest.raises(EventInvalid):
            logger.info("renamed", extra={"audit": fields})

    def test_the_logs_policy_decides(self, logger: logging.Logger) -> None:
        """A real log that is full raises, if that is its policy, into the line that logged the record."""
        audit = SyncAuditLog(kafka=NOWHERE, instance="example.com/audit", when_full="raise", queue_events_max=1)
        logger.addHandler(AuditHandler(audit))
        try:
            logger.info("renamed", extra={"audit": FIELDS})
            with pytest.raises(QueueFull):
                logger.info("renamed", extra={"audit": FIELDS})
        finally:
            with pytest.raises(DeliveryError):
                audit.close(0)


class TestStructlog:
    """The processor for structlog."""

    def test_a_line_that_asks_for_it_is_logged(self) -> None:
        """Fields of an event are taken, others stay in the line, which goes on with the event's id."""
        taken, lines = Taken(), list[dict[str, Any]]()

        def keep(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> Any:
            lines.append(dict(line))
            raise structlog.DropEvent

        log = structlog.wrap_logger(None, processors=[AuditProcessor(taken), keep], wrapper_class=EVERY_LEVEL)
        log.info("document.updated", tenant="acme", actor="user:42", target="document:7", size=3, audit=True)
        log.info("nothing", size=3)
        log.info("nothing", audit=False)

        assert taken.actions() == ["document.updated document:7"]
        assert taken.events[0].metadata == {}
        assert lines[0].pop("audit_id") == taken.events[0].id
        assert lines == [
            {
                "event": "document.updated",
                "tenant": "acme",
                "actor": "user:42",
                "target": "document:7",
                "size": 3,
            },
            {"event": "nothing", "size": 3},
            {"event": "nothing"},
        ]

    @pytest.mark.parametrize("line", [{"audit": True}, FIELDS | {"audit": "yes"}, FIELDS | {"audit": True}])
    def test_no_error_is_swallowed(self, line: dict[str, Any]) -> None:
        """What is no event, and what the log raises, reaches whoever logged the line."""
        processors = [AuditProcessor(Taken(QueueFull("full")))]
        log = structlog.wrap_logger(None, processors=processors, wrapper_class=EVERY_LEVEL)

        with pytest.raises((EventInvalid, QueueFull)):
            log.info("document.updated", **line)


class TestAudited:
    """The decorator."""

    def made(self, audit: Any, *, is_async: bool = False, error: BaseException | None = None) -> Callable[..., Any]:
        """Return a decorated function that returns twice its argument, or raises; called as a plain one."""

        def actor_of(_number: int, *, by: str) -> str:
            return f"user:{by}"

        def target_of(number: int, **_: str) -> str:
            return f"document:{number}"

        wrap = audited(
            "document.updated", audit, tenant="acme", actor=actor_of, target=target_of, metadata={"kind": "test"}
        )
        if not is_async:

            @wrap
            def update(number: int, *, by: str) -> int:
                del by
                if error is not None:
                    raise error
                return number * 2

            return update

        @wrap
        async def update_later(number: int, *, by: str) -> int:
            del by
            await asyncio.sleep(0)
            if error is not None:
                raise error
            return number * 2

        return lambda *args, **kwargs: asyncio.run(update_later(*args, **kwargs))

    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_call_is_an_event(self, *, is_async: bool) -> None:
        """The event's fields come from the call, and the function's result is the caller's."""
        taken = Taken()

        assert self.made(taken, is_async=is_async)(7, by="42") == 14

        [event] = taken.events
        assert taken.actions() == ["document.updated document:7"]
        assert (event.tenant, event.actor, event.outcome) == ("acme", Actor("user", "42"), Outcome.SUCCESS)
        assert event.metadata == {"kind": "test"}

    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize(
        ("error", "outcome"),
        [(ValueError("secret"), Outcome.FAILURE), (PermissionError("secret"), Outcome.DENIED)],
        ids=["failure", "denied"],
    )
    def test_a_call_that_fails_is_one_too(self, error: Exception, outcome: Outcome, *, is_async: bool) -> None:
        """The outcome says how it failed, and the error goes on; its text, which may hold anything, is not logged."""
        taken = Taken()
        with pytest.raises(type(error)) as raised:
            self.made(taken, is_async=is_async, error=error)(7, by="42")

        assert raised.value is error
        [event] = taken.events
        assert event.outcome is outcome
        assert event.metadata == {"kind": "test", "error": type(error).__name__}

    def test_a_cancelled_call_has_not_succeeded(self) -> None:
        """A coroutine that is cancelled leaves an event that says so."""
        taken = Taken()
        with pytest.raises(asyncio.CancelledError):
            self.made(taken, is_async=True, error=asyncio.CancelledError())(7, by="42")

        assert [(event.outcome, event.metadata["error"]) for event in taken.events] == [
            (Outcome.FAILURE, "CancelledError")
        ]

    def test_an_event_that_cannot_be_made_stops_the_call(self) -> None:
        """What would leave no trace is not done."""
        done: list[int] = []
        update = audited("document.updated", Taken())(done.append)

        with pytest.raises(EventInvalid, match="tenant"):
            update(1)
        assert done == []

    def test_what_the_log_raises_reaches_the_caller(self) -> None:
        """With the function's own error as its context, if there was one."""
        error = ValueError("own")
        with pytest.raises(QueueFull) as raised:
            self.made(Taken(QueueFull("full")), error=error)(7, by="42")
        assert raised.value.__context__ is error
        with pytest.raises(QueueFull):
            self.made(Taken(QueueFull("full")))(7, by="42")

    def test_the_log_may_be_made_later(self) -> None:
        """A function that returns the log is asked at each call."""
        logs: list[Taken] = []
        update = self.made(lambda: logs[0])
        logs.append(Taken())

        update(7, by="42")

        assert len(logs[0].events) == 1

    def test_a_generator_is_refused(self) -> None:
        """It has no one end that could be logged."""
        with pytest.raises(ConfigError, match="generator"):

            @audited("document.read", Taken())
            def lines() -> Generator[int]:
                yield 1
