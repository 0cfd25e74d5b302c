"""What a worker may do with a partition, row by row of the table, and what a changed setting leads to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealstream.processors.assignment import Observed, Verdict, compare_instance, disagreement, judge
from sealstream.processors.heads import PartitionHead
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import HeadsDiffer, InstanceDiffers, OffsetsExpired, SourceGap, UnsafeState

GENESIS = Genesis("test.example/audit", 4)
TOPIC_ID = bytes(range(16))


def head(position: int) -> PartitionHead:
    """Return a head at a position."""
    return PartitionHead(position, position - 1, 1, TOPIC_ID, 0, 0, GENESIS.payload())


@pytest.mark.parametrize(
    ("observed", "verdict"),
    [
        (Observed(0, None, None, 0, 0), Verdict.BEGIN),
        (Observed(0, None, None, 0, 50), Verdict.BEGIN),
        (Observed(0, 10, head(10), 0, 50), Verdict.GO),
        (Observed(0, 10, head(10), 10, 10), Verdict.GO),
        (Observed(0, 10, head(9), 0, 50), Verdict.AGAIN),
        (Observed(0, 10, head(11), 0, 50), Verdict.AGAIN),
        (Observed(0, 10, None, 0, 50), Verdict.AGAIN),
        (Observed(0, 10, head(10), 0, 9), Verdict.AGAIN),
    ],
)
def test_a_partition_is_begun_or_gone_on_with_or_read_again(observed: Observed, verdict: Verdict) -> None:
    """Only agreement of offsets and heads lets a worker go on; a difference may be a commit that surfaces late."""
    assert judge(observed) is verdict


@pytest.mark.parametrize(
    ("observed", "error", "way_out"),
    [
        (Observed(3, None, None, 5, 9), SourceGap, "sealstream gap accept --partition 3 --from 0 --to 4"),
        (Observed(3, None, head(5), 0, 9), OffsetsExpired, "sealstream heads restore-offsets"),
        (Observed(3, None, head(5), 7, 9), OffsetsExpired, "sealstream heads restore-offsets"),
        (Observed(3, 5, head(5), 7, 9), SourceGap, "sealstream gap accept --partition 3 --from 5 --to 6"),
    ],
)
def test_an_unsafe_partition_stops_the_worker_with_the_way_out(
    observed: Observed, error: type[UnsafeState], way_out: str
) -> None:
    """What cannot be gone on with is an error of its own kind, which names the partition and the command."""
    with pytest.raises(error) as caught:
        judge(observed)

    assert "partition 3" in caught.value.message
    assert way_out in caught.value.hint


@pytest.mark.parametrize(
    ("observed", "error", "words"),
    [
        (Observed(3, 10, head(9), 0, 50), HeadsDiffer, "committed offset 10, and heads up to offset 9"),
        (Observed(3, 10, None, 0, 50), HeadsDiffer, "no heads"),
        (Observed(3, 10, head(10), 0, 4), SourceGap, "ends at 4"),
    ],
)
def test_a_lasting_disagreement_says_what_disagrees(observed: Observed, error: type[UnsafeState], words: str) -> None:
    """When waiting did not help, the error names both numbers."""
    found = disagreement(observed)

    assert isinstance(found, error)
    assert words in found.message
    assert found.hint


@pytest.mark.parametrize(
    ("now", "name"),
    [
        (replace(GENESIS, instance="other.example/audit"), "instance"),
        (replace(GENESIS, partitions=8), "partitions"),
        (replace(GENESIS, window_offsets=1), "window_offsets"),
        (replace(GENESIS, window_seconds=1), "window_seconds"),
        (replace(GENESIS, operators="ab" * 32), "operators"),
    ],
)
def test_a_changed_setting_is_named(now: Genesis, name: str) -> None:
    """What genesis pins cannot be changed by a setting: the worker stops and says which one, was and is."""
    with pytest.raises(InstanceDiffers, match=name) as caught:
        compare_instance(0, head(5), now, TOPIC_ID)

    assert f"SEALSTREAM_{name.upper()}" in caught.value.hint


def test_a_topic_that_was_made_anew_is_noticed() -> None:
    """Another UUID under the same name is another log: offsets of the old one mean nothing there."""
    with pytest.raises(InstanceDiffers, match="made anew"):
        compare_instance(0, head(5), GENESIS, bytes(16))


def test_the_same_instance_passes() -> None:
    """With nothing changed, nothing stops."""
    compare_instance(0, head(5), GENESIS, TOPIC_ID)

    assert judge(Observed(0, 5, head(5), 0, 5)) is Verdict.GO
