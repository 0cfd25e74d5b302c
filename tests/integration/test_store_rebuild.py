"""Search rows made anew from the evidence, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sealstream.schemas.codec import EventReader, encode_event, schema
from sealstream.schemas.errors import StoreError
from sealstream.schemas.event import Actor, AuditEvent
from sealstream.sinks.store import rebuild
from sealstream.sinks.store.rebuild import rebuild_events
from support.chained import Chains
from support.stores import TestStore, migrated, open_feeder


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestStore]:
    """A store with three chains, and one event in a registry's framing; chunks of a few entries."""
    monkeypatch.setattr(rebuild, "CHUNK_ENTRIES", 4)
    chains = Chains()
    event = AuditEvent(tenant="acme", actor=Actor("user", "u-1"), action="login", id="ev-c")
    with migrated(database_url) as found:
        with open_feeder(found) as feeder:
            feeder.claim()
            feeder.feed(
                [*chains.events(3, 30), *chains.record("acme", encode_event(event, schema_id=7), event_id="ev-c")]
            )
        yield found


def test_a_rebuild_restores_what_was_changed_or_lost(store: TestStore) -> None:
    """Whatever happened to search rows, a rebuild makes them what the payloads say; evidence is not touched."""
    before = store.contents()
    store.query("UPDATE sealstream.events SET actor_id = 'nobody', action = NULL WHERE seq % 2 = 0 RETURNING 1")
    store.query("DELETE FROM sealstream.events WHERE seq % 3 = 0 RETURNING 1")
    assert store.contents() != before

    done = rebuild_events(store.login("sealstream_owner"))
    assert (done.events, done.undecoded, done.damaged) == (31, 1, ())
    assert store.contents() == before


def test_a_schema_that_became_known_decodes_what_could_not_be(store: TestStore) -> None:
    """Events that were stored while the registry was away or not configured become searchable."""
    query = "SELECT undecoded, actor_id FROM sealstream.events WHERE tenant = 'acme'"
    assert store.query(query) == [("schema-unknown", None)]
    progress: list[tuple[str, int]] = []
    done = rebuild_events(
        store.login("sealstream_owner"),
        tenant="acme",
        reader=EventReader(schema_by_id=lambda _id: schema("AuditEvent")),
        on_progress=lambda tenant, seq: progress.append((tenant, seq)),
    )
    assert (done.events, done.undecoded) == (1, 0)
    assert store.query(query) == [(None, "u-1")]
    assert progress == [("acme", 1)]


def test_damaged_rows_have_no_search_row(store: TestStore) -> None:
    """What does not hold together is named, and not searched."""
    store.tamper("UPDATE sealstream.payloads SET bytes = '\\x00' WHERE tenant = 'tenant-1' AND seq = 3")
    store.tamper("UPDATE sealstream.entries SET hash = sha256('') WHERE tenant = 'tenant-1' AND seq = 5")
    done = rebuild_events(store.login("sealstream_owner"))
    assert done.damaged == (("tenant-1", 3), ("tenant-1", 5))
    assert done.events == 29


def test_only_the_owner_can_rebuild(store: TestStore) -> None:
    """The writer's and the reader's logins are refused."""
    for group in ("sealstream_writer", "sealstream_reader"):
        with pytest.raises(StoreError, match="permission denied"):
            rebuild_events(store.login(group))
