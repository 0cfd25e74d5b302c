"""A credential sends as fast as it may, and is told when it may again."""

from __future__ import annotations

from sealstream.producers.gateway.buckets import BUCKETS_MAX, Buckets


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def test_a_burst_and_then_the_rate() -> None:
    """A full bucket lets a burst through, then one event each eighth of a second at eight a second."""
    clock = Clock()
    buckets = Buckets(1_000, now=clock)

    assert buckets.take("a", 1_000, 8) == 0
    assert buckets.take("a", 1, 8) == 1
    clock.seconds += 0.125
    assert buckets.take("a", 1, 8) == 0
    assert buckets.take("a", 1, 8) == 1


def test_the_answer_says_when_there_is_enough() -> None:
    """After the seconds that were said, the very same request is let through; what was refused costs nothing."""
    clock = Clock()
    buckets = Buckets(1_000, now=clock)
    buckets.take("a", 900, 50)

    seconds = buckets.take("a", 500, 50)
    clock.seconds += seconds

    assert seconds == 8
    assert buckets.take("a", 500, 50) == 0


def test_a_bucket_holds_no_more_than_a_burst() -> None:
    """Who was silent for a day sends a burst, and not a day's events."""
    clock = Clock()
    buckets = Buckets(1_000, now=clock)
    buckets.take("a", 1, 10)
    clock.seconds += 86_400

    assert buckets.take("a", 1_000, 10) == 0
    assert buckets.take("a", 1, 10) > 0


def test_each_has_its_own() -> None:
    """One that sends too much takes nothing from another."""
    buckets = Buckets(1_000, now=Clock())
    buckets.take("a", 1_000, 10)

    assert buckets.take("a", 1, 10) > 0
    assert buckets.take("b", 1, 10) == 0


def test_memory_is_bounded() -> None:
    """However many subjects an issuer names, so many buckets are kept: those that were used last."""
    buckets = Buckets(1_000, now=Clock())
    buckets.take("first", 1_000, 10)
    buckets.take("kept", 1_000, 10)
    for number in range(BUCKETS_MAX - 1):
        buckets.take(f"other-{number}", 1, 10)
    buckets.take("kept", 1, 10)

    assert buckets.take("first", 1, 10) == 0, "it was forgotten, and is full"
    assert buckets.take("kept", 1, 10) > 0
