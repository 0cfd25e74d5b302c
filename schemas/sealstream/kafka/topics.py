"""The table of topics: names, headers and the settings that each topic must have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.errors import ConfigError

SEAL_ENTRY_HEADER: Final = "seal-entry"
"""On audit.chained and audit.verified: the entry's bytes."""
SEAL_SEQ_HEADER: Final = "seal-seq"
SEAL_HASH_HEADER: Final = "seal-hash"
SEAL_PREV_HEADER: Final = "seal-prev"
CE_ID_HEADER: Final = "ce_id"
TRACEPARENT_HEADER: Final = "traceparent"

DAY_SECONDS: Final = 86_400
RETENTION_MARGIN_SECONDS: Final = 2 * DAY_SECONDS
"""Source and chained records outlive the duplicate window by this much, so that a window can always be restored."""
EVENT_BYTES_MAX: Final = 1_048_576
SEALED_BYTES_MAX: Final = 2_097_152
"""A value of 1,000,000 bytes with its seal and headers fits this with room to spare."""
DEAD_LETTER_BYTES_MAX: Final = 524_288
"""How much of a quarantined value audit.deadletter keeps."""

_PREFIX_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What one topic must be like.

    Arguments:
        name: The topic's full name.
        partitions: Number of partitions.
        config: Topic settings that must have exactly these values.
        config_min: Topic settings that must have at least these values.
    """

    name: str
    partitions: int
    config: dict[str, str]
    config_min: dict[str, int]


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of an instance's topics in one epoch.

    Arguments:
        prefix: What all names begin with, ``audit.`` by default.
        epoch: The epoch, from 1; from the second on it is a suffix of the names, ``audit.events.e2``.
    """

    prefix: str = "audit."
    epoch: int = 1

    def __post_init__(self) -> None:
        """Refuse a prefix or an epoch that no topic name can have.

        Raises:
            ConfigError: The prefix or the epoch is out of range.
        """
        if not _PREFIX_PATTERN.fullmatch(self.prefix):
            raise ConfigError(
                f"topic prefix {self.prefix!r} cannot begin a topic name", hint="use up to 100 of A-Za-z0-9._-"
            )
        if self.epoch < 1:
            raise ConfigError(f"epoch {self.epoch} does not exist", hint="epochs count from 1")

    def _name(self, topic: str) -> str:
        suffix = f".e{self.epoch}" if self.epoch > 1 else ""
        return f"{self.prefix}{topic}{suffix}"

    @property
    def events(self) -> str:
        """What applications publish: the source."""
        return self._name("events")

    @property
    def chained(self) -> str:
        """What the processor made of it, sealed."""
        return self._name("chained")

    @property
    def heads(self) -> str:
        """The processor's heads, compacted."""
        return self._name("heads")

    @property
    def deadletter(self) -> str:
        """The bytes of quarantined records."""
        return self._name("deadletter")

    @property
    def verified(self) -> str:
        """What the verifier found to hold."""
        return self._name("verified")

    @property
    def verifier(self) -> str:
        """The verifier's state, compacted."""
        return self._name("verifier")

    @property
    def violations(self) -> str:
        """What the verifier found not to hold."""
        return f"{self.prefix}violations"

    @property
    def checkpoints(self) -> str:
        """Signed checkpoints."""
        return f"{self.prefix}checkpoints"


def topic_table(names: TopicNames, *, partitions: int, window_seconds: int) -> tuple[TopicSpec, ...]:
    """Return what every topic of an instance must be like.

    Arguments:
        names: The topics' names.
        partitions: Number of partitions of the source and of everything that follows it partition by partition.
        window_seconds: The duplicate window; source and chained records must outlive it.
    """
    retention = {"retention.ms": (window_seconds + RETENTION_MARGIN_SECONDS) * 1000}
    for_ever = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    log = {"cleanup.policy": "delete", "retention.bytes": "-1"}
    compacted = {
        "cleanup.policy": "compact",
        "segment.bytes": str(64 * 1024 * 1024),
        "segment.ms": str(10 * 60 * 1000),
        "min.cleanable.dirty.ratio": "0.1",
    }
    sealed = {"max.message.bytes": str(SEALED_BYTES_MAX)}
    events = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(EVENT_BYTES_MAX)}
    return (
        TopicSpec(names.events, partitions, log | events, retention),
        TopicSpec(names.chained, partitions, log | sealed, retention),
        TopicSpec(names.heads, partitions, compacted, {}),
        TopicSpec(names.deadletter, partitions, {"cleanup.policy": "delete"} | sealed, {}),
        TopicSpec(names.verified, partitions, {"cleanup.policy": "delete"} | sealed, {}),
        TopicSpec(names.verifier, partitions, compacted, {}),
        TopicSpec(names.violations, 1, for_ever, {}),
        TopicSpec(names.checkpoints, 1, for_ever, {}),
    )
