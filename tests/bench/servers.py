"""The servers that benchmarks run against: given ones, or the embedded stack in a directory of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from sealstream.deploy.stack import JavaTuning, read_state
from sealstream.deploy.stack.kafka import KAFKA_VERSION
from support.providers import DATABASE_VARIABLE, KAFKA_VARIABLE, private_stack

# How the embedded Kafka is started: as one in production is, not as the one of tests and demonstrations.
_KAFKA_TUNING: Final = JavaTuning.LONG_LOAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where to reach the servers.

    Arguments:
        kafka: Bootstrap servers; empty if none were asked for.
        database: URL of PostgreSQL's superuser; empty if none was asked for.
        pids: The processes of the embedded servers, by ``kafka`` and ``database``; none of servers that were given.
        versions: Versions for the machine's description, with the flags of the runtime that the embedded Kafka has.
    """

    kafka: str
    database: str = field(default="", repr=False)
    pids: dict[str, int] = field(default_factory=dict[str, int])
    versions: dict[str, str] = field(default_factory=dict[str, str])


@contextlib.contextmanager
def serve(*, kafka: bool = True, database: bool = False) -> Generator[Servers]:
    """Provide the servers for as long as the context is open: those in the environment, else embedded ones.

    Arguments:
        kafka: Whether Kafka is needed.
        database: Whether PostgreSQL is needed as well.
    """
    given_kafka = os.environ.get(KAFKA_VARIABLE, "") if kafka else ""
    given_database = os.environ.get(DATABASE_VARIABLE, "")
    own_database = database and not given_database
    versions = {"kafka": "as given"} if given_kafka else {}
    if not own_database and (given_kafka or not kafka):
        yield Servers(kafka=given_kafka, database=given_database if database else "", versions=versions)
        return
    own_kafka = kafka and not given_kafka
    with private_stack(kafka=own_kafka, database=own_database, kafka_tuning=_KAFKA_TUNING) as stack:
        state = read_state(stack.directory)
        assert state is not None
        yield Servers(
            kafka=stack.kafka if own_kafka else given_kafka,
            database=stack.database if own_database else given_database if database else "",
            pids={name: identity.pid for name, identity in state.servers.items()},
            versions={"kafka": f"{KAFKA_VERSION} ({' '.join(_KAFKA_TUNING.value)})"} if own_kafka else versions,
        )
