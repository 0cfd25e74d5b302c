"""A partition's bounds are asked for again while its leader is not one yet, and no longer than told."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from sealstream.kafka.watermarks import watermarks


class Asked:
    """A consumer whose broker answers as it is told."""

    def __init__(self, *answers: int | tuple[int, int] | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int] | None:
        """Give the next answer, and the last one over and over."""
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer


def ask(asked: Asked, timeout_seconds: float = 5.0) -> tuple[int, int]:
    """Ask for the bounds of some partition."""
    return watermarks(cast("Consumer", asked), "t", 0, timeout_seconds=timeout_seconds)


def test_a_leader_that_is_not_ready_is_asked_again() -> None:
    """A topic that was made a moment ago is no error."""
    asked = Asked(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, (3, 7))

    assert ask(asked) == (3, 7)
    assert asked.asked == 3


def test_a_leader_that_does_not_come_is_an_error_in_time() -> None:
    """The wait is bounded, and ends with what the broker said."""
    with pytest.raises(KafkaException, match="NOT_LEADER_FOR_PARTITION"):
        ask(Asked(KafkaError.NOT_LEADER_FOR_PARTITION), timeout_seconds=0.25)


@pytest.mark.parametrize("answer", [KafkaError.TOPIC_AUTHORIZATION_FAILED, None])
def test_other_answers_are_errors_at_once(answer: int | None) -> None:
    """A refusal does not pass by waiting, and no answer is not taken for one."""
    asked = Asked(answer)

    with pytest.raises(KafkaException):
        ask(asked)
    assert asked.asked == 1
