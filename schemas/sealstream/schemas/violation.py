"""Violations: what a verification found not to hold, typed, and naming the exact tenant and seq."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sealstream.schemas.codec import Datum, decode, encode_body, frame_single_object
from sealstream.schemas.errors import FrameInvalid
from sealstream.schemas.event import now

_ID_LABEL: Final = "sealstream/violation1"
_ID_CHARACTERS: Final = 32

ROOT_LOG: Final = "!root"
"""Under which name a finding about the root log itself stands; its seq is the round."""


class ViolationType(StrEnum):
    """What kind of wrong a violation is; each has one meaning, so that a double write is never called a deletion."""

    EDITED = "edited"
    """An entry is not what its hash, its successor or the rules say it must be."""
    GAP = "gap"
    """Entries or source records are missing between two that are there."""
    FORK = "fork"
    """Two entries claim the same place: two histories, or one entry written twice."""
    REORDERED = "reordered"
    """Entries are all there, but not in their order."""
    ROLLBACK = "rollback"
    """The log or store is at an older state than it was seen at before."""
    TRUNCATED = "truncated"
    """The end is missing, compared with what was seen before."""
    FOREIGN = "foreign"
    """An entry belongs to another tenant, instance, topic or partition than the place it stands in."""
    PAYLOAD_ALTERED = "payload-altered"
    """The payload is not the one that the entry commits to, or it is gone."""
    CLOCK = "clock"
    """A time is impossible: before an earlier anchor, or beyond the present."""
    PRODUCER_GAP = "producer-gap"
    """A producer's count has a hole: something it sent never arrived. A warning."""


class Severity(StrEnum):
    """Whether a finding breaks the trail or only deserves a look."""

    VIOLATION = "violation"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One finding.

    Arguments:
        type: What kind of wrong.
        tenant: The chain at fault.
        message: What is wrong, for a person; never a payload.
        seq: The first entry at fault, where one can be named.
        partition: The source partition.
        offset: The source offset at fault, where one can be named.
        topic_id: UUID of the source topic, 16 bytes; empty where it is not known.
        instance: The instance at fault; empty where it is not known.
        expected: What should have been there, in text or hex.
        found: What was there, in text or hex.
        severity: A violation, or a warning.
        detected_at: When it was found.
    """

    type: ViolationType
    tenant: str
    message: str
    seq: int | None = None
    partition: int = 0
    offset: int | None = None
    topic_id: bytes = b""
    instance: str = ""
    expected: str = ""
    found: str = ""
    severity: Severity = Severity.VIOLATION
    detected_at: datetime = field(default_factory=now)

    @property
    def id(self) -> str:
        """The same finding has the same id, however often and by whichever run it is reported (``SPEC.md``)."""
        lines = (
            _ID_LABEL,
            self.instance,
            self.type.value,
            self.tenant,
            "" if self.seq is None else str(self.seq),
            self.topic_id.hex(),
            str(self.partition),
            "" if self.offset is None else str(self.offset),
            self.found,
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_ID_CHARACTERS]

    def to_dict(self) -> dict[str, Any]:
        """Return the violation as plain values, for JSON; the time is in ISO 8601."""
        return {
            "id": self.id,
            "instance": self.instance,
            "type": self.type.value,
            "severity": self.severity.value,
            "tenant": self.tenant,
            "seq": self.seq,
            "topic_id": self.topic_id.hex(),
            "partition": self.partition,
            "offset": self.offset,
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
            "detected_at": self.detected_at.isoformat(),
        }

    def encode(self) -> bytes:
        """Return the violation as the value of a record on audit.violations (single-object encoding)."""
        datum = self.to_dict() | {"detected_at": self.detected_at}
        return frame_single_object("Violation", encode_body("Violation", datum))

    @classmethod
    def decode(cls, value: bytes) -> Violation:
        """Return the violation that a record of audit.violations holds, the inverse of :meth:`encode`.

        Raises:
            FrameInvalid: The value is no violation.
            SchemaUnknown: It was written with another schema than the shipped one.
        """
        datum: Datum = decode("Violation", value)
        try:
            return cls(
                type=ViolationType(datum["type"]),
                tenant=datum["tenant"],
                message=datum["message"],
                seq=datum["seq"],
                partition=datum["partition"],
                offset=datum["offset"],
                topic_id=bytes.fromhex(datum["topic_id"]),
                instance=datum["instance"],
                expected=datum["expected"],
                found=datum["found"],
                severity=Severity(datum["severity"]),
                detected_at=datum["detected_at"],
            )
        except ValueError as error:
            raise FrameInvalid(f"value does not decode as a Violation: {error}") from error
