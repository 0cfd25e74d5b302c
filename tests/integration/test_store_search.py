"""Search rows, derived behind the evidence by positions of their own, in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest

from sealstream.schemas.codec import EventReader, encode_event
from sealstream.schemas.entry import Kind, Quarantine
from sealstream.schemas.event import Actor, AuditEvent
from sealstream.sinks.store.derive import Deriver, Stored
from sealstream.sinks.store.reader import AsyncAuditStore, AuditStore
from sealstream.sinks.store.rebuild import rebuild_events
from sealstream.sinks.store.rows import EventRow
from sealstream.sinks.store.search_rows import Chunk, derive_chunk, prepare_session, search_lag
from sealstream.sinks.store.session import open_session
from sealstream.worker.postgres_session import Connection
from support.chained import RECEIVED, Chains, Sealed
from support.stores import Feeder, TestStore, migrated, open_feeder


@pytest.fixture
def store(database_url: str) -> Iterator[TestStore]:
    """An empty store."""
    with migrated(database_url) as found:
        yield found


@pytest.fixture
def feeder(store: TestStore) -> Iterator[Feeder]:
    """A writer that has claimed all partitions."""
    with open_feeder(store) as found:
        found.claim()
        yield found


@contextmanager
def _session(store: TestStore) -> Generator[Connection]:
    """Open a session as the one who derives."""
    with open_session(store.login("sealstream_writer"), application="test", timeout_seconds=10.0) as connection:
        prepare_session(connection)
        yield connection


def _write(feeder: Feeder, records: list[Sealed]) -> None:
    """Store records without making them searchable."""
    batch = feeder.batch(records)
    feeder.writer.write(batch)
    feeder.offsets |= dict(batch.ends)


def _mixed(chains: Chains) -> list[Sealed]:
    return [
        *chains.events(3, 40),
        *chains.event("acme", "ev-a"),
        *chains.event("acme", "ev-a", kind=Kind.DUPLICATE, ref=1),
        *chains.event("acme", "ev-a", kind=Kind.CONFLICT, ref=1),
        *chains.record("acme", b"\xc3\x01nothing", event_id="ev-b"),
        *chains.quarantined("acme", Quarantine.VALUE_SIZE),
        *chains.event("acme", "ev-c", kind=Kind.IMPORTED),
    ]


def _events(store: TestStore) -> int:
    (row,) = store.query("SELECT count(*) FROM sealstream.events")
    return int(str(row[0]))


def test_evidence_is_stored_before_it_can_be_searched(store: TestStore, feeder: Feeder) -> None:
    """What is stored and not searchable yet is counted, a search says until when it is complete, and it catches up."""
    _write(feeder, Chains().events(1, 20))
    tenant = "tenant-0"
    with AuditStore(store.reader(tenant)) as reader:
        behind = reader.search(tenant=tenant)
        assert (behind.events, behind.as_of) == ((), datetime(1970, 1, 1, tzinfo=UTC))
        assert reader.verify_chain(tenant).is_valid
        with _session(store) as connection:
            (partition,) = [n for n, lag in search_lag(connection, range(4)).items() if lag]
            assert search_lag(connection, range(4)) == {partition: 20}
            assert derive_chunk(connection, partition, Deriver(EventReader()), records_max=7) == Chunk(7, more=True)
            some = reader.search(tenant=tenant)
            assert len(some.events) == 7
            # The records of this log were received a millisecond apart.
            assert some.as_of == datetime.fromtimestamp(RECEIVED / 1_000_000, UTC).replace(microsecond=6_000)
            assert search_lag(connection, range(4)) == {partition: 13}
        feeder.search()
        whole = reader.search(tenant=tenant)
        assert (len(whole.events), whole.as_of) == (20, None)


async def test_the_asynchronous_reader_says_it_too(store: TestStore, feeder: Feeder) -> None:
    """Both readers tell how far a search reaches."""
    _write(feeder, Chains().events(1, 2))
    async with AsyncAuditStore(store.reader("*")) as reader:
        assert (await reader.search(tenant="tenant-0")).as_of is not None
        feeder.search()
        assert (await reader.search(tenant="tenant-0")).as_of is None


def test_rows_are_the_same_however_they_are_derived(store: TestStore, feeder: Feeder) -> None:
    """Quickly and chunk by chunk, or by a rebuild the plain way: the same rows, for every kind of entry."""
    _write(feeder, _mixed(Chains()))
    assert feeder.search() == 44
    before = store.contents()[2]
    assert len(before) == 44
    undecoded = store.query("SELECT event_id, undecoded FROM sealstream.events WHERE undecoded IS NOT NULL")
    assert undecoded == [("ev-b", "malformed")]
    rebuild_events(store.login("sealstream_owner"))
    assert store.contents()[2] == before
    assert feeder.search() == 0


def test_a_chunk_is_bounded_in_bytes(store: TestStore, feeder: Feeder) -> None:
    """Large payloads come few at a time, and a payload larger than the bound comes alone."""
    chains = Chains()
    log: list[Sealed] = []
    for number, size in enumerate((100_000, 200_000, 200_000, 400_000, 10)):
        event = AuditEvent(tenant="acme", actor=Actor("u", "u-1"), action="x" * size, id=f"ev-{number}")
        log += chains.record("acme", encode_event(event), event_id=event.id)
    _write(feeder, log)
    derive = Deriver(EventReader())
    with _session(store) as connection:
        done = [derive_chunk(connection, log[0].partition, derive, bytes_max=250_000) for _ in range(3)]
    assert done == [Chunk(2, more=True), Chunk(2, more=True), Chunk(1, more=False)]


def test_a_failure_within_leaves_position_and_rows_as_they_were(store: TestStore, feeder: Feeder) -> None:
    """Whoever dies while deriving leaves nothing half done: the next one begins where it began."""
    log = Chains().events(1, 20)
    _write(feeder, log)

    class Dying(Deriver):
        def __call__(self, stored: Stored) -> EventRow | None:
            if stored.seq == 15:
                raise KeyboardInterrupt
            return super().__call__(stored)

    store.tamper("UPDATE sealstream.payloads SET bytes = bytes || '\\x00' WHERE seq = 15")  # for the plain way
    with _session(store) as connection, pytest.raises(KeyboardInterrupt):
        derive_chunk(connection, log[0].partition, Dying(EventReader()))
    assert _events(store) == 0
    assert store.query("SELECT next_offset FROM sealstream.search_positions") == [(0,)]
    assert feeder.search() == 20


def test_rows_that_are_there_already_are_left_alone(store: TestStore, feeder: Feeder) -> None:
    """A rebuild may be quicker than the one who follows: what it made stays, and the rest is added."""
    chains = Chains()
    _write(feeder, chains.events(1, 10))
    rebuild_events(store.login("sealstream_owner"))
    assert _events(store) == 10
    _write(feeder, chains.events(1, 10))
    feeder.search()
    assert _events(store) == 20


def test_nobody_waits_for_the_one_who_derives(store: TestStore, feeder: Feeder) -> None:
    """While another session holds the search's position, evidence is stored, and a second follower passes by."""
    chains = Chains()
    feeder.feed(chains.events(1, 10))
    with psycopg.connect(store.url) as holder:
        holder.execute("SELECT FROM sealstream.search_positions FOR UPDATE")
        log = chains.events(1, 10)
        _write(feeder, log)
        with _session(store) as connection:
            assert derive_chunk(connection, log[0].partition, Deriver(EventReader())) == Chunk(0, more=False)
            assert search_lag(connection, [log[0].partition]) == {log[0].partition: 10}
    assert _events(store) == 10
    feeder.search()
    assert _events(store) == 20


def test_each_source_topic_has_a_position_of_its_own(store: TestStore, feeder: Feeder) -> None:
    """Offsets begin anew in another topic: what comes from there is searched, and the old place is not lost."""
    first, second = Chains(), Chains(topic_id=bytes(range(1, 17)))
    feeder.feed(first.event("acme", "ev-1") + first.event("acme", "ev-2"))
    feeder.feed(second.event("globex", "ev-3"))
    assert _events(store) == 3
    positions = store.query("SELECT topic_id, next_offset FROM sealstream.search_positions ORDER BY next_offset")
    assert positions == [(second.topic_id, 1), (first.topic_id, 2)]


def test_a_reader_sees_how_far_the_search_is_but_moves_nothing(store: TestStore) -> None:
    """Positions are no secret; only the writer's logins move them."""
    with psycopg.connect(store.reader("acme"), autocommit=True) as connection:
        assert connection.execute("SELECT * FROM sealstream.search_positions").fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE sealstream.search_positions SET next_offset = 0")
