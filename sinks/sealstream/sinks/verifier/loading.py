"""How a partition's verifier comes back: its state from audit.verifier, its duplicate window from audit.chained."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, cast

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.kafka.watermarks import watermarks
from sealstream.schemas.entry import WINDOW_KINDS, Entry, entry_hash
from sealstream.schemas.errors import HeadsDiffer, SourceExpired, Unreachable
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.verifier.chains import Chains
from sealstream.sinks.verifier.clients import reader
from sealstream.sinks.verifier.diagnosis import Finding, claim_of
from sealstream.sinks.verifier.records import Chain, ChainedRecord, Head, chained_record
from sealstream.sinks.verifier.rules import Rules
from sealstream.sinks.verifier.source import ASK_SECONDS, FETCH_RECORDS, POLL_SECONDS, Interrupted, is_passing
from sealstream.sinks.verifier.state import Position, StateReader
from sealstream.sinks.verifier.window import MICROSECONDS, name_of
from sealstream.worker.logs import logger

RECENT_ENTRIES: Final = 65_536
"""How many entries back the one that was verified last is looked for."""
SETTLING_PAUSE_SECONDS: Final = 0.5
STOP_LOOK_SECONDS: Final = 0.05
"""How often a pause looks whether the worker was told to stop."""


class Loader:
    """Reads what a partition's verifier needs to go on.

    Arguments:
        connection: How to reach Kafka.
        topics: The topics' names.
        client_id: The client's name in the brokers' logs.
        stopping: Whether the worker was told to stop.
        timeout_seconds: How long each wait may take.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: TopicNames,
        *,
        client_id: str,
        stopping: Callable[[], bool],
        timeout_seconds: float,
    ) -> None:
        self._topics = topics
        self._stopping = stopping
        self._timeout_seconds = timeout_seconds
        self._consumer = reader(connection, client_id)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def bounds(self, topic: str, number: int) -> tuple[int, int]:
        """Return the first offset of a partition, and the one behind the last that a read_committed reader sees.

        Raises:
            Unreachable: Kafka does not answer.
        """
        try:
            return watermarks(self._consumer, topic, number, timeout_seconds=ASK_SECONDS)
        except KafkaException as exception:
            raise Unreachable(f"the bounds of {topic} cannot be read: {exception.args[0].str()}") from exception

    def state(self, number: int, committed: Callable[[], int | None]) -> StateReader:
        """Return a partition's state once it equals the group's committed offset.

        A transaction that a predecessor had under way may surface in one of the two before the other: both are read
        again until they agree.

        Raises:
            HeadsDiffer: They do not agree in time.
            Unreachable: Kafka does not answer.
        """
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            at = committed()
            state = StateReader(number)
            for message in self._read(self._topics.verifier, number, OFFSET_BEGINNING, None):
                state.feed(message.key(), message.value())
            state.chains.rest()
            position = None if state.position is None else state.position.chained
            if at == position:
                return state
            if at is None:
                # Offsets of a group that nobody was a member of for long expire; the state does not.
                logger().warning("the group has no committed offset; going on from the state", partition=number)
                return state
            if time.monotonic() >= deadline:
                raise HeadsDiffer(
                    f"partition {number} is verified up to {position} by audit.verifier, and up to {at} by its group",
                    hint="somebody moved the group's offsets or emptied audit.verifier; undo that, or begin again with"
                    " neither",
                )
            logger().info("waiting for audit.verifier to equal the committed offset", partition=number)
            self._pause()

    def tail(self, number: int, rules: Rules, position: Position, chains: Chains) -> list[tuple[Chain, Finding]]:
        """Fill a partition's window from the records that were verified already, and compare these with the state.

        Returns:
            The chains whose last entry is no longer the one that was verified, and what is wrong with them.

        Raises:
            SourceExpired: Records of the window are gone.
            Unreachable: Kafka does not answer.
        """
        recent: deque[bytes] = deque(maxlen=RECENT_ENTRIES)
        last: dict[bytes, tuple[int, bytes]] = {}
        oldest = position.source - rules.genesis.window_offsets
        first: Entry | None = None
        latest = at = 0
        low, _ = self.bounds(self._topics.chained, number)
        start = self._tail_start(number, low, position, oldest)
        for message in self._read(self._topics.chained, number, start, position.chained):
            record = chained_record(message)
            entry = claim_of(record)
            if entry is None or record.entry is None or not rules.is_here(entry) or entry.offset < at:
                continue  # was reported when it was met
            first, at = first or entry, entry.offset
            latest = max(latest, entry.received)
            name, digest = entry.tenant.encode(), entry_hash(record.entry)
            recent.append(digest)
            last[name] = (entry.seq, digest)
            if entry.kind in WINDOW_KINDS and entry.offset >= oldest:
                event = name_of(name, entry.event_id.encode())
                rules.window.add(event, entry.offset, entry.received, entry.payload, entry.seq)
        age = rules.genesis.window_seconds * MICROSECONDS
        if low > 0 and first is not None and first.offset > oldest and first.received >= latest - age:
            raise SourceExpired(
                f"{self._topics.chained} partition {number} begins within the duplicate window, at offset {low}",
                hint="its retention must be longer than the window by two days: sealstream topics check",
            )
        suspects = [(chains.get(name), end) for name, end in last.items()]
        return [(chain, _altered(chain, end)) for chain, end in suspects if chain and _is_gone(chain, end, recent)]

    def coming(self, number: int, start: int) -> Iterator[ChainedRecord]:
        """Return what stands on audit.chained from an offset on, to its present end.

        Raises:
            Unreachable: Nothing came for too long.
            Interrupted: The worker was told to stop.
        """
        return map(chained_record, self._read(self._topics.chained, number, start, None))

    def _tail_start(self, number: int, low: int, position: Position, oldest: int) -> int:
        """Return an offset of audit.chained from which the whole window follows, not much further back than needed.

        Transactions' markers and geneses take offsets too, so the distance is not known: it is doubled until it fits.
        """
        distance = 2 * max(position.source - max(oldest, 0), 1)
        while True:
            start = max(low, position.chained - distance)
            if start <= low:
                return low
            message = next(self._read(self._topics.chained, number, start, position.chained), None)
            entry = None if message is None else claim_of(chained_record(message))
            if entry is not None and entry.offset <= oldest:
                return start
            distance *= 2

    def _read(self, topic: str, number: int, start: int, end: int | None) -> Iterator[Message]:
        """Read a partition from an offset up to another one, or to its end.

        Raises:
            Unreachable: Nothing came for too long.
            Interrupted: The worker was told to stop.
        """
        self._consumer.assign([TopicPartition(topic, number, start)])
        deadline = time.monotonic() + self._timeout_seconds
        try:
            while time.monotonic() < deadline:
                if self._stopping():
                    raise Interrupted
                for message in self._consumer.consume(FETCH_RECORDS, POLL_SECONDS):
                    error = message.error()
                    if error is None:
                        deadline = time.monotonic() + self._timeout_seconds
                        if end is not None and cast("int", message.offset()) >= end:
                            return
                        yield message
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return
                    elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                        raise Unreachable(f"{topic} partition {number} moved its start while it was read")
                    else:
                        is_passing(error)
        finally:
            self._consumer.unassign()
        raise Unreachable(f"{topic} partition {number} was not read to its end in {self._timeout_seconds:.0f} s")

    def _pause(self) -> None:
        deadline = time.monotonic() + SETTLING_PAUSE_SECONDS
        while time.monotonic() < deadline:
            if self._stopping():
                raise Interrupted
            time.sleep(STOP_LOOK_SECONDS)


def _is_gone(chain: Chain, end: tuple[int, bytes], recent: deque[bytes]) -> bool:
    """Return whether the entry verified last is not there any more, in a chain that nothing at fault was left in."""
    if chain.open or chain.unreported or chain.missing or chain.other:
        return False
    return end != (chain.head.seq - 1, chain.head.prev) and chain.head.prev not in recent


def _altered(chain: Chain, end: tuple[int, bytes]) -> Finding:
    """Return what is wrong with a chain; what stands in the place of its last entry is where it may go on."""
    message = "audit.chained no longer holds the entry that was verified last"
    seq, digest = end
    if seq == chain.head.seq - 1:
        chain.other = Head(seq + 1, digest)
    return Finding(ViolationType.EDITED, chain.name.decode(), chain.head.seq - 1, None, message)
