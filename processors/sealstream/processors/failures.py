"""What an error of librdkafka means outside of a transaction: wait and try again, or stop and say why."""

# ruff: noqa: SLF001 - librdkafka's own error codes carry an underscore in its public interface
from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

from sealstream.kafka.replacement import Replaced
from sealstream.kafka.transactions import CONNECTIVITY_CODES
from sealstream.schemas.errors import ConfigError, SealstreamError, Unreachable, UnsafeState

POSITION_GONE_CODES: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
TOPIC_GONE_CODES: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.INCONSISTENT_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
LEFT_GROUP_CODES: Final = frozenset({KafkaError._MAX_POLL_EXCEEDED})
_REFUSED_CODES: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_LOGIN_CODES: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL})
_FENCED_CODES: Final = frozenset(
    {
        KafkaError._FATAL,  # of a consumer in a classic group: its static membership was taken over, nothing else
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.UNRELEASED_INSTANCE_ID,
    }
)
_UNREADABLE_CODES: Final = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG, KafkaError._PARTIAL})
_PASSING_CODES: Final = CONNECTIVITY_CODES | {
    # A client whose connection was cut before it learned of a topic says that there is none. Where that is so, the next
    # attempt ends in words of its own: it begins with asking for the topics, and their numbers of partitions.
    *TOPIC_GONE_CODES,
    KafkaError.UNSTABLE_OFFSET_COMMIT,  # a transaction of another worker is about to end
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError._STATE,
    KafkaError._WAIT_COORD,
}


def is_fenced(error: KafkaError) -> bool:
    """Return whether another worker has taken this one's place."""
    return error.code() in _FENCED_CODES


def is_replaced(error: KafkaError) -> bool:
    """Return whether the group knows another member of this one's name, which a transaction may learn first."""
    return error.code() == KafkaError.FENCED_INSTANCE_ID


def classify(error: KafkaError, doing: str) -> SealstreamError:
    """Return what an error means.

    Arguments:
        error: What librdkafka said.
        doing: What was being done, as ``read audit.heads``.

    Returns:
        :class:`Unreachable` for what passes by waiting, :class:`Replaced` for what may be mended by joining again;
        anything else needs a person, and ends the worker.
    """
    code, text = error.code(), f"could not {doing}: {error.name()}: {error.str()}"
    if code in _FENCED_CODES:
        return Replaced(text)
    if code in _REFUSED_CODES:
        return ConfigError(text, hint="give this worker's principal the right; the processor's README lists them")
    if code in _LOGIN_CODES:
        return Unreachable(text, hint="check user name, password and certificates")
    if code in _UNREADABLE_CODES:
        return UnsafeState(
            text, hint="the source holds a batch that is damaged, or unpacks to more than the processor takes"
        )
    if error.fatal() or not (code in _PASSING_CODES or error.retriable()):
        return SealstreamError(text)
    return Unreachable(text, hint="check SEALSTREAM_KAFKA and that the brokers run")
