"""Looks at audit.heads, compares it with audit.chained, and mends it: what ``sealstream heads`` does.

Looking and comparing disturb no worker. Mending takes the group over first (:mod:`~sealstream.processors.membership`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from sealstream.kafka.client import KAFKA_LOG
from sealstream.kafka.transactions import AbortRequired
from sealstream.kafka.writer import AtomicWriter, Record
from sealstream.processors.chaining import Link
from sealstream.processors.clients import Clients, Identity
from sealstream.processors.comparison import Comparison, Difference, Examination, compare
from sealstream.processors.cycle import pin
from sealstream.processors.examining import Examiner, Progress, Steps, drive
from sealstream.processors.heads import REBUILD_HINT, partition_key
from sealstream.processors.instance import Instance
from sealstream.processors.membership import SoleMember
from sealstream.processors.rebuilding import Plan, plan_rebuild
from sealstream.processors.restore import Restorer
from sealstream.schemas.errors import HeadsDiffer, SourceGap
from sealstream.worker.settings import Settings

WORKER_ID: Final = "!heads"
"""No worker's name: SEALSTREAM_WORKER_ID cannot hold an exclamation mark."""

TRANSACTION_SECONDS: Final = 60.0
"""One partition's heads may be a million records. A second command ends what a killed one left open at once."""

REPORT_RECORDS: Final = 10_000
"""After each so many records it is told how far it is, and the membership is kept."""


@dataclass(frozen=True, slots=True)
class HeadsView:
    """What audit.heads says of a partition.

    Arguments:
        partition: The partition.
        position: The source offset to go on from; ``None`` if the partition was never chained.
        committed: The group's committed offset.
        last_offset: The offset of the last chained record.
        source_end: The source's end.
        chains: Number of chains.
        chain: The end of the chain that was asked for, if it is here.
    """

    partition: int
    position: int | None
    committed: int | None
    last_offset: int | None
    source_end: int
    chains: int
    chain: Link | None


@dataclass(frozen=True, slots=True)
class PartitionCheck:
    """What a check found in a partition.

    Arguments:
        partition: The partition.
        position: The position by its head.
        committed: The group's committed offset.
        entries: How many entries of audit.chained were verified.
        chains: How many chains' heads stand in audit.heads.
        kept: How many of them have no entry left in audit.chained; counted and folded by the partition's head alone.
        window: How many ids the duplicate window of a worker would hold.
        differences: What differs, the first hundred.
        differences_total: How much differs.
    """

    partition: int
    position: int | None
    committed: int | None
    entries: int
    chains: int
    kept: int
    window: int
    differences: list[Difference]
    differences_total: int


@dataclass(frozen=True, slots=True)
class PartitionRebuild:
    """What a rebuild did to a partition.

    Arguments:
        partition: The partition.
        position: Its position now, and its committed offset.
        chains: Number of chains.
        written: How many chains' heads were written.
        removed: How many records were removed.
        kept: How many heads have no entry left in audit.chained.
        back_from: The position before, if the new one is behind it.
        remaining: Why a worker would still refuse to go on; empty if it would not.
    """

    partition: int
    position: int
    chains: int
    written: int
    removed: int
    kept: int
    back_from: int | None = None
    remaining: str = ""


class HeadsKeeper:
    """Shows, checks and mends the heads of an instance.

    Arguments:
        settings: The instance's settings.
        on_progress: Told how far it is.
    """

    def __init__(self, settings: Settings, *, on_progress: Progress = lambda _words, _done, _total: None) -> None:
        self._settings = settings
        self._topics = settings.topics()
        self._connection = settings.connection()
        self._identity = Identity(settings.instance, WORKER_ID)
        self._patience_seconds = settings.request_timeout_seconds
        self._clients = Clients(
            self._connection,
            self._identity,
            transaction_timeout_seconds=TRANSACTION_SECONDS,
            session_timeout_seconds=settings.session_timeout_seconds,
        )
        self._steps = Steps(on_progress)
        admin = AdminClient(self._connection.config(self._identity.member), logger=KAFKA_LOG)
        instance = Instance(self._connection, self._identity, self._topics, settings.genesis(), patience_seconds=0)
        self._rules = drive(instance.check_topics(), self._steps.tell)
        self._consumer = self._clients.reader()
        self._examiner = Examiner(settings, self._rules, self._consumer, admin, self._steps)

    def close(self) -> None:
        """Close the clients."""
        self._consumer.close()

    def show(self, partitions: Iterable[int], *, chain: bytes | None = None) -> Generator[HeadsView]:
        """Yield what audit.heads says of partitions, and of one chain.

        Raises:
            HeadsDiffer: audit.heads holds what no processor writes there.
            Unreachable: Kafka does not answer in time.
        """
        for partition in partitions:
            committed, _ = self._examiner.committed(partition)
            reader = self._examiner.read_heads(partition)
            reader.require_sound()
            end = self._examiner.source_end(partition)
            head, link = reader.head, None if chain is None else reader.heads.get(chain)
            position, last = (None, None) if head is None else (head.position, head.last_offset)
            yield HeadsView(partition, position, committed, last, end, len(reader.heads), link)

    def check(self, partitions: Iterable[int]) -> Generator[PartitionCheck]:
        """Recompute heads from audit.chained, and yield what differs; workers may run meanwhile.

        Raises:
            InstanceDiffers: The partition was chained with other settings, or from another topic.
            Unreachable: Kafka does not answer in time.
        """
        wanted = list(partitions)
        self._examiner.measure(wanted)
        for partition in wanted:
            examination = self._examiner.examine(partition)
            yield _checked(examination, compare(examination))

    def rebuild(self, partitions: Iterable[int]) -> Generator[PartitionRebuild]:
        """Write heads anew from audit.chained, with the committed offset, and prove that a worker finds them equal.

        Each partition is one transaction. So a crash, or a refusal, leaves some partitions mended and the others as
        they were; running it again mends the rest.

        Raises:
            WorkersRunning: A processor runs.
            NotRebuildable: What the heads must say cannot be known; nothing of this partition was written.
            HeadsDiffer: What was written does not read back.
            Unreachable: Kafka does not answer in time.
        """
        wanted = list(partitions)
        with self._alone() as member:
            self._examiner.measure(wanted)
            writer = AtomicWriter(self._clients.producer(), timeout_seconds=self._patience_seconds)
            writer.open()  # ends what a killed command left open, and fences one that still runs
            for partition in wanted:
                self._examiner.await_quiet(partition)
                examination = self._examiner.examine(partition)
                plan = plan_rebuild(examination, self._rules)
                if plan is not None:
                    if compare(examination).total:
                        self._write(plan, writer, member)
                    # A crash here: the partition is mended, but not proven; running it again proves it.
                    yield self._prove(plan, examination)

    def restore_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        """Commit the positions of heads that audit.chained confirms, and return them by partition.

        Raises:
            WorkersRunning: A processor runs.
            HeadsDiffer: Heads and audit.chained do not agree; nothing was committed.
            Unreachable: Kafka does not answer in time.
        """
        wanted, positions = list(partitions), dict[int, int]()
        with self._alone() as member:
            self._examiner.measure(wanted)
            for partition in wanted:
                self._examiner.await_quiet(partition)
                examination = self._examiner.examine(partition, offsets=False)
                comparison = compare(examination, offsets=False)
                if comparison.total:
                    first = comparison.differences[0].message
                    raise HeadsDiffer(
                        f"partition {partition}: heads and audit.chained differ in {comparison.total} places: {first}",
                        hint=REBUILD_HINT,
                    )
                if examination.reader.head is not None:
                    positions[partition] = examination.reader.head.position
            # A crash before this has changed nothing; after it all is done. The commit is one record a partition: a
            # worker that finds only some of them stops as before, and running this again commits the rest.
            member.serve()
            if positions:
                member.commit(positions, pin(self._rules))
        return positions

    # -- writing -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Generator[SoleMember]:
        member = SoleMember(
            self._connection,
            self._identity,
            self._topics.events,
            self._settings.partitions,
            session_timeout_seconds=self._settings.session_timeout_seconds,
            on_wait=self._steps.tell,
        )
        try:
            member.join()
            self._steps.serve = member.serve
            yield member
        finally:
            self._steps.serve = lambda: None
            member.close()

    def _write(self, plan: Plan, writer: AtomicWriter, member: SoleMember) -> None:
        """Write a partition's heads and its committed offset in one transaction."""
        place = TopicPartition(self._topics.events, plan.partition, plan.head.position, pin(self._rules))
        try:
            writer.write(self._records(plan, member), [place], member.consumer)
        except AbortRequired as error:
            raise member.refused(error.error, f"write the heads of partition {plan.partition}") from error

    def _records(self, plan: Plan, member: SoleMember) -> Generator[Record]:
        """Yield a partition's records, its own one last; behind that, make sure that nobody else came to the group."""
        partition, topic = plan.partition, self._topics.heads
        records = [*plan.changes.items(), (partition_key(partition), plan.head.pack())]
        for number, (key, value) in enumerate(records):
            yield Record(topic, partition, key, value)
            if not number % REPORT_RECORDS:
                self._steps.tell(f"partition {partition}: writing heads")
        member.serve()

    def _prove(self, plan: Plan, examination: Examination) -> PartitionRebuild:
        """Read everything back, as a worker would at its start, and compare it with what was computed."""
        partition, remaining = plan.partition, ""
        reader = self._examiner.read_heads(partition)
        reader.require_sound()
        committed, _ = self._examiner.committed(partition)
        same = (reader.head, reader.heads.packed, committed) == (plan.head, plan.heads.packed, plan.head.position)
        try:
            restorer = Restorer(
                self._consumer,
                self._topics,
                self._rules,
                committed=lambda n: self._examiner.committed(n)[0],
                patience_seconds=self._patience_seconds,
            )
            state = drive(restorer.restore(partition), self._steps.tell)
            window = examination.window(plan.head.position)
            same = same and state.heads == plan.heads and state.window.remembers_the_same(window)
        except SourceGap as gap:
            remaining = str(gap)
        if not same:
            raise HeadsDiffer(
                f"partition {partition}: what was written does not read back as it was computed", hint=REBUILD_HINT
            )
        removed = sum(value is None for value in plan.changes.values())
        return PartitionRebuild(
            partition,
            plan.head.position,
            len(plan.heads),
            written=len(plan.changes) - removed,
            removed=removed,
            kept=plan.kept,
            back_from=plan.back_from,
            remaining=remaining,
        )


def _checked(examination: Examination, comparison: Comparison) -> PartitionCheck:
    head, recomputed = examination.reader.head, examination.recomputed
    position = None if head is None else head.position
    return PartitionCheck(
        examination.partition,
        position,
        examination.committed,
        recomputed.entries,
        len(examination.reader.heads),
        kept=sum(1 for _ in examination.kept) if recomputed.partial else 0,
        window=len(examination.window(examination.last_offset + 1 if position is None else position)),
        differences=comparison.differences,
        differences_total=comparison.total,
    )
