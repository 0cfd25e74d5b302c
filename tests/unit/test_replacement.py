"""A worker whose static membership was taken joins again once, and ends if that happens time and again."""

from __future__ import annotations

import pytest

from sealstream.kafka.replacement import REPLACED_AGAIN_SECONDS, Replaced, SecondChance
from sealstream.schemas.errors import WriterConflict


def test_a_second_replacement_within_a_minute_is_a_namesake() -> None:
    """The first replacement may be oneself, after a broker's death; the next one names the way out and ends."""
    now = 0.0
    chance = SecondChance(clock=lambda: now)
    chance.take(Replaced("fenced by its group"))
    now = REPLACED_AGAIN_SECONDS - 1

    with pytest.raises(WriterConflict, match="fenced by its group") as caught:
        chance.take(Replaced("fenced by its group"))

    assert "SEALSTREAM_WORKER_ID" in caught.value.hint


def test_replacements_far_apart_are_each_mended() -> None:
    """A worker that lives through many outages is not counted out by the first one."""
    now = 0.0
    chance = SecondChance(clock=lambda: now)

    for _ in range(3):
        now += REPLACED_AGAIN_SECONDS
        chance.take(Replaced("fenced by its group"))

    now += REPLACED_AGAIN_SECONDS - 1
    with pytest.raises(WriterConflict):
        chance.take(Replaced("fenced by its group"))
