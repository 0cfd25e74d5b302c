"""An audit log with a spool: every state of an event, and what goes wrong with disk, Kafka and process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from sealstream.producers import AuditLog
from sealstream.producers.drops import ACTION
from sealstream.producers.options import ProducerOptions
from sealstream.producers.receipt import Delivery, Published, Receipt, SyncReceipt
from sealstream.producers.spool import opening, storing
from sealstream.producers.spool import thread as spool_thread
from sealstream.producers.spool.database import FILE_NAME, SpoolFile
from sealstream.producers.spool.sender import SpoolSender
from sealstream.schemas.codec import EventReader
from sealstream.schemas.errors import (
    ClientUnusable,
    DeliveryError,
    QueueFull,
    SealstreamError,
    SpoolDamaged,
    SpoolError,
    SpoolOwned,
)
from sealstream.schemas.event import AuditEvent
from support.fake_transport import FakeTransport, event, options, timed_out
from support.workers import wait_for

SECONDS = 20.0


class Log:
    """A sender with a spool, and all that it was heard to say.

    Arguments:
        directory: The spool's.
        changes: Options that are changed.
    """

    def __init__(self, directory: Path, *, at_once: bool = False, **changes: Any) -> None:
        self.kafkas: list[FakeTransport] = []
        self.troubles: list[SealstreamError] = []
        self.failures: list[tuple[str, str]] = []

        def connect(_options: ProducerOptions) -> FakeTransport:
            self.kafkas.append(FakeTransport(at_once=at_once))
            return self.kafkas[-1]

        def on_error(delivery: Delivery, error: DeliveryError) -> None:
            self.failures.append((delivery.id, error.code))

        self.sender = SpoolSender(options(spool=directory, **changes), on_error, connect, self.troubles.append)
        self.sender.start()

    @property
    def kafka(self) -> FakeTransport:
        """The stand-in for Kafka that is in use."""
        return self.kafkas[-1]

    @property
    def sent(self) -> list[str]:
        """The ids of what was handed to Kafka, in order."""
        return [record.event_id for kafka in self.kafkas for record in kafka.sent]

    def log(self, *ids: str, **fields: Any) -> list[SyncReceipt]:
        """Log small events."""
        return [self.sender.submit(event(id=event_id, **fields), SyncReceipt) for event_id in ids]

    def wait_sent(self, count: int) -> None:
        """Wait until so many were handed to Kafka."""
        wait_for(lambda: len(self.sent) >= count, timeout_seconds=SECONDS, what=f"{count} events to be sent")

    def publish(self, count: int) -> None:
        """Let Kafka answer for so many, as they come."""
        for number in range(count):
            wait_for(
                lambda: bool(self.kafka.waiting),  # what the stand-in was given
                timeout_seconds=SECONDS,
                what=f"event {number} to be sent",
            )
            self.kafka.publish()

    def close(self, timeout_seconds: float = 0.0) -> None:
        """Close it; what failed is asked for elsewhere."""
        with suppress(DeliveryError):
            self.sender.close(timeout_seconds)


Make = Callable[..., Log]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make logs with one spool; what a test leaves open is closed."""
    made: list[Log] = []

    def log(**changes: Any) -> Log:
        made.append(Log(changes.pop("directory", tmp_path / "spool"), **changes))
        return made[-1]

    yield log
    for each in made:
        each.close()


def left_in(directory: Path) -> list[AuditEvent]:
    """Return the events that a closed spool holds."""
    with sqlite3.connect(directory / FILE_NAME) as db:
        found = [EventReader().read(value) for (value,) in db.execute("SELECT value FROM events ORDER BY number")]
    db.close()
    return found


class TestStates:
    """Pending, spooled, on its way, published, deleted."""

    def test_an_event_is_spooled_then_published_then_deleted(self, make: Make, tmp_path: Path) -> None:
        """The receipt tells the first two, the statistics the third; no row is left."""
        log = make()
        [receipt] = log.log("ev-1")
        receipt.spooled(SECONDS)
        assert receipt.is_spooled
        assert not receipt.done
        assert log.sender.stats.spooled_events == 1
        log.publish(1)

        assert receipt.published(SECONDS) == Published(0, 0)
        wait_for(lambda: log.sender.stats.spooled_events == 0, timeout_seconds=SECONDS, what="the row to go")
        assert log.sender.stats.spooled_bytes == 0
        log.close()
        assert left_in(tmp_path / "spool") == []

    async def test_it_can_be_awaited(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With asyncio, many may await one receipt's states."""

        def connect(_options: ProducerOptions) -> FakeTransport:
            return FakeTransport(at_once=True)

        def sender(given: ProducerOptions, on_error: Any, on_trouble: Any) -> SpoolSender:
            return SpoolSender(given, on_error, connect, on_trouble)

        monkeypatch.setattr("sealstream.producers.client.SpoolSender", sender)
        async with AuditLog(kafka="broker.invalid:9092", instance="demo.example/audit", spool=tmp_path) as audit:
            receipt = audit.log(event(id="ev-1"))
            await asyncio.gather(receipt.spooled(SECONDS), receipt.spooled(), receipt.published(SECONDS))

        assert isinstance(receipt, Receipt)
        assert json.loads(receipt.as_json()) == {
            "instance": "demo.example/audit",
            "tenant": "acme",
            "id": "ev-1",
            "digest": receipt.digest.hex(),
            "spooled": True,
            "partition": 0,
            "offset": 0,
        }

    def test_a_burst_is_stored_in_groups_and_sent_in_order(self, make: Make) -> None:
        """Thousands at once take a few commits; each is spooled, and the order is that of ``log()``."""
        log = make(at_once=True, queue_events_max=10_000)
        ids = [f"ev-{number}" for number in range(3000)]
        receipts = log.log(*ids)

        assert log.sender.flush(SECONDS) == 0
        assert log.sent == ids
        assert all(receipt.is_spooled and receipt.error is None for receipt in receipts)

    def test_each_event_names_the_spools_producer(self, make: Make) -> None:
        """The id stays the spool's, the epoch grows with each start, and each tenant's count begins at 0."""
        marks: list[Any] = []
        for _ in range(2):
            log = make(at_once=True)
            log.log("ev-1", "ev-2")
            log.log("ev-3", tenant="other")
            log.sender.flush(SECONDS)
            marks += [EventReader().read(record.value).producer for record in log.kafka.sent]
            log.close(SECONDS)

        assert [mark.n for mark in marks] == [0, 1, 0] * 2
        assert len({mark.id for mark in marks}) == 1
        assert marks[0].epoch == marks[2].epoch < marks[3].epoch

    def test_a_producer_id_that_is_given_stays(self, make: Make) -> None:
        """The spool's own name is only for whoever gives none."""
        log = make(at_once=True, producer_id="api-1")
        log.log("ev-1")
        log.sender.flush(SECONDS)

        mark = EventReader().read(log.kafka.sent[0].value).producer
        assert mark is not None
        assert (mark.id, mark.n) == ("api-1", 0)

    def test_receipts_are_kept_in_a_file(self, make: Make, tmp_path: Path) -> None:
        """A line an event, whatever became of it."""
        log = make(receipts=tmp_path / "receipts")
        receipts = log.log("ev-1", "ev-2")
        log.publish(2)
        receipts[1].published(SECONDS)
        log.close(SECONDS)

        lines = (tmp_path / "receipts").read_text().splitlines()
        assert lines == [receipt.as_json() for receipt in receipts]


class TestKafkaAway:
    """Kafka being away fails nothing."""

    def test_events_stay_in_the_spool_and_the_next_start_sends_them_first(self, make: Make, tmp_path: Path) -> None:
        """In order, byte for byte, before anything new."""
        first = make()
        receipts = first.log("ev-1", "ev-2", "ev-3")
        first.wait_sent(3)
        first.close()
        with pytest.raises(DeliveryError, match="kept in the spool") as caught:
            receipts[0].published(SECONDS)
        assert caught.value.code == "KEPT"
        assert first.failures == []
        assert len(left_in(tmp_path / "spool")) == 3

        second = make(at_once=True)
        assert second.sender.stats.found == 3
        second.log("ev-4")

        assert second.sender.flush(SECONDS) == 0
        assert second.sent == ["ev-1", "ev-2", "ev-3", "ev-4"]
        assert [record.value for record in second.kafka.sent[:3]] == [record.value for record in first.kafka.sent]
        assert [record.headers for record in second.kafka.sent[:3]] == [record.headers for record in first.kafka.sent]
        assert second.sender.stats.published == second.sender.stats.accepted == 4

    def test_memory_is_bounded_however_long_it_is(self, make: Make) -> None:
        """Thousands of events wait on the disk while few are in memory, and arrive in order when Kafka is back."""
        log = make(queue_events_max=50, timeout_seconds=SECONDS)
        ids = [f"ev-{number}" for number in range(1000)]
        receipts = log.log(*ids)
        receipts[-1].spooled(SECONDS)

        assert len(log.sent) <= 50
        assert len(log.sender.flow.in_memory()) <= 50  # what the bound is about
        log.publish(1000)
        assert log.sender.flush(SECONDS) == 0
        assert log.sent == ids
        assert receipts[999].published(SECONDS) == receipts[500].published(SECONDS)._replace(offset=999)

    def test_failed_deliveries_are_sent_again_and_told_as_a_trouble(self, make: Make) -> None:
        """``on_error`` is for events that are lost to Kafka; these are not."""
        log = make()
        receipts = log.log("ev-1", "ev-2")
        log.wait_sent(2)
        log.kafka.fail(DeliveryError("no such topic", code="_UNKNOWN_TOPIC", retriable=False))
        log.kafka.publish()
        wait_for(lambda: bool(log.troubles), timeout_seconds=SECONDS, what="the trouble to be told")
        assert "no such topic" in str(log.troubles[0])
        log.publish(1)

        assert receipts[0].published(SECONDS)
        assert log.sent == ["ev-1", "ev-2", "ev-1"]
        assert log.failures == []
        assert log.sender.stats.trouble == ""

    def test_a_client_that_lost_its_state_is_replaced(self, make: Make) -> None:
        """After librdkafka's fatal error, another producer goes on from the lowest event that Kafka does not have."""
        log = make()
        receipts = log.log("ev-1", "ev-2")
        log.wait_sent(2)
        first = log.kafka
        first.is_dead = True
        first.fail(timed_out())
        first.fail(timed_out())
        wait_for(lambda: len(log.kafkas) == 2, timeout_seconds=SECONDS, what="another client")
        log.publish(2)

        assert [receipt.published(SECONDS).offset for receipt in receipts] == [0, 1]

    def test_a_poisonous_record_is_set_aside(self, make: Make, tmp_path: Path) -> None:
        """What Kafka refuses for itself is told, kept with the reason, and blocks nothing."""
        log = make()
        receipts = log.log("ev-1", "ev-2", "ev-3")
        log.wait_sent(3)
        for _ in range(3):
            log.kafka.fail(DeliveryError("too large", code="MSG_SIZE_TOO_LARGE", retriable=False))
        log.publish(1)  # ev-1, which is sent alone now
        log.wait_sent(5)
        log.kafka.fail(DeliveryError("too large", code="MSG_SIZE_TOO_LARGE", retriable=False))
        log.publish(1)

        assert receipts[2].published(SECONDS)
        with pytest.raises(DeliveryError, match="too large"):
            receipts[1].published(SECONDS)
        assert log.failures == [("ev-2", "MSG_SIZE_TOO_LARGE")]
        assert (log.sender.stats.refused, log.sender.stats.failed, log.sender.stats.published) == (1, 1, 2)
        log.close(SECONDS)
        with sqlite3.connect(tmp_path / "spool" / FILE_NAME) as db:
            [(reason, value)] = db.execute("SELECT reason, value FROM refused").fetchall()
        db.close()
        assert (reason, EventReader().read(value).id) == ("too large", "ev-2")


class TestFull:
    """A full spool follows the caller's policy, and what it lets go is told in the trail itself."""

    BOUND = 4 * 1024 * 1024

    def fill(self, log: Log) -> list[SyncReceipt]:
        """Log large events until there is no room, and return the receipts of those that found some."""
        receipts = [log.log(f"big-{number}", metadata={"a": "x" * 900_000})[0] for number in range(4)]
        for receipt in receipts:
            receipt.spooled(SECONDS)
        return receipts

    def test_raise_says_which_bound_it_is(self, make: Make) -> None:
        """The caller learns that the spool is full, and what to change."""
        log = make(when_full="raise", spool_bytes_max=self.BOUND)
        self.fill(log)

        with pytest.raises(QueueFull, match="the spool holds 4 events") as caught:
            log.log("over", metadata={"a": "x" * 900_000})
        assert "spool_bytes_max" in caught.value.hint

    def test_block_waits_for_room(self, make: Make) -> None:
        """As soon as Kafka has one, the next goes in."""
        log = make(when_full="block", timeout_seconds=SECONDS, spool_bytes_max=self.BOUND)
        self.fill(log)
        log.publish(4)

        began = time.monotonic()
        [receipt] = log.log("over", metadata={"a": "x" * 900_000})
        receipt.spooled(SECONDS)

        assert log.sender.stats.dropped == 0
        assert time.monotonic() - began < SECONDS / 2, "it was not told that there is room"

    def test_what_is_dropped_is_an_event_itself_once_there_is_room(self, make: Make) -> None:
        """The tenant's trail says how many are missing, and between which times."""
        log = make(when_full="drop-and-count", spool_bytes_max=self.BOUND)
        self.fill(log)
        for number in range(3):
            [receipt] = log.log(f"over-{number}", metadata={"a": "x" * 900_000})
            assert isinstance(receipt.error, QueueFull)
            with pytest.raises(QueueFull):
                receipt.spooled(SECONDS)
        log.publish(5)
        wait_for(lambda: log.sender.stats.published == 5, timeout_seconds=SECONDS, what="all to be published")

        told = EventReader().read(log.kafka.sent[-1].value)
        assert (told.tenant, told.action, told.metadata["count"]) == ("acme", ACTION, "3")
        assert told.metadata["since"] <= told.metadata["until"]
        assert log.sender.stats.dropped == 3

    def test_the_count_outlives_the_process(self, make: Make) -> None:
        """If the process ends before there is room, the next one tells it."""
        first = make(when_full="drop-and-count", spool_bytes_max=self.BOUND)
        self.fill(first)
        first.log("over", metadata={"a": "x" * 990_000})
        first.close()

        second = make(at_once=True)
        wait_for(
            lambda: any(
                dict(r.headers)["ce_type"] == ACTION.encode() for log in (first, second) for r in log.kafka.sent
            ),
            timeout_seconds=SECONDS,
            what="the count to be told",
        )
        assert second.sender.flush(SECONDS) == 0


class TestDisk:
    """Durability is claimed only where it is; the events go on from memory."""

    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
        """Give a switch that makes every commit of the spool fail, as a full disk does."""
        state = {"full": False}
        append = SpoolFile.append

        def failing(self: SpoolFile, *arguments: Any) -> None:
            if state["full"]:
                raise SpoolError("database or disk is full", hint="make room on its disk")
            append(self, *arguments)

        monkeypatch.setattr(SpoolFile, "append", failing)
        monkeypatch.setattr(storing, "BACKOFF_SECONDS", 0.01)
        return state

    def test_events_are_published_from_memory_and_their_receipts_do_not_lie(
        self, make: Make, disk: dict[str, bool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``spooled()`` fails typed, ``published()`` does not; the trouble is told; later events are spooled again."""

        def never(_self: SpoolSender, _now: float) -> bool:
            return False

        # So that the row of an event that is published is still there when the file is opened anew.
        monkeypatch.setattr(SpoolSender, "_is_trim_due", never)
        log = make(at_once=True)
        [before] = log.log("ev-1")
        before.spooled(SECONDS)
        before.published(SECONDS)
        disk["full"] = True
        [during] = log.log("ev-2")

        with pytest.raises(SpoolError, match="disk is full"):
            during.spooled(SECONDS)
        assert during.published(SECONDS)
        assert not during.is_spooled
        assert "disk is full" in log.sender.stats.trouble
        assert [type(trouble) for trouble in log.troubles] == [SpoolError]

        disk["full"] = False
        wait_for(lambda: log.sender.stats.trouble == "", timeout_seconds=SECONDS, what="the spool to be tried again")
        [after] = log.log("ev-3")
        after.spooled(SECONDS)
        assert log.sender.flush(SECONDS) == 0
        assert (log.sent, log.failures) == (["ev-1", "ev-2", "ev-3"], [])
        assert not any(isinstance(trouble, SpoolDamaged) for trouble in log.troubles), "nothing was lost"
        assert (log.sender.stats.failed, log.sender.stats.published) == (0, 3)
        wait_for(lambda: log.sender.stats.spooled_events <= 1, timeout_seconds=SECONDS, what="rows to go")
        assert log.sender.stats.spooled_events >= 0

    def test_with_kafka_away_too_memory_is_the_bound(self, make: Make, disk: dict[str, bool]) -> None:
        """What neither takes is bounded by the queue, and fails at the close: told, never silent."""
        log = make(when_full="raise", queue_events_max=3)
        disk["full"] = True
        receipts = log.log("ev-1", "ev-2", "ev-3")
        for receipt in receipts:
            with pytest.raises(SpoolError):
                receipt.spooled(SECONDS)
        with pytest.raises(QueueFull, match="wait for the spool"):
            log.log("ev-4")
        log.close()

        assert log.failures == [(f"ev-{number}", "GIVEN_UP") for number in (1, 2, 3)]

    def test_a_deleted_file_is_made_anew(self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What memory still has is stored again; what is stored from then on is safe again."""
        monkeypatch.setattr(spool_thread, "_LOOK_SECONDS", 0.01)
        log = make()
        log.log("ev-1")[0].spooled(SECONDS)
        (tmp_path / "spool" / FILE_NAME).unlink()
        wait_for((tmp_path / "spool" / FILE_NAME).exists, timeout_seconds=SECONDS, what="the file to be made anew")
        wait_for(lambda: log.sender.stats.trouble == "", timeout_seconds=SECONDS, what="the spool to be well")
        log.log("ev-2")[0].spooled(SECONDS)
        log.close()

        assert [found.id for found in left_in(tmp_path / "spool")] == ["ev-1", "ev-2"]
        assert any("gone" in str(trouble) for trouble in log.troubles)

    def test_rows_that_vanish_are_counted_as_lost(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Events that were on the disk only fail: flush() does not wait for them for ever, and says so."""
        monkeypatch.setattr(spool_thread, "_LOOK_SECONDS", 0.01)
        log = make(queue_events_max=10, timeout_seconds=SECONDS)
        receipts = log.log(*(f"ev-{number}" for number in range(100)))
        receipts[-1].spooled(SECONDS)
        (tmp_path / "spool" / FILE_NAME).unlink()
        wait_for(
            lambda: log.sender.stats.outstanding_events < 100, timeout_seconds=SECONDS, what="the loss to be counted"
        )
        assert any(isinstance(trouble, SpoolDamaged) for trouble in log.troubles)
        held = log.sender.stats.outstanding_events
        assert held > 0
        log.publish(held)

        with pytest.raises(DeliveryError, match="lost"):
            assert log.sender.flush(SECONDS) == 0
        assert log.sender.stats.failed == 100 - held
        with pytest.raises(DeliveryError, match="lost"):
            receipts[-1].published(SECONDS)

    def test_a_damaged_file_is_recovered_and_told_at_start(self, make: Make, tmp_path: Path) -> None:
        """The log starts all the same, with what could be read."""
        first = make()
        first.log("ev-1")[0].spooled(SECONDS)
        first.close()
        (tmp_path / "spool" / FILE_NAME).write_bytes(b"not a database")

        second = make(at_once=True)
        second.log("ev-2")[0].spooled(SECONDS)

        [trouble] = second.troubles
        assert isinstance(trouble, SpoolDamaged)
        assert second.sender.flush(SECONDS) == 0
        assert second.sent == ["ev-2"]

    def test_a_row_that_changed_is_set_aside_and_told(self, make: Make, tmp_path: Path) -> None:
        """Bytes that are not those of ``log()`` are never sent."""
        first = make()
        first.log("ev-1", "ev-2")[1].spooled(SECONDS)
        first.close()
        with sqlite3.connect(tmp_path / "spool" / FILE_NAME) as db:
            db.execute("UPDATE events SET value = replace(value, 'ev-1', 'ev-9') WHERE number = 1")
        db.close()

        second = make(at_once=True)
        with pytest.raises(DeliveryError, match="checksum"):
            second.sender.flush(SECONDS)

        assert second.sent == ["ev-2"]
        assert isinstance(second.troubles[0], SpoolDamaged)

    def test_a_spool_that_does_not_open_does_not_keep_the_log_from_starting(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried again: what an earlier process left is sent once it opens."""
        first = make()
        first.log("old-1")[0].spooled(SECONDS)
        first.close()
        closed, opened = [True], opening.open_spool

        def try_again(*arguments: Any) -> Any:
            if closed[0]:
                raise SpoolError("disk I/O error")
            return opened(*arguments)

        monkeypatch.setattr(storing, "open_spool", try_again)
        second = make(at_once=True)
        [receipt] = second.log("ev-1")
        with pytest.raises(SpoolError):
            receipt.spooled(SECONDS)
        assert receipt.published(SECONDS)
        closed[0] = False
        wait_for(lambda: second.sender.stats.published == 2, timeout_seconds=SECONDS, what="what was left")

        second.log("ev-2")[0].spooled(SECONDS)
        assert second.sender.flush(SECONDS) == 0
        assert second.sent == ["ev-1", "old-1", "ev-2"]


class TestProcess:
    """One process has a spool; ends of every kind lose nothing that was spooled."""

    def test_a_second_log_is_refused_with_the_owners_pid(self, make: Make) -> None:
        """Two processes in one spool would send everything twice, and delete each other's events."""
        make()
        with pytest.raises(SpoolOwned, match=str(os.getpid())):
            make()

    def test_a_fork_is_refused_and_does_no_harm(self, make: Make, tmp_path: Path) -> None:
        """The child gets a typed error, and its end does not touch the parent's file or lock."""
        out = run(
            """
            receipt = audit.log(tenant="acme", actor="user:1", action="before", id="ev-1")
            receipt.spooled(30)
            child = os.fork()
            if child == 0:
                try:
                    audit.log(tenant="acme", actor="user:1", action="in.child")
                except ClientUnusable:
                    sys.exit(7)
                sys.exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            audit.log(tenant="acme", actor="user:1", action="after", id="ev-2").spooled(30)
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            tmp_path / "spool",
        )

        assert out.returncode == -signal.SIGKILL, out.stderr
        log = make(at_once=True)
        assert log.sender.flush(SECONDS) == 0
        assert log.sent == ["ev-1", "ev-2"]

    def test_sigterm_closes_and_then_ends_the_process_as_it_would(self, make: Make, tmp_path: Path) -> None:
        """Events that nobody waited for are in the spool, and whoever sent the signal sees that it ended by it."""
        out = run(
            """
            for number in range(500):
                audit.log(tenant="acme", actor="user:1", action="a", id=f"ev-{number}")
            os.kill(os.getpid(), signal.SIGTERM)
            print("not reached")
            """,
            tmp_path / "spool",
        )

        assert (out.returncode, out.stdout) == (-signal.SIGTERM, ""), out.stderr
        assert make().sender.stats.found == 500

    def test_sigterm_may_come_within_a_call(self, make: Make, tmp_path: Path) -> None:
        """Wherever in log() the signal finds the main thread, closing does not wait for what that thread holds."""
        out = run(
            """
            for number in range(100):
                audit.log(tenant="acme", actor="user:1", action="a", id=f"ev-{number}")
            with audit._sender._lock:
                signal.raise_signal(signal.SIGTERM)
            """,
            tmp_path / "spool",
        )

        assert out.returncode == -signal.SIGTERM, out.stderr
        assert make().sender.stats.found == 100

    async def test_asyncio_heeds_sigterm_too(self, tmp_path: Path) -> None:
        """Though the spool is opened on another thread, so that the loop does not wait for the disk."""
        out = run(
            """
            audit.close(0)
            import asyncio
            from sealstream.producers import AuditLog
            async def main():
                async with AuditLog(kafka="127.0.0.1:1", instance="a", spool=sys.argv[1], close_timeout_seconds=0.1):
                    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
                    signal.raise_signal(signal.SIGTERM)
            asyncio.run(main())
            """,
            tmp_path / "spool",
        )

        assert out.returncode == -signal.SIGTERM, out.stderr

    def test_an_applications_own_handler_stays(self, tmp_path: Path) -> None:
        """Whoever handles SIGTERM decides what happens; and without logs the action is the default one again."""
        out = run(
            """
            audit.log(tenant="acme", actor="user:1", action="a")
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            audit.close(0)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            def mine(number, frame):
                print("mine")
            signal.signal(signal.SIGTERM, mine)
            with make() as audit:
                audit.log(tenant="acme", actor="user:1", action="b").spooled(30)
                os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is mine
            """,
            tmp_path / "spool",
        )

        assert (out.returncode, out.stdout) == (0, "mine\n"), out.stderr

    def test_a_forgotten_log_stores_what_is_pending_at_exit(self, make: Make, tmp_path: Path) -> None:
        """A script that ends without closing leaves its events in the spool, and says nothing of a failure."""
        out = run(
            """
            for number in range(500):
                audit.log(tenant="acme", actor="user:1", action="a", id=f"ev-{number}")
            """,
            tmp_path / "spool",
        )

        assert out.returncode == 0
        assert "Error" not in out.stderr
        assert make().sender.stats.found == 500

    def test_a_closed_log_takes_nothing(self, make: Make) -> None:
        """After close() the spool is free, and the log unusable."""
        log = make(at_once=True)
        log.log("ev-1")
        log.close(SECONDS)

        with pytest.raises(ClientUnusable):
            log.log("ev-2")
        make()


_PRELUDE = """
import os, signal, sys
from sealstream.producers import ClientUnusable, SyncAuditLog
def make():
    return SyncAuditLog(
        kafka="127.0.0.1:1", instance="demo.example/audit", spool=sys.argv[1], close_timeout_seconds=0.2
    )
audit = make()
"""


def run(script: str, spool: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with a log in a process of its own; Kafka is not there."""
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", _PRELUDE + dedent(script), str(spool)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
