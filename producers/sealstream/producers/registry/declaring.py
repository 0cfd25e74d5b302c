"""The schema's text in the chains: control events that say, for ever, what the bytes of other events mean.

The same text for the same chain is always the same bytes, so putting it there again is a duplicate and nothing more. It
is written in single-object encoding under the shipped schema, whatever the registry says: it must be readable without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames
from sealstream.producers.client import SyncAuditLog
from sealstream.producers.registry.registering import VersionState
from sealstream.producers.registry.rules import compact
from sealstream.schemas.codec import encode_event
from sealstream.schemas.control import SCHEMA, make_control
from sealstream.schemas.control_body import SchemaText
from sealstream.schemas.entry import payload_digest
from sealstream.schemas.errors import DeliveryError
from sealstream.schemas.event import Actor, AuditEvent, Control, EventKind, Outcome, Target

PUBLISH_SECONDS: Final = 60.0
"""How long Kafka may take for all that is on its way."""

_ACTOR: Final = Actor("service", "sealstream-schemas")
_SALT_LABEL: Final = b"sealstream/schema-salt1\n"
_ID_HEX_DIGITS: Final = 32
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No time is claimed: it would make each run's bytes others. When it was appended, the entry says."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """One schema's text for one chain.

    Arguments:
        tenant: The chain.
        event_id: The event's id, which follows from what it says.
        value: The event's final bytes.
        registry_id: The schema's id in the registry; ``None`` where there is none.
    """

    tenant: str
    event_id: str
    value: bytes
    registry_id: int | None

    @property
    def digest(self) -> bytes:
        """The digest by which the chain commits to the value."""
        return payload_digest(self.value)


def texts_of(versions: Iterable[VersionState]) -> list[SchemaText]:
    """Return what is to be declared of a subject's versions: those that may be ones."""
    return [SchemaText(compact(one.text), one.schema_id) for one in versions if not one.problem]


def declaration(instance: str, tenant: str, text: SchemaText) -> Declaration:
    """Return the event that puts a schema's text into a chain. It is declared, not signed (``SPEC.md`` 24.2).

    Raises:
        ControlInvalid: Instance or tenant is none.
    """
    control = make_control(instance, tenant, SCHEMA, text.pack())
    said = hashlib.sha256(control.note.encode()).hexdigest()[:_ID_HEX_DIGITS]
    event_id = f"schema:{said}"
    event = _event(tenant, event_id, text, control)
    event.check()
    return Declaration(tenant, event_id, encode_event(event), text.registry_id)


def declarations(instance: str, tenants: Iterable[str], texts: Iterable[SchemaText]) -> Iterator[Declaration]:
    """Return the events for several texts and chains, chain by chain."""
    said = list(texts)
    return (declaration(instance, tenant, text) for tenant in tenants for text in said)


def publish(missing: Iterable[Declaration], *, kafka: KafkaConnection, instance: str, topics: TopicNames) -> int:
    """Publish declarations, wait until Kafka has all of them, and return how many there were.

    Raises:
        DeliveryError: Kafka did not take one in time; run it again.
    """
    count = 0
    with SyncAuditLog(
        kafka=kafka,
        instance=instance,
        topics=topics,
        when_full="block",
        timeout_seconds=PUBLISH_SECONDS,
        delivery_timeout_seconds=PUBLISH_SECONDS,
        close_timeout_seconds=0,
    ) as audit:
        for one in missing:
            audit.log_value(one.value)
            count += 1
        # If we die here, some chains have the text and some do not; the next run puts it where it is missing.
        if audit.flush(PUBLISH_SECONDS):
            raise DeliveryError(
                f"Kafka has not confirmed the schema's text for {audit.stats.outstanding_events} chains in time",
                hint="run it again: a text that has arrived twice is a duplicate, and counts once",
            )
    return count


def _event(tenant: str, event_id: str, text: SchemaText, control: Control) -> AuditEvent:
    registry_id = {} if text.registry_id is None else {"schema.registry_id": str(text.registry_id)}
    return AuditEvent(
        tenant=tenant,
        actor=_ACTOR,
        action=SCHEMA,
        targets=(Target("schema", text.fingerprint.hex()),),
        outcome=Outcome.SUCCESS,
        metadata=registry_id,
        occurred_at=_NO_TIME,
        id=event_id,
        kind=EventKind.CONTROL,
        # Nothing here is secret, so that the salt need not be: it has to be the same each time.
        salt=hashlib.sha256(_SALT_LABEL + f"{tenant}\n{event_id}".encode()).digest()[:16],
        control=control,
    )
