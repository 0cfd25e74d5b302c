"""The judge of the verifier's witness: a checkpoint counts for it if it equals what it has computed from Kafka."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from sealstream.kafka.admin import TopicAdmin, TopicState
from sealstream.kafka.topics import TopicNames
from sealstream.schemas.checkpoint import Checkpoint, root_origin
from sealstream.schemas.errors import (
    CheckpointRefused,
    ConfigError,
    InstanceDiffers,
    OriginDiffers,
    SealstreamError,
    SourceExpired,
    Unreachable,
)
from sealstream.schemas.merkle import EMPTY_ROOT
from sealstream.schemas.violation import ROOT_LOG, Violation, ViolationType
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.recomputing.chained_log import ChainedLog
from sealstream.sinks.witness.recomputing.confirming import RETRY_SECONDS
from sealstream.sinks.witness.recomputing.epochs import Epochs
from sealstream.sinks.witness.recomputing.memory import JudgeMemory
from sealstream.sinks.witness.recomputing.middle import Middle
from sealstream.sinks.witness.recomputing.open_violations import OpenViolations
from sealstream.sinks.witness.recomputing.published import PublishedRounds
from sealstream.sinks.witness.recomputing.recomputation import Recomputation
from sealstream.sinks.witness.recomputing.refusal import Refusal
from sealstream.sinks.witness.recomputing.reporting import Reporter
from sealstream.sinks.witness.recomputing.sources import Sources
from sealstream.sinks.witness.recomputing.trees import Changes, Tenants, layered
from sealstream.sinks.witness.recomputing.word import VerifiersWord
from sealstream.worker import metrics
from sealstream.worker.evidence_settings import key_history_of, map_secret_of, policy_of
from sealstream.worker.logs import logger
from sealstream.worker.objects import Objects, open_objects
from sealstream.worker.settings import Settings

WAIT_SECONDS: Final = 6.0
"""How long one question may take before it is answered that the judge is behind; it computes on when asked again."""
_STATE_SECONDS: Final = 600.0
"""How long all of the verifier's state may take to be read: some 100,000 chains a second."""
_CLOSE_SECONDS: Final = 3.0


class RecomputingJudge:
    """Recomputes the rounds of one instance's root log.

    Arguments:
        settings: The witness's settings.
        objects: Where the rounds are published.
        memory: What it remembers; it is closed with this.
        secret: What the nonces of the tenant map are made from.
    """

    def __init__(self, settings: Settings, objects: Objects, memory: JudgeMemory, *, secret: bytes) -> None:
        self._settings = settings
        self._secret = secret
        self._memory = memory
        self._published = PublishedRounds(objects)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._changes = Changes(memory.log())  # what is right, and perhaps not on disk yet
        self._tenants: Tenants | None = None
        self._epochs: Epochs | None = None
        self._reporter: Reporter | None = None
        self._running: Recomputation | None = None
        self._waits_for = "nothing was asked yet"
        self._closed = False

    # -- the judge -----------------------------------------------------------------------------------------------------

    def begin(self, checkpoint: Checkpoint) -> None:
        """Know everything as it was at a checkpoint; see :class:`sealstream.sinks.witness.judging.Judge`.

        It takes as long as the verifier's state, the chains' files and what is left of audit.chained from before the
        checkpoint take to be read.

        Raises:
            ConfigError: The memory has something in it; or a setting is missing.
            CheckpointRefused: What is published does not come to the checkpoint's root.
            UnsafeState: What stands behind the checkpoint is no longer on audit.chained; or the topics are another
                instance's.
            Unreachable, StoreError: Kafka, the storage or the memory does not answer.
        """
        self._check_origin(checkpoint)
        with self._lock:
            if self._changes.log.size:
                raise ConfigError(
                    "--from-checkpoint is given, and the witness has recomputed rounds already",
                    hint="take it away; or begin with another file, SEALSTREAM_WITNESS_PATH",
                )
            if checkpoint.size == 0:
                return
            settings = self._settings
            known, history = policy_of(settings), key_history_of(settings)
            logs = [log.key for log in known.logs if log.key.name == checkpoint.origin]
            keys = [dated.key for key in logs for dated in history.lineage(key)]
            middle = Middle(self._published, keys, instance=settings.instance, secret=self._secret)
            changes = middle.begin(checkpoint, self._verified_epochs())
            with self._writing:
                self._changes = changes

    def judge(self, checkpoint: Checkpoint) -> None:
        """Return if the checkpoint is what was computed here; see :class:`sealstream.sinks.witness.judging.Judge`.

        Raises:
            Behind: The verifier, the published rounds, or the computing have not come so far.
            Untrusted: It is another one.
            UnsafeState: It cannot be recomputed from what Kafka has.
            Unreachable, StoreError: Kafka, the storage or the memory does not answer.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        self._check_origin(checkpoint)
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise Behind("another question is being answered", retry_after_seconds=RETRY_SECONDS)
        try:
            self._judge(checkpoint, deadline)
            self._waits_for = ""
        except Behind as behind:
            self._waits_for = behind.reason
            raise
        except Refusal as refusal:
            self._drop()
            self._refuse(refusal)
            raise refusal.error from None
        except SealstreamError as error:
            self._waits_for = error.message
            self._forget()
            raise
        except BaseException:
            self._forget()
            raise
        finally:
            self._lock.release()

    def witnessed(self, checkpoint: Checkpoint, connection: sqlite3.Connection) -> None:
        """Write what is right and not on disk yet, in the transaction of the cosignature.

        Raises:
            Behind: Nothing is known of the checkpoint's size: it has to be judged first.
            Untrusted: Another root was computed.
        """
        with self._writing:
            changes = self._changes
            known = changes.roots.get(checkpoint.size) or self._memory.root(checkpoint.size)
            if checkpoint.size and known is None:
                raise Behind("it is not recomputed yet", retry_after_seconds=RETRY_SECONDS)
            if checkpoint.size and known != checkpoint.root:
                raise CheckpointRefused("another root was recomputed for this size")
            if changes.roots:
                self._memory.write(connection, changes)

    def ready(self) -> tuple[bool, str]:
        """Return whether the judge has come to the last checkpoint that it was asked about."""
        waits_for = self._waits_for
        return (False, waits_for) if waits_for else (True, f"recomputed {self._changes.log.size} rounds")

    def close(self) -> None:
        """Close what is open, in bounded time."""
        self._closed = True
        thread = threading.Thread(target=self._close, name="close", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)
        if thread.is_alive():
            logger().warning("the judge's connections did not close in time", timeout_seconds=_CLOSE_SECONDS)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check_origin(self, checkpoint: Checkpoint) -> None:
        if checkpoint.origin != root_origin(self._settings.instance):
            raise OriginDiffers(
                f"the checkpoint is of {checkpoint.origin[:200]!r}, not of {self._settings.instance}",
                hint="a recomputing witness knows one log: have others witnessed by another witness",
            )

    def _verified_epochs(self) -> list[Sources]:
        """Return the epochs that are read, once all that the verifier has said of them is known.

        Raises:
            Unreachable: It has said nothing, or it cannot be read.
        """
        epochs = self._open_epochs()
        older = epochs.older()
        found = [epochs.newest] if older is None else [older, epochs.newest]
        for sources in found:
            if not sources.word.refresh(time.monotonic() + _STATE_SECONDS):
                raise Unreachable("the verifier's state could not be read in time", hint="see how large it is")
        if epochs.newest.topic_id() is None:
            raise Unreachable("nothing is verified yet", hint="start the verifier: the witness believes its word")
        return found

    def _judge(self, checkpoint: Checkpoint, deadline: float) -> None:
        if self._closed:
            raise Behind("it ends", retry_after_seconds=RETRY_SECONDS)
        self._settle()
        while True:
            if checkpoint.size <= self._changes.log.size:
                self._compare(checkpoint)
                return
            running = self._running
            if running is None or running.checkpoint.size > checkpoint.size:
                self._running = running = self._begin(checkpoint)
            running.advance(deadline)
            self._take_in(running)

    def _compare(self, checkpoint: Checkpoint) -> None:
        """Compare a checkpoint with the root that was computed for its size."""
        size = checkpoint.size
        ours = EMPTY_ROOT if size == 0 else self._changes.roots.get(size) or self._memory.root(size)
        if ours is None:
            raise CheckpointRefused(f"the root at size {size} is not known any more")
        if ours == checkpoint.root:
            return
        message = f"the root at size {size} is signed as another one than was recomputed"
        violation = Violation(
            type=ViolationType.FORK,
            tenant=ROOT_LOG,
            message=message,
            instance=self._settings.instance,
            expected=ours.hex(),
            found=checkpoint.root.hex(),
        )
        raise Refusal(CheckpointRefused(message, hint="the log shows two histories"), violation)

    def _begin(self, checkpoint: Checkpoint) -> Recomputation:
        epochs, epoch = self._open_epochs(), self._settings.epoch
        if self._changes.log.size == 0 and epoch > 1 and (epoch > 2 or epochs.older() is None):
            raise SourceExpired(
                f"the witness remembers nothing of the epochs before epoch {epoch}",
                hint="start it with the settings of the first epoch; or in the middle: --from-checkpoint",
            )
        epochs.needed = False
        load = layered(self._changes.chains, below=self._memory.chain)
        if self._tenants is None:
            self._tenants = self._all_tenants()
        return Recomputation(epochs, checkpoint, log=self._changes.log, load=load, tenants=self._tenants)

    def _all_tenants(self) -> Tenants:
        """Return the map of all chains as they are known to be right."""
        tenants = Tenants(self._secret, self._memory.chains())
        tenants.update(self._changes.chains.items())
        return tenants

    def _take_in(self, running: Recomputation) -> None:
        """Count what a recomputation has found right; it is written with the cosignature."""
        found = running.changes
        with self._writing:
            before = self._changes
            self._changes = Changes(found.log, before.chains | found.chains, before.roots | found.roots)
        self._running = None
        if self._epochs is not None and running.covers and running.is_newest and not self._epochs.needed:
            self._epochs.let_go()
        metrics.WITNESS_RECOMPUTED_ENTRIES.inc(running.entries)
        metrics.WITNESS_RECOMPUTED_ROUNDS.inc(len(found.roots))
        logger().info("rounds recomputed", rounds=len(found.roots), size=found.log.size, chains=len(found.chains))

    def _settle(self) -> None:
        """Let go of what is on disk by now. A transaction that was rolled back is written again by the next one."""
        with self._writing:
            if self._changes.roots and self._memory.size == self._changes.log.size:
                self._changes = Changes(self._changes.log)

    def _drop(self) -> None:
        """Throw a recomputation away: the next one begins from what is right."""
        if self._running is not None:
            self._running = None
            self._tenants = None  # it was brought forward by rounds that do not count

    def _forget(self) -> None:
        """Throw a recomputation away, and the connections with it."""
        self._drop()
        self._close_epochs()

    def _refuse(self, refusal: Refusal) -> None:
        violation = refusal.violation
        kind = "open" if violation is None else violation.type.value
        metrics.WITNESS_REFUSED_ROUNDS.labels(kind).inc()
        self._waits_for = "the last checkpoint was refused"
        error = refusal.error
        logger().error("checkpoint refused", reason=error.message, hint=error.hint, error=type(error).__name__)
        if violation is not None:
            if self._reporter is None:
                topic = self._settings.topics().violations
                self._reporter = Reporter(self._settings.connection(), topic, client_id=self._client_id)
            self._reporter(violation)

    @property
    def _client_id(self) -> str:
        return f"{self._settings.instance}-witness-{self._settings.member()}"

    def _open_epochs(self) -> Epochs:
        """Return the connections to Kafka, made if there are none.

        Raises:
            Unreachable: A topic is not there.
            InstanceDiffers: A topic has another number of partitions.
        """
        if self._epochs is None:
            settings, topics = self._settings, self._settings.topics()
            states = self._describe(topics)
            for name in (topics.chained, topics.verifier):
                if name not in states:
                    raise Unreachable(f"the topic {name} does not exist", hint="sealstream topics create")
                if states[name].partitions != settings.partitions:
                    raise InstanceDiffers(
                        f"{name} has {states[name].partitions} partitions, and this witness is set up for"
                        f" {settings.partitions}",
                        hint="set SEALSTREAM_PARTITIONS to what genesis pins",
                    )
            violations = OpenViolations(settings.connection(), topics.violations, client_id=self._client_id)
            self._epochs = Epochs(self._connect(topics, states, violations), partial(self._open_older, violations))
        return self._epochs

    def _open_older(self, violations: OpenViolations) -> Sources | None:
        """Open the epoch before that of the settings; return ``None`` if it is not on this cluster.

        Raises:
            InstanceDiffers: Its topics have different numbers of partitions.
            Unreachable: Kafka does not answer.
        """
        if self._settings.epoch == 1:
            return None
        topics = replace(self._settings.topics(), epoch=self._settings.epoch - 1)
        states = self._describe(topics)
        if not states.keys() >= {topics.chained, topics.verifier}:
            return None
        if states[topics.chained].partitions != states[topics.verifier].partitions:
            raise InstanceDiffers(
                f"{topics.chained} and {topics.verifier} have different numbers of partitions",
                hint="one of them was made anew: see who did",
            )
        logger().info("the epoch before is opened: rounds of it are left", epoch=topics.epoch)
        return self._connect(topics, states, violations)

    def _describe(self, topics: TopicNames) -> Mapping[str, TopicState]:
        admin = TopicAdmin(self._settings.connection(), timeout_seconds=WAIT_SECONDS / 2)
        return admin.describe((topics.chained, topics.verifier))

    def _connect(self, topics: TopicNames, states: Mapping[str, TopicState], violations: OpenViolations) -> Sources:
        connection, name = self._settings.connection(), f"{self._client_id}-e{topics.epoch}"
        partitions = states[topics.chained].partitions
        return Sources(
            VerifiersWord(
                connection,
                topics.verifier,
                partitions=partitions,
                instance=self._settings.instance,
                chained_topic_id=states[topics.chained].topic_id,
                client_id=name,
            ),
            ChainedLog(connection, topics.chained, client_id=name),
            violations,
            self._published,
            instance=self._settings.instance,
            partitions=partitions,
        )

    def _close_epochs(self) -> None:
        epochs, self._epochs = self._epochs, None
        if epochs is not None:
            epochs.close()

    def _close(self) -> None:
        with self._lock:
            self._close_epochs()
            self._memory.close()


def open_judge(settings: Settings, path: Path) -> RecomputingJudge:
    """Return the judge of ``sealstream witness --recompute``.

    Arguments:
        settings: How to reach Kafka, whose log it is, where its rounds are published, and the map's secret.
        path: The witness's SQLite file, which the witness has made.

    Raises:
        ConfigError: A setting is missing or malformed.
        InstanceDiffers: The file was filled for another instance, or with another secret.
        StoreError: The file cannot be used.
    """
    if not settings.log_storage:
        raise ConfigError("SEALSTREAM_LOG_STORAGE is not set", hint="name where the notary publishes the rounds")
    settings.connection()
    secret = map_secret_of(settings)
    objects = open_objects(settings.log_storage, timeout_seconds=WAIT_SECONDS / 2)
    return RecomputingJudge(
        settings, objects, JudgeMemory(path, instance=settings.instance, secret=secret), secret=secret
    )
