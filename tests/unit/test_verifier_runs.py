"""How the verifier takes messages from its consumers: run by run, and never more than it has room for."""

from __future__ import annotations

from itertools import pairwise

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from sealstream.sinks.verifier.runs import fitting, runs


def _message(partition: int, size: int) -> Message:
    return Message(topic="audit.chained", partition=partition, value=b"x" * size)


def _fitting_one_by_one(messages: list[Message], records: int, size_bytes: int) -> int:
    """Return what :func:`fitting` returns, as one would say it: the plain twin."""
    count = taken_bytes = 0
    for message in messages:
        if count >= records or taken_bytes >= size_bytes:
            break
        count += 1
        taken_bytes += len(message)
    return count


@given(st.lists(st.integers(0, 2)))
def test_runs_are_the_messages_in_their_order(partitions: list[int]) -> None:
    """Nothing is lost, moved or told to be of another partition, and no run could be longer."""
    messages = [_message(number, 0) for number in partitions]
    found = list(runs(messages))

    assert [message for _, several in found for message in several] == messages
    assert all(message.partition() == number for number, several in found for message in several)
    assert all(one != other for (one, _), (other, _) in pairwise(found))


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(-1, 14), st.integers(-1, 60))
def test_as_many_fit_in_as_there_is_room_for(sizes: list[int], records: int, size_bytes: int) -> None:
    """A message is taken as long as neither number nor bytes are reached; a large one alone is taken, too."""
    messages = [_message(0, size) for size in sizes]

    assert fitting(messages, records, size_bytes) == _fitting_one_by_one(messages, records, size_bytes)
