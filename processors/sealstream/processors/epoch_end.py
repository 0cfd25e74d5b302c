"""The mark that ends an epoch: a record in each partition of its audit.heads (pure).

``epoch/<partition>``   JSON: version, next (the epoch in which the chains go on), by, why, ended_at

A worker that finds it stops: whatever it chained would stand beside what the next epoch chains.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Self

from sealstream.schemas.errors import FormatError

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnd:
    """That an epoch has ended.

    Arguments:
        next: The epoch in which the chains go on.
        by: Who ended it.
        why: Why.
        ended_at: When, as ISO 8601.
    """

    next: int
    by: str
    why: str
    ended_at: str

    def pack(self) -> bytes:
        """Return the mark as audit.heads holds it."""
        fields = {
            "version": VERSION,
            "next": self.next,
            "by": self.by,
            "why": self.why,
            "ended_at": self.ended_at,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Return the mark that the bytes are, the inverse of :meth:`pack`.

        Raises:
            FormatError: The bytes are none, or of another version.
        """
        try:
            fields: dict[str, Any] = json.loads(value)
            version, following = fields["version"], fields["next"]
            by, why, ended_at = fields["by"], fields["why"], fields["ended_at"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError("the mark of an epoch's end is malformed") from error
        texts = all(isinstance(text, str) for text in (by, why, ended_at))
        if type(version) is not int or version != VERSION or type(following) is not int or following < 2 or not texts:
            raise FormatError("the mark of an epoch's end is malformed or of another version")
        return cls(next=following, by=by, why=why, ended_at=ended_at)


def end_key(partition: int) -> bytes:
    """Return the key of a partition's mark."""
    return b"epoch/%d" % partition
