"""Where a test makes an import fail: a place for each state in which a crash leaves something else behind."""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    """A place in the life of an import."""

    AFTER_PUBLISH = "after-publish"
    """A step's events are on their way: Kafka may have none, some or all of them."""

    AFTER_ACKNOWLEDGE = "after-acknowledge"
    """Kafka has all of a step, and the job's file none of it."""

    AFTER_STEP = "after-step"
    """The job's file has a step; the next one is on its way."""

    AFTER_ROWS = "after-rows"
    """All rows are done; no end is marked."""

    AFTER_ENDS = "after-ends"
    """Ends are marked, and the job's file does not say so."""
