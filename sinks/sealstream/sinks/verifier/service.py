"""The verifier worker: runs sessions one after the other until it is told to stop, or must not go on."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import KafkaException

from sealstream.kafka.replacement import Replaced, SecondChance
from sealstream.kafka.transactions import CONNECTIVITY_CODES, ProducerFatal, TransactionError
from sealstream.schemas.errors import SealstreamError, SourceExpired, Unreachable
from sealstream.sinks.verifier.output import is_connectivity
from sealstream.sinks.verifier.session import Session
from sealstream.sinks.verifier.source import Interrupted
from sealstream.worker import logs, memory
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings
from sealstream.worker.stop import END_SECONDS, StopSignal
from sealstream.worker.web import WorkerWeb

STOPPED: Final = 0
FAILED: Final = 1
NOT_CHECKED: Final = 2
"""The exit code when records can no longer be checked: no violation, and no all-clear either."""

BACKOFF_SECONDS_MIN: Final = 0.2
BACKOFF_SECONDS_MAX: Final = 5.0
STUCK_SECONDS: Final = 120.0
"""Longer than any bounded wait of a step: a loop that has not turned for so long hangs."""
ABORTS_MAX: Final = 2
"""So many transactions in a row that failed for another reason than an unreachable Kafka end the worker."""


class Verifier:
    """The worker's loop and what its web port says of it.

    Arguments:
        settings: The worker's settings.
        stop: Tells it to stop.
    """

    def __init__(self, settings: Settings, stop: StopSignal) -> None:
        self._settings = settings
        self._stop = stop
        self._turned_at = time.monotonic()
        self._ready = (False, "starting")
        self._backoff_seconds = BACKOFF_SECONDS_MIN
        self._aborts = 0
        self._second_chance = SecondChance()

    def healthy(self) -> bool:
        """Return whether the loop turns."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    def ready(self) -> tuple[bool, str]:
        """Return whether records are being verified, and in words what is waited for."""
        return self._ready

    def run(self) -> None:
        """Verify until told to stop.

        Raises:
            SealstreamError: Going on would not be safe, or does not help.
        """
        while not self._stopping():
            session = Session(self._settings, stopping=self._stopping, report=self._report)
            try:
                session.open()
                self._run_session(session)
            except Interrupted:
                logger().info("interrupted a wait to stop")
            except Replaced as error:
                session.abort()
                self._second_chance.take(error)
                self._report(False, "joining the group again")
                logger().warning("joining the group again", reason=error.message)
            except (Unreachable, TransactionError, KafkaException) as error:
                session.abort()
                self._judge(error)
            finally:
                session.close()
            self._wait()

    def _stopping(self) -> bool:
        """Return whether to stop; every wait asks this again and again, and so shows that it turns."""
        self._turned_at = time.monotonic()
        return self._stop.is_set()

    def _run_session(self, session: Session) -> None:
        while not self._stopping():
            if session.step():
                self._aborts = 0
                self._backoff_seconds = BACKOFF_SECONDS_MIN

    def _judge(self, error: Unreachable | TransactionError | KafkaException) -> None:
        """Decide whether another session can help.

        Raises:
            SealstreamError: It cannot.
        """
        self._report(False, f"waiting to try again: {error}")
        if _is_passing(error):
            logger().warning("session ended, trying again", error=str(error), pause_seconds=self._backoff_seconds)
            return
        if isinstance(error, ProducerFatal) and error.error.fatal():  # fenced: another one writes under our name
            raise error
        self._aborts += 1
        logger().warning("session ended by a failed transaction", error=str(error), in_a_row=self._aborts)
        if self._aborts >= ABORTS_MAX:
            if isinstance(error, SealstreamError):
                raise error
            raise ProducerFatal("consume", error.args[0]) from error

    def _wait(self) -> None:
        if not self._stop.is_set():
            self._stop.wait(self._backoff_seconds)
            self._backoff_seconds = min(2 * self._backoff_seconds, BACKOFF_SECONDS_MAX)

    def _report(self, is_ready: bool, words: str) -> None:
        self._ready = (is_ready, words)


def _is_passing(error: Unreachable | TransactionError | KafkaException) -> bool:
    """Return whether an error says no more than that Kafka cannot be reached at the moment."""
    if isinstance(error, TransactionError):
        return is_connectivity(error)
    return isinstance(error, Unreachable) or error.args[0].code() in CONNECTIVITY_CODES


def run(settings: Settings) -> int:
    """Run the verifier until SIGTERM or SIGINT.

    Returns:
        The process's exit code: 0 after an orderly stop; 1 after an error that needs a person; 2 where records can no
        longer be checked, because they expired before they were.
    """
    logs.configure("verifier", level=settings.log_level, format=settings.log_format)
    memory.tune()
    stop = StopSignal()
    stop.install(end_within_seconds=END_SECONDS)
    verifier = Verifier(settings, stop)
    web: WorkerWeb | None = None
    try:
        web = WorkerWeb(settings.web_host, settings.web_port, healthy=verifier.healthy, ready=verifier.ready)
        web.start()
        verifier.run()
    except SourceExpired as error:
        logger().error(error.message, error="SourceExpired", hint=error.hint)
        return NOT_CHECKED
    except SealstreamError as error:
        logger().error(error.message, error=type(error).__name__, hint=error.hint)
        return FAILED
    finally:
        if web is not None:
            web.stop()
    logger().info("stopped")
    return STOPPED
