"""A partition that this worker verifies, and how it is brought back to where it was committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from confluent_kafka import Consumer, KafkaException, TopicPartition

from sealstream.schemas.errors import EpochNotStarted, Unreachable
from sealstream.sinks.verifier.gaps import declared_from
from sealstream.sinks.verifier.loading import Loader
from sealstream.sinks.verifier.output import Change
from sealstream.sinks.verifier.partition import PartitionVerifier
from sealstream.sinks.verifier.records import Outcome
from sealstream.sinks.verifier.resolutions import Resolutions
from sealstream.sinks.verifier.restoring import Log, begin_or_go, is_short, log_damage
from sealstream.sinks.verifier.rules import Rules
from sealstream.sinks.verifier.source import ASK_SECONDS, POLL_SECONDS, Interrupted, SourcePartition, SourceReader
from sealstream.sinks.verifier.state import Position, StateReader
from sealstream.worker.settings import Settings


@dataclass(slots=True)
class Assigned:
    """A partition that this worker verifies.

    Arguments:
        verifier: Its checks.
        source: Its source.
        position: How far it is verified, as committed.
        found: What was found while it was loaded, to be written with the next transaction.
        end: Where audit.chained ended when its end was reached last; -1 if that has not been since.
        idle_since: When its last record came, on the monotonic clock.
    """

    verifier: PartitionVerifier
    source: SourcePartition
    position: Position
    found: Outcome
    end: int = -1
    idle_since: float = field(default_factory=time.monotonic)

    def position_now(self) -> Position:
        """Return how far it is verified, with what no reader sees behind the last record, such as markers.

        Without that, a log that has expired to its end would look as if it had lost something.
        """
        chained, source = self.verifier.chained_position, self.verifier.source_position
        if self.end >= chained:
            chained = self.end
            if not self.verifier.is_waiting:
                source = max(source, self.source.drained_to() or 0)
        return replace(
            self.position,
            chained=chained,
            source=max(source, self.position.source),
            verified=self.verifier.source_position,
            delayed=tuple(self.verifier.delayed),
        )


class Restorer:
    """Restores partitions from what was committed of them.

    Arguments:
        settings: The worker's settings.
        consumer: The group's member that the partitions were assigned to.
        loader: Reads states and windows.
        source: Reads the source partitions; it is assigned those that are gone on with.
        resolutions: What people have resolved.
        topic_ids: The topics' UUIDs, by their names.
        stopping: Whether the worker was told to stop.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        loader: Loader,
        source: SourceReader,
        resolutions: Resolutions,
        *,
        topic_ids: Mapping[str, bytes],
        stopping: Callable[[], bool],
    ) -> None:
        self.damaged: list[Change] = []
        """What is to be recorded of partitions whose logs were found to be damaged."""
        self._topics = settings.topics()
        self._genesis = settings.genesis()
        self._patience_seconds = settings.request_timeout_seconds / 3
        self._consumer = consumer
        self._loader = loader
        self._source = source
        self._resolutions = resolutions
        self._topic_ids = topic_ids
        self._stopping = stopping

    def restore(self, numbers: list[int]) -> dict[int, Assigned]:
        """Return the partitions that are gone on with; the others stand still because of a violation.

        Raises:
            UnsafeState: A partition cannot be gone on with.
            Unreachable: Kafka does not answer.
            Interrupted: The worker was told to stop.
        """
        states = {number: self._loader.state(number, partial(self._committed, number)) for number in numbers}
        positions = {number: self._judge(number, state.position) for number, state in states.items()}
        going = {number: position for number, position in positions.items() if position is not None}
        sources = self._source.assign({number: position.source for number, position in going.items()})
        return {number: self._assigned(number, going[number], states[number], sources[number]) for number in going}

    def _judge(self, number: int, position: Position | None) -> Position | None:
        """Return where to go on with a partition; ``None`` if a violation stops it as a whole."""
        if position is not None and position.stopped:
            return None
        if position is None and self._topics.epoch > 1:
            raise EpochNotStarted(
                f"partition {number}: nothing verified was carried over to epoch {self._topics.epoch}",
                hint="sealstream epoch follow",
            )
        deadline = time.monotonic() + self._patience_seconds
        while True:
            chained, source = (self._log(topic, number) for topic in (self._topics.chained, self._topics.events))
            if not is_short(position, chained, source) or time.monotonic() >= deadline:
                break
            if self._stopping():
                raise Interrupted
            time.sleep(POLL_SECONDS)
        damage = log_damage(number, position, chained, source, self._genesis)
        if damage is None or position is None:
            declared_to = self._declared_to(number, position, source)
            return begin_or_go(number, position, chained, source, self._genesis, declared_to=declared_to)
        stopped = replace(position, stopped=(damage.id,))
        self.damaged.append(Change(number, Outcome(violations=[damage]), stopped))
        return None

    def _assigned(self, number: int, position: Position, state: StateReader, source: SourcePartition) -> Assigned:
        rules = Rules(self._genesis, position.source_topic_id, number)
        verifier = PartitionVerifier(
            rules,
            source,
            chains=state.chains,
            chained_position=position.chained,
            source_position=position.verified,
            delayed=position.delayed,
        )
        found = Outcome()
        for chain, finding in self._loader.tail(number, rules, position, state.chains):
            verifier.report(finding, chain, found)
        self._resolutions.poll()
        found.touched |= {chain.name: chain for chain in state.chains.unsound() if self._resolutions.apply(chain)}
        return Assigned(verifier, source, position, found)

    def _declared_to(self, number: int, position: Position | None, source: Log) -> int:
        """Return the source offset behind what audit.chained next declares lost; 0 if the source has all it needs."""
        chained, at, verified = (
            (0, 0, 0) if position is None else (position.chained, position.source, position.verified)
        )
        if source.start <= at:
            return 0
        records = self._loader.coming(number, chained)
        return declared_from(records, verified, topic_id=source.topic_id, partition=number)

    def _log(self, topic: str, number: int) -> Log:
        return Log(topic, self._topic_ids[topic], *self._loader.bounds(topic, number))

    def _committed(self, number: int) -> int | None:
        try:
            found = self._consumer.committed([TopicPartition(self._topics.chained, number)], timeout=ASK_SECONDS)
        except KafkaException as exception:
            raise Unreachable(f"the group's offsets cannot be read: {exception.args[0].str()}") from exception
        return found[0].offset if found[0].offset >= 0 else None
