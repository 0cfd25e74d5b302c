"""What an error of librdkafka outside of a transaction means for a worker: to wait, to join again, or to end."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from sealstream.processors.failures import TOPIC_GONE_CODES, classify, is_fenced
from sealstream.schemas.errors import ConfigError, SealstreamError, Unreachable, UnsafeState

DOING = "read audit.heads"


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,
        KafkaError._TIMED_OUT,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.REBALANCE_IN_PROGRESS,
    ],
)
def test_what_passes_is_waited_for(code: int) -> None:
    """A cluster that is away, or busy with itself, ends no worker."""
    assert isinstance(classify(KafkaError(code), DOING), Unreachable)


@pytest.mark.parametrize("code", sorted(TOPIC_GONE_CODES))
def test_a_topic_that_a_client_does_not_know_is_asked_for_again(code: int) -> None:
    """A client whose connection was cut before it learned of a topic says that there is none. That ends no worker: it
    asks again, and learns whether the topic is really gone.
    """
    assert isinstance(classify(KafkaError(code), DOING), Unreachable)


def test_missing_rights_end_the_worker() -> None:
    """Who lacks a right is told to get it, at once."""
    assert isinstance(classify(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), DOING), ConfigError)


def test_a_damaged_batch_ends_the_worker() -> None:
    """What cannot be read is neither skipped nor read for ever."""
    assert isinstance(classify(KafkaError(KafkaError._BAD_MSG), DOING), UnsafeState)


def test_what_nobody_foresaw_ends_the_worker() -> None:
    """An error of no known kind is told in librdkafka's words, with what was being done."""
    meaning = classify(KafkaError(KafkaError.INVALID_CONFIG), DOING)
    assert type(meaning) is SealstreamError
    assert DOING in meaning.message


def test_a_lost_place_is_told_apart() -> None:
    """A worker whose name was taken knows it by the error's code."""
    assert is_fenced(KafkaError(KafkaError.PRODUCER_FENCED))
    assert not is_fenced(KafkaError(KafkaError._TRANSPORT))
