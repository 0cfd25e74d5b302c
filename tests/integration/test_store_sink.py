"""The sink as production runs it, between a real Kafka and a real PostgreSQL, on chains that the test makes itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.deploy.stack import LocalStack
from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.store.migrate import migrate
from support.chained import Chains, Sealed, publish
from support.harness import read_log
from support.stores import TestStore, migrated
from support.workers import Pipeline, Worker, wait_for

STORED_SECONDS = 60.0


@dataclass
class Bench:
    """An instance of which only the sink runs.

    Arguments:
        pipeline: Its topics and workers.
        store: Its store.
        chains: Its chains, as a processor would make them.
        log: What was published.
    """

    pipeline: Pipeline
    store: TestStore
    chains: Chains
    log: list[Sealed] = field(default_factory=list[Sealed])

    def publish(self, records: Sequence[Sealed]) -> None:
        """Append records to audit.chained."""
        self.log.extend(records)
        publish(self.pipeline.bootstrap, self.pipeline.topics.chained, records)

    def start(self, **settings: Any) -> Worker:
        """Start a sink with a writer's login of its own."""
        return self.pipeline.start("sink", database=self.store.login("sealstream_writer"), **settings)

    def await_rows(self, count: int) -> None:
        """Wait until there are so many entries in the store."""
        wait_for(lambda: self.stored() >= count, timeout_seconds=STORED_SECONDS, what=f"{count} stored entries")

    def stored(self) -> int:
        """Return how many entries are stored."""
        (row,) = self.store.query("SELECT count(*) FROM sealstream.entries")
        return int(str(row[0]))

    def wait_stored(self, worker: Worker | None = None) -> None:
        """Wait until all that was published is stored, and searchable."""

        def done() -> bool:
            if worker is not None and worker.process.poll() is not None:
                raise AssertionError(f"the sink ended:\n{worker.log()[-3000:]}")
            return self.stored() >= len(self.log) and self.searchable() >= self.stored_events()

        wait_for(done, timeout_seconds=STORED_SECONDS, what=f"{len(self.log)} stored entries, all searchable")

    def stored_events(self) -> int:
        """Return how many entries are stored that have a row for searching."""
        (row,) = self.store.query("SELECT count(*) FROM sealstream.entries WHERE kind IN (1, 2, 5, 6)")
        return int(str(row[0]))

    def searchable(self) -> int:
        """Return how many search rows there are."""
        (row,) = self.store.query("SELECT count(*) FROM sealstream.events")
        return int(str(row[0]))

    def check(self) -> None:
        """Compare the store with what was published: every entry, payload and search row once, and nothing else."""
        found = self.store.contents()
        fresh = {(row[1], row[2]): (row[0], row[9]) for row in found[0]}
        assert len(found[0]) == len(fresh) == len(self.log)
        expected = {(s.key.decode(), n): (s.partition, s.entry) for s, n in self._numbered()}
        assert fresh == expected
        payloads = {(row[0], row[1]): row[4] for row in found[1]}
        assert payloads == {(s.key.decode(), n): s.value for s, n in self._numbered() if s.value}
        assert len(found[1]) == len(payloads)
        assert len(found[2]) == sum(1 for _, number in self._numbered() if number > 0)

    def _numbered(self) -> Iterator[tuple[Sealed, int]]:
        seen: dict[bytes, int] = {}
        for sealed in self.log:
            seen[sealed.key] = seen.get(sealed.key, -1) + 1
            yield sealed, seen[sealed.key]


def _bench(pipeline: Pipeline, store: TestStore) -> Bench:
    return Bench(pipeline, store, Chains(instance=pipeline.genesis.instance, partitions=pipeline.genesis.partitions))


@pytest.fixture
def bench(make_pipeline: Callable[..., Pipeline]) -> Iterator[Bench]:
    """An instance on the shared servers."""
    pipeline = make_pipeline()
    with migrated(pipeline.database_url) as store:
        yield _bench(pipeline, store)
        pipeline.close()


def _logged(worker: Worker, event: str) -> dict[str, Any]:
    found = [line for line in worker.events() if line["event"] == event]
    assert found, f"no {event!r} in the log:\n{worker.log()[-3000:]}"
    return found[-1]


def test_the_sink_stores_what_was_chained_and_ends_in_order(bench: Bench) -> None:
    """What is on audit.chained comes into the store, before and after the start; SIGTERM ends the sink with code 0."""
    bench.publish(bench.chains.events(20, 500))
    worker = bench.start()
    bench.wait_stored(worker)
    bench.publish(bench.chains.events(20, 100))
    bench.wait_stored(worker)

    assert worker.get("/readyz")[0] == 200
    assert worker.get("/healthz")[0] == 200
    metrics = worker.get("/metrics")[1]
    assert 'sealstream_sink_entries_total{kind="event"} 600.0' in metrics
    assert 'sealstream_sink_entries_total{kind="genesis"} 20.0' in metrics
    assert "sealstream_sink_assigned_partitions 4.0" in metrics
    assert worker.terminate(timeout_seconds=10) == 0
    _logged(worker, "stopped in order")
    bench.check()


def test_a_restart_goes_on_where_the_store_is(bench: Bench) -> None:
    """The position is in the store: a restart reads nothing twice, whatever the group's offsets say."""
    bench.publish(bench.chains.events(5, 50))
    first = bench.start()
    bench.wait_stored(first)
    assert first.terminate() == 0
    bench.publish(bench.chains.events(5, 50))
    second = bench.start(worker_id="sink-0")
    bench.wait_stored(second)

    assert second.terminate() == 0
    assert not [line for line in second.events() if line["event"] == "batch compared with the store"]
    bench.check()


def test_records_that_come_again_are_not_doubled(bench: Bench) -> None:
    """With the position set back while the sink is down, all is read again, compared, and stored once."""
    bench.publish(bench.chains.events(5, 50))
    first = bench.start()
    bench.wait_stored(first)
    assert first.terminate() == 0
    bench.store.tamper("UPDATE sealstream.positions SET next_offset = 0")
    bench.publish(bench.chains.events(5, 10))
    second = bench.start(worker_id="sink-0")
    bench.wait_stored(second)

    assert second.terminate() == 0
    assert _logged(second, "batch compared with the store")["violations"] == 0
    bench.check()


def test_kills_under_load_lose_and_double_nothing(bench: Bench) -> None:
    """A sink that is killed again and again while records stream in leaves every record stored exactly once."""
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            bench.publish(bench.chains.events(10, 200))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(4):
            before = bench.stored()
            worker = bench.start(worker_id="sink-0", batch_records_max=500)
            bench.await_rows(before + 500)
            worker.kill()
    finally:
        stop.set()
        thread.join(60)
    last = bench.start(worker_id="sink-0")
    bench.wait_stored(last)
    assert last.terminate() == 0
    bench.check()


def test_a_differing_row_is_reported_on_audit_violations(bench: Bench) -> None:
    """What the store has and the log says otherwise becomes a violation that names tenant and seq; the sink goes on."""
    bench.publish(bench.chains.events(3, 30))
    first = bench.start()
    bench.wait_stored(first)
    assert first.terminate() == 0
    bench.store.tamper("UPDATE sealstream.entries SET received = 7 WHERE tenant = 'tenant-1' AND seq = 4")
    bench.store.tamper("UPDATE sealstream.positions SET next_offset = 0")
    second = bench.start(worker_id="sink-0")
    bench.publish(bench.chains.events(3, 3))
    bench.wait_stored(second)

    (record,) = read_log(bench.pipeline.connection, bench.pipeline.topics.violations, 1)[0]
    found = Violation.decode(record.value or b"")
    assert (found.type, found.tenant, found.seq) == (ViolationType.EDITED, "tenant-1", 4)
    assert found.instance == bench.pipeline.genesis.instance
    assert record.key == b"tenant-1"
    assert 'sealstream_sink_violations_total{type="edited"} 1.0' in second.get("/metrics")[1]
    assert second.terminate() == 0


def test_a_record_without_a_seal_stops_the_sink(bench: Bench) -> None:
    """Nobody but the processor may write audit.chained: the sink stops, names the place, and stores nothing of it."""
    bench.publish(bench.chains.events(3, 10))
    worker = bench.start()
    bench.wait_stored(worker)
    producer = Producer({"bootstrap.servers": bench.pipeline.bootstrap})
    producer.produce(
        bench.pipeline.topics.chained, key=b"acme", value=b"x", partition=2, headers=[("seal-entry", b"no")]
    )
    producer.flush(10)

    assert worker.wait(timeout_seconds=30) == 1
    line = _logged(worker, "stopped")
    assert line["error"] == "SealInvalid"
    assert f"{bench.pipeline.topics.chained} partition 2 offset" in line["reason"]
    assert line["hint"]
    bench.check()


def test_a_log_that_begins_behind_the_position_stops_the_sink(bench: Bench) -> None:
    """Records that expired before they were stored are a gap that a person must see, not something to skip."""
    bench.publish(bench.chains.events(3, 30))
    admin = AdminClient({"bootstrap.servers": bench.pipeline.bootstrap})
    partition = bench.log[0].partition
    places = [TopicPartition(bench.pipeline.topics.chained, partition, 2)]
    for future in cast("dict[TopicPartition, Future[object]]", admin.delete_records(places)).values():
        future.result(30)
    worker = bench.start()

    assert worker.wait(timeout_seconds=30) == 1
    line = _logged(worker, "stopped")
    assert line["error"] == "SourceGap"
    assert "offset 2" in line["reason"]
    assert bench.stored() == 0


def test_a_wrong_number_of_partitions_stops_the_sink(bench: Bench) -> None:
    """The setting and the topic must agree."""
    worker = bench.start(partitions=3)
    assert worker.wait(timeout_seconds=30) == 1
    assert _logged(worker, "stopped")["error"] == "InstanceDiffers"


def test_a_chain_of_another_instance_stops_the_sink(bench: Bench) -> None:
    """A sink with the wrong instance does not mix two trails."""
    bench.publish(bench.chains.events(1, 1))
    worker = bench.start(instance="other.example/audit")
    assert worker.wait(timeout_seconds=30) == 1
    assert _logged(worker, "stopped")["error"] == "InstanceDiffers"


def test_a_store_that_was_not_migrated_stops_the_sink(bench: Bench) -> None:
    """The error says what to run."""
    with psycopg.connect(bench.store.url, autocommit=True) as connection:
        connection.execute("DELETE FROM sealstream.migrations")
    worker = bench.start()
    assert worker.wait(timeout_seconds=30) == 1
    line = _logged(worker, "stopped")
    assert (line["error"], line["hint"]) == ("StoreError", "run sealstream migrate")


def test_a_sink_whose_partitions_another_writer_took_stops(bench: Bench) -> None:
    """Whoever claims the positions is the writer; the one before fails with its next batch instead of doubling it."""
    bench.publish(bench.chains.events(3, 30))
    worker = bench.start()
    bench.wait_stored(worker)
    topic = bench.pipeline.topics.chained
    bench.store.tamper("UPDATE sealstream.positions SET writer = 'other/1' WHERE topic = %s", topic)
    before = list(bench.log)
    bench.publish(bench.chains.events(3, 3))

    assert worker.wait(timeout_seconds=30) == 1
    line = _logged(worker, "stopped")
    assert line["error"] == "WriterConflict"
    assert "other/1" in line["reason"]
    bench.log = before
    bench.check()


def test_two_workers_under_one_name_do_not_both_run(bench: Bench) -> None:
    """A worker id belongs to one process: the one that the group gives up ends and says why, the other one stores."""
    bench.publish(bench.chains.events(3, 30))
    first = bench.start(worker_id="same")
    bench.wait_stored(first)
    second = bench.start(worker_id="same")
    assert first.wait(timeout_seconds=30) == 1
    assert _logged(first, "stopped")["error"] == "WriterConflict"
    bench.publish(bench.chains.events(3, 30))
    bench.wait_stored(second)
    bench.check()


def test_workers_share_the_partitions_and_take_over_from_each_other(bench: Bench) -> None:
    """Two sinks store half of the partitions each; when one is killed, the other one stores all of them."""
    first = bench.start()
    second = bench.start()
    for worker in (first, second):
        _wait_metric(worker, "sealstream_sink_assigned_partitions 2.0")
    bench.publish(bench.chains.events(20, 200))
    bench.wait_stored()
    first.kill()
    bench.publish(bench.chains.events(20, 200))
    bench.wait_stored(second)

    assert second.terminate() == 0
    bench.check()


def test_what_an_aborted_transaction_wrote_is_not_stored_and_passed_over(bench: Bench) -> None:
    """Aborted records are invisible, and the position moves over them and over the ends of transactions."""
    worker = bench.start()
    producer = Producer({"bootstrap.servers": bench.pipeline.bootstrap, "transactional.id": f"t-{time.time_ns()}"})
    producer.init_transactions(30)
    for commit in (False, True):
        producer.begin_transaction()
        records = Chains(instance=bench.pipeline.genesis.instance).event("acme", "ev-1")
        for sealed in records:
            producer.produce(
                bench.pipeline.topics.chained,
                key=sealed.key,
                value=sealed.value,
                partition=sealed.partition,
                headers=[(SEAL_ENTRY_HEADER, sealed.entry)],
            )
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
            bench.log.extend(records)
        else:
            producer.abort_transaction(30)
    bench.wait_stored(worker)
    partition = bench.log[0].partition
    # Two records and a marker, twice: the position ends behind the second marker, where a log may begin later.
    wait_for(
        lambda: (
            bench.store.query("SELECT next_offset FROM sealstream.positions WHERE partition = %s", partition) == [(6,)]
        ),
        timeout_seconds=STORED_SECONDS,
        what="the position behind the last marker",
    )
    assert worker.terminate() == 0
    bench.check()


def test_a_waiting_transaction_does_not_keep_the_sink_from_ending(bench: Bench) -> None:
    """SIGTERM ends a sink within ten seconds even while PostgreSQL makes it wait; its batch comes again later."""
    worker = bench.start(request_timeout_seconds=60)
    wait_for(lambda: worker.get("/readyz")[0] == 200, timeout_seconds=STORED_SECONDS, what="readiness")
    with psycopg.connect(bench.store.url) as blocker:
        blocker.execute("LOCK TABLE sealstream.entries IN ACCESS EXCLUSIVE MODE")
        bench.publish(bench.chains.events(3, 30))
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'sealstream-sink' AND wait_event_type = 'Lock'"
        )
        wait_for(lambda: bench.store.query(waiting) != [], timeout_seconds=STORED_SECONDS, what="the sink to wait")
        assert worker.terminate(timeout_seconds=10) == 0
        blocker.rollback()
    assert bench.stored() == 0
    again = bench.start(worker_id="sink-0")
    bench.wait_stored(again)
    assert again.terminate() == 0
    bench.check()


def test_a_frozen_database_does_not_keep_the_sink_from_ending(
    own_stack: Callable[..., LocalStack], kafka_bootstrap: str, tmp_path: Path
) -> None:
    """SIGTERM ends a sink within ten seconds even if the server takes no byte any more."""
    stack = own_stack(kafka=False)
    migrate(stack.database, partitions=4)
    pipeline = Pipeline(kafka_bootstrap, f"frozen-{time.time_ns()}", tmp_path, database_url=stack.database)
    pipeline.create_topics()
    bench = _bench(pipeline, TestStore(stack.database))
    frozen: list[int] = []
    try:
        bench.publish(bench.chains.events(3, 30))
        worker = bench.start()
        bench.wait_stored(worker)
        rows = bench.store.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'sealstream-sink'")
        frozen = [int(str(pid)) for (pid,) in rows]
        assert frozen
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        bench.publish(bench.chains.events(3, 30))
        time.sleep(1)  # long enough for the sink to be within its transaction; too short a wait only tests less
        assert worker.terminate(timeout_seconds=10) == 0
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        pipeline.close()


def test_a_stalled_writer_is_replaced_and_cannot_come_back(bench: Bench) -> None:
    """A sink that was stopped longer than its session finds its partitions taken, and adds nothing."""
    stalled = bench.start()
    bench.publish(bench.chains.events(4, 40))
    bench.wait_stored(stalled)
    stalled.process.send_signal(signal.SIGSTOP)
    other = bench.start()
    bench.publish(bench.chains.events(4, 40))
    bench.wait_stored(other)
    stalled.process.send_signal(signal.SIGCONT)
    bench.publish(bench.chains.events(4, 40))
    bench.wait_stored()
    bench.check()
    assert other.process.poll() is None


def test_evidence_is_stored_while_searching_fails(bench: Bench) -> None:
    """With search rows refused, entries and payloads are stored all the same; what is behind shows, and is made up."""
    worker = bench.start()
    _wait_metric(worker, "sealstream_sink_assigned_partitions 4.0")
    _execute(bench, "REVOKE INSERT ON sealstream.events_standard FROM sealstream_writer")
    bench.publish(bench.chains.events(1, 40))
    bench.await_rows(len(bench.log))
    partition = bench.log[0].partition
    _wait_metric(worker, f'sealstream_sink_search_lag_records{{partition="{partition}"}} 40.0')
    assert bench.searchable() == 0
    assert worker.get("/readyz")[0] == 200
    assert _logged(worker, "search is behind")["reason"]
    _execute(bench, "GRANT INSERT ON sealstream.events_standard TO sealstream_writer")
    bench.wait_stored(worker)
    assert worker.terminate() == 0
    bench.check()


def test_settings_at_fault_end_the_sink_with_code_2(bench: Bench) -> None:
    """Another code than that of an error in the store, as on the whole command line."""
    for settings in ({"kafka": ""}, {"database": ""}, {"database": "postgresql://[", "worker_id": "other"}):
        worker = bench.pipeline.start("sink", **settings)
        assert worker.wait(timeout_seconds=30) == 2, worker.log()
        assert "ConfigError" in worker.log() or "error: " in worker.log()


@pytest.mark.slow
def test_outages_are_waited_for(own_stack: Callable[..., LocalStack], tmp_path: Path) -> None:
    """With PostgreSQL or Kafka away, at start or later, the sink stays up, says so, and goes on by itself."""
    stack = own_stack()
    migrate(stack.database, partitions=4)
    pipeline = Pipeline(stack.kafka, "outage", tmp_path, database_url=stack.database)
    pipeline.create_topics()
    bench = _bench(pipeline, TestStore(stack.database))
    try:
        url = bench.store.login("sealstream_writer")
        bench.publish(bench.chains.events(5, 100))
        stack.database_stop()
        worker = pipeline.start("sink", database=url)
        _wait_ready(worker, ready=False, words="PostgreSQL")
        stack.database_start()
        bench.wait_stored(worker)

        stack.database_stop()
        bench.publish(bench.chains.events(5, 100))
        _wait_ready(worker, ready=False, words="PostgreSQL")
        stack.database_start()
        bench.wait_stored(worker)
        _wait_ready(worker, ready=True, words="storing")

        stack.kafka_kill()
        _wait_ready(worker, ready=False, words="Kafka")
        stack.kafka_start()
        bench.publish(bench.chains.events(5, 100))
        bench.wait_stored(worker)
        _wait_ready(worker, ready=True, words="storing")

        stack.kafka_kill()
        _wait_ready(worker, ready=False, words="Kafka")
        assert worker.terminate(timeout_seconds=10) == 0
        bench.check()
    finally:
        pipeline.close()


def _execute(bench: Bench, statement: str) -> None:
    with psycopg.connect(bench.store.url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _wait_ready(worker: Worker, *, ready: bool, words: str) -> None:
    wanted = 200 if ready else 503

    def reached() -> bool:
        assert worker.process.poll() is None, f"the sink ended:\n{worker.log()[-3000:]}"
        status, text = worker.get("/readyz")
        return status == wanted and words in text

    wait_for(reached, timeout_seconds=STORED_SECONDS, what=f"readiness {wanted} with {words!r}: {worker.log()[-500:]}")


def _wait_metric(worker: Worker, line: str) -> None:
    wait_for(lambda: line in worker.get("/metrics")[1], timeout_seconds=STORED_SECONDS, what=line)


def test_a_worker_whose_membership_was_taken_for_a_moment_joins_again(bench: Bench) -> None:
    """One replacement may be the worker itself, after a broker's death: it joins again, and goes on by itself."""
    bench.publish(bench.chains.events(3, 30))
    worker = bench.start(worker_id="same")
    bench.wait_stored(worker)
    group = f"{bench.pipeline.genesis.instance}-sink"
    namesake = Consumer(
        {
            "bootstrap.servers": bench.pipeline.bootstrap,
            "group.id": group,
            "group.instance.id": f"{group}-same",
            "partition.assignment.strategy": "range",
            "enable.auto.commit": False,
        }
    )
    namesake.subscribe([bench.pipeline.topics.chained])

    wait_for(
        lambda: namesake.poll(0.1) is None and any(e["event"] == "joining the group again" for e in worker.events()),
        timeout_seconds=60,
        what="the worker to join again",
    )
    namesake.close()
    bench.publish(bench.chains.events(3, 30))

    bench.wait_stored(worker)
    bench.check()
