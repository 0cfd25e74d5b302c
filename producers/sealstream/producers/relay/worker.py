"""The relay's loop: take what is committed, publish it, take it out; and what its web port says of it."""

from __future__ import annotations

import time
from typing import Final

from sealstream.kafka.admin import TopicAdmin
from sealstream.producers.outbox.table import OutboxTable
from sealstream.producers.relay.database import OutboxDatabase, Taken
from sealstream.producers.relay.publisher import Outcome, Publisher
from sealstream.schemas.errors import ConfigError, Unreachable
from sealstream.worker import metrics
from sealstream.worker.failpoints import Failpoints
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings
from sealstream.worker.stop import StopSignal

POINTS: Final = ("after-lock", "after-publish", "after-settle", "after-commit")
PAUSE_SECONDS_MIN: Final = 0.2
PAUSE_SECONDS_MAX: Final = 5.0
PROBE_SECONDS: Final = 5.0
"""How often the backlog is measured, and Kafka asked whether it answers."""
ADMIN_TIMEOUT_SECONDS: Final = 4.0
LOOK_SECONDS: Final = 0.5
"""How long the worker waits at a time before it looks whether to stop."""
STOP_GRACE_SECONDS: Final = 3.0
"""How long a batch that is under way may still wait for Kafka when the worker shall stop."""
STUCK_SECONDS: Final = 120.0


class Relay:
    """The worker.

    Arguments:
        settings: Its settings.
        stop: Says when to stop.

    Raises:
        ConfigError: A setting is missing or cannot be used.
    """

    def __init__(self, settings: Settings, stop: StopSignal) -> None:
        self._settings = settings
        self._stop = stop
        self._topic = settings.topics().events
        self._admin = TopicAdmin(settings.connection(), timeout_seconds=ADMIN_TIMEOUT_SECONDS)
        self._database = OutboxDatabase(
            outbox_url(settings),
            OutboxTable(settings.outbox_table),
            relay=settings.worker_id,
            keep=settings.outbox_keep,
            timeout_seconds=settings.request_timeout_seconds,
        )
        self._publisher = Publisher(settings.connection(), instance=settings.instance, topics=settings.topics())
        points = Failpoints.from_environment(POINTS)
        self._after = {name: points.at(name) for name in POINTS}
        self._stopping_since: float | None = None
        self._pause_seconds = 0.0
        self._probed_at = float("-inf")
        # Read by the web port's threads.
        self._alive_at = time.monotonic()
        self._ready, self._words = False, "starting"

    def run(self) -> None:
        """Work until the stop signal.

        Raises:
            StoreError: The table is not as it must be, or the login lacks a right.
            ConfigError: Kafka's client refuses the settings.
        """
        while not self._stop.is_set():
            self._alive_at = time.monotonic()
            try:
                self._step()
            except Unreachable as error:
                self._wait(error)

    def close(self) -> None:
        """Close all connections."""
        self._publisher.close()
        self._database.close()

    def healthy(self) -> bool:
        """Return whether the loop is alive."""
        return time.monotonic() - self._alive_at < STUCK_SECONDS

    def ready(self) -> tuple[bool, str]:
        """Return whether the relay publishes what is committed, and in words what it does or waits for."""
        return self._ready, self._words

    def _step(self) -> None:
        if time.monotonic() - self._probed_at > PROBE_SECONDS:
            self._probe()
        began_at = time.monotonic()
        outcome: Outcome | None = None
        with self._database.taking(self._settings.outbox_rows_max) as taken:
            self._after["after-lock"]()
            if taken.rows:
                outcome = self._publish(taken)
        if outcome is None:
            self._idle()
            return
        self._after["after-commit"]()
        metrics.OUTBOX_TRANSACTION_SECONDS.observe(time.monotonic() - began_at)
        self._account(taken, outcome)
        if outcome.failure is not None:
            raise Unreachable(f"rows were not published: {outcome.failure.message}", hint=outcome.failure.hint)
        self._pause_seconds = 0.0

    def _publish(self, taken: Taken) -> Outcome:
        outcome = self._publisher.publish(taken.rows, hurried=self._hurried)
        # A crash from here to the commit: the rows are still there, and whoever takes them sends the same bytes again.
        self._after["after-publish"]()
        self._database.settle(taken, outcome)
        self._after["after-settle"]()
        return outcome

    def _account(self, taken: Taken, outcome: Outcome) -> None:
        metrics.OUTBOX_BATCH_ROWS.observe(len(taken.rows))
        metrics.OUTBOX_PUBLISHED.inc(len(outcome.published))
        metrics.OUTBOX_REFUSED.inc(len(outcome.refused))
        for row_id, reason in outcome.refused.items():
            logger().error(
                "row set aside", table=self._settings.outbox_table, row=row_id, reason=reason, hint="see outbox status"
            )

    def _idle(self) -> None:
        """Wait for the next commit; where nobody notifies, look again after a while."""
        until = time.monotonic() + self._settings.outbox_poll_seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            if self._database.wait(min(left, LOOK_SECONDS)):
                return

    def _probe(self) -> None:
        """Measure the backlog, and see whether Kafka has the topic: a relay that could not publish is not ready."""
        backlog = self._database.measure()
        metrics.OUTBOX_WAITING.set(backlog.waiting)
        metrics.OUTBOX_OLDEST_SECONDS.set(backlog.oldest_seconds)
        metrics.OUTBOX_SET_ASIDE.set(backlog.refused)
        if self._topic not in self._admin.describe([self._topic]):
            raise Unreachable(f"the topic {self._topic} does not exist", hint="run sealstream topics create")
        self._probed_at = time.monotonic()
        if not self._ready:
            logger().info("relaying", table=self._settings.outbox_table, topic=self._topic, waiting=backlog.waiting)
        self._ready, self._words = True, f"relaying {self._settings.outbox_table} to {self._topic}"

    def _hurried(self) -> bool:
        """Return whether a batch must not wait any longer, and show that the loop turns."""
        self._alive_at = time.monotonic()
        if not self._stop.is_set():
            return False
        self._stopping_since = self._stopping_since or time.monotonic()
        return time.monotonic() - self._stopping_since > STOP_GRACE_SECONDS

    def _wait(self, error: Unreachable) -> None:
        """Let go of everything, and pause before the next attempt: the rows stay where they are."""
        self._ready, self._words = False, str(error)
        self._probed_at = float("-inf")
        self._database.close()
        self._pause_seconds = min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, self._pause_seconds * 2))
        logger().warning("waiting", reason=error.message, hint=error.hint, pause_seconds=self._pause_seconds)
        self._stop.wait(self._pause_seconds)


def outbox_url(settings: Settings) -> str:
    """Return the URL of the application's database, secret included.

    Raises:
        ConfigError: ``SEALSTREAM_OUTBOX_DATABASE`` is not set.
    """
    url = settings.outbox_database.get_secret_value()
    if not url:
        raise ConfigError(
            "SEALSTREAM_OUTBOX_DATABASE is not set", hint="give the application's, postgresql://user@host:5432/app"
        )
    return url
