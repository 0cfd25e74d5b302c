"""The worker ``sealstream notary``: a round after the other, until it is told to stop or must not go on."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from sealstream.schemas.errors import ConfigError, SealstreamError, Unreachable
from sealstream.schemas.keys import parse_key
from sealstream.sinks.notary.anchors.anchor import Anchor, Anchored, Checkpointed
from sealstream.sinks.notary.anchors.locking import LockAnchor
from sealstream.sinks.notary.anchors.schedule import AnchorSchedule
from sealstream.sinks.notary.anchors.timestamps import TimestampAnchor
from sealstream.sinks.notary.asking import WitnessAsker
from sealstream.sinks.notary.checkpoint_topic import CheckpointTopic
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.finishing import POINTS, Parts
from sealstream.sinks.notary.halts import known_keys
from sealstream.sinks.notary.naming import log_fields
from sealstream.sinks.notary.notary import Notary
from sealstream.sinks.notary.publishing import Publisher
from sealstream.sinks.notary.round_files import RoundFiles
from sealstream.sinks.notary.signing import LogSigner
from sealstream.sinks.notary.stored import Store
from sealstream.worker import logs, memory, metrics
from sealstream.worker.evidence_settings import key_history_of, map_secret_of, policy_of
from sealstream.worker.failpoints import Failpoints
from sealstream.worker.logs import logger
from sealstream.worker.objects import Objects, open_objects
from sealstream.worker.settings import Settings, load_settings
from sealstream.worker.stop import END_SECONDS, StopSignal
from sealstream.worker.web import WorkerWeb

STOPPED: Final = 0
FAILED: Final = 1
MISCONFIGURED: Final = 2

PAUSE_SECONDS_MIN: Final = 0.2
PAUSE_SECONDS_MAX: Final = 5.0
LOOK_SECONDS: Final = 0.25
"""How often the worker looks whether it is time for the next round, or to stop."""
PATIENCE_SECONDS_MAX: Final = 30.0
"""How long the witnesses of one round are asked, at most: the next round asks them again."""
STUCK_SECONDS: Final = 300.0
"""Longer than any bounded wait of a round, and than a round with as many entries as one may have."""
CLIENT_ID: Final = "sealstream-notary"


class NotaryWorker:
    """The worker's loop, and what its web port says of it.

    Arguments:
        settings: Its settings.
        stop: Says when to stop.

    Raises:
        ConfigError: A setting is missing or cannot be used.
        FormatError: The key, the policy or the rotations are malformed.
    """

    def __init__(self, settings: Settings, stop: StopSignal) -> None:
        self._settings = settings
        self._stop = stop
        self._notary, self._parts = assemble(settings)
        self._anchors = anchors_of(settings)
        self._schedule: AnchorSchedule | None = None
        self._anchored: list[tuple[str, Anchored]] = []
        self._patience_seconds = min(PATIENCE_SECONDS_MAX, max(1.0, settings.round_seconds))
        self._next_at = 0.0
        self._pause_seconds = 0.0
        self._is_alarmed = False
        self._without_quorum_since: float | None = None
        # Read by the web port's threads.
        self._turned_at = time.monotonic()
        self._waits_for = "starting"
        metrics.NOTARY_UNWITNESSED_SECONDS.set_function(self.unwitnessed_seconds)

    def run(self) -> None:
        """Work until the stop signal.

        Raises:
            UnsafeState: Going on could sign what is not so.
            StoreError: A database or the storage refuses, or the store is damaged.
            Untrusted: What stands in the place of a checkpoint is not this log's.
        """
        while not self._stopping():
            self._watch()
            try:
                self._step()
            except Unreachable as error:
                self._wait(error)

    def close(self) -> None:
        """Close all connections."""
        self._parts.database.close()
        self._parts.store.close()

    def healthy(self) -> bool:
        """Return whether the loop turns."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    def ready(self) -> tuple[bool, str]:
        """Return whether rounds are made and witnessed in time, and in words what is waited for."""
        if self._waits_for:
            return False, self._waits_for
        age = self.unwitnessed_seconds()
        if age > self._settings.round_age_seconds_max:
            return False, f"an entry has waited for a witnessed checkpoint for {age:.0f} s"
        silence = self.silence_seconds()
        if silence > self._settings.round_age_seconds_max:
            return False, f"no round has got its quorum of witnesses for {silence:.0f} s"
        words = f"round {self._notary.size - 1} of {self._notary.chains} chains"
        return True, f"{words}, without its quorum so far" if silence else words

    def unwitnessed_seconds(self) -> float:
        """Return the age of the oldest stored entry that no witnessed checkpoint covers; 0 if there is none."""
        oldest = self._notary.oldest
        return 0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())

    def silence_seconds(self) -> float:
        """Return for how long no round has got its quorum, entries or none: silence is witnessed, too; 0 if one has."""
        since = self._without_quorum_since
        return 0.0 if since is None else time.monotonic() - since

    def _stopping(self) -> bool:
        """Return whether to stop; every wait asks this again and again, and so shows that it turns."""
        self._turned_at = time.monotonic()
        return self._stop.is_set()

    def _step(self) -> None:
        notary = self._notary
        if not notary.is_open:
            self._waits_for = self._waits_for or "opening"
            notary.open()
            self._next_at = time.monotonic()
            self._finish()
        finishing = notary.finishing
        if finishing is not None and (
            not finishing.is_signed or (finishing.is_witnessed and not finishing.is_published)
        ):
            self._finish()
        elif time.monotonic() >= self._next_at:
            self._turn()
            self._finish()
        else:
            self._stop.wait(min(LOOK_SECONDS, max(0.0, self._next_at - time.monotonic())))
        self._anchor()
        self._pause_seconds, self._waits_for = 0.0, ""

    def _anchor(self) -> None:
        """Let what is public be anchored outside, beside the rounds, and remember what was."""
        if not self._anchors:
            return
        database = self._parts.database
        if self._schedule is None:
            timestamped, locked = database.last_anchored()
            last = {TimestampAnchor.name: timestamped, LockAnchor.name: locked}
            self._schedule = AnchorSchedule(self._anchors, last, interval_seconds=self._settings.timestamp_seconds)
        finishing = self._notary.finishing
        public = None
        if finishing is not None and finishing.is_published:
            public = Checkpointed(finishing.made.round, finishing.note)
        self._anchored += self._schedule.look(public)
        while self._anchored:
            # A crash here leaves an anchor that nobody remembers: another one is set after the next start.
            name, anchored = self._anchored[0]
            if name == TimestampAnchor.name:
                database.keep_timestamp(anchored.round, anchored.token, anchored.at)
            else:
                database.keep_locked(anchored.round)
            del self._anchored[0]

    def _turn(self) -> None:
        began_at = time.monotonic()
        try:
            turned = self._notary.turn()
        except Unreachable:
            # Whether the round was committed to is not known here. The database knows.
            self._notary.forget()
            raise
        seconds = time.monotonic() - began_at
        metrics.NOTARY_ROUNDS.inc()
        metrics.NOTARY_ROUND_SECONDS.observe(seconds)
        metrics.NOTARY_ENTRIES.inc(turned.entries)
        metrics.NOTARY_SCRUBBED_ENTRIES.inc(turned.scrubbed)
        metrics.NOTARY_CHAINS.set(self._notary.chains)
        metrics.NOTARY_COMMITTED.set(self._notary.size)
        # What is late is not made up for; what the store still has is read at once.
        self._next_at = max(began_at, self._next_at) + (0.0 if turned.more else self._settings.round_seconds)
        logger().info(
            "round", round=turned.round, chains=turned.chains, entries=turned.entries, seconds=round(seconds, 3)
        )

    def _finish(self) -> None:
        """Bring the last round before the public; without its quorum the next one asks again."""
        finishing = self._notary.finishing
        is_public = self._notary.finish(patience_seconds=self._patience_seconds, stopping=self._stopping)
        if is_public and finishing is not None:
            metrics.NOTARY_WITNESSED.set(finishing.made.size)
        if finishing is not None and finishing.is_witnessed:
            self._without_quorum_since = None
        elif finishing is not None and self._without_quorum_since is None:
            self._without_quorum_since = time.monotonic()

    def _watch(self) -> None:
        """Say once that entries, or silence, wait for too long, and once that they do not any more."""
        age = max(self.unwitnessed_seconds(), self.silence_seconds())
        alarmed = age > self._settings.round_age_seconds_max
        if alarmed and not self._is_alarmed:
            logger().error(
                "the log waits for a witnessed checkpoint for too long",
                age_seconds=round(age),
                age_seconds_max=self._settings.round_age_seconds_max,
                hint="look at the witnesses, and at what /readyz waits for: nothing of it can be proven to others yet",
            )
        elif self._is_alarmed and not alarmed:
            logger().info("the log is witnessed in time again")
        self._is_alarmed = alarmed

    def _wait(self, error: Unreachable) -> None:
        self._waits_for = str(error)
        self._pause_seconds = min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, self._pause_seconds * 2))
        logger().warning("waiting", reason=error.message, hint=error.hint, pause_seconds=self._pause_seconds)
        self._stop.wait(self._pause_seconds)


def assemble(settings: Settings) -> tuple[Notary, Parts]:
    """Return the notary that settings describe, and what it works with. Nothing is asked of a server yet.

    Raises:
        ConfigError: A setting is missing or cannot be used.
        FormatError: The key, the policy or the rotations are malformed.
    """
    key = parse_key(_required(settings.log_key.get_secret_value(), "LOG_KEY", "sealstream keys new writes it"))
    policy, history = policy_of(settings), key_history_of(settings)
    storage = _required(settings.log_storage, "LOG_STORAGE", "a directory, or an s3://, gs:// or az:// URL")
    url = _required(
        settings.notary_database.get_secret_value(), "NOTARY_DATABASE", "not the store's, nor restored together with it"
    )
    signer = LogSigner(settings.instance, [key])
    points = Failpoints.from_environment(POINTS)
    objects: Objects = open_objects(storage, timeout_seconds=settings.request_timeout_seconds)
    topic = CheckpointTopic(
        settings.connection(),
        topic=settings.topics().checkpoints,
        client_id=CLIENT_ID,
        timeout_seconds=settings.request_timeout_seconds,
    )
    parts = Parts(
        database=NotaryDatabase(url, timeout_seconds=settings.request_timeout_seconds),
        store=Store(
            settings.database_url(), instance=settings.instance, timeout_seconds=settings.request_timeout_seconds
        ),
        files=RoundFiles(objects),
        signer=signer,
        publisher=Publisher(objects, topic, signer, instance=settings.instance, points=points),
        asker=WitnessAsker(policy, history, objects, origin=signer.origin),
        points=points,
    )
    keys = (*signer.verifiers, *known_keys(signer.verifiers, history))
    return Notary(settings.instance, map_secret_of(settings), tuple(dict.fromkeys(keys)), parts), parts


def anchors_of(settings: Settings) -> list[Anchor]:
    """Return the anchors that settings ask for; none is fine.

    Raises:
        ConfigError: A URL is none.
    """
    found: list[Anchor] = []
    if settings.timestamp_url:
        roots = _required(settings.timestamp_roots, "TIMESTAMP_ROOTS", "certificates (PEM) that a timestamp leads to")
        found.append(TimestampAnchor(settings.timestamp_url, roots, open_objects(settings.log_storage)))
    if settings.lock_storage:
        found.append(LockAnchor(settings.lock_storage, days=settings.lock_days))
    return found


def _required(value: str, name: str, hint: str) -> str:
    if not value.strip():
        raise ConfigError(f"SEALSTREAM_{name} is not set", hint=hint)
    return value


def run(settings: Settings) -> int:
    """Run the worker until SIGTERM or SIGINT.

    Returns:
        0 after an orderly stop; 1 after an error that needs a person, 2 where the settings are at fault. The error
        stands in the log with what to do.
    """
    logs.configure("notary", level=settings.log_level, format=settings.log_format)
    stop = StopSignal()
    stop.install(end_within_seconds=END_SECONDS)
    web: WorkerWeb | None = None
    worker: NotaryWorker | None = None
    try:
        worker = NotaryWorker(settings, stop)
        web = WorkerWeb(settings.web_host, settings.web_port, healthy=worker.healthy, ready=worker.ready)
        web.start()
        memory.tune()
        worker.run()
    except SealstreamError as error:
        logger().error(error.message, error=type(error).__name__, hint=error.hint, **log_fields(error))
        return MISCONFIGURED if isinstance(error, ConfigError) else FAILED
    finally:
        if worker is not None:
            worker.close()
        if web is not None:
            web.stop()
    logger().info("stopped in order")
    return STOPPED


def main() -> int:
    """Run the worker with the settings that the environment gives, and return its exit code."""
    try:
        settings = load_settings()
    except SealstreamError as error:
        logs.configure("notary")
        logger().error(error.message, error=type(error).__name__, hint=error.hint)
        return MISCONFIGURED
    return run(settings)
