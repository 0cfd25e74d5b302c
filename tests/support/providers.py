"""Where the tests' Kafka, PostgreSQL and Schema Registry come from: real ones, always.

Providers, in order: an address in the environment (``SEALSTREAM_KAFKA``, ``SEALSTREAM_DATABASE``); testcontainers where
a Docker daemon answers; the embedded stack in a temporary directory. Nothing is skipped: a provider that fails, fails.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from psycopg import sql

from sealstream.deploy.stack import JavaTuning, LocalStack, erase
from sealstream.deploy.stack.kafka import KAFKA_VERSION
from sealstream.deploy.stack.registry import REGISTRY_VERSION
from support.workers import wait_for

KAFKA_VARIABLE = "SEALSTREAM_KAFKA"
DATABASE_VARIABLE = "SEALSTREAM_DATABASE"
_DOCKER_SOCKET = Path("/var/run/docker.sock")
_CONTAINER_SECONDS = 90.0
_GIVEN_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server for the tests.

    Arguments:
        address: How to reach it.
        provider: Where it comes from, for the summary.
    """

    address: str
    provider: str


@contextlib.contextmanager
def serve_kafka() -> Generator[Served]:
    """Provide Kafka for as long as the context is open."""
    given = os.environ.get(KAFKA_VARIABLE)
    if given:
        what = f"Kafka at {given} ({KAFKA_VARIABLE})"
        wait_for(lambda: kafka_answers(given), timeout_seconds=_GIVEN_SECONDS, what=what)
        yield Served(address=given, provider=KAFKA_VARIABLE)
    elif docker_answers():
        from support import containers  # noqa: PLC0415 - as above

        with containers.kafka() as address:
            what = f"Kafka in a container at {address}"
            wait_for(lambda: kafka_answers(address), timeout_seconds=_CONTAINER_SECONDS, what=what)
            yield Served(address=address, provider=f"testcontainers {containers.KAFKA_IMAGE}")
    else:
        with private_stack(database=False) as stack:
            yield Served(address=stack.kafka, provider=f"embedded Kafka {KAFKA_VERSION}")


@contextlib.contextmanager
def serve_database() -> Generator[Served]:
    """Provide PostgreSQL, as a superuser, for as long as the context is open."""
    given = os.environ.get(DATABASE_VARIABLE)
    if given:
        what = f"PostgreSQL at {without_password(given)} ({DATABASE_VARIABLE})"
        wait_for(lambda: database_answers(given), timeout_seconds=_GIVEN_SECONDS, what=what)
        yield Served(address=given, provider=DATABASE_VARIABLE)
    elif docker_answers():
        from support import containers  # noqa: PLC0415 - as above

        with containers.database() as url:
            what = f"PostgreSQL in a container at {without_password(url)}"
            wait_for(lambda: database_answers(url), timeout_seconds=_CONTAINER_SECONDS, what=what)
            yield Served(address=url, provider=f"testcontainers {containers.DATABASE_IMAGE}")
    else:
        with private_stack(kafka=False) as stack:
            yield Served(address=stack.database, provider="embedded PostgreSQL")


@contextlib.contextmanager
def serve_registry() -> Generator[Served]:
    """Provide a Schema Registry for as long as the context is open: an embedded one, since none is a user's own."""
    with private_stack(kafka=False, database=False, registry=True) as stack:
        yield Served(address=stack.registry, provider=f"embedded Apicurio Registry {REGISTRY_VERSION}")


@contextlib.contextmanager
def private_stack(
    *,
    kafka: bool = True,
    database: bool = True,
    registry: bool = False,
    kafka_tuning: JavaTuning = JavaTuning.QUICK_START,
) -> Generator[LocalStack]:
    """Run a local stack of its own in a temporary directory, and leave nothing of it; with the options of its class."""
    directory = Path(tempfile.mkdtemp(prefix="sealstream-"))
    directory.chmod(0o711)  # PostgreSQL runs under another account where we are root
    stack = LocalStack(directory, kafka=kafka, database=database, registry=registry, kafka_tuning=kafka_tuning)
    try:
        with stack:
            yield stack
    finally:
        erase(directory)


@contextlib.contextmanager
def fresh_database(server_url: str) -> Generator[str]:
    """Create an empty database on a server, give its URL, and drop it in the end."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def docker_answers() -> bool:
    """Tell whether a Docker daemon answers at once."""
    if not (os.environ.get("DOCKER_HOST") or _DOCKER_SOCKET.exists()):
        return False
    from support import containers  # noqa: PLC0415 - half a second that a run without Docker does not spend

    return containers.daemon_answers()


def kafka_answers(bootstrap: str) -> bool:
    """Tell whether a Kafka cluster answers at this address."""
    try:
        client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def database_answers(url: str) -> bool:
    """Tell whether a PostgreSQL answers at this address."""
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def without_password(url: str) -> str:
    """Give a URL as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
