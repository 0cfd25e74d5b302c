"""The ceiling: one tight loop over confluent-kafka that makes the processor's bytes, for sound events only.

It has what the work needs and nothing else: no recovery, no restore, no check of its place, no dead letters, no process
around it. What is wrong with a record ends it. It is tuned as the processor is, and shares no code with it that chains.
"""

from __future__ import annotations

import gc
import json
import struct
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from sealstream.kafka.partition import partition_of
from sealstream.worker.memory import tune

_LABEL: Final = b"sealstream1\n"
_PAYLOAD: Final = b"sealstream/payload1\n"
_HEAD: Final = struct.Struct(">BQ32s")
_BATCH_RECORDS: Final = 10_000
SWITCH_SECONDS: Final = 0.0005
_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a peer is given, as JSON, which is the same for every peer.

    Arguments:
        bootstrap: The brokers.
        source: The topic to read.
        chained: The topic for sealed records.
        heads: The topic for the ends of chains.
        group: The consumer group, and what the transactional id begins with.
        topic_id: The source's UUID in hex.
        genesis: The payload of each genesis entry.
        partitions: Number of partitions.
        window_offsets: The duplicate window in offsets.
        window_seconds: The duplicate window in seconds.
        batch_records: Records of one transaction at most.
    """

    bootstrap: str
    source: str
    chained: str
    heads: str
    group: str
    topic_id: str
    genesis: str
    partitions: int
    window_offsets: int
    window_seconds: int
    batch_records: int = _BATCH_RECORDS


def consumer_settings(task: Task) -> dict[str, Any]:
    """Return the consumer's settings: those that were found to matter for the processor."""
    return {
        "bootstrap.servers": task.bootstrap,
        "group.id": task.group,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "partition.assignment.strategy": "range",
        "check.crcs": True,
        "fetch.queue.backoff.ms": 2,
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 131_072,
        "fetch.message.max.bytes": 2_097_152,
    }


def producer_settings(task: Task) -> dict[str, Any]:
    """Return the producer's settings, likewise."""
    return {
        "bootstrap.servers": task.bootstrap,
        "transactional.id": f"{task.group}-0",
        "transaction.timeout.ms": 10_000,
        "compression.type": "lz4",
        "linger.ms": 100,
        "batch.size": 2_000_000,
        "batch.num.messages": 10_000,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 262_144,
        "retry.backoff.ms": 5,
        "delivery.report.only.error": True,
    }


class _Window:
    """Two generations of records that later ones can repeat, by tenant and id."""

    def __init__(self) -> None:
        self.current: dict[bytes, tuple[int, int, int, bytes]] = {}
        self.previous: dict[bytes, tuple[int, int, int, bytes]] = {}
        self.turn = 0

    def turn_over(self, offset: int, offsets: int) -> None:
        """Forget the older generation: all of it lies too far back."""
        self.previous, self.current, self.turn = self.current, {}, offset + offsets


def run(task: Task) -> None:
    """Chain until the process is ended."""
    tune()  # in one thread's memory, as the processor
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.disable()  # nothing here is a cycle
    consumer, producer = Consumer(consumer_settings(task)), Producer(producer_settings(task))
    producer.init_transactions(30)
    consumer.subscribe([task.source])
    chain, ending, ends = _Chain(task, producer), ThreadPoolExecutor(1), Future[None]()
    ends.set_result(None)
    while True:
        first = consumer.poll(0.1)
        if first is None:
            continue
        chain.chain([first, *consumer.consume(task.batch_records - 1, 0)])
        ends.result()
        producer.begin_transaction()
        positions = chain.produce()
        ends = ending.submit(_end, producer, positions, consumer.consumer_group_metadata())


def _end(producer: Producer, positions: list[TopicPartition], membership: Any) -> None:
    """End a transaction, while the next records are chained."""
    producer.send_offsets_to_transaction(positions, membership)
    producer.commit_transaction()


class _Chain:
    """Entries out of records.

    Arguments:
        task: What to do.
        producer: Where they go.
    """

    def __init__(self, task: Task, producer: Producer) -> None:
        self._task = task
        self._producer = producer
        self._topic_id = bytes.fromhex(task.topic_id)
        self._genesis = task.genesis.encode()
        self._windows = [_Window() for _ in range(task.partitions)]
        self._positions: dict[int, tuple[int, int]] = {}
        self._grown: dict[bytes, list[Any]] = {}
        # By tenant: seq to come, last hash, partition, what an entry of kind 1 begins with.
        self._ends: dict[bytes, list[Any]] = {}
        self._packers: dict[tuple[int, int], struct.Struct] = {}
        self._sealed: list[tuple[bytes, bytes, int, bytes]] = []  # value, key, partition, entry

    def chain(self, messages: list[Any]) -> None:
        """Seal records; all in one flat loop, for that is what makes it the ceiling."""
        task, append, topic_id = self._task, self._sealed.append, self._topic_id
        ends, grown, windows, positions = self._ends, self._grown, self._windows, self._positions
        packers, offsets, age = self._packers, task.window_offsets, task.window_seconds * 1_000_000
        for message in messages:
            if message.error() is not None:
                raise KafkaErrorMet(message.error())
            key, value, offset = message.key(), message.value(), message.offset()
            partition: int = message.partition()
            time_type, milliseconds = message.timestamp()
            received = milliseconds * 1000
            id_size = value[10] >> 1
            id_end = 11 + id_size
            event_id, tenant_end = value[11:id_end], id_end + 1 + len(key)
            if value[id_end + 1 : tenant_end] != key or event_id.translate(None, _ID_BYTES) or time_type != 2:
                raise ValueError("a record is not sound")
            end = ends.get(key)
            if end is None:
                end = self._begin(key, partition, offset, received)
            seq, prev, _, head = end
            window = windows[partition]
            if offset >= window.turn:
                window.turn_over(offset, offsets)
            payload = sha256(_PAYLOAD + value).digest()
            name, ref = key + b"/" + event_id, 0
            known = window.current.get(name) or window.previous.get(name)
            if known is not None and offset - known[0] <= offsets and received - known[1] <= age:
                ref, kind = known[2], 3 if known[3] == payload else 5
                head = b"".join((_LABEL, bytes((1, kind, 0, len(key))), key))
            if not ref or head[13] == 5:
                window.current[name] = (offset, received, seq, payload)
            packer = packers.get((len(head), id_size))
            if packer is None:
                packer = struct.Struct(f">{len(head)}sQ32sQ16sIQQB{id_size}sI32s")
                packers[len(head), id_size] = packer
            entry = packer.pack(
                head, seq, prev, received, topic_id, partition, offset, ref, id_size, event_id, len(value), payload
            )
            end[0], end[1] = seq + 1, sha256(b"\x00" + entry).digest()
            grown[key] = end
            if head[13] == 3:
                value = b""
            append((value, key, partition, entry))
            positions[partition] = (offset, received)

    def produce(self) -> list[TopicPartition]:
        """Produce what was sealed, and heads, in an open transaction; return the offsets to commit."""
        task, produce, topic = self._task, self._producer.produce, self._task.chained
        for value, key, partition, entry in self._sealed:
            produce(topic, value, key, partition, headers=[("seal-entry", entry)])
        self._sealed.clear()
        for name, (seq, digest, partition, _) in self._grown.items():
            produce(task.heads, _HEAD.pack(1, seq, digest), b"%d/%s" % (partition, name), partition)
        self._grown.clear()
        places: list[TopicPartition] = []
        for partition, (offset, received) in self._positions.items():
            head = struct.pack(">BQqQ16s", 1, offset + 1, offset, received, self._topic_id) + self._genesis
            produce(task.heads, head, b"%d" % partition, partition)
            places.append(TopicPartition(task.source, partition, offset + 1))
        self._positions.clear()
        return places

    def _begin(self, key: bytes, partition: int, offset: int, received: int) -> list[Any]:
        if partition_of(key, self._task.partitions) != partition:
            raise ValueError("a record stands in the wrong partition")
        payload, size = sha256(_PAYLOAD + self._genesis).digest(), len(self._genesis)
        entry = b"".join(
            (
                _LABEL, bytes((1, 0, 0, len(key))), key,
                struct.pack(">Q32sQ16sIQQB", 0, bytes(32), received, self._topic_id, partition, offset, 0, 0),
                struct.pack(">I32s", size, payload),
            )
        )  # fmt: skip
        self._sealed.append((self._genesis, key, partition, entry))
        end: list[Any] = [
            1, sha256(b"\x00" + entry).digest(), partition, b"".join((_LABEL, bytes((1, 1, 0, len(key))), key))
        ]  # fmt: skip
        self._ends[key] = end
        return end


class KafkaErrorMet(Exception):
    """The client reported an error, and this loop has no way back from any."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.str())


if __name__ == "__main__":
    run(Task(**json.loads(sys.argv[1])))
