"""``sealstream bench sink``: the worker that fills the store, against a raw binary COPY of the same bytes.

The real processor chains the events once. Then, in every run, a sink of its own process stores them in an empty store,
with all indexes, triggers, positions and heads, and with the search rows that it derives beside; and psycopg copies the
same columns of entries and payloads into plain tables without an index, from tuples that it finds ready in memory.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil
import psycopg

from bench.common import Figure, Machine, Options, Result, collect
from bench.raw_copy import copy_raw, read_rows
from bench.servers import Servers, serve
from bench.source import chain_events
from bench.usage import CpuCourse
from sealstream.schemas.errors import ConfigError
from sealstream.sinks.store.migrate import migrate
from support.providers import fresh_database
from support.workers import Pipeline, Worker

EVENTS: Final = 300_000
BATCH_RECORDS: Final = 10_000
PEERS: Final = ("raw_copy", "indexed_copy")
_STORE_SECONDS: Final = 900.0
_POLL_SECONDS: Final = 0.05
_MICROSECONDS: Final = 1_000_000
_RATE: Final = "entries_per_second"
_NOTES: Final = (
    "raw_copy gets its rows ready in memory, and Kafka rests meanwhile; ours reads, checks and hashes every record",
    "ours derives search rows in the same process; while the log waits they stand back (searchable_per_second)",
)


def run(options: Options) -> Result:
    """Run the benchmark.

    Raises:
        ConfigError: A peer that is to be left out does not exist, or there are too few events.
    """
    unknown = options.without - set(PEERS)
    if unknown:
        raise ConfigError(f"there is no peer {min(unknown)}", hint=f"the peers are {', '.join(PEERS)}")
    machine = Machine.describe()
    ours: list[dict[str, float]] = []
    peers: dict[str, list[dict[str, float]]] = {name: [] for name in PEERS if name not in options.without}
    with serve(database=True) as servers, tempfile.TemporaryDirectory(prefix="sealstream-bench-") as directory:
        pipeline = Pipeline(
            servers.kafka, f"bench-{secrets.token_hex(4)}", Path(directory), partitions=options.partitions
        )
        try:
            entries = chain_events(pipeline, options)
            for number in range(options.runs):
                options.progress(f"run {number + 1} of {options.runs}")
                with fresh_database(servers.database) as url:
                    migrate(url, partitions=options.partitions)
                    ours.append(_store(pipeline, servers, url, entries, options))
                    _compare(servers, url, peers, options)
        finally:
            pipeline.close()
        versions = dict(machine.versions) | servers.versions
    mine = collect(ours)
    measured = {name: collect(found) for name, found in peers.items()}
    return Result(
        name="sink",
        options=options,
        ours=mine,
        peers=measured,
        ratios={name: mine[_RATE].over(figures[_RATE]) for name, figures in measured.items()} | _cpu(mine, measured),
        machine=replace(machine, versions=versions),
        notes=_NOTES,
    )


@dataclass
class _Course:
    """How many rows a table had when."""

    times: list[float]
    counts: list[int]

    def reached(self, count: int) -> float:
        """Return when there were so many."""
        return next(moment for moment, found in zip(self.times, self.counts, strict=True) if found >= count)

    def at(self, moment: float) -> int:
        """Return how many there were."""
        return max((found for time_, found in zip(self.times, self.counts, strict=True) if time_ <= moment), default=0)


def _store(pipeline: Pipeline, servers: Servers, url: str, entries: int, options: Options) -> dict[str, float]:
    """Let a sink store everything, and return its figures over what comes behind the warm-up.

    Raises:
        ConfigError: That is too little to be measured.
    """
    stored, searched = _Course([], []), _Course([], [])
    with _sink(pipeline, url) as worker, psycopg.connect(url, autocommit=True) as connection:
        pids = {"sink": worker.process.pid}
        pids |= {name: pid for name, pid in servers.pids.items() if name in {"kafka", "database"}}
        with CpuCourse(pids) as cpu:
            deadline = time.monotonic() + _STORE_SECONDS
            while not searched.counts or searched.counts[-1] < options.events or stored.counts[-1] < entries:
                assert worker.process.poll() is None, worker.log()[-3000:]
                assert time.monotonic() < deadline, f"{stored.counts[-1]} of {entries} entries are stored"
                _note(connection, stored, "SELECT coalesce(sum(seq + 1), 0)::bigint FROM sealstream.tenant_heads")
                _note(
                    connection,
                    searched,
                    "SELECT coalesce(sum(next_offset), 0)::bigint FROM sealstream.search_positions",
                )
                time.sleep(_POLL_SECONDS)
        in_transactions = _metric(worker, "sealstream_sink_transaction_seconds_sum")
    begin, end = stored.reached(options.warmup_events), stored.reached(entries)
    counted, taken = entries - stored.at(begin), cpu.between(begin, end)
    if not counted or stored.reached(1) == end:
        raise ConfigError(
            "everything behind the warm-up was stored between two looks: there is nothing to measure",
            hint=f"take more --events: a batch has {BATCH_RECORDS:,}, and some batches are needed",
        )
    measured = {
        _RATE: counted / (end - begin),
        "sink_cpu_microseconds_per_entry": taken["sink"] / counted * _MICROSECONDS,
        "share_of_time_in_transactions": in_transactions / (end - stored.reached(1)),
        "searchable_per_second": options.events / (searched.reached(options.events) - stored.reached(1)),
        "searched_when_all_was_stored": searched.at(end) / options.events,
    }
    for name, figure in (("database", "postgres_cpu"), ("kafka", "broker_cpu")):
        if name in taken:
            measured[f"{figure}_microseconds_per_entry"] = taken[name] / counted * _MICROSECONDS
    return measured


def _metric(worker: Worker, name: str) -> float:
    lines = worker.get("/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


@contextmanager
def _sink(pipeline: Pipeline, url: str) -> Generator[Worker]:
    # The same name each time: who comes back within the session is given its partitions at once.
    worker = pipeline.start("sink", database=url, worker_id="sink-0", batch_records_max=BATCH_RECORDS)
    try:
        yield worker
        assert worker.terminate() == 0, worker.log()[-3000:]
    finally:
        worker.close()


def _note(connection: psycopg.Connection[tuple[int]], course: _Course, question: str) -> None:
    row = connection.execute(question.encode()).fetchone()
    course.times.append(time.time())
    course.counts.append(0 if row is None else row[0])


def _compare(servers: Servers, url: str, peers: dict[str, list[dict[str, float]]], options: Options) -> None:
    rows = read_rows(url)
    server = psutil.Process(servers.pids["database"]) if "database" in servers.pids else None
    for name, found in peers.items():
        options.progress(f"  {name}")
        indexed = name == "indexed_copy"
        warmup = options.warmup_events // BATCH_RECORDS * BATCH_RECORDS
        found.append(copy_raw(url, rows, warmup=warmup, batch=BATCH_RECORDS, server=server, indexed=indexed))


def _cpu(mine: dict[str, Figure], peers: dict[str, dict[str, Figure]]) -> dict[str, float]:
    """Return how much more a peer stores with the CPU time of client and server together, where both are known."""
    server = "postgres_cpu_microseconds_per_entry"
    if server not in mine:
        return {}
    own = [a + b for a, b in zip(mine["sink_cpu_microseconds_per_entry"].runs, mine[server].runs, strict=True)]
    ratios: dict[str, float] = {}
    for name, figures in peers.items():
        client = figures["client_cpu_microseconds_per_entry"].runs
        theirs = [a + b for a, b in zip(client, figures[server].runs, strict=True)]
        ratios[f"{name}_per_cpu_second"] = Figure.of(theirs).over(Figure.of(own))
    return ratios
