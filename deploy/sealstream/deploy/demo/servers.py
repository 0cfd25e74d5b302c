"""The servers that a demonstration runs on: the local stack's, or those that the environment names.

What is given is not ours: there the demonstration has topics with a prefix of their own, an instance and so consumer
groups of its own, and a database of its own beside the given one, and takes all of it away again in the end.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, cast
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConsumerGroupListing, ListConsumerGroupsResult
from psycopg import sql

from sealstream.deploy.environment import as_writer, instance_environment
from sealstream.deploy.interruption import Interruption
from sealstream.deploy.stack import LocalStack
from sealstream.kafka.admin import TopicAdmin
from sealstream.schemas.errors import ConfigError
from sealstream.sinks.store.database import connect, translated
from sealstream.worker.settings import Settings, load_settings

_Futures: TypeAlias = dict[str, Future[None]]

_CLIENT: Final = "sealstream-demo"
_ROLES: Final = ("sealstream_owner", "sealstream_writer", "sealstream_reader")
_REQUEST_SECONDS: Final = 15.0
_SESSION_SECONDS: Final = 6  # the least that brokers allow by default
_GROUPS_SECONDS_MAX: Final = 20.0
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoServers:
    """Where the demonstration's instance lives.

    Arguments:
        settings: The instance's settings; the database's URL is a superuser's.
        environment: The same for people, by their names in the environment.
        worker_environment: The same for workers: there the database's URL has a writer's rights only.
        embedded: Whether all servers are the local stack's own, so that nothing of it runs on when it ends.
    """

    settings: Settings
    environment: dict[str, str]
    worker_environment: dict[str, str]
    embedded: bool


@contextmanager
def demo_servers(
    directory: Path, *, keep: bool, interruption: Interruption, on_progress: Callable[[str], None]
) -> Generator[DemoServers]:
    """Provide the servers, and take away what was made on them.

    Arguments:
        directory: Where the local stack keeps its data.
        keep: Leave what was made on given servers.
        interruption: Lets a signal end the start of the servers.
        on_progress: Told what happens.

    Raises:
        ConfigError: A setting is wrong, or the given database's user is no superuser.
        StackError: The local servers cannot be started.
        Unreachable: A given server does not answer.
    """
    given = load_settings()
    database = given.database.get_secret_value()
    name = secrets.token_hex(4)
    with ExitStack() as ends:
        overrides: dict[str, str] = {"worker_id": f"demo-{name}"}
        if given.kafka:
            overrides |= {
                "instance": f"demo.localhost/{name}",
                "topic_prefix": f"demo-{name}.",
                "session_timeout_seconds": str(_SESSION_SECONDS),
            }
            TopicAdmin(given.connection(), timeout_seconds=_REQUEST_SECONDS).broker_count()  # does it answer?
        if database:
            url = _make_database(database, f"sealstream_demo_{name}", ends, keep=keep)
            overrides["database"] = url
        if not given.kafka or not database:
            stack = LocalStack(directory, kafka=not given.kafka, database=not database, on_progress=on_progress)
            ends.callback(stack.stop)
            with interruption.allowed():
                stack.start()
            overrides |= {} if given.kafka else {"kafka": stack.kafka}
            overrides |= {} if database else {"database": stack.database}
        settings = load_settings(None, **overrides)
        if given.kafka and not keep:
            ends.callback(_clean_kafka, settings)
        yield DemoServers(
            settings=settings,
            environment=instance_environment(overrides),
            worker_environment=instance_environment(overrides | {"database": as_writer(settings.database_url())}),
            embedded=not given.kafka and not database,
        )


def _make_database(url: str, name: str, ends: ExitStack, *, keep: bool) -> str:
    """Make a database beside the given one, and return its URL."""
    with connect(url, application=_CLIENT) as connection, translated():
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        if row is None or not row[0]:
            raise ConfigError(
                "the user in SEALSTREAM_DATABASE is no superuser, whose part the demo plays",
                hint="give the demo a PostgreSQL for trials, or unset SEALSTREAM_DATABASE",
            )
        existing = {str(role) for (role,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    # If we are killed here or later, the database stays; its name says whose it was.
    if not keep:
        made = [role for role in _ROLES if role not in existing]
        ends.callback(_drop_database, url, name, made)
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _drop_database(url: str, name: str, roles: list[str]) -> None:
    with connect(url, application=_CLIENT) as connection, translated():
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in roles:
            try:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
            except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.UndefinedObject):
                continue  # another store was set up on that server meanwhile: the role is its own now


def _clean_kafka(settings: Settings) -> None:
    """Delete the demonstration's topics and consumer groups from a Kafka that is not ours.

    Raises:
        ConfigError: Something could not be deleted.
    """
    client = AdminClient(settings.connection().config(_CLIENT), logger=logging.getLogger("sealstream.demo"))
    names = TopicAdmin(settings.connection()).describe(spec.name for spec in settings.topic_table())
    if not names:
        return
    try:
        _await(cast("_Futures", client.delete_topics(list(names), request_timeout=_REQUEST_SECONDS)))
        _delete_groups(client, f"{settings.instance}-")
    except KafkaException as error:
        raise ConfigError(
            f"what the demo made on the given Kafka could not all be deleted: {error.args[0].str()}",
            hint=f"delete topics that begin with {settings.topic_prefix}, and groups with {settings.instance}",
        ) from error


def _delete_groups(client: AdminClient, prefix: str) -> None:
    """Delete consumer groups; a member that is known by name counts as there until its session is over."""
    listed = cast("Future[ListConsumerGroupsResult]", client.list_consumer_groups(request_timeout=_REQUEST_SECONDS))
    groups = [group.group_id for group in cast("list[ConsumerGroupListing]", listed.result().valid)]
    ours = [group for group in groups if group.startswith(prefix)]
    deadline = time.monotonic() + _GROUPS_SECONDS_MAX
    while ours:
        try:
            _await(cast("_Futures", client.delete_consumer_groups(ours[:1], request_timeout=_REQUEST_SECONDS)))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            ours.pop(0)


def _await(futures: _Futures) -> None:
    for future in futures.values():
        future.result()
