"""Whether a partition can be gone on with, and from where: what was committed is held against what the logs have.

==============================================  ====================================================================
what is found                                   what follows
==============================================  ====================================================================
nothing committed, both logs from offset 0      begin
nothing committed, a log begins later           :class:`SourceExpired`: a first verification needs everything
genesis, source topic or format differ          :class:`InstanceDiffers`
audit.chained is another topic than before      violation ``rollback``; the partition stands still
a log ends before the position                  violation ``truncated``; the partition stands still
a log begins behind the position                :class:`SourceExpired`, unless audit.chained next declares lost what
                                                the source has not
otherwise                                       go on
==============================================  ====================================================================
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from sealstream.schemas.entry import Genesis, partition_chain
from sealstream.schemas.errors import InstanceDiffers, SourceExpired
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.state import Position


class Log(NamedTuple):
    """A partition's log as it is now.

    Arguments:
        topic: The topic's name.
        topic_id: The topic's UUID, 16 bytes.
        start: Its first offset.
        end: The offset behind its last record.
    """

    topic: str
    topic_id: bytes
    start: int
    end: int


def is_short(position: Position | None, chained: Log, source: Log) -> bool:
    """Return whether a log ends before the position, which may pass: a new leader learns the end a little later."""
    return position is not None and (chained.end < position.chained or source.end < position.source)


def begin_or_go(
    number: int, position: Position | None, chained: Log, source: Log, genesis: Genesis, *, declared_to: int = 0
) -> Position:
    """Return where to go on.

    Arguments:
        number: The partition.
        position: What was committed, if anything was.
        chained: audit.chained as it is now.
        source: audit.events as it is now.
        genesis: What the settings pin.
        declared_to: The source offset behind what audit.chained next declares lost; the checks decide whether rightly.

    Raises:
        SourceExpired: Records that were not verified are gone.
        InstanceDiffers: What was verified before belongs to another instance or source.
    """
    if position is None:
        _refuse_expired(number, chained, 0, "has never been verified")
        _refuse_expired(number, source, declared_to, "has never been verified")
        return Position(
            chained=0,
            source=source.start,
            verified=0,
            chained_topic_id=chained.topic_id,
            source_topic_id=source.topic_id,
            genesis=genesis.payload(),
        )
    if position.genesis != genesis.payload():
        raise InstanceDiffers(
            f"partition {number} was verified with {Genesis.parse(position.genesis)}, and is now to be with {genesis}",
            hint="set the values back; what genesis pins changes only with a new epoch",
        )
    if position.source_topic_id != source.topic_id:
        raise InstanceDiffers(
            f"{source.topic} was the topic {position.source_topic_id.hex()}, and is now {source.topic_id.hex()}",
            hint="it was deleted and made anew, or is on another cluster: that needs a new epoch",
        )
    _refuse_expired(number, chained, position.chained, f"is verified up to offset {position.chained}")
    _refuse_expired(number, source, max(position.source, declared_to), f"is verified up to offset {position.source}")
    return replace(position, source=max(position.source, source.start))


def log_damage(number: int, position: Position | None, chained: Log, source: Log, genesis: Genesis) -> Violation | None:
    """Return what is wrong with the logs themselves, as it is recorded; it stops the whole partition."""
    if position is None:
        return None

    def violation(kind: ViolationType, log: Log, at: int, message: str, expected: str, found: str) -> Violation:
        return Violation(
            type=kind,
            tenant=partition_chain(number),
            message=f"{log.topic}: {message}",
            partition=number,
            offset=at,
            topic_id=source.topic_id,
            instance=genesis.instance,
            expected=expected,
            found=found,
        )

    if position.chained_topic_id != chained.topic_id:
        message = "the topic is not the one that was verified; it was deleted and made anew"
        ids = (position.chained_topic_id.hex(), chained.topic_id.hex())
        return violation(ViolationType.ROLLBACK, chained, position.chained, message, *ids)
    logs = [(chained, position.chained)]
    if position.source_topic_id == source.topic_id:  # another source is refused: its end says nothing of this one's
        logs.append((source, position.source))
    for log, at in logs:
        if log.end < at:
            message = "the log ends before what was verified"
            return violation(ViolationType.TRUNCATED, log, at, message, f"at least {at}", str(log.end))
    return None


def _refuse_expired(number: int, log: Log, position: int, progress: str) -> None:
    if log.start > position:
        raise SourceExpired(
            f"{log.topic} partition {number} {progress}, and its log begins at offset {log.start}: source-expired",
            hint="what lies between can no longer be checked; keep the verifier running, and retention longer",
        )
