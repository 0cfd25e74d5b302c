"""What any test may ask for: real servers, named after what they are."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Generator
from types import FrameType

import pytest

from sealstream.deploy.stack import LocalStack
from support.providers import (
    Served,
    fresh_database,
    private_stack,
    serve_database,
    serve_kafka,
    serve_registry,
    without_password,
)
from support.workers import STARTED

_SERVED: pytest.StashKey[dict[str, Served]] = pytest.StashKey()
_ELSEWHERE: pytest.StashKey[list[str]] = pytest.StashKey()
_SERVED_LINES = "sealstream_served"


def pytest_configure(config: pytest.Config) -> None:
    """Let a SIGTERM end the run as a Ctrl-C does, with every fixture's end, so that no server is left behind."""
    config.stash[_SERVED] = {}
    config.stash[_ELSEWHERE] = []
    owner = os.getpid()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a child that has not yet become another program
            os._exit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those tests first that need a registry: in a whole run one process has them all then, and starts one alone.

    Each process begins with a part of the list, and one that has done its own takes over from the end of another's.
    """
    items.sort(key=lambda item: "registry_url" not in getattr(item, "fixturenames", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the process that reports know which servers this one used, where tests run in several."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_SERVED_LINES] = _lines(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """Take in which servers another process used."""
    del error
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    output: dict[str, list[str]] = getattr(node, "workeroutput", {})
    config.stash[_ELSEWHERE].extend(output.get(_SERVED_LINES, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which servers the tests ran against."""
    for line in sorted({*_lines(config), *config.stash[_ELSEWHERE]}):
        terminalreporter.write_line(line)


def _lines(config: pytest.Config) -> list[str]:
    served = config.stash[_SERVED].items()
    return [f"{name}: {one.provider} at {without_password(one.address)}" for name, one in served]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what became of the workers that a failing test has started: on another machine their logs are gone."""
    report = yield
    if report.failed:
        report.sections.extend((f"Worker {worker.log_path.name}", worker.report()) for worker in STARTED)
    if call.when == "teardown":
        STARTED.clear()
    return report


@pytest.fixture(scope="session")
def kafka_bootstrap(pytestconfig: pytest.Config) -> Generator[str]:
    """Kafka's bootstrap servers; one Kafka for the whole run, so name topics and groups for your test."""
    with serve_kafka() as served:
        pytestconfig.stash[_SERVED]["Kafka"] = served
        yield served.address


@pytest.fixture(scope="session")
def database_server(pytestconfig: pytest.Config) -> Generator[str]:
    """The URL of PostgreSQL's superuser; one server for the whole run."""
    with serve_database() as served:
        pytestconfig.stash[_SERVED]["PostgreSQL"] = served
        yield served.address


@pytest.fixture
def database_url(database_server: str) -> Generator[str]:
    """The URL of an empty database of the test's own, as its superuser."""
    with fresh_database(database_server) as url:
        yield url


@pytest.fixture(scope="session")
def registry_url(pytestconfig: pytest.Config) -> Generator[str]:
    """The URL of a Schema Registry, empty at first; one for the whole run, so name subjects for your test."""
    with serve_registry() as served:
        pytestconfig.stash[_SERVED]["Schema Registry"] = served
        yield served.address


@pytest.fixture
def own_stack() -> Generator[Callable[..., LocalStack]]:
    """Start embedded servers of the test's own, which it may stop, kill and start again.

    Call it with the options ``kafka`` and ``database`` of `LocalStack`; they are ended and erased after the test.
    """
    with contextlib.ExitStack() as stacks:

        def start(*, kafka: bool = True, database: bool = True) -> LocalStack:
            return stacks.enter_context(private_stack(kafka=kafka, database=database))

        yield start
