"""``sealstream bench import``: an older trail out of PostgreSQL into Kafka, against a bare copy of the same rows.

Ours is the command itself, ``sealstream import run``, as a process of its own: it makes an event of each row, hashes
the row, publishes the event, waits for its acknowledgement and writes down how far it is. The bare copy takes the rows
as text (``COPY``) and produces the lines: no event, no order, no hash, nothing to go on from.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import KafkaError, Message, Producer
from psycopg import sql

from bench.common import Machine, Options, Result, collect
from bench.contest import Contest
from bench.servers import Servers, serve
from sealstream.kafka.client import PARTITIONER
from sealstream.kafka.topics import TopicNames
from sealstream.producers.importer.mapping import preset_text
from sealstream.schemas.entry import Genesis
from sealstream.worker.settings import PREFIX

EVENTS: Final = 200_000
_FLUSH_SECONDS: Final = 300.0
_MICROSECONDS: Final = 1e6
_TABLE: Final = "auditlog_logentry"

_CREATE: Final = """
CREATE TABLE auditlog_logentry (
  id bigint PRIMARY KEY, content_type_id int, object_pk text, object_id bigint, object_repr text, action smallint,
  changes jsonb, changes_text text, actor_id int, actor_email text, cid text, remote_addr inet, timestamp timestamptz,
  additional_data jsonb, serialized_data jsonb, remote_port int)
"""
_FILL: Final = """
INSERT INTO auditlog_logentry
  (id, content_type_id, object_pk, object_id, object_repr, action, changes, actor_id, actor_email, cid, remote_addr,
   timestamp)
SELECT n, n %% %(tenants)s, n::text, n, 'Quarterly report ' || n, n %% 3,
       jsonb_build_object('title', jsonb_build_array('old ' || n, 'new ' || n)), n %% 997,
       'u' || n %% 997 || '@example.com', md5(n::text), '192.0.2.17',
       '2024-01-01Z'::timestamptz + n * interval '1 second'
FROM generate_series(1, %(rows)s) AS n
"""


def run(options: Options) -> Result:
    """Run the benchmark: rows of django-auditlog's table, by its preset."""
    machine = Machine.describe()
    name = f"bench-{secrets.token_hex(4)}"
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare_copy": []}
    with serve(database=True) as servers, _trail(servers, options) as url:
        names = TopicNames(prefix=f"{name}.")
        contest = Contest(servers, name, progress=options.progress)
        try:
            genesis = Genesis(instance=f"bench.example/{name}", partitions=options.partitions)
            contest.create_source(names.events, genesis)
            options.progress("warming up")
            _ours(servers, url, names, genesis, options)
            for number in range(options.runs):
                options.progress(f"run {number + 1} of {options.runs}")
                runs["ours"].append(_ours(servers, url, names, genesis, options))
                runs["bare_copy"].append(_bare(servers, url, names, options))
        finally:
            contest.delete_all()
    ours, bare = collect(runs["ours"]), collect(runs["bare_copy"])
    return Result(
        name="import",
        options=options,
        ours=ours,
        peers={"bare_copy": bare},
        ratios={
            "bare_copy": ours["rows_per_second"].over(bare["rows_per_second"]),
            "bare_copy_per_cpu_second": ours["rows_per_cpu_second"].over(bare["rows_per_cpu_second"]),
        },
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=("our CPU time has the start of the command in it, our rate does not",),
    )


@contextmanager
def _trail(servers: Servers, options: Options) -> Generator[str]:
    """Make a database with an older trail, and return its URL."""
    name = f"trail_{secrets.token_hex(4)}"
    with psycopg.connect(servers.database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = urlsplit(servers.database)._replace(path=f"/{name}").geturl()
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_CREATE.encode())
            connection.execute(_FILL.encode(), {"rows": options.events, "tenants": options.tenants})
            connection.execute("VACUUM ANALYZE")
        yield url
    finally:
        with psycopg.connect(servers.database, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _ours(servers: Servers, url: str, names: TopicNames, genesis: Genesis, options: Options) -> dict[str, float]:
    settings = {
        "KAFKA": servers.kafka,
        "INSTANCE": genesis.instance,
        "TOPIC_PREFIX": names.prefix,
        "PARTITIONS": str(options.partitions),
        "IMPORT_SOURCE": url,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with tempfile.TemporaryDirectory() as directory:
        mapping = Path(directory) / "mapping.toml"
        mapping.write_text(preset_text("django-auditlog", "tenant-{content_type_id}"))
        job = str(Path(directory) / "trail.import")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "sealstream.deploy", "import", "run", job, "--mapping", str(mapping), "--json"],
            env=clean | {f"{PREFIX}{name}": value for name, value in settings.items()},
            capture_output=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["imported"] == options.events
    cpu_seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return _figures(options.events, result["seconds"], cpu_seconds)


def _bare(servers: Servers, url: str, names: TopicNames, options: Options) -> dict[str, float]:
    failures: list[KafkaError] = []

    def failed(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    settings: dict[str, Any] = {
        "bootstrap.servers": servers.kafka,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        "compression.type": "lz4",
        "linger.ms": 50,
        "queue.buffering.max.messages": 100_000,
        "delivery.report.only.error": True,
        "on_delivery": failed,
    }
    producer, topic = Producer(settings), names.events
    begin, cpu_begin = time.perf_counter(), time.process_time()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        query = sql.SQL("COPY (SELECT * FROM {} ORDER BY id) TO STDOUT").format(sql.Identifier(_TABLE))
        with cursor.copy(query) as copy:
            for line in copy:
                data = bytes(line)
                while True:
                    try:
                        producer.produce(topic, data, data[:8])
                        break
                    except BufferError:
                        producer.poll(1)
    assert producer.flush(_FLUSH_SECONDS) == 0, "not everything was published in time"
    assert not failures, failures[:3]
    return _figures(options.events, time.perf_counter() - begin, time.process_time() - cpu_begin)


def _figures(rows: int, seconds: float, cpu_seconds: float) -> dict[str, float]:
    return {
        "rows_per_second": rows / seconds,
        "rows_per_cpu_second": rows / cpu_seconds,
        "cpu_microseconds_per_row": cpu_seconds / rows * _MICROSECONDS,
    }
