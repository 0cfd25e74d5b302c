"""What a worker may do with a partition that it was assigned (pure): the table of design decisions, as one function.

==========  =======  ================  ==============================================================
committed   heads    source log start
==========  =======  ================  ==============================================================
none        none     0                 begin
none        none     > 0               stop: :class:`SourceGap`, unless that range was accepted
none        present  any               stop: :class:`OffsetsExpired`
n           n        <= n              go on
n           n        > n               stop: :class:`SourceGap`, unless that range was accepted
n           other    any               read both again: a commit may surface late; bounded, then :class:`HeadsDiffer`
==========  =======  ================  ==============================================================

A source that ends before ``n`` lost its end (an unclean leader election): :class:`SourceGap` as well. No acceptance
mends that, because offsets that are chained would be given out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sealstream.processors.gaps import Gap
from sealstream.processors.heads import REBUILD_HINT, PartitionHead
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import HeadsDiffer, InstanceDiffers, OffsetsExpired, SourceGap, UnsafeState


class Verdict(Enum):
    """What may be done at once."""

    BEGIN = "begin"
    GO = "go"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read of one partition.

    Arguments:
        partition: The partition.
        committed: The group's committed offset, if there is one.
        head: The partition's record in audit.heads, if there is one.
        start: The source's first offset.
        end: The offset behind the source's last one.
        accepted: The operator's acceptance of exactly :attr:`lost`, if there is one.
    """

    partition: int
    committed: int | None
    head: PartitionHead | None
    start: int
    end: int
    accepted: Gap | None = None

    @property
    def lost(self) -> tuple[int, int] | None:
        """The first and the last offset that were not chained and are gone from the source, if any are.

        The range begins behind the last record that was chained, not at the position: what lies between the two was
        seen to be no record, but whoever verifies cannot see that any more.
        """
        position = 0 if self.head is None else self.head.position
        if position != (self.committed or 0) or self.start <= position:
            return None
        return (0 if self.head is None else self.head.last_offset + 1), self.start - 1


def judge(observed: Observed) -> Verdict:
    """Return what may be done with the partition.

    Raises:
        SourceGap: Records that were not chained are gone, and nobody has accepted that.
        OffsetsExpired: There are heads and no committed offset.
    """
    where = f"partition {observed.partition}"
    if observed.committed is None:
        if observed.head is not None:
            raise OffsetsExpired(
                f"{where} has heads up to offset {observed.head.position} and no committed offset: the group's expired",
                hint="sealstream heads restore-offsets commits what the heads say",
            )
        _refuse_lost(observed, f"{where} was never chained")
        return Verdict.BEGIN
    if observed.head is None or observed.head.position != observed.committed:
        return Verdict.AGAIN
    _refuse_lost(observed, f"{where} is chained up to offset {observed.committed}")
    return Verdict.AGAIN if observed.end < observed.committed else Verdict.GO


def _refuse_lost(observed: Observed, progress: str) -> None:
    if observed.lost is not None and observed.accepted is None:
        first, last = observed.lost
        raise SourceGap(
            f"{progress}, and its source begins at offset {observed.start}: {first} to {last} are lost",
            hint=f"sealstream gap accept --partition {observed.partition} --from {first} --to {last}",
        )


def disagreement(observed: Observed) -> UnsafeState:
    """Return the error for a partition that was judged :attr:`Verdict.AGAIN` until the time was over."""
    where = f"partition {observed.partition}"
    heads = "no heads" if observed.head is None else f"heads up to offset {observed.head.position}"
    if observed.head is not None and observed.head.position == observed.committed:
        return SourceGap(
            f"{where} is chained up to offset {observed.committed}, and its source ends at {observed.end}",
            hint="the source lost its end, and what comes now would get offsets that are chained:"
            " sealstream epoch start goes on in a new topic",
        )
    return HeadsDiffer(f"{where} has the committed offset {observed.committed}, and {heads}", hint=REBUILD_HINT)


def compare_instance(partition: int, head: PartitionHead, genesis: Genesis, topic_id: bytes) -> None:
    """Compare what a partition was chained with and what this worker is set to.

    Raises:
        InstanceDiffers: They differ; says in what.
    """
    pinned = Genesis.parse(head.genesis)
    for name, was, now in (
        ("instance", pinned.instance, genesis.instance),
        ("partitions", pinned.partitions, genesis.partitions),
        ("window_offsets", pinned.window_offsets, genesis.window_offsets),
        ("window_seconds", pinned.window_seconds, genesis.window_seconds),
        ("operators", pinned.operators, genesis.operators),
    ):
        if was != now:
            raise InstanceDiffers(
                f"partition {partition} was chained with {name} {was}, and this worker is set to {now}",
                hint=f"set SEALSTREAM_{name.upper()} back; what genesis pins changes only with a new epoch",
            )
    if head.topic_id != topic_id:
        raise InstanceDiffers(
            f"partition {partition} was chained from the topic {head.topic_id.hex()}, and the source is now the topic"
            f" {topic_id.hex()}: it was deleted and made anew, or is on another cluster",
            hint="sealstream epoch start goes on with another topic",
        )
