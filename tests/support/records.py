"""Source records without a broker, for unit tests of what chains and verifies them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME

from support.model import SourceRecord


class Keyed(Protocol):
    """What every record has."""

    @property
    def key(self) -> bytes | None:
        """The key."""
        ...

    @property
    def value(self) -> bytes | None:
        """The value."""
        ...

    @property
    def offset(self) -> int:
        """The offset."""
        ...


KeyedT = TypeVar("KeyedT", bound=Keyed)


@dataclass(frozen=True, slots=True)
class RecordMessage(Generic[KeyedT]):
    """A record that answers like confluent-kafka's ``Message``, as far as the records of every topic do."""

    record: KeyedT

    def key(self) -> bytes | None:
        """Return the key."""
        return self.record.key

    def value(self) -> bytes | None:
        """Return the value."""
        return self.record.value

    def offset(self) -> int:
        """Return the offset."""
        return self.record.offset


class MessageLike(RecordMessage[SourceRecord]):
    """A source record that answers like confluent-kafka's ``Message``."""

    __slots__ = ()

    def partition(self) -> int:
        """Return the partition."""
        return self.record.partition

    def timestamp(self) -> tuple[int, int]:
        """Return the type of the time and the time in milliseconds."""
        if self.record.timestamp_ms is None:
            return TIMESTAMP_CREATE_TIME, 1_700_000_000_000
        return TIMESTAMP_LOG_APPEND_TIME, self.record.timestamp_ms

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Return the headers; ``None`` where there are none."""
        return list(self.record.headers) or None
