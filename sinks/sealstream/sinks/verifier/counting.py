"""What a committed transaction adds to the metrics and to the log."""

from __future__ import annotations

from collections.abc import Sequence

from sealstream.schemas.violation import Severity
from sealstream.sinks.verifier.output import Change
from sealstream.worker import metrics
from sealstream.worker.logs import logger


def count(changes: Sequence[Change]) -> None:
    """Count what was committed, and log each violation: the place of it, and never a payload."""
    metrics.VERIFIER_BATCH_RECORDS.observe(sum(change.outcome.records for change in changes))
    for change in changes:
        for kind, number in change.outcome.kinds.items():
            metrics.VERIFIER_ENTRIES.labels(kind.name.lower()).inc(number)
        for violation in change.outcome.violations:
            metrics.VERIFIER_VIOLATIONS.labels(violation.type.value).inc()
            log = logger().error if violation.severity is Severity.VIOLATION else logger().warning
            log(
                "violation",
                tenant=violation.tenant,
                seq=violation.seq,
                partition=violation.partition,
                offset=violation.offset,
                type=violation.type.value,
                severity=violation.severity.value,
                id=violation.id,
                message=violation.message,
            )
