"""What a person does with violations: list them, have them explained, resolve them on record.

Both violations and resolutions stand on audit.violations, keyed by tenant, for ever. A resolution changes nothing about
what was found: it lets the tenant's verified feed go on with its next record. What was held back in the meantime stays
unpublished; the gap in ``seal-seq`` shows it, and the store has the records.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, Producer, TopicPartition

from sealstream.kafka.client import KAFKA_LOG, KafkaConnection
from sealstream.schemas.codec import schema_fingerprint
from sealstream.schemas.errors import ConfigError, FormatError, SealstreamError, Unreachable
from sealstream.schemas.resolution import Resolution
from sealstream.schemas.violation import Severity, Violation, ViolationType
from sealstream.sinks.verifier.clients import reader
from sealstream.worker.logs import logger
from sealstream.worker.settings import Settings

CLIENT_ID: Final = "sealstream-violations"
LIST_MAX: Final = 10_000
TEXT_CHARACTERS_MAX: Final = 1_000
READ_RECORDS: Final = 1_000
POLL_SECONDS: Final = 0.2


class ViolationUnknown(SealstreamError):
    """No violation with that id is recorded, or it cannot be resolved like this."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A violation as it stands on record.

    Arguments:
        violation: The violation.
        resolution: How it was resolved, if it was.
    """

    violation: Violation
    resolution: Resolution | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is a violation, and not resolved."""
        return self.resolution is None and self.violation.severity is Severity.VIOLATION

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        resolution = None if self.resolution is None else self.resolution.to_dict()
        return self.violation.to_dict() | {"resolution": resolution}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a type of violation means.

    Arguments:
        type: The type.
        meaning: What was found.
        causes: What can have happened, likeliest first.
        what_to_do: What to do about it, in order.
    """

    type: ViolationType
    meaning: str
    causes: tuple[str, ...]
    what_to_do: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "type": self.type.value,
            "meaning": self.meaning,
            "causes": list(self.causes),
            "what_to_do": list(self.what_to_do),
        }


def list_violations(settings: Settings, *, tenant: str | None = None, limit: int = LIST_MAX) -> list[Recorded]:
    """Return what is recorded, in the order in which it was found.

    Arguments:
        settings: How to reach Kafka, and the topics' names.
        tenant: Only this chain's.
        limit: At most so many, the latest.

    Raises:
        Unreachable: Kafka does not answer in time.
        ConfigError: The topic does not exist, or may not be read.
    """
    violations: dict[str, Violation] = {}
    resolutions: dict[str, Resolution] = {}
    for offset, value in _values(settings):
        try:
            found = _decode(value)
        except FormatError as error:  # one record that is not ours must not hide all the others
            logger().warning("a record on audit.violations cannot be read", offset=offset, error=str(error))
            continue
        if isinstance(found, Violation) and tenant in (None, found.tenant):
            violations[found.id] = found
        elif isinstance(found, Resolution) and found.violation_id in violations:
            resolutions[found.violation_id] = found
        if len(violations) > limit:
            oldest = next(iter(violations))
            del violations[oldest]
            resolutions.pop(oldest, None)
    return [Recorded(violation, resolutions.get(key)) for key, violation in violations.items()]


def find_violation(settings: Settings, violation_id: str) -> Recorded:
    """Return one violation by its id, or by the first characters of it if these belong to no other.

    Raises:
        ViolationUnknown: There is none, or more than one.
        Unreachable: Kafka does not answer in time.
    """
    found = [r for r in list_violations(settings) if violation_id and r.violation.id.startswith(violation_id)]
    if len(found) != 1:
        what = "no violation has" if not found else f"{len(found)} violations have"
        raise ViolationUnknown(f"{what} the id {violation_id!r}", hint="sealstream violations list")
    return found[0]


def resolve(settings: Settings, violation_id: str, *, by: str, why: str) -> Resolution:
    """Record that a violation was looked into. The verifier lets the tenant's feed go on behind it.

    Arguments:
        settings: How to reach Kafka, and the topics' names.
        violation_id: The violation's id.
        by: Who resolves it.
        why: What was found out and done; never a payload.

    Raises:
        ViolationUnknown: There is no such open violation, or it is of a kind that a word cannot resolve.
        ConfigError: Who or why is missing or too long.
        Unreachable: Kafka did not take it.
    """
    for name, text in (("by", by), ("why", why)):
        if not 0 < len(text.strip()) <= TEXT_CHARACTERS_MAX:
            raise ConfigError(f"a resolution needs {name!r}, of at most {TEXT_CHARACTERS_MAX} characters")
    recorded = find_violation(settings, violation_id)
    violation = recorded.violation
    if not recorded.is_open:
        raise ViolationUnknown(f"{violation.id} is a warning, or resolved already", hint="it stops nothing")
    if violation.type in (ViolationType.ROLLBACK, ViolationType.TRUNCATED):
        raise ViolationUnknown(
            f"{violation.id} is of the type {violation.type.value}: the log itself is damaged, and a word mends no log",
            hint=f"sealstream violations explain {violation.type.value}",
        )
    resolution = Resolution(
        violation_id=violation.id, tenant=violation.tenant, by=by, why=why, instance=settings.instance
    )
    _write(settings.connection(), settings.topics().violations, resolution, settings.request_timeout_seconds)
    return resolution


def explain(kind: ViolationType) -> Explanation:
    """Return what a type of violation means, what can have caused it, and what to do."""
    return EXPLANATIONS[kind]


def _decode(value: bytes) -> Violation | Resolution:
    is_resolution = value[2:10] == schema_fingerprint("Resolution")
    return Resolution.decode(value) if is_resolution else Violation.decode(value)


def _values(settings: Settings) -> Iterator[tuple[int, bytes]]:
    """Read audit.violations from its beginning to the end that it has now, as offsets and values."""
    topic = settings.topics().violations
    consumer = reader(settings.connection(), CLIENT_ID)
    deadline = time.monotonic() + settings.request_timeout_seconds
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        while time.monotonic() < deadline:
            for message in consumer.consume(READ_RECORDS, POLL_SECONDS):
                error = message.error()
                if error is None:
                    deadline = time.monotonic() + settings.request_timeout_seconds
                    yield cast("int", message.offset()), message.value() or b""
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
                    raise ConfigError(f"{topic} cannot be read: {error.str()}", hint="sealstream topics check")
    finally:
        consumer.close()
    raise Unreachable(f"{topic} cannot be read from {settings.kafka}", hint="check SEALSTREAM_KAFKA")


def _write(connection: KafkaConnection, topic: str, resolution: Resolution, timeout_seconds: float) -> None:
    failures: list[KafkaError] = []

    def report(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    config = connection.config(CLIENT_ID) | {
        "enable.idempotence": True,
        "delivery.timeout.ms": int(timeout_seconds * 1000),
    }
    producer = Producer(config, logger=KAFKA_LOG)
    producer.produce(topic, resolution.encode(), resolution.tenant.encode(), 0, on_delivery=report)
    if producer.flush(timeout_seconds) or failures:
        why = failures[0].str() if failures else "no answer in time"
        raise Unreachable(f"the resolution was not recorded: {why}", hint="try again; twice does no harm")


_SOURCE_HINT: Final = "compare with the source record, if it has not expired: sealstream verify checks the store's copy"
_RESOLVE_HINT: Final = "record what came out: sealstream violations resolve ID --by WHO --why TEXT"
_WRITERS: Final = "see who may write audit.chained and who did: only the processor should (broker logs, ACLs)"

EXPLANATIONS: Final = {
    explanation.type: explanation
    for explanation in (
        Explanation(
            ViolationType.EDITED,
            "An entry is not what the rules make of its source record, or stands for no source record at all.",
            (
                "somebody who may write audit.chained wrote or changed a record",
                "the processor runs a changed or faulty version",
                "a disk or network fault that checksums did not catch",
            ),
            (_WRITERS, _SOURCE_HINT, "compare the running processor with its released image", _RESOLVE_HINT),
        ),
        Explanation(
            ViolationType.GAP,
            "A record that the source has was not chained, or a seq is missing: something is left out of the trail.",
            (
                "records were suppressed, on audit.chained or before it",
                "the processor lost its place: offsets of its group were moved by hand",
            ),
            (
                "the source record at the offset named is what is missing: save it before it expires",
                _WRITERS,
                "see whether the group's offsets were reset",
                _RESOLVE_HINT,
            ),
        ),
        Explanation(
            ViolationType.FORK,
            "A second entry claims a seq that is taken: two histories, or one entry written twice.",
            (
                "a second processor writes beside the first, without transactions or under another group",
                "somebody who may write audit.chained added a record",
            ),
            ("stop all processors but one", _WRITERS, _RESOLVE_HINT),
        ),
        Explanation(
            ViolationType.REORDERED,
            "The entries are all there, but one stands behind others that should follow it.",
            ("records were taken out and written again", "a producer without idempotence wrote audit.chained"),
            (_WRITERS, _RESOLVE_HINT),
        ),
        Explanation(
            ViolationType.ROLLBACK,
            "A log is at an older state than the one that was verified, or is another log under the same name.",
            ("a topic was deleted and made anew", "brokers were restored from a backup or a snapshot"),
            (
                "find out what was restored, and when; what was verified before stands in audit.verified and the store",
                "go on in a new epoch: its chains begin where the verified ones end",
            ),
        ),
        Explanation(
            ViolationType.TRUNCATED,
            "The end of a log that was verified before is not there any more.",
            (
                "an unclean leader election: an out-of-date replica became the leader",
                "segments were removed on a broker's disk",
            ),
            (
                "check min.insync.replicas and unclean.leader.election.enable: sealstream topics check",
                "see whether another replica still has the end before it is overwritten",
                "go on in a new epoch: its chains begin where the verified ones end",
            ),
        ),
        Explanation(
            ViolationType.FOREIGN,
            "A record belongs to another tenant, instance, topic or partition than the place where it stands.",
            (
                "records of another instance or environment were copied here",
                "somebody moved one tenant's record into another's chain",
            ),
            (_WRITERS, "see whether two instances share a topic prefix", _RESOLVE_HINT),
        ),
        Explanation(
            ViolationType.PAYLOAD_ALTERED,
            "An entry is right, but the bytes beside it are not the ones that it commits to.",
            (
                "somebody who may write audit.chained or the store changed the event",
                "a disk or network fault that checksums did not catch",
            ),
            ("the digest in the entry tells which copy is the right one", _WRITERS, _SOURCE_HINT, _RESOLVE_HINT),
        ),
        Explanation(
            ViolationType.CLOCK,
            "A broker's time lies beyond the present: its clock is wrong, or the verifier's. A warning: nothing stops.",
            ("a broker without time synchronisation",),
            ("synchronise the brokers' clocks", "mind that the duplicate window is measured on their times"),
        ),
        Explanation(
            ViolationType.PRODUCER_GAP,
            "A producer counted further than what arrived: it sent something that the source never had. A warning.",
            ("events were dropped by the sender's policy", "a sender was killed before it had delivered"),
            ("ask the application: its own counters and its spool say what it sent",),
        ),
    )
}
