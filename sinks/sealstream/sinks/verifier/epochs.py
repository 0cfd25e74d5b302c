"""``sealstream epoch follow``: the verifier goes on in another epoch, from what it has verified itself.

Nothing that the processor wrote about the new epoch is read. What the verifier knows of each chain goes to the
partition that its name gives it, with the position there, in one transaction: a crash leaves all of it or nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config
from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import TopicNames
from sealstream.kafka.watermarks import watermarks
from sealstream.kafka.writer import AtomicWriter, Record
from sealstream.schemas.entry import Genesis, is_tenant
from sealstream.schemas.errors import ConfigError, EpochNotDrained, HeadsDiffer, InstanceDiffers, Unreachable
from sealstream.sinks.verifier.clients import group_name, producer
from sealstream.sinks.verifier.loading import Loader
from sealstream.sinks.verifier.records import Chain
from sealstream.sinks.verifier.source import ASK_SECONDS
from sealstream.sinks.verifier.state import Position, StateReader, chain_key, pack_chain, partition_key
from sealstream.worker.settings import Settings

CLIENT_ID: Final = "sealstream-epoch-follow"
TRANSACTION_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 1.0


class Followed(NamedTuple):
    """What was done.

    Arguments:
        done: Whether it was done now; otherwise it had been before.
        chains: Number of chains that were carried over.
    """

    done: bool
    chains: int


def follow(settings: Settings, old: KafkaConnection, *, source_gone: bool, wait_seconds: float) -> Followed:
    """Carry what was verified of the epoch before over to this one.

    Arguments:
        settings: The settings of the new epoch.
        old: How to reach the cluster of the one before.
        source_gone: Whether the old source is gone, so that it cannot be compared with any more.
        wait_seconds: How long the verifier may still take to verify all of the old epoch.

    Raises:
        ConfigError: There is no epoch before this one, or the new one was not started.
        EpochNotDrained: The old epoch is not verified to its end.
        InstanceDiffers: What was verified is of another instance.
        HeadsDiffer: The old state cannot be used.
        Unreachable: Kafka does not answer.
    """
    if settings.epoch < 2:
        raise ConfigError("epoch 1 is the first, and follows none", hint="set SEALSTREAM_EPOCH to the new epoch")
    topics = settings.topics()
    new = _Epoch(settings.connection(), topics, settings)
    with new:
        ids = new.require(topics.chained, topics.events, topics.verifier, partitions=settings.partitions)
        if all(new.state(number).position is not None for number in range(settings.partitions)):
            return Followed(False, 0)
    verified = _verified(settings, old, source_gone=source_gone, deadline=time.monotonic() + wait_seconds)
    chains = distribute(verified, partitions=settings.partitions)
    position = Position(
        chained=0,
        source=0,
        verified=0,
        chained_topic_id=ids[topics.chained],
        source_topic_id=ids[topics.events],
        genesis=settings.genesis().payload(),
    )
    _write(settings, chains, position)
    # A crash before the commit leaves nothing, and the command can be run again; behind it, all is done.
    return Followed(True, sum(map(len, chains.values())))


def distribute(verified: Mapping[int, StateReader], *, partitions: int) -> dict[int, list[Chain]]:
    """Return the chains by the partitions in which they go on (pure).

    Arguments:
        verified: What was verified, by old partition.
        partitions: Number of new partitions.

    Raises:
        HeadsDiffer: A chain was verified in two partitions.
    """
    placed: dict[int, list[Chain]] = {number: [] for number in range(partitions)}
    names: set[bytes] = set()
    for number, state in verified.items():
        if state.position is None:
            continue
        for chain in state.chains.all():
            if not chain.seq:
                continue
            if chain.name in names:
                raise HeadsDiffer(f"the chain {chain.name.decode()} was verified in two partitions")
            names.add(chain.name)
            place = partition_of(chain.name, partitions) if is_tenant(chain.name.decode()) else number
            if place < partitions:
                chain.previous_topic = chain.previous_topic or state.position.source_topic_id
                placed[place].append(chain)
    return placed


class _Epoch:
    """One epoch of an instance, to be read.

    Arguments:
        connection: How to reach its cluster.
        topics: Its topics.
        settings: Whose group it is, and how long each wait may take.
    """

    def __init__(self, connection: KafkaConnection, topics: TopicNames, settings: Settings) -> None:
        self.topics = topics
        self._seconds = settings.request_timeout_seconds
        self._admin = TopicAdmin(connection, timeout_seconds=self._seconds)
        self._loader = Loader(
            connection, topics, client_id=CLIENT_ID, stopping=lambda: False, timeout_seconds=self._seconds
        )
        config = dict(consumer_config(connection, client_id=CLIENT_ID, group=group_name(settings)))
        self._group = Consumer(config, logger=KAFKA_LOG)
        uncommitted = config | {"isolation.level": "read_uncommitted"}
        self._all = Consumer(uncommitted, logger=KAFKA_LOG)

    def __enter__(self) -> None:
        """Do nothing: it is open."""

    def __exit__(self, *error: object) -> None:
        """Close the connections."""
        with ExitStack() as closing:
            for close in (self._loader.close, self._group.close, self._all.close):
                closing.callback(close)

    def require(self, *names: str, partitions: int | None = None) -> dict[str, bytes]:
        """Return the UUIDs of topics that must exist, with this number of partitions.

        Raises:
            ConfigError: They do not.
        """
        states = self._admin.describe(names)
        for name in names:
            if name not in states or partitions not in (None, states[name].partitions):
                what = "does not exist" if name not in states else f"has {states[name].partitions} partitions"
                raise ConfigError(f"the topic {name} {what}", hint="sealstream epoch start makes the new topics")
        return {name: state.topic_id for name, state in states.items()}

    def partitions(self) -> int:
        """Return the number of partitions."""
        self.require(self.topics.verifier)
        return self._admin.describe([self.topics.verifier])[self.topics.verifier].partitions

    def state(self, number: int) -> StateReader:
        """Return what was verified of a partition."""
        return self._loader.state(number, partial(self._committed, number))

    def end(self, topic: str, number: int) -> int:
        """Return the offset behind all that was written to a partition, open transactions included."""
        try:
            return watermarks(self._all, topic, number, timeout_seconds=ASK_SECONDS)[1]
        except KafkaException as exception:
            raise Unreachable(f"the end of {topic} cannot be read: {exception.args[0].str()}") from exception

    def _committed(self, number: int) -> int | None:
        try:
            found = self._group.committed([TopicPartition(self.topics.chained, number)], timeout=ASK_SECONDS)
        except KafkaException as exception:
            raise Unreachable(f"the group's offsets cannot be read: {exception.args[0].str()}") from exception
        return found[0].offset if found[0].offset >= 0 else None


def _verified(
    settings: Settings, connection: KafkaConnection, *, source_gone: bool, deadline: float
) -> dict[int, StateReader]:
    """Return what was verified of the old epoch, once that is all of it."""
    old = _Epoch(connection, TopicNames(prefix=settings.topic_prefix, epoch=settings.epoch - 1), settings)
    with old:
        while True:
            states = {number: old.state(number) for number in range(old.partitions())}
            left = _left(old, states, settings, source_gone=source_gone)
            if left is None:
                return states
            if time.monotonic() >= deadline:
                raise left
            time.sleep(LOOK_SECONDS)


def _left(
    old: _Epoch, states: Mapping[int, StateReader], settings: Settings, *, source_gone: bool
) -> EpochNotDrained | None:
    """Return what is left to verify of the old epoch, if anything is."""
    topics = old.topics
    for number, state in states.items():
        position = state.position
        if position is not None:
            _require_usable(number, position, settings)
        logs = [(topics.chained, 0 if position is None else position.chained)]
        if not source_gone:
            logs.append((topics.events, 0 if position is None else position.source))
        for topic, at in logs:
            end = old.end(topic, number)
            if at != end:
                return EpochNotDrained(
                    f"{topic} partition {number} is verified up to offset {at} of {end}",
                    hint="let the verifier of the old epoch come to its end: a few seconds behind the last record",
                )
    return None


def _require_usable(number: int, position: Position, settings: Settings) -> None:
    instance = Genesis.parse(position.genesis).instance
    if instance != settings.instance:
        raise InstanceDiffers(
            f"what was verified is of the instance {instance}, and this is to be {settings.instance}",
            hint="the instance stays the same for ever: set SEALSTREAM_INSTANCE",
        )
    if position.stopped:
        raise HeadsDiffer(
            f"partition {number} stands still because of a violation of its logs",
            hint="sealstream violations list; what was damaged cannot be gone on with",
        )


def _write(settings: Settings, chains: Mapping[int, list[Chain]], position: Position) -> None:
    """Write chains and positions of the new epoch in one transaction."""
    topics, own = settings.topics(), {"worker_id": f"epoch-{settings.epoch}"}
    transactional = producer(settings.model_copy(update=own | {"transaction_timeout_seconds": TRANSACTION_SECONDS}))
    writer = AtomicWriter(transactional, timeout_seconds=settings.request_timeout_seconds)
    config = consumer_config(settings.connection(), client_id=CLIENT_ID, group=group_name(settings))
    group = Consumer(dict(config), logger=KAFKA_LOG)
    offsets = [TopicPartition(topic, number, 0) for number in chains for topic in (topics.chained, topics.events)]
    try:
        writer.open()
        writer.write(_records(chains, position, topics.verifier), offsets, group)
    finally:
        group.close()


def _records(chains: Mapping[int, list[Chain]], position: Position, topic: str) -> Iterator[Record]:
    """Yield all records of the new audit.verifier, each partition's own record last."""
    for number, several in chains.items():
        for chain in several:
            yield Record(topic, number, chain_key(number, chain.name), pack_chain(chain))
        yield Record(topic, number, partition_key(number), position.pack())
