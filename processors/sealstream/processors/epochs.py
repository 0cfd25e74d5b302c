"""``sealstream epoch start``: ends an epoch and carries its chains over to the next one, in other topics.

The order is what makes it safe, and each step can be done again:

1. Nothing may be left to do in the old epoch: each partition is chained to the end of its source, no transaction is
   open there, and no worker has its partitions. Else nothing is done.
2. The old epoch is marked as ended, in each partition of its audit.heads. From here on no worker chains there: one that
   starts reads the mark before it chains. If a worker or a record came in before the mark, the mark is taken back.
3. The new topics are made.
4. The ends of all chains are written to the new audit.heads, together with the positions, in one transaction. Before
   it a worker of the new epoch finds nothing and stops; behind it all of them find all that they need.

A crash between two steps leaves an epoch that has ended, and none that has begun: nothing is chained until the command
is run again, and it goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from sealstream.kafka.admin import TopicAdmin
from sealstream.kafka.client import KAFKA_LOG, KafkaConnection, consumer_config, transactional_producer_config
from sealstream.kafka.partition import partition_of
from sealstream.kafka.topics import TopicNames
from sealstream.kafka.writer import AtomicWriter, Record
from sealstream.processors.accepting import require_texts, write_heads
from sealstream.processors.chaining import PartitionState, Rules
from sealstream.processors.clients import Identity
from sealstream.processors.cycle import pin
from sealstream.processors.epoch_end import EpochEnd, end_key
from sealstream.processors.heads import (
    REBUILD_HINT,
    PackedHeads,
    PartitionHead,
    chain_key,
    parse_link,
    partition_key,
)
from sealstream.processors.survey import Survey, Surveyed
from sealstream.schemas.entry import Genesis, is_tenant
from sealstream.schemas.errors import ConfigError, EpochNotDrained, HeadsDiffer, InstanceDiffers
from sealstream.worker.settings import Settings

CLIENT_ID: Final = "sealstream-epoch"
TRANSACTION_SECONDS: Final = 300.0
"""How long carrying the chains over may take; brokers allow up to 900 s by default."""
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is to be done.

    Arguments:
        settings: The settings of the new epoch: its number, its partitions, its cluster.
        old: How to reach the cluster of the epoch before.
        source_gone: Whether the old source topic is gone, or is not the one that was chained any more: what it held
            and was not chained is lost, and nobody can tell what that was.
        by: Who starts it.
        why: Why.
    """

    settings: Settings
    old: KafkaConnection
    source_gone: bool
    by: str
    why: str

    @property
    def old_topics(self) -> TopicNames:
        """The topics of the epoch before."""
        return TopicNames(prefix=self.settings.topic_prefix, epoch=self.settings.epoch - 1)

    @property
    def identity(self) -> Identity:
        """The command's name among the workers, its own for each epoch: two that run at once fence each other."""
        return Identity(self.settings.instance, f"epoch-{self.settings.epoch}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found, and what would be done.

    Arguments:
        start: What is to be done.
        old_genesis: What the old epoch pins; ``None`` if nothing was chained in it.
        old_partitions: Number of its partitions.
        positions: By old partition, the offset up to which it is chained.
        carried: By new partition, the chains' ends.
        left: Chains that end with the old epoch: those of partitions that the new one does not have.
        ended: Whether the old epoch was marked as ended before.
    """

    start: Start
    old_genesis: Genesis | None
    old_partitions: int
    positions: dict[int, int]
    carried: dict[int, PackedHeads] = field(repr=False)
    left: tuple[str, ...]
    ended: bool

    @property
    def chains(self) -> int:
        """Number of chains that are carried over."""
        return sum(len(heads) for heads in self.carried.values())


def has_begun(settings: Settings) -> bool:
    """Return whether the new epoch has been started already.

    Raises:
        Unreachable: Kafka does not answer.
    """
    topics = settings.topics()
    if len(TopicAdmin(settings.connection()).describe([topics.heads, topics.events])) < 2:
        return False
    with _survey(settings.connection(), topics, settings) as survey:
        return all(survey.partition(n).heads.head is not None for n in range(settings.partitions))


def prepare(start: Start, *, wait_seconds: float = 0.0) -> Plan:
    """Return what would be done, having made sure that the old epoch is at its end; nothing is written.

    Arguments:
        start: What is to be done.
        wait_seconds: How long the old epoch may still take to get there.

    Raises:
        ConfigError: There is no epoch before this one, or a text is empty or too long.
        EpochNotDrained: Something is left to do in the old epoch.
        InstanceDiffers: The old epoch is another instance's, or its source is not the topic that was chained.
        HeadsDiffer: What the old epoch's heads say cannot be used.
        Unreachable: Kafka does not answer.
    """
    if start.settings.epoch < 2:
        raise ConfigError("epoch 1 is the first, and needs no start", hint="set SEALSTREAM_EPOCH to the new epoch")
    require_texts(by=start.by, why=start.why)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _prepare(start)
        except EpochNotDrained:
            if time.monotonic() >= deadline:
                raise
        time.sleep(LOOK_SECONDS)


def carry_out(plan: Plan) -> None:
    """End the old epoch and begin the new one.

    Raises:
        EpochNotDrained: Something was published or a worker came while it was done; nothing has ended.
        ConfigError: The new topics are not what they must be.
        Unreachable: Kafka does not answer; run it again.
    """
    start = plan.start
    if not plan.ended:
        _end(plan)
    # A crash here: the old epoch has ended, and the next run finds it so and goes on.
    settings = start.settings
    admin = TopicAdmin(settings.connection(), timeout_seconds=settings.request_timeout_seconds)
    table = settings.topic_table()
    admin.create(table, replication=settings.replication)
    wrong = [finding for finding in admin.check(table) if finding.fatal]
    if wrong:
        raise ConfigError(
            f"the topic {wrong[0].topic} has {wrong[0].setting} {wrong[0].found} instead of {wrong[0].expected}",
            hint="mend it, and run the command again: it goes on from here",
        )
    # A crash here: as before, with topics that are there.
    events = settings.topics().events
    _carry(plan, Rules(settings.genesis(), admin.describe([events])[events].topic_id))
    # A crash behind it: all is done.


def distribute(
    old: Mapping[int, tuple[bytes, PackedHeads]], *, partitions: int
) -> tuple[dict[int, PackedHeads], tuple[str, ...]]:
    """Return the chains' ends by new partition, and the chains that have no place there (pure).

    A tenant goes to the partition of its key. The chain of a partition goes to the partition of the same number, which
    is in its name.

    Arguments:
        old: By old partition, the UUID of its source topic and the ends of its chains.
        partitions: Number of new partitions.

    Raises:
        HeadsDiffer: A chain stands in two old partitions.
    """
    carried = {number: PackedHeads() for number in range(partitions)}
    left: list[str] = []
    for number, (topic_id, heads) in old.items():
        for name, value in heads.packed.items():
            link = parse_link(name, value)
            tenant = is_tenant(name.decode())
            place = partition_of(name, partitions) if tenant else number
            if place >= partitions:
                left.append(name.decode())
                continue
            if carried[place].get(name) is not None:
                raise HeadsDiffer(f"the chain {name.decode()} stands in two partitions", hint=REBUILD_HINT)
            # A chain that was silent all through the old epoch still comes from the one before it.
            carried[place].put(replace(link, previous_topic=link.previous_topic or topic_id))
    return carried, tuple(left)


def _prepare(start: Start) -> Plan:
    topics, settings = start.old_topics, start.settings
    with _survey(start.old, topics, settings) as survey:
        names = (topics.heads, topics.chained) if start.source_gone else (topics.heads, topics.chained, topics.events)
        states = survey.require(*names)
        numbers = range(states[topics.heads].partitions)
        source_id = None if start.source_gone else states[topics.events].topic_id
        surveyed = [survey.partition(n, topic_id=source_id) if source_id else survey.heads(n) for n in numbers]
        heads = {one.observed.partition: one.heads.head for one in surveyed}
        old_genesis = _one_genesis(start, [head for head in heads.values() if head is not None])
        if not start.source_gone:
            _require_same_source(heads, states[topics.events].topic_id, topics.events)
            _require_drained(survey, surveyed)
        survey.require_no_worker()
        ended = _ended(settings.epoch, surveyed)
    for one in surveyed:
        _require_whole(one)
    old = {n: (head.topic_id, surveyed[n].heads.heads) for n, head in heads.items() if head is not None}
    carried, left = distribute(old, partitions=settings.partitions)
    positions = {n: 0 if head is None else head.position for n, head in heads.items()}
    return Plan(start, old_genesis, len(numbers), positions, carried, left, ended)


def _one_genesis(start: Start, heads: Sequence[PartitionHead]) -> Genesis | None:
    """Return what the old epoch pins, and refuse if its partitions do not agree or it is not ours."""
    found = {head.genesis for head in heads}
    if len(found) > 1:
        raise HeadsDiffer("the partitions of the old epoch were chained with different settings", hint=REBUILD_HINT)
    genesis = Genesis.parse(next(iter(found))) if found else None
    if genesis is not None and genesis.instance != start.settings.instance:
        raise InstanceDiffers(
            f"the old epoch is of the instance {genesis.instance}, and this is to be {start.settings.instance}",
            hint="the instance stays the same for ever: set SEALSTREAM_INSTANCE",
        )
    return genesis


def _require_same_source(heads: Mapping[int, PartitionHead | None], topic_id: bytes, topic: str) -> None:
    for number, head in heads.items():
        if head is not None and head.topic_id != topic_id:
            raise InstanceDiffers(
                f"partition {number} was chained from the topic {head.topic_id.hex()}, and {topic} is now"
                f" {topic_id.hex()}: it was made anew",
                hint="--source-gone goes on without it: what it held and was not chained is lost",
            )


def _require_drained(survey: Survey, surveyed: Sequence[Surveyed]) -> None:
    """Refuse while anything of the old source is not chained."""
    for one in surveyed:
        observed, where = one.observed, f"partition {one.observed.partition}"
        position = 0 if observed.head is None else observed.head.position
        if position != (observed.committed or 0):
            raise EpochNotDrained(
                f"{where} of the old epoch has heads up to {position} and the committed offset {observed.committed}",
                hint="sealstream heads check says which is right",
            )
        end = survey.written_end(observed.partition)
        if not position == observed.end == end:
            raise EpochNotDrained(
                f"{where} of the old epoch is chained up to offset {position} of {end}"
                + ("" if observed.end == end else f", and a transaction is open from {observed.end} on"),
                hint="stop the publishers, or move them to the new epoch, and let the workers of the old one finish",
            )


def _require_whole(one: Surveyed) -> None:
    head, heads = one.heads.head, one.heads.heads
    one.heads.require_sound()
    if head is not None and not head.covers(heads):
        raise HeadsDiffer(f"partition {one.observed.partition}: heads are missing in audit.heads", hint=REBUILD_HINT)


def _ended(epoch: int, surveyed: Sequence[Surveyed]) -> bool:
    """Return whether all partitions were marked as ended before."""
    for one in surveyed:
        if one.heads.end is not None and one.heads.end.next != epoch:
            raise InstanceDiffers(
                f"the old epoch ended before, and goes on in epoch {one.heads.end.next}",
                hint=f"set SEALSTREAM_EPOCH={one.heads.end.next}, or the number behind the last epoch",
            )
    return all(one.heads.end is not None for one in surveyed)


def _end(plan: Plan) -> None:
    """Mark the old epoch as ended, and make sure that nothing came in between."""
    start, numbers = plan.start, range(plan.old_partitions)
    mark = EpochEnd(
        next=start.settings.epoch,
        by=start.by,
        why=start.why,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write = partial(
        write_heads, start.old, start.old_topics.heads, timeout_seconds=start.settings.request_timeout_seconds
    )
    write({n: [(end_key(n), mark.pack())] for n in numbers})
    # A crash here: the old epoch has ended; the next run makes sure once more that it is at its end.
    try:
        _require_unmoved(plan, _prepare(start))
    except EpochNotDrained:
        write({n: [(end_key(n), None)] for n in numbers})
        raise


def _require_unmoved(before: Plan, after: Plan) -> None:
    if before.positions != after.positions:
        raise EpochNotDrained("a worker of the old epoch still chained", hint="stop it, and run the command again")


def _carry(plan: Plan, rules: Rules) -> None:
    """Write all chains' ends and positions of the new epoch in one transaction."""
    settings, identity = plan.start.settings, plan.start.identity
    topics, connection = settings.topics(), settings.connection()
    config: dict[str, Any] = dict(
        transactional_producer_config(
            connection,
            client_id=CLIENT_ID,
            transactional_id=identity.member,
            transaction_timeout_seconds=TRANSACTION_SECONDS,
        )
    )
    writer = AtomicWriter(Producer(config, logger=KAFKA_LOG), timeout_seconds=settings.request_timeout_seconds)
    group = Consumer(dict(consumer_config(connection, client_id=CLIENT_ID, group=identity.group)), logger=KAFKA_LOG)
    offsets = [TopicPartition(topics.events, n, 0, pin(rules)) for n in plan.carried]
    try:
        writer.open()
        writer.write(_records(plan, rules, topics.heads), offsets, group)
    finally:
        group.close()


def _records(plan: Plan, rules: Rules, topic: str) -> Iterator[Record]:
    """Yield all records of the new audit.heads, each partition's own record last."""
    for number, heads in plan.carried.items():
        for name, value in heads.packed.items():
            yield Record(topic, number, chain_key(number, name), value)
        state = PartitionState(number, heads, rules.window())
        yield Record(topic, number, partition_key(number), PartitionHead.of(state, rules).pack())


def _survey(connection: KafkaConnection, topics: TopicNames, settings: Settings) -> Survey:
    return Survey(
        connection,
        topics,
        group=Identity(settings.instance, settings.worker_id).group,
        client_id=CLIENT_ID,
        patience_seconds=settings.request_timeout_seconds,
    )
