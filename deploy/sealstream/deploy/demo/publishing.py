"""Publishing the demonstration's events: through the SDK, and, where asked for, what a careless client would send."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sealstream.deploy.demo.background import Background
from sealstream.deploy.demo.events import events, tenant_names
from sealstream.deploy.demo.options import DemoOptions
from sealstream.deploy.demo.stages import Counts
from sealstream.kafka.client import PARTITIONER
from sealstream.producers import SyncAuditLog
from sealstream.schemas.codec import encode_event
from sealstream.schemas.errors import DeliveryError
from sealstream.schemas.event import AuditEvent
from sealstream.worker.settings import Settings

_CLIENT: Final = "sealstream-demo"
_FLUSH_SECONDS: Final = 60.0
_FLUSH_STEP_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.1
_QUEUE_FULL_SECONDS: Final = 60.0
_PAUSE_SECONDS_MAX: Final = 0.1
_NO_EVENT: Final = b"this is no audit event"


class Publisher(Background):
    """A thread that publishes everything, as an application would, and then ends.

    Arguments:
        settings: The instance.
        options: How much, and how fast.
        counts: Where the count of acknowledged records goes.
    """

    def __init__(self, settings: Settings, options: DemoOptions, counts: Counts) -> None:
        super().__init__("publish")
        self._settings = settings
        self._options = options
        self._counts = counts

    def work(self, stop: threading.Event) -> None:
        """Publish everything."""
        options = self._options
        story = self._paced(events(options.events, tenant_names(options.tenants)), stop)
        with SyncAuditLog(
            kafka=self._settings.connection(),
            instance=self._settings.instance,
            topics=self._settings.topics(),
            timeout_seconds=_QUEUE_FULL_SECONDS,
        ) as audit:
            next_look = 0.0
            for event in itertools.islice(story, options.events - options.duplicates):
                audit.log(event)
                if (now := time.monotonic()) >= next_look:
                    self._counts.published.observe(audit.stats.published)
                    next_look = now + _LOOK_SECONDS
            deadline = time.monotonic() + _FLUSH_SECONDS
            while audit.flush(_FLUSH_STEP_SECONDS) and not stop.is_set() and time.monotonic() < deadline:
                self._counts.published.observe(audit.stats.published)
            published = audit.stats.published
            self._counts.published.observe(published)
        if (options.duplicates or options.bad) and not stop.is_set():
            sent = self._publish_carelessly(story)
            self._counts.published.observe(published + sent)

    def _paced(self, story: Iterator[AuditEvent], stop: threading.Event) -> Iterator[AuditEvent]:
        """Hand events out no faster than asked for, and none any more once we are to stop."""
        start = time.monotonic()
        for number, event in enumerate(story):
            while self._options.rate and (wait := start + number / self._options.rate - time.monotonic()) > 0:
                if stop.wait(min(wait, _PAUSE_SECONDS_MAX)):
                    return
            if stop.is_set():
                return
            yield event

    def _publish_carelessly(self, story: Iterator[AuditEvent]) -> int:
        """Send the rest of the events twice, and records that are no events; returns how many Kafka has taken."""
        failures: list[KafkaError] = []
        delivered = itertools.count()

        def report(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                next(delivered)
            else:
                failures.append(error)

        config = self._settings.connection().config(_CLIENT)
        producer = Producer(config | {"partitioner": PARTITIONER, "enable.idempotence": True})
        topic = self._settings.topics().events
        try:
            for event in story:
                value, key = encode_event(event), event.tenant.encode()
                for _ in range(2):
                    producer.produce(topic, value, key, on_delivery=report)
                producer.poll(0)
            names = tenant_names(self._options.tenants)
            for number in range(self._options.bad):
                producer.produce(topic, _NO_EVENT, names[number % len(names)].encode(), on_delivery=report)
                producer.poll(0)
            left = producer.flush(_FLUSH_SECONDS)
        except (KafkaException, BufferError) as error:
            raise DeliveryError(f"records could not be published: {error}") from error
        if left or failures:
            raise DeliveryError(f"{left + len(failures)} records were not published")
        return next(delivered)
