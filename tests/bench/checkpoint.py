"""``sealstream bench checkpoint``: rounds of the notary in which every chain has changed, by their steps.

The sink's own writer fills the store. Then each round finds one more entry in each of ten thousand chains: it is read
back and hashed, heads are compared and swapped, tiles and bundles are written to a directory, the root checkpoint is
signed, and with those of all chains made public there and on a Kafka topic. The policy's quorum is none: how long
witnesses take is theirs to say.
"""

from __future__ import annotations

import gc
import secrets
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from confluent_kafka.admin import AdminClient

from bench.common import Machine, Options, Result, collect
from bench.servers import serve
from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicSpec
from sealstream.schemas.errors import StoreError
from sealstream.sinks.notary.checkpoint_topic import CheckpointTopic
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.notary import Notary, Turned
from sealstream.sinks.notary.round_files import RoundFiles
from sealstream.sinks.notary.steps import RoundStep
from sealstream.worker.failpoints import Failpoints
from sealstream.worker.memory import GARBAGE_OBJECTS
from support.notarising import SECONDS, Log, open_log
from support.providers import fresh_database

EVENTS: Final = 100_000
_BATCH_EVENTS: Final = 5_000
_ERASE_SECONDS: Final = 600.0
_BEFORE_HEADS: Final = "before-heads"
_STEPS: Final = {
    _BEFORE_HEADS: "read_back",
    "after-commit": "heads",
    "after-files": "files",
    "after-offer": "sign",
    "after-chains": "publish_chains",
    "after-publish": "publish_topic",
}
"""What has been done where a round passes a point."""
_NOTES: Final = (
    "a round: one more entry in each chain, read back and hashed, with 20,000 older entries that are read again",
    "cpu is of the notary's process with all its threads; the servers' is not in it",
    "erase_beside: what a round before has replaced, beside the rounds; the benchmark waits for it",
    "the quorum is none: witnesses take their own time",
)


@dataclass
class _Watch(Failpoints):
    """Notes when a round passes where tests would let it fail."""

    passed: list[tuple[str, float, float]] = field(default_factory=list[tuple[str, float, float]])

    def at(self, name: str) -> Callable[[], None]:
        """Return what notes the time at a point."""
        return partial(self.note, name)

    def note(self, name: str) -> None:
        """Note the time at a point."""
        self.passed.append((name, time.perf_counter(), time.process_time()))

    def figures(self) -> dict[str, float]:
        """Return what each step has taken since the first note, by the clock and of the processor."""
        found: dict[str, float] = {}
        first = last = self.passed[0]
        for now in self.passed[1:]:
            if name := _STEPS.get(now[0]):
                found |= {f"{name}_seconds": now[1] - last[1], f"{name}_cpu_seconds": now[2] - last[2]}
                last = now
        return {"seconds": last[1] - first[1], "cpu_seconds": last[2] - first[2]} | found


class _WatchedDatabase(NotaryDatabase):
    """The notary's database, which says when the heads are about to be swapped."""

    watch: _Watch

    def advance(self, step: RoundStep) -> None:
        """Commit to a round."""
        self.watch.note(_BEFORE_HEADS)
        super().advance(step)


def run(options: Options) -> Result:
    """Run the benchmark.

    Raises:
        StoreError: A round did not have all chains, or did not become public: nothing was measured.
    """
    machine = Machine.describe()
    ours: list[dict[str, float]] = []
    with (
        serve(database=True) as servers,
        fresh_database(servers.database) as url,
        tempfile.TemporaryDirectory(prefix="sealstream-bench-") as directory,
        _topic(servers.kafka) as topic,
        open_log(url, Path(directory)) as log,
        _tuned(),
    ):
        watch = _Watch()
        notary, notary_files = _notary(log, topic, watch)
        _feed(log, options.tenants, max(options.events, options.tenants))
        while _round(notary, watch).more:
            options.progress("the first rounds")
        notary_files.wait_erased(timeout_seconds=_ERASE_SECONDS)
        for number in range(options.runs):
            options.progress(f"round {number + 1} of {options.runs}")
            _feed(log, options.tenants, options.tenants)
            turned = _round(notary, watch)
            figures = watch.figures() | _erased(notary_files)
            if turned.chains != options.tenants:
                raise StoreError(f"the round has {turned.chains} of {options.tenants} chains")
            ours.append(figures)
    return Result(
        name="checkpoint",
        options=options,
        ours=collect(ours),
        peers={},
        ratios={},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=_NOTES,
    )


def _notary(log: Log, topic: CheckpointTopic, watch: _Watch) -> tuple[Notary, RoundFiles]:
    """Return the notary of a log, which is watched, and what writes its files."""
    database = _WatchedDatabase(log.notary_url, timeout_seconds=SECONDS)
    database.watch = watch
    parts = replace(log.parts(points=watch, topic=topic), database=database)
    log.opened.append(parts)
    notary = log.notary(parts)
    notary.open()
    return notary, parts.files


def _round(notary: Notary, watch: _Watch) -> Turned:
    """Make a round and bring it before the public.

    Raises:
        StoreError: It did not become public.
    """
    watch.passed.clear()
    watch.note("")
    turned = notary.turn()
    if not notary.finish(patience_seconds=SECONDS):
        raise StoreError("the round did not become public")
    return turned


def _erased(files: RoundFiles) -> dict[str, float]:
    """Wait until the tiles are erased that the round before has replaced, and return what that takes."""
    began = time.perf_counter(), time.process_time()
    files.wait_erased(timeout_seconds=_ERASE_SECONDS)
    return {
        "erase_beside_seconds": time.perf_counter() - began[0],
        "erase_beside_cpu_seconds": time.process_time() - began[1],
    }


def _feed(log: Log, tenants: int, events: int) -> None:
    """Store events as the sink does, without making them searchable: the notary reads entries and payloads."""
    for begin in range(0, events, _BATCH_EVENTS):
        batch = log.feeder.batch(log.chains.events(tenants, min(_BATCH_EVENTS, events - begin)))
        log.feeder.writer.write(batch)
        log.feeder.offsets |= dict(batch.ends)
    with psycopg.connect(log.test_store.url, autocommit=True) as connection:
        connection.execute("ANALYZE")  # as PostgreSQL does by itself before long


@contextmanager
def _topic(bootstrap: str) -> Generator[CheckpointTopic]:
    """Make a topic for checkpoints, for as long as the context is open."""
    connection, name = KafkaConnection(bootstrap), f"bench-{secrets.token_hex(4)}.checkpoints"
    TopicAdmin(connection).create([TopicSpec(name, 1, {}, {})], replication=1)
    topic = CheckpointTopic(connection, topic=name, client_id="bench", timeout_seconds=SECONDS)
    try:
        yield topic
    finally:
        topic.close()
        client = AdminClient(cast("dict[str, Any]", connection.config("bench")))
        for deleted in cast("dict[str, Future[None]]", client.delete_topics([name])).values():
            deleted.result(SECONDS)


@contextmanager
def _tuned() -> Generator[None]:
    """Look for garbage as seldom as the worker does."""
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
