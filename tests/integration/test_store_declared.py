"""Schemas' texts that stand in stored chains, found without a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from sealstream.producers.registry.declaring import declaration
from sealstream.producers.registry.rules import compact
from sealstream.schemas.codec import schema_text
from sealstream.schemas.control_body import SchemaText
from sealstream.schemas.entry import Kind
from sealstream.sinks.store.declared import DeclaredSchemas
from support.chained import Chains, Sealed
from support.publish import event_value
from support.stores import migrated, open_feeder

SHIPPED = compact(schema_text("AuditEvent"))
INSTANCE = "demo.example/audit"


def _later(name: str) -> str:
    document = json.loads(SHIPPED)
    document["fields"].append({"name": name, "type": ["null", "string"], "default": None})
    return compact(json.dumps(document))


def _frame(schema_id: int) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big")


def _declared(chains: Chains, tenant: str, text: SchemaText, *, about: str = "") -> list[Sealed]:
    made = declaration(INSTANCE, about or tenant, text)
    return chains.record(tenant, made.value, event_id=made.event_id, kind=Kind.CONTROL)


@pytest.fixture
def declared(database_url: str) -> Iterator[DeclaredSchemas]:
    """The reader of a store with a chain: genesis, the text of 7, an event, texts of 8 that contradict each other, and
    one for another chain.
    """
    chains = Chains()
    with migrated(database_url) as store, open_feeder(store) as feeder:
        feeder.claim()
        feeder.feed(
            [
                *_declared(chains, "acme", SchemaText(_later("colour"), 7)),
                *chains.record("acme", event_value("acme", "ev-1"), event_id="ev-1"),
                *_declared(chains, "acme", SchemaText(_later("size"), 8)),
                *_declared(chains, "acme", SchemaText(_later("weight"), 8)),
                *_declared(chains, "acme", SchemaText(SHIPPED, 9), about="globex"),
            ]
        )
        with DeclaredSchemas(database_url) as reader:
            yield reader


def test_a_text_is_found_by_the_frame_of_what_was_written_with_it(declared: DeclaredSchemas) -> None:
    """By the registry's id or by the fingerprint, in the chain that it stands in, and behind it."""
    text = _later("colour")
    single = b"\xc3\x01" + SchemaText(text).fingerprint
    assert declared("acme", 2, _frame(7)) == text
    assert declared("acme", 2, single) == text
    assert declared("acme", 1, _frame(7)) is None
    assert declared("globex", 2, _frame(7)) is None
    assert declared("acme", 2, _frame(6)) is None


def test_what_does_not_count_is_not_found(declared: DeclaredSchemas) -> None:
    """Two texts for one id contradict each other, and a statement about another chain says nothing here."""
    assert declared("acme", 100, _frame(8)) is None
    assert declared("acme", 100, _frame(9)) is None
    assert declared("acme", 4, _frame(8)) == _later("size")  # where there was only one
