"""Publishing to real Kafka: what arrives, what does not, and that the sender knows which."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from textwrap import dedent
from typing import get_args

import pytest

from sealstream.deploy.stack import LocalStack
from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import TopicNames, topic_table
from sealstream.producers import (
    Actor,
    AuditEvent,
    AuditLog,
    Compression,
    Context,
    DeliveryError,
    Outcome,
    Published,
    SyncAuditLog,
    SyncReceipt,
    Target,
)
from sealstream.schemas.codec import EventReader, encode_event
from sealstream.schemas.entry import VALUE_BYTES_MAX, payload_digest
from sealstream.schemas.event import TEXT_CHARACTERS_MAX
from support.harness import LogRecord, read_log
from support.workers import wait_for

INSTANCE = "demo.example/audit"
PARTITIONS = 4
SECONDS = 30.0
NOWHERE = "127.0.0.1:1"  # a port that nothing listens on
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def topics(kafka_bootstrap: str) -> TopicNames:
    """Make a source topic of the test's own."""
    return make_source(kafka_bootstrap)


def make_source(bootstrap: str, prefix: str | None = None) -> TopicNames:
    """Create a source topic as an instance has it, under a prefix of its own, and return the names."""
    names = TopicNames(prefix=prefix or f"t-{uuid.uuid4().hex[:8]}.")
    table = topic_table(names, partitions=PARTITIONS, window_seconds=86_400)
    TopicAdmin(KafkaConnection(bootstrap)).create(spec for spec in table if spec.name == names.events)
    return names


def records(bootstrap: str, topics: TopicNames) -> list[LogRecord]:
    """Read the whole source topic, partition by partition."""
    return [record for log in read_log(KafkaConnection(bootstrap), topics.events, PARTITIONS) for record in log]


def event(number: int, *, tenant: str = "acme") -> AuditEvent:
    """Return a valid event of that number."""
    return AuditEvent(tenant=tenant, id=f"ev-{number}", actor=Actor("user", "u-1"), action="document.updated")


class TestArrival:
    """What is published can be read by anyone who knows the schema."""

    async def test_an_event_arrives_whole(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """Key, partition, headers and value are as specified, and the receipt names the record's place and digest."""
        logged = AuditEvent(
            tenant="Acme-2_x.y",
            actor=Actor("user", "ü-1", "Zoë 🌍"),
            action="文書.更新",
            targets=(Target("document", "d/7", None), Target("folder", "f-1", "Plané")),
            outcome=Outcome.SUCCESS,
            context=Context(ip="2001:db8::1", user_agent="curl/8", traceparent=TRACEPARENT),
            metadata={"ключ": "значение", "empty": ""},
        )

        async with AuditLog(kafka=kafka_bootstrap, instance=INSTANCE, topics=topics) as audit:
            receipt = audit.log(logged)
            place = await receipt

        [record] = records(kafka_bootstrap, topics)
        assert record.key == logged.tenant.encode()
        assert record.value is not None
        assert EventReader().read(record.value) == logged
        assert (record.partition, record.offset) == place
        assert record.partition == partition_of(logged.tenant.encode(), PARTITIONS)
        assert receipt.digest == payload_digest(record.value)
        assert dict(record.headers) == {
            "ce_specversion": b"1.0",
            "ce_id": logged.id.encode(),
            "ce_type": "文書.更新".encode(),
            "ce_source": f"//{INSTANCE}/{logged.tenant}".encode(),
            "ce_time": logged.occurred_at.isoformat().encode(),
            "content-type": b"application/avro",
            "traceparent": TRACEPARENT.encode(),
        }

    def test_every_tenant_goes_to_its_partition(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """For any tenant the partition is the one that the processor expects: murmur2 of the key."""
        tenants = [f"tenant-{number}" for number in range(100)]

        with SyncAuditLog(kafka=kafka_bootstrap, instance=INSTANCE, topics=topics) as audit:
            receipts = [audit.log(event(0, tenant=tenant)) for tenant in tenants]
            places = [receipt.published(SECONDS).partition for receipt in receipts]

        assert places == [partition_of(tenant.encode(), PARTITIONS) for tenant in tenants]

    def test_ten_thousand_events_arrive_in_their_order(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """A burst goes through in seconds, each event once, and each tenant's in the order in which it logged."""
        with SyncAuditLog(kafka=kafka_bootstrap, instance=INSTANCE, topics=topics, producer_id="api-1") as audit:
            start = time.monotonic()
            for number in range(10_000):
                audit.log(event(number, tenant=f"tenant-{number % 7}"))
            assert audit.flush(SECONDS) == 0
            seconds = time.monotonic() - start
            assert audit.stats.published == 10_000

        arrived = [EventReader().read(record.value or b"") for record in records(kafka_bootstrap, topics)]
        for tenant in range(7):
            own = [read for read in arrived if read.tenant == f"tenant-{tenant}"]
            assert [read.id for read in own] == [f"ev-{number}" for number in range(tenant, 10_000, 7)]
            assert [read.producer and read.producer.n for read in own] == list(range(len(own)))
        assert seconds < 20, f"10,000 events took {seconds:.1f} s"

    def test_threads_share_one_log(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """However many threads log, a tenant's counts reach Kafka in order and without a hole."""
        with SyncAuditLog(kafka=kafka_bootstrap, instance=INSTANCE, topics=topics, producer_id="api-1") as audit:

            def work(thread: int) -> None:
                for number in range(500):
                    audit.log(event(thread * 1000 + number))

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, range(4)))

        marks = [EventReader().read(record.value or b"").producer for record in records(kafka_bootstrap, topics)]
        assert [mark.n for mark in marks if mark is not None] == list(range(2000))

    async def test_tasks_share_one_log(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """Many tasks may each await their own event."""
        async with AuditLog(kafka=kafka_bootstrap, instance=INSTANCE, topics=topics) as audit:

            async def handle(number: int) -> Published:
                return await audit.log(tenant="acme", actor="user:1", action="page.read", id=f"ev-{number}")

            places = await asyncio.gather(*(handle(number) for number in range(200)))

        assert sorted(place.offset for place in places) == list(range(200))

    @pytest.mark.parametrize("compression", get_args(Compression))
    def test_the_largest_event_arrives(
        self, kafka_bootstrap: str, topics: TopicNames, compression: Compression
    ) -> None:
        """An event of exactly the largest size, with the longest action in its headers, fits the topic."""
        plain = replace(event(1), action="\u66f4" * TEXT_CHARACTERS_MAX, metadata={"a": "x" * 900_000})
        missing = VALUE_BYTES_MAX - len(encode_event(plain))
        largest = replace(plain, metadata={"a": "x" * (900_000 + missing)})

        with SyncAuditLog(kafka=kafka_bootstrap, instance=INSTANCE, topics=topics, compression=compression) as audit:
            audit.log(largest).published(SECONDS)

        [record] = records(kafka_bootstrap, topics)
        assert len(record.value or b"") == VALUE_BYTES_MAX


class TestKafkaAway:
    """Without Kafka, an application goes on, and knows what was not published."""

    def test_logging_does_not_wait(self) -> None:
        """With no broker at start, ``log()`` returns at once and the receipt fails after the time to deliver."""
        told: list[str] = []
        audit = SyncAuditLog(
            kafka=NOWHERE,
            instance=INSTANCE,
            delivery_timeout_seconds=1.0,
            on_error=lambda delivery, _: told.append(delivery.id),
        )
        start = time.monotonic()
        receipts = [audit.log(event(number)) for number in range(100)]
        assert time.monotonic() - start < 1, "log() waited"

        with pytest.raises(DeliveryError) as caught:
            receipts[0].published(SECONDS)
        with pytest.raises(DeliveryError, match="100 events were not published"):
            audit.flush(SECONDS)
        audit.close()

        error = caught.value
        assert "acme/ev-0 to topic audit.events" in error.message
        assert (error.code, error.retriable) == ("_MSG_TIMED_OUT", True)
        assert "within 1 s" in error.hint
        assert NOWHERE in error.hint, "the hint names the broker that could not be reached"
        assert sorted(told) == sorted(receipt.id for receipt in receipts)
        assert (audit.stats.failed, audit.stats.outstanding_events) == (100, 0)

    async def test_closing_has_a_bound(self) -> None:
        """Closing gives up what cannot be delivered in its time: each receipt and close() itself say so."""
        audit = AuditLog(kafka=NOWHERE, instance=INSTANCE, delivery_timeout_seconds=60.0)
        receipts = [audit.log(event(number)) for number in range(3)]

        start = time.monotonic()
        with pytest.raises(DeliveryError, match="3 events were not published"):
            await audit.close(timeout_seconds=0.2)

        assert time.monotonic() - start < 5
        for receipt in receipts:
            with pytest.raises(DeliveryError, match="acme/ev-") as caught:
                await receipt
            assert (caught.value.code, caught.value.retriable) == ("_PURGE_QUEUE", True)
            assert "close()" in caught.value.hint

    def test_a_missing_topic_is_named_and_its_events_can_be_sent_again(self, kafka_bootstrap: str) -> None:
        """Events to a topic that does not exist fail; once it exists, the same bytes go through."""
        names = TopicNames(prefix=f"t-{uuid.uuid4().hex[:8]}.")
        log = SyncAuditLog(
            kafka=kafka_bootstrap, instance=INSTANCE, topics=names, delivery_timeout_seconds=1.0, producer_id="api-1"
        )
        with log as audit:
            failed = audit.log(replace(event(1), context=Context(traceparent=TRACEPARENT)))
            with pytest.raises(DeliveryError, match=re.escape(names.events)):
                failed.published(SECONDS)
            with pytest.raises(DeliveryError):
                audit.flush(SECONDS)

            make_source(kafka_bootstrap, names.prefix)
            wait_for(lambda: published(audit, failed), timeout_seconds=SECONDS, what="the client to see the topic")

        [record] = records(kafka_bootstrap, names)
        assert payload_digest(record.value or b"") == failed.digest
        assert record.key == b"acme"
        assert record.header("traceparent") == TRACEPARENT.encode()

    def test_events_survive_a_restart_of_kafka(self, own_stack: Callable[..., LocalStack]) -> None:
        """What is logged while the broker is away arrives when it is back: once each, and in order."""
        stack = own_stack(database=False)
        topics = make_source(stack.kafka)
        with SyncAuditLog(kafka=stack.kafka, instance=INSTANCE, topics=topics) as audit:
            before = [audit.log(event(number)) for number in range(100)]
            before[-1].published(SECONDS)
            stack.kafka_kill()
            during = [audit.log(event(number)) for number in range(100, 200)]
            assert audit.flush(0.2) == 100
            stack.kafka_start()
            assert audit.flush(60) == 0

        assert all(receipt.error is None for receipt in before + during)
        arrived = [EventReader().read(record.value or b"").id for record in records(stack.kafka, topics)]
        assert arrived == [f"ev-{number}" for number in range(200)]


def published(audit: SyncAuditLog, failed: SyncReceipt) -> bool:
    """Send a failed event again, and return whether that one was published."""
    try:
        audit.resend(failed).published(SECONDS)
    except DeliveryError:
        with suppress(DeliveryError):  # the same one, as flush() sees it
            audit.flush(SECONDS)
        return False
    return True


class TestProcess:
    """A process that ends or forks loses no event in silence."""

    def test_a_forgotten_log_is_closed_at_exit(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """A script that logs and ends without closing has published its events."""
        run(
            """
            audit = make()
            for number in range(100):
                audit.log(tenant="acme", actor="user:1", action="script.run")
            """,
            kafka_bootstrap,
            topics,
        )

        assert len(records(kafka_bootstrap, topics)) == 100

    def test_a_forgotten_log_without_kafka_ends_in_time_and_says_so(self, topics: TopicNames) -> None:
        """A script whose events could not be published ends all the same, with the error on its standard error."""
        start = time.monotonic()
        errors = run(
            """
            audit = make(close_timeout_seconds=0.5)
            audit.log(tenant="acme", actor="user:1", action="script.run", id="ev-1")
            """,
            NOWHERE,
            topics,
        )

        assert "DeliveryError: event acme/ev-1" in errors
        assert time.monotonic() - start < 15

    def test_a_fork_after_the_first_event_is_refused(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """The child gets a typed error instead of losing events, ends normally, and the parent goes on."""
        run(
            """
            import os, sys
            from sealstream.producers import ClientUnusable
            audit = make()
            audit.log(tenant="acme", actor="user:1", action="before.fork").published(30)
            child = os.fork()
            if child == 0:
                try:
                    audit.log(tenant="acme", actor="user:1", action="in.child")
                except ClientUnusable:
                    audit.close()
                    sys.exit(7)
                sys.exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            audit.log(tenant="acme", actor="user:1", action="after.fork")
            audit.close()
            """,
            kafka_bootstrap,
            topics,
        )

        types = {record.header("ce_type") for record in records(kafka_bootstrap, topics)}
        assert types == {b"before.fork", b"after.fork"}

    def test_a_log_made_before_the_fork_works_in_every_process(self, kafka_bootstrap: str, topics: TopicNames) -> None:
        """A server may make the log when it loads the application, and fork its workers afterwards."""
        run(
            """
            import os
            audit = make()
            children = []
            for number in range(2):
                child = os.fork()
                if child == 0:
                    audit.log(tenant="acme", actor="user:1", action="in.child")
                    audit.close()
                    os._exit(0)
                children.append(child)
            for child in children:
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            audit.log(tenant="acme", actor="user:1", action="in.parent")
            audit.close()
            """,
            kafka_bootstrap,
            topics,
        )

        types = sorted(record.header("ce_type") or b"" for record in records(kafka_bootstrap, topics))
        assert types == [b"in.child", b"in.child", b"in.parent"]


_PRELUDE = """
import sys
from sealstream.kafka.topics import TopicNames
from sealstream.producers import SyncAuditLog
def make(**options):
    names = TopicNames(prefix=sys.argv[2])
    return SyncAuditLog(kafka=sys.argv[1], instance="demo.example/audit", topics=names, **options)
"""


def run(script: str, bootstrap: str, topics: TopicNames) -> str:
    """Run a script in a process of its own, and return what it wrote to standard error."""
    command = [sys.executable, "-c", _PRELUDE + dedent(script), bootstrap, topics.prefix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr
