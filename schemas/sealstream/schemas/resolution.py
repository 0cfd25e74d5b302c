"""Resolutions: a person's word that a violation was looked into, recorded beside the violation for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sealstream.schemas.codec import Datum, decode, encode_body, frame_single_object
from sealstream.schemas.event import now


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """One resolution.

    Arguments:
        violation_id: The id of the violation.
        tenant: The violation's chain.
        by: Who resolved it.
        why: What was found out and done; never a payload.
        instance: The violation's instance.
        resolved_at: When.
    """

    violation_id: str
    tenant: str
    by: str
    why: str
    instance: str = ""
    resolved_at: datetime = field(default_factory=now)

    def to_dict(self) -> dict[str, Any]:
        """Return the resolution as plain values, for JSON."""
        return self._datum() | {"resolved_at": self.resolved_at.isoformat()}

    def encode(self) -> bytes:
        """Return the resolution as the value of a record on audit.violations (single-object encoding)."""
        return frame_single_object("Resolution", encode_body("Resolution", self._datum()))

    @classmethod
    def decode(cls, value: bytes) -> Resolution:
        """Return the resolution that a record of audit.violations holds, the inverse of :meth:`encode`.

        Raises:
            FrameInvalid: The value does not decode.
            SchemaUnknown: The value is something else, such as a violation.
        """
        return cls(**decode("Resolution", value))

    def _datum(self) -> Datum:
        return {
            "violation_id": self.violation_id,
            "instance": self.instance,
            "tenant": self.tenant,
            "by": self.by,
            "why": self.why,
            "resolved_at": self.resolved_at,
        }
