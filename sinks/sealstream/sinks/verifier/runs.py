"""Messages as a consumer hands them out: many of one partition, then many of the next.

A poll has thousands of them, so they are taken run by run, without a line of Python for each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import cast

from confluent_kafka import Message


def runs(messages: Sequence[Message]) -> Iterator[tuple[int, list[Message]]]:
    """Yield messages that follow each other and are of one partition, with its number."""
    for number, several in groupby(messages, key=Message.partition):
        yield cast("int", number), list(several)


def fitting(messages: Sequence[Message], records: int, size_bytes: int) -> int:
    """Return how many messages fit in; the last may be larger than what is left, so that any fits in alone.

    Arguments:
        messages: The messages.
        records: How many are wanted at most.
        size_bytes: Behind which size of their values no other one is wanted.
    """
    if records <= 0 or size_bytes <= 0:
        return 0
    sizes = list(accumulate(map(len, messages)))  # of their values
    return min(records, bisect_left(sizes, size_bytes) + 1, len(sizes))
