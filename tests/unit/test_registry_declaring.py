"""A schema's text as the control event that puts it into a chain."""

from __future__ import annotations

from sealstream.producers.registry.declaring import declaration, declarations, texts_of
from sealstream.producers.registry.registering import VersionState
from sealstream.producers.registry.rules import compact
from sealstream.schemas.codec import EventReader, schema_fingerprint, schema_text
from sealstream.schemas.control import SCHEMA, Standing, verify_control
from sealstream.schemas.control_body import SchemaText
from sealstream.schemas.entry import is_event_id

INSTANCE = "demo.example/audit"
TEXT = SchemaText(compact(schema_text("AuditEvent")), 7)


def _version(schema_id: int, problem: str = "", text: str = TEXT.text) -> VersionState:
    return VersionState(schema_id, schema_id, None, is_shipped=False, problem=problem, text=text)


def test_the_text_counts_in_its_chain_and_needs_no_registry_to_be_read() -> None:
    """Whoever has the chain alone finds the schema, its registry id and its fingerprint; nobody has signed it."""
    made = declaration(INSTANCE, "acme", TEXT)
    event = EventReader().read(made.value)
    assert event.control is not None
    counted = verify_control(event.control, instance=INSTANCE, tenant="acme", authority=None)
    found = SchemaText.parse(counted.body)

    assert (counted.standing, counted.statement.action) == (Standing.DECLARED, SCHEMA)
    assert (found.registry_id, found.fingerprint, found.text) == (7, schema_fingerprint("AuditEvent"), TEXT.text)
    assert (event.id, event.tenant) == (made.event_id, "acme")
    assert is_event_id(event.id)


def test_the_same_text_is_the_same_bytes_each_time() -> None:
    """Putting it into a chain again is a duplicate, and no second event; nor, ever, a conflict."""
    assert declaration(INSTANCE, "acme", TEXT) == declaration(INSTANCE, "acme", TEXT)


def test_another_chain_text_or_id_is_another_event() -> None:
    """An id stands for one text in one chain, so that none hides another."""
    others = [
        declaration(INSTANCE, "globex", TEXT),
        declaration("other.example", "acme", TEXT),
        declaration(INSTANCE, "acme", SchemaText(TEXT.text, 8)),
        declaration(INSTANCE, "acme", SchemaText(TEXT.text)),
        declaration(INSTANCE, "acme", SchemaText(TEXT.text + " ", 7)),
    ]
    ids = {made.event_id for made in (declaration(INSTANCE, "acme", TEXT), *others)}
    assert len(ids) == 1 + len(others)


def test_only_versions_that_may_be_ones_are_declared() -> None:
    """What somebody has registered past the rules gets into no chain; layout makes no difference."""
    texts = texts_of([_version(1), _version(2, "begins with colour"), _version(3, text=schema_text("AuditEvent"))])
    assert [(text.registry_id, text.text) for text in texts] == [(1, TEXT.text), (3, TEXT.text)]


def test_each_chain_gets_each_text() -> None:
    """Chain by chain, so that the store can be asked for a stretch of them at a time."""
    made = declarations(INSTANCE, ["acme", "globex"], texts_of([_version(1), _version(2)]))
    assert [(one.tenant, one.registry_id) for one in made] == [("acme", 1), ("acme", 2), ("globex", 1), ("globex", 2)]
