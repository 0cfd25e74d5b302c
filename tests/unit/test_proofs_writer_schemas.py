"""The writer's schema that goes into a proof: from the registry or, where that says nothing, from the chain."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sealstream.schemas.codec import encode_event, schema_text
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import SchemaUnknown, Unreachable
from sealstream.schemas.event import Actor, AuditEvent
from sealstream.sinks.proofs.writer_schemas import WriterSchemas
from sealstream.sinks.store.results import EventProof

EVENT = AuditEvent(tenant="acme", actor=Actor("user", "u-1"), action="document.updated", id="ev-1")
RECORD = EventProof(
    tenant="acme",
    event_id="ev-1",
    seq=5,
    kind=Kind.EVENT,
    chain_hash=bytes(32),
    prev_hash=bytes(32),
    received=datetime.now(UTC),
    entry=b"",
    payload=encode_event(EVENT, schema_id=7),
    repeat_of=None,
    ref=None,
)
TEXT = '{"type": "string"}'


def _absent(_: int) -> Any:
    raise SchemaUnknown("no such schema")


def _away(_: int) -> Any:
    raise Unreachable("away")


class _Chain:
    """A chain that has one text, for the id 7, at place 3."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, bytes]] = []

    def __call__(self, tenant: str, seq: int, frame: bytes) -> str | None:
        self.asked.append((tenant, seq, frame))
        return TEXT if seq > 3 and frame == b"\x00\x00\x00\x00\x07" else None


@pytest.mark.parametrize("registry", [None, _absent, _away], ids=["none", "unknown there", "away"])
def test_the_chain_says_what_no_registry_does(registry: Any) -> None:
    """In seven years the bytes still have a meaning: the text goes into the proof without any registry."""
    chain = _Chain()
    assert WriterSchemas(registry, declared=chain).text_of(RECORD) == b'{"type":"string"}'
    assert chain.asked == [("acme", 5, b"\x00\x00\x00\x00\x07")]


def test_the_registry_is_asked_first() -> None:
    """What it says costs no look into the store."""
    chain = _Chain()
    assert WriterSchemas(lambda _: {"type": "long"}, declared=chain).text_of(RECORD) == b'{"type":"long"}'
    assert chain.asked == []


def test_the_shipped_schema_needs_neither() -> None:
    """Its fingerprint is known by heart."""
    chain = _Chain()
    record = replace(RECORD, payload=encode_event(EVENT))
    found = WriterSchemas(_away, declared=chain).text_of(record)
    assert json.loads(found or b"") == json.loads(schema_text("AuditEvent"))
    assert chain.asked == []


def test_where_nobody_knows_it_the_proof_does_without() -> None:
    """A registry that is away is an error all the same: asked again, it may know."""
    record = replace(RECORD, seq=2)
    assert WriterSchemas(_absent, declared=_Chain()).text_of(record) is None
    with pytest.raises(Unreachable):
        WriterSchemas(_away, declared=_Chain()).text_of(record)


@pytest.mark.parametrize(
    ("kind", "payload"), [(Kind.QUARANTINED, b"\xff"), (Kind.DUPLICATE, None), (Kind.EVENT, b"\xff")]
)
def test_what_is_no_event_has_no_schema(kind: Kind, payload: bytes | None) -> None:
    """The chain is not asked for what has no frame."""
    chain = _Chain()
    assert WriterSchemas(declared=chain).text_of(replace(RECORD, kind=kind, payload=payload)) is None
    assert chain.asked == []
