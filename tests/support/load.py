"""Loads that go on while something else happens: good events, repeats, forgeries and bad records; or a test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

from sealstream.kafka.partition import partition_of
from support.publish import RawRecord, event_value
from support.workers import Pipeline

TENANTS = [f"tenant-{n}" for n in range(10)]
TICK_SECONDS = 0.02
RECORDS_PER_TICK = 4
DELIVERY_SECONDS = 90.0
ROUND_SECONDS = 60.0


def record(number: int, partitions: int) -> RawRecord:
    """Return the n-th record of the load: of 29, two repeat an event, one forges one, and one is bad in some way."""
    tenant = TENANTS[number % len(TENANTS)]
    key, earlier = tenant.encode(), f"e-{max(number - 10, number % 10)}"
    if number % 29 in {3, 17}:
        return RawRecord(key, event_value(tenant, earlier))
    if number % 29 == 5:
        return RawRecord(key, event_value(tenant, earlier, note="forged"))
    good = event_value(tenant, f"e-{number}")
    if number % 29 != 7:
        return RawRecord(key, good)
    elsewhere = (partition_of(key, partitions) + 1) % partitions
    bad = (
        RawRecord(None, good, partition=number % partitions),
        RawRecord(key, good, partition=elsewhere),
        RawRecord(key, b"\xff" * 100),
        RawRecord(key, event_value(tenant, "no spaces")),
        RawRecord(key, None),
    )
    return bad[number // 29 % len(bad)]


@contextmanager
def steady_load(publish_round: Callable[[int], None], *, pause_seconds: float) -> Generator[None]:
    """Publish round after round beside what the context does, until it ends; then all that was published is there.

    Arguments:
        publish_round: Publishes one round, given its number, and waits until the broker has it.
        pause_seconds: How long to rest between two rounds.
    """
    stopped = threading.Event()

    def run() -> None:
        number = 0
        while not stopped.wait(pause_seconds):
            publish_round(number)
            number += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(ROUND_SECONDS)
        assert not thread.is_alive(), "a round of the load does not come to its end"


class Load:
    """Publishes records one after the other, some hundred a second, until its context ends or it is stopped.

    A broker that goes away is waited for; nothing is given up.

    Arguments:
        pipeline: Whose source it publishes to, at the broker's own address.

    ``sent_at`` says of each delivered record, by partition and offset, when it was published (monotonic seconds).
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.count = 0
        self.sent_at: dict[tuple[int, int], float] = {}
        self._topic = pipeline.topics.events
        self._partitions = pipeline.genesis.partitions
        self._failures: list[KafkaError] = []
        self._stopped = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": pipeline.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.timeout.ms": int(DELIVERY_SECONDS * 1000),
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def stop(self) -> None:
        """Publish no more, and wait until the brokers have all of it."""
        self._stopped.set()
        self._thread.join()
        assert self._producer.flush(DELIVERY_SECONDS) == 0, "not all of the load was delivered in time"
        assert not self._failures, self._failures[:3]

    def _run(self) -> None:
        at = time.monotonic()
        while not self._stopped.is_set():
            for _ in range(RECORDS_PER_TICK):
                self._publish(record(self.count, self._partitions))
                self.count += 1
            self._producer.poll(0)
            at = max(at + TICK_SECONDS, time.monotonic() - 1)  # what a slow machine misses is not caught up for ever
            self._stopped.wait(max(at - time.monotonic(), 0))

    def _publish(self, one: RawRecord) -> None:
        partition = partition_of(one.key or b"", self._partitions) if one.partition is None else one.partition
        self._producer.produce(
            self._topic, one.value, one.key, partition, on_delivery=partial(self._delivered, time.monotonic())
        )

    def _delivered(self, sent_at: float, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(error)
        else:
            self.sent_at[message.partition() or 0, message.offset() or 0] = sent_at
