"""One event's record as people and programs are shown it: what the chain says, and the event that it commits to."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sealstream.schemas.codec import EventReader
from sealstream.schemas.errors import FormatError
from sealstream.schemas.event import Actor, AuditEvent, Target
from sealstream.sinks.store.results import EventProof
from sealstream.worker.registry import connect_registry
from sealstream.worker.settings import Settings


def event_reader(settings: Settings) -> EventReader:
    """Return what decodes payloads, with the schema registry if one is configured."""
    return EventReader(schema_by_id=connect_registry(settings) if settings.registry else None)


def record_to_dict(proof: EventProof, reader: EventReader) -> dict[str, Any]:
    """Return a record as plain values, for JSON; bytes in hex."""
    event, undecoded = _event(proof, reader)
    return {
        "tenant": proof.tenant,
        "seq": proof.seq,
        "event_id": proof.event_id,
        "kind": proof.kind.name.lower(),
        "received": proof.received.isoformat(),
        "chain_hash": proof.chain_hash.hex(),
        "prev_hash": proof.prev_hash.hex(),
        "ref": proof.ref,
        "repeat_of": proof.repeat_of,
        "entry": proof.entry.hex(),
        "payload": proof.payload.hex() if proof.payload is not None else None,
        "event": None if event is None else _event_to_dict(event),
        "undecoded": undecoded,
    }


def record_in_words(proof: EventProof, reader: EventReader) -> list[tuple[str, str]]:
    """Return a record for a person: names with what stands there, without what is empty."""
    event, undecoded = _event(proof, reader)
    kind = proof.kind.name.lower()
    if proof.ref is not None:
        kind += f" of seq {proof.ref}"
    if proof.repeat_of is not None:
        kind += f", the same as seq {proof.repeat_of}, later than the duplicate window"
    rows = [("event", proof.event_id), ("tenant", proof.tenant), ("seq", str(proof.seq)), ("kind", kind)]
    if event is not None:
        rows += _event_in_words(event)
    if undecoded:
        rows.append(("undecoded", undecoded))
    rows += [
        ("received", f"{proof.received.isoformat()} (by the broker)"),
        ("entry", f"{len(proof.entry)} bytes"),
        ("payload", f"{len(proof.payload)} bytes" if proof.payload is not None else "not carried"),
        ("prev hash", proof.prev_hash.hex()),
        ("chain hash", proof.chain_hash.hex()),
    ]
    return rows


def _event(proof: EventProof, reader: EventReader) -> tuple[AuditEvent | None, str | None]:
    if proof.payload is None:
        return None, None
    try:
        return reader.read(proof.payload), None
    except FormatError as error:
        return None, str(error)


def _event_to_dict(event: AuditEvent) -> dict[str, Any]:
    values = asdict(event)
    return values | {
        "metadata": dict(event.metadata),
        "occurred_at": event.occurred_at.isoformat(),
        "salt": event.salt.hex(),
    }


def _event_in_words(event: AuditEvent) -> list[tuple[str, str]]:
    context = [(name, value) for name, value in asdict(event.context).items() if value]
    rows = [
        ("action", event.action),
        ("actor", _party(event.actor)),
        ("targets", ", ".join(_party(target) for target in event.targets)),
        ("outcome", event.outcome.value),
        ("context", ", ".join(f"{name} {value}" for name, value in context)),
        ("metadata", ", ".join(f"{name}: {value}" for name, value in event.metadata.items())),
        ("occurred", f"{event.occurred_at.isoformat()} (as the application says)"),
    ]
    return [(name, text) for name, text in rows if text]


def _party(party: Actor | Target) -> str:
    return f"{party.type} {party.id}" + (f" ({party.name})" if party.name else "")
