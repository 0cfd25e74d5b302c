"""The Faust application of the processor: worker, agent, supervision and web are Faust's, the log is our own.

Started by :func:`run`, or by Faust's command: ``faust -A sealstream.processors.app worker``, with its settings from the
environment. Faust's own Kafka consumer and producer stay out (``README.md`` says why).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterable
from typing import Any, Final, NoReturn

import faust
from faust.app.base import BootStrategy as FaustBootStrategy
from faust.web.base import Web
from faust.worker import Worker
from mode import CrashingSupervisor
from mode.utils.objects import cached_property

from sealstream.processors.batch import Batch
from sealstream.processors.clients import Identity
from sealstream.processors.ends import Ends
from sealstream.processors.engine import Engine
from sealstream.processors.log import Log
from sealstream.processors.points import Point
from sealstream.processors.sensor import CatalogueSensor
from sealstream.processors.status import Status
from sealstream.processors.web import FREE_PORT, ProcessorWeb, add_pages
from sealstream.schemas.errors import SealstreamError
from sealstream.worker.failpoints import Failpoints
from sealstream.worker.logs import configure, logger
from sealstream.worker.memory import tune
from sealstream.worker.settings import Settings, load_settings

ROLE: Final = "processor"
SWITCH_SECONDS: Final = 0.0005
"""How long the thread that chains may keep the one waiting that ends a transaction beside it.

That one needs many short turns: at the default of 5 ms it waits longer for them than for brokers.
"""
_ENVIRONMENT_PREFIX: Final = "SEALSTREAM_FAUST_"
"""Keeps Faust's settings from the environment: it would take WEB_PORT and the like from whoever set them."""


class WithoutKafka(FaustBootStrategy):
    """Starts Faust without its Kafka consumer and producer."""

    enable_kafka = False


class ProcessorWorker(Worker):
    """Faust's worker; it leaves logging and the standard streams alone, and ends with the app's exit code."""

    def __init__(self, app: faust.App, *services: Any, **options: Any) -> None:
        options |= {"override_logging": False, "redirect_stdouts": False}
        super().__init__(app, *services, **options)
        self.spinner = None

    def _install_signal_handlers_unix(self) -> None:
        """Listen to SIGINT and SIGTERM only: mode's SIGUSR1 prints payloads in local variables, its SIGUSR2 waits in a
        debugger.
        """
        for number, handler in ((signal.SIGINT, self._on_sigint), (signal.SIGTERM, self._on_sigterm)):
            self.loop.add_signal_handler(number, handler)

    def execute_from_commandline(self) -> NoReturn:
        """Run until the worker is stopped, and end the process.

        Raises:
            SystemExit: Always; 0 after an orderly stop, else 1.
        """
        try:
            super().execute_from_commandline()
        except SystemExit as end:
            failed = end.code not in (0, None) or (isinstance(self.app, ProcessorApp) and self.app.failure is not None)
            raise SystemExit(1 if failed else 0) from None


class ProcessorApp(faust.App):
    """The processor.

    Arguments:
        settings: The worker's settings.
    """

    BootStrategy = WithoutKafka

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            f"sealstream-{ROLE}",
            env_prefix=_ENVIRONMENT_PREFIX,
            Worker=ProcessorWorker,
            agent_supervisor=CrashingSupervisor,
            web_bind=settings.web_host,
            web_host=settings.web_host,
            web_port=settings.web_port or FREE_PORT,
            web_router_enabled=False,
            web_tables_enabled=False,
        )
        self.failure: BaseException | None = None
        self.status = Status(settings.topics().events)
        self.sensor = CatalogueSensor()
        self.sensors.add(self.sensor)
        self.engine = Engine(settings, self.status, Failpoints.from_environment(Point))

    @cached_property
    def web(self) -> Web:
        """The web server."""
        return ProcessorWeb(self)

    async def on_first_start(self) -> None:
        """Start without the directories that Faust makes for tables: there are none."""

    def fail(self, error: BaseException) -> None:
        """Stop the worker because of an error, with exit code 1; the first error counts."""
        if self.failure is not None:
            return
        self.failure = error
        if isinstance(error, SealstreamError):
            logger().error(error.message, hint=error.hint, error=type(error).__name__)
        else:
            logger().error("unexpected error", exc_info=error)
        signal.raise_signal(signal.SIGTERM)  # the way out that an operator's stop takes

    def exit_code(self) -> int:
        """Return the exit code of the process as it is now."""
        return 0 if self.failure is None else 1


def create_app(settings: Settings) -> ProcessorApp:
    """Return the application.

    Raises:
        ConfigError: A setting is missing.
    """
    configure(ROLE, level=settings.log_level, format=settings.log_format)
    app = ProcessorApp(settings)
    batches: faust.ChannelT[Any] = app.channel(maxsize=1)  # pyright: ignore[reportUnknownVariableType]

    @app.service
    class ProcessorLog(Log):
        """The log of this app."""

        def __init__(self, **options: Any) -> None:
            super().__init__(
                app.engine,
                batches,
                resume=app.flow_control.resume,
                fail=app.fail,
                exit_code=app.exit_code,
                on_batch_done=app.sensor.on_batch_done,
                **options,
            )
            logs.append(self)

    logs: list[Log] = []

    @app.service
    class ProcessorEnds(Ends):  # pyright: ignore[reportUnusedClass]
        """Who asks for the ends of this app's partitions."""

        def __init__(self, **options: Any) -> None:
            member = Identity(settings.instance, settings.member()).member
            super().__init__(settings.connection(), member, app.status, **options)

    @app.agent(batches, name="chain")
    async def chain(stream: AsyncIterable[Batch]) -> None:  # pyright: ignore[reportUnusedFunction]
        """Chain each batch in one transaction."""
        async for batch in stream:
            await logs[-1].process(batch)

    add_pages(app, app.status)
    return app


def _tune() -> None:
    """Tune this process for its work, before it starts."""
    tune()
    sys.setswitchinterval(SWITCH_SECONDS)


def run(settings: Settings) -> int:
    """Run the processor until SIGTERM or SIGINT.

    Arguments:
        settings: The worker's settings.

    Returns:
        The exit code: 0 after an orderly stop, 1 after an error that needs a person; one log line says which.

    Raises:
        ConfigError: A setting is missing.
    """
    app = create_app(settings)
    _tune()
    app.finalize()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        ProcessorWorker(app, loop=loop, quiet=True).execute_from_commandline()
    except SystemExit as end:
        return int(end.code or 0)


def __getattr__(name: str) -> ProcessorApp:
    """Make ``app`` for Faust's command, and only when it asks."""
    if name != "app":
        raise AttributeError(name)
    made = create_app(load_settings())
    _tune()
    globals()["app"] = made
    return made
