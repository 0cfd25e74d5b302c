"""The options of an audit log: checked once, so that a wrong one is met at start and not with the first event."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import EVENT_BYTES_MAX, TopicNames
from sealstream.schemas.entry import is_event_id, is_instance
from sealstream.schemas.errors import ConfigError

WhenFull: TypeAlias = Literal["block", "raise", "drop-and-count"]
"""What ``log()`` does while the queue is full: wait a bounded time, raise ``QueueFull``, or let the event go and count.

An event that found no room while ``log()`` waited is let go and counted as well: its receipt fails.
"""
Compression: TypeAlias = Literal["none", "lz4", "zstd"]
Fsync: TypeAlias = Literal["batch", "full", "off"]
"""When the spool makes the disk write: once for the events of a few milliseconds, at once, or when the system likes.

With ``off`` a killed process loses nothing, and a power cut may.
"""

SPOOL_BYTES_MAX: Final = 1024 * 1024 * 1024
_SCHEMA_ID_MAX: Final = 2**31 - 1
_SECONDS_MAX: Final = 86_400.0
_LINGER_SECONDS_MAX: Final = 10.0
_EVENTS_MAX: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerOptions:
    """How an audit log sends; the fronts say what each option is for.

    Raises:
        ConfigError: An option is out of range.
    """

    kafka: KafkaConnection
    instance: str
    topics: TopicNames
    producer_id: str | None
    schema_id: int | None
    when_full: WhenFull
    timeout_seconds: float
    queue_events_max: int
    queue_bytes_max: int
    linger_seconds: float
    compression: Compression
    delivery_timeout_seconds: float
    close_timeout_seconds: float
    spool: Path | None = None
    spool_bytes_max: int = SPOOL_BYTES_MAX
    fsync: Fsync = "batch"
    receipts: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the option's name."""
        if not self.kafka.bootstrap.strip():
            raise ConfigError("kafka is empty", hint="give bootstrap servers, host:port separated by commas")
        if not is_instance(self.instance):
            raise ConfigError(f"instance {self.instance!r} is not a name", hint="use 1 to 120 of a-z0-9./-")
        if self.producer_id is not None and not is_event_id(self.producer_id):
            raise ConfigError(f"producer_id {self.producer_id!r} is not a name", hint="use 1 to 128 of A-Za-z0-9._:-")
        _check_choice("when_full", self.when_full, get_args(WhenFull))
        _check_choice("compression", self.compression, get_args(Compression))
        _check_choice("fsync", self.fsync, get_args(Fsync))
        _check_range("spool_bytes_max", self.spool_bytes_max, 2 * EVENT_BYTES_MAX, 2**50)
        _check_range("schema_id", self.schema_id or 0, 0, _SCHEMA_ID_MAX)
        _check_range("queue_events_max", self.queue_events_max, 1, _EVENTS_MAX)
        _check_range("queue_bytes_max", self.queue_bytes_max, 2 * EVENT_BYTES_MAX, 2**40)  # the largest event fits
        _check_range("linger_seconds", self.linger_seconds, 0, _LINGER_SECONDS_MAX)
        _check_range("timeout_seconds", self.timeout_seconds, 0, _SECONDS_MAX)
        _check_range("close_timeout_seconds", self.close_timeout_seconds, 0, _SECONDS_MAX)
        # librdkafka wants the time to linger within the time to deliver.
        _check_range("delivery_timeout_seconds", self.delivery_timeout_seconds, self.linger_seconds + 0.1, _SECONDS_MAX)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}", hint=f"use one of {', '.join(choices)}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}", hint=f"use {low} to {high}")
