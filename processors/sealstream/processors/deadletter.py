"""The record that audit.deadletter gets of a quarantined one: its bytes, and where its entry stands, as text."""

from __future__ import annotations

from typing import Final, TypeAlias

from sealstream.kafka.topics import DEAD_LETTER_BYTES_MAX
from sealstream.processors.chaining import DeadLetter

KEY_BYTES_MAX: Final = 1024
Headers: TypeAlias = list[tuple[str, str | bytes | None]]
"""Headers as confluent-kafka takes them."""


def headers_of(letter: DeadLetter, *, topic: str, topic_id: bytes, partition: int) -> Headers:
    """Return a dead letter's headers.

    Arguments:
        letter: The quarantined record.
        topic: The source topic's name.
        topic_id: Its UUID.
        partition: The source partition.
    """
    return [
        ("reason", b"%d" % letter.reason),
        ("reason-name", letter.reason.name.lower().replace("_", "-").encode()),
        ("length", b"%d" % len(letter.value or b"")),
        ("digest", letter.digest.hex().encode()),
        ("topic", topic.encode()),
        ("topic-id", topic_id.hex().encode()),
        ("partition", b"%d" % partition),
        ("offset", b"%d" % letter.offset),
        ("tenant", letter.chain),
        ("seq", b"%d" % letter.seq),
    ]


def key_of(letter: DeadLetter) -> bytes | None:
    """Return a dead letter's key: as it was received, but bounded."""
    return None if letter.key is None else letter.key[:KEY_BYTES_MAX]


def value_of(letter: DeadLetter) -> bytes | None:
    """Return a dead letter's value: the original bytes, at most the first 512 KiB."""
    return None if letter.value is None else letter.value[:DEAD_LETTER_BYTES_MAX]
