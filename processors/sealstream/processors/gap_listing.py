"""``sealstream gap list``: what is lost and waits for an operator's word, and what was accepted before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sealstream.processors.accepting import require_agreement, survey_of
from sealstream.processors.assignment import Observed, compare_instance
from sealstream.processors.gaps import ACCEPTANCE_HINT, Gap
from sealstream.schemas.errors import FormatError, HeadsDiffer
from sealstream.worker.settings import Settings


class GapState(StrEnum):
    """What has become of a range."""

    OPEN = "open"
    """It is lost, and nobody has accepted that: no worker goes on there."""
    ACCEPTED = "accepted"
    """It is lost and accepted; the worker that next restores the partition writes the entry."""
    CHAINED = "chained"
    """Its entry stands in the chain of the partition."""
    WITHOUT_EFFECT = "without-effect"
    """It was accepted, but is not what is lost: more is, or it was lost from another topic."""


@dataclass(frozen=True, slots=True)
class ListedGap:
    """A range of a source partition.

    Arguments:
        partition: The partition.
        first: Its first offset.
        last: Its last offset.
        state: What has become of it.
        acceptance: Who accepted it, and why; ``None`` if nobody did.
    """

    partition: int
    first: int
    last: int
    state: GapState
    acceptance: Gap | None = None


def list_gaps(settings: Settings, partitions: Iterable[int]) -> list[ListedGap]:
    """Return what was lost in partitions, in the order of the offsets; workers may run meanwhile.

    Arguments:
        settings: The instance's settings.
        partitions: The source partitions.

    Raises:
        ConfigError: The instance has no topics.
        HeadsDiffer: Heads and committed offset do not agree, or audit.heads holds what nobody writes there.
        InstanceDiffers: A partition was chained with other settings, or from another topic.
        Unreachable: Kafka does not answer.
    """
    topics, found = settings.topics(), list[ListedGap]()
    with survey_of(settings) as survey:
        topic_id = survey.require(topics.events, topics.heads)[topics.events].topic_id
        for partition in partitions:
            surveyed = survey.partition(partition, topic_id=topic_id)
            surveyed.heads.require_sound()
            head = surveyed.observed.head
            if head is not None:
                compare_instance(partition, head, settings.genesis(), topic_id)
            require_agreement(surveyed.observed)
            found += gaps_of(surveyed.observed, surveyed.heads.acceptances, topic_id)
    return found


def gaps_of(observed: Observed, acceptances: Mapping[bytes, bytes], topic_id: bytes) -> list[ListedGap]:
    """Return a partition's gaps (pure).

    Arguments:
        observed: What was read of it; heads and committed offset agree.
        acceptances: Values by their keys, as they stand in audit.heads.
        topic_id: UUID of the source topic.

    Raises:
        HeadsDiffer: An acceptance is none.
    """
    partition = observed.partition
    accepted = [_parse(partition, key, value) for key, value in acceptances.items()]
    found = [ListedGap(partition, gap.first, gap.last, _state(observed, gap, topic_id), gap) for gap in accepted]
    if observed.lost is not None and GapState.ACCEPTED not in {gap.state for gap in found}:
        found.append(ListedGap(partition, *observed.lost, GapState.OPEN))
    return sorted(found, key=lambda gap: (gap.first, gap.last))


def _state(observed: Observed, gap: Gap, topic_id: bytes) -> GapState:
    if gap.topic_id != topic_id:
        return GapState.WITHOUT_EFFECT
    if (gap.first, gap.last) == observed.lost:
        return GapState.ACCEPTED
    passed = observed.head is not None and observed.head.last_offset >= gap.last
    return GapState.CHAINED if passed else GapState.WITHOUT_EFFECT


def _parse(partition: int, key: bytes, value: bytes) -> Gap:
    where = f"audit.heads, partition {partition}, {key.decode(errors='backslashreplace')}"
    try:
        gap = Gap.parse(value)
    except FormatError as error:
        raise HeadsDiffer(f"{where}: {error.message}", hint=ACCEPTANCE_HINT) from error
    if gap.key(partition) != key:
        raise HeadsDiffer(f"{where}: the acceptance of a gap stands under another one's key", hint=ACCEPTANCE_HINT)
    return gap
