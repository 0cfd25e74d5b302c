"""Targets: entries, events, and what workers keep in Kafka."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from fuzz.target import Target, same
from sealstream.processors.chaining import Link
from sealstream.processors.epoch_end import EpochEnd
from sealstream.processors.gaps import Gap
from sealstream.processors.heads import PartitionHead, pack_link, parse_link
from sealstream.schemas import entry as entries
from sealstream.schemas.chain import ChainVerifier
from sealstream.schemas.chain import Link as ChainLink
from sealstream.schemas.codec import EventReader, encode_event, read_prefix, schema, schema_text
from sealstream.schemas.entry import (
    GapReason,
    Genesis,
    epoch_payload,
    gap_payload,
    parse_epoch_payload,
    parse_gap_payload,
)
from sealstream.schemas.errors import EntryInvalid, FrameInvalid, InstanceDiffers, SchemaUnknown, SealInvalid
from sealstream.schemas.event import Actor, AuditEvent, Control, EventKind, ProducerMark, Sealed
from sealstream.schemas.event import Target as EventTarget
from sealstream.schemas.resolution import Resolution
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.schemas.writer_schema import Schema, parse_writer_schema
from sealstream.sinks.store.records import read_record
from sealstream.sinks.verifier.records import Chain, Head
from sealstream.sinks.verifier.state import Position, pack_chain, parse_chain
from support.notes import ORIGIN
from support.published import PARTITIONS, TOPIC_ID, chain_of

_ENTRIES: Final = tuple(chain_of("acme", 3))
_QUARANTINED: Final = bytes.fromhex(
    "7365616c73747265616d310a0104050461636d650000000000000004"
) + bytes(32) + bytes(8) + TOPIC_ID + bytes(4) + bytes(8) + bytes(8) + b"\x00" + bytes(4) + bytes(32)  # fmt: skip
_GENESIS: Final = Genesis(ORIGIN, PARTITIONS)
_MOMENT: Final = datetime(2026, 1, 2, tzinfo=UTC)
_EVENT: Final = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1", "Ada"),
    action="invoice.read",
    targets=(EventTarget("invoice", "i-1"), EventTarget("invoice", "i-2", "second")),
    metadata={"a": "b"},
    occurred_at=_MOMENT,
    id="ev-1",
    salt=bytes(16),
    producer=ProducerMark("p", 1, 2),
    personal=Sealed(1, "key", bytes(32), bytes(32), bytes(12), b"sealed"),
)
_CONTROL: Final = AuditEvent(
    tenant="acme",
    actor=Actor("user", "u-1"),
    action="hold",
    occurred_at=_MOMENT,
    id="ev-2",
    kind=EventKind.CONTROL,
    salt=bytes(16),
    control=Control("note", b"body"),
)
_TREE_SCHEMA: Final = (
    b'{"type":"record","name":"t","fields":[{"name":"a","type":{"type":"array","items":["null","t"]}}]}'
)
FIXED_SCHEMA: Final = (
    b'{"type":"record","name":"r","fields":[{"name":"f","type":{"type":"fixed","name":"x","size":"string"}}]}'
)
_VIOLATION: Final = Violation(type=ViolationType.EDITED, tenant="acme", message="is", seq=1, detected_at=_MOMENT)
_RESOLUTION: Final = Resolution(violation_id=_VIOLATION.id, tenant="acme", by="Ada", why="test", resolved_at=_MOMENT)


def _schema_by_id(number: int) -> Schema:
    if number != 1:
        raise SchemaUnknown(f"no schema {number}")
    return schema("AuditEvent")


_READER: Final = EventReader(schema_by_id=_schema_by_id)


def _event(data: bytes) -> None:
    event_id, tenant, _ = read_prefix(data)
    event = _READER.read(data)
    assert (event.id.encode(), event.tenant.encode()) == (event_id, tenant)
    # Avro has several forms of one value (blocks, longs), so it is the value that comes back.
    assert _READER.read(encode_event(event)) == event


def _chain(data: bytes) -> None:
    """Any bytes in an entry's place, or a payload's, are named as what they are, and never end the verifier."""
    genesis, first, second = _ENTRIES
    verifier = ChainVerifier("acme")
    found = [
        violation
        for seq, entry in enumerate((genesis, data, second))
        for violation in verifier.check(ChainLink(seq, entry, data))
    ]
    assert found
    assert all(violation.tenant == "acme" for violation in found)
    assert first not in (genesis, second)


def _sealed(data: bytes) -> None:
    record = read_record("topic", 0, 7, b"acme", b"payload 2", [("seal-entry", data)], instance=ORIGIN)
    assert record.data == data


def _writer_schema(data: bytes) -> None:
    try:
        text = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SchemaUnknown("no JSON") from error
    parse_writer_schema(text)


def _state(data: bytes) -> None:
    position = Position.parse(data)
    assert Position.parse(position.pack()) == position


def _verified_chain(data: bytes) -> None:
    chain = parse_chain(b"acme", data)
    assert parse_chain(b"acme", pack_chain(chain)) == chain


def _epoch_end(data: bytes) -> None:
    found = EpochEnd.parse(data)
    assert EpochEnd.parse(found.pack()) == found


def _gap(data: bytes) -> None:
    found = Gap.parse(data)
    assert Gap.parse(found.pack()) == found


_HEAD: Final = PartitionHead(7, 6, 1_700_000_000_000_000, TOPIC_ID, 1, 2**319, _GENESIS.payload())
_POSITION: Final = Position(
    chained=3,
    source=2,
    verified=2,
    chained_topic_id=TOPIC_ID,
    source_topic_id=TOPIC_ID,
    genesis=_GENESIS.payload(),
    delayed=(bytes(32),),
    stopped=(_VIOLATION.id,),
)
_GAP: Final = Gap(
    first=3,
    last=9,
    reason=GapReason.EXPIRED,
    received=1_700_000_000_000_000,
    topic_id=TOPIC_ID,
    by="Ada",
    why="disk lost",
    accepted_at="2026-01-02T00:00:00+00:00",
)
_CHAINS: Final = (
    Chain(b"acme", 3, bytes(32)),
    Chain(b"acme", 3, bytes(32), other=Head(4, bytes(32)), missing=True, open=[_VIOLATION.id], unreported=2),
)
_SEALS: Final = (SealInvalid, InstanceDiffers)

TARGETS: Final = (
    Target("entry", same(entries.parse, entries.pack), (*_ENTRIES, _QUARANTINED), (EntryInvalid,)),
    Target("genesis", same(Genesis.parse, Genesis.payload), (_GENESIS.payload(),), (EntryInvalid,)),
    Target(
        "gap-payload",
        same(parse_gap_payload, lambda ends: gap_payload(*ends)),
        (gap_payload(3, 9), gap_payload(0, 2**63 - 1)),
        (EntryInvalid,),
    ),
    Target(
        "epoch-payload",
        same(parse_epoch_payload, lambda pinned: epoch_payload(*pinned)),
        (epoch_payload(_GENESIS, TOPIC_ID),),
        (EntryInvalid,),
    ),
    Target("chain", _chain, (_ENTRIES[2], _GENESIS.payload())),
    Target("sealed-record", _sealed, (_ENTRIES[2],), _SEALS),
    Target(
        "event",
        _event,
        (encode_event(_EVENT), encode_event(_CONTROL), encode_event(_EVENT, schema_id=1)),
        (FrameInvalid, SchemaUnknown),
    ),
    Target("violation", lambda data: Violation.decode(data).id, (_VIOLATION.encode(),), (FrameInvalid, SchemaUnknown)),
    Target("resolution", Resolution.decode, (_RESOLUTION.encode(),), (FrameInvalid, SchemaUnknown)),
    Target(
        "writer-schema",
        _writer_schema,
        (schema_text("AuditEvent").encode(), _TREE_SCHEMA, FIXED_SCHEMA),
        (SchemaUnknown,),
    ),
    Target(
        "heads-chain",
        same(lambda data: parse_link(b"acme", data), pack_link),
        (pack_link(Link(b"acme", 3, bytes(32))), pack_link(Link(b"acme", 3, bytes(32), TOPIC_ID))),
    ),
    Target("heads-partition", same(PartitionHead.parse, PartitionHead.pack), (_HEAD.pack(),)),
    Target("heads-epoch", _epoch_end, (EpochEnd(next=2, by="Ada", why="more", ended_at="2026-01-02").pack(),)),
    Target("heads-gap", _gap, (_GAP.pack(),)),
    Target("verifier-position", _state, (_POSITION.pack(),)),
    Target("verifier-chain", _verified_chain, tuple(pack_chain(chain) for chain in _CHAINS)),
)
