"""What the demonstration found out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealstream.deploy.demo.options import DemoOptions
from sealstream.deploy.demo.stages import Counts
from sealstream.schemas.entry import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """What was done to the store, and what the verification said.

    Arguments:
        tenant: Whose event was edited.
        seq: Its place in the chain.
        before: The actor that the event names.
        after: The actor that was put in its place.
        detected: Whether the verification named this tenant and seq, and nothing else.
        finding: What it said, in words.
    """

    tenant: str
    seq: int
    before: str
    after: str
    detected: bool
    finding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The whole demonstration.

    Arguments:
        options: What was asked for.
        counts: What went through the stages.
        stored_kinds: Entries in the store by kind.
        violations: Violations before and after the tampering: what should be none.
        tampering: What was done to the store.
        publishing_at: When publishing began, on the clock of ``time.monotonic``.
        timings: How long each step took, in seconds.
        seconds: How long all of it took.
        record: One event's record, as ``sealstream show --json`` gives it.
        record_words: The same for a person.
        kept: Where the data is, if it was kept.
        embedded: Whether the servers were the demonstration's own, and so have ended with it.
    """

    options: DemoOptions
    counts: Counts
    stored_kinds: Counter[int]
    violations: int
    tampering: Tampering
    publishing_at: float
    timings: dict[str, float]
    seconds: float
    record: dict[str, Any]
    record_words: list[tuple[str, str]]
    kept: Path | None
    embedded: bool

    @property
    def is_good(self) -> bool:
        """Whether everything was as it should be."""
        return self.tampering.detected and self.violations == 0 and self.counts.kinds == self.stored_kinds

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; geneses are not counted."""
        counts = self.counts
        return {
            "published": counts.published.count,
            "chained": counts.chained.count,
            "stored": self.stored_kinds.total() - self.stored_kinds[Kind.GENESIS],
            "verified": counts.verified.count,
            "duplicates": self.stored_kinds[Kind.DUPLICATE],
            "quarantined": self.stored_kinds[Kind.QUARANTINED],
            "violations": self.violations,
            "seconds": round(self.seconds, 3),
            "tamper_detected": self.tampering.detected,
            "tenants": self.options.tenants,
            "tampering": {
                "tenant": self.tampering.tenant,
                "seq": self.tampering.seq,
                "finding": self.tampering.finding,
            },
            "stages": {
                stage.name: {
                    "records": stage.count,
                    "done_after_seconds": _rounded(stage.last_at and stage.last_at - self.publishing_at, 3),
                    "rate_per_second": _rounded(stage.rate, 0),
                }
                for stage in counts.stages()
            },
            "timings_seconds": {name: round(seconds, 3) for name, seconds in self.timings.items()},
            "record": self.record,
            "kept": str(self.kept) if self.kept else None,
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
