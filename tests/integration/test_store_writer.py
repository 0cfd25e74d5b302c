"""Batches in a real PostgreSQL: stored once, compared where they come again, never changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import Kind, Quarantine, parse
from sealstream.schemas.errors import InstanceDiffers, SourceGap, StoreError, Unreachable, WriterConflict
from sealstream.schemas.event import Actor, AuditEvent
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.store.continuity import Head
from sealstream.sinks.store.writer import StoreWriter
from sealstream.worker.postgres_session import Connection
from support.chained import Chains, Sealed
from support.stores import TOPIC_ID, Feeder, TestStore, migrated, open_feeder

_SOME_EXAMPLES = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example begins with an emptied store
)


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


def _all_kinds(chains: Chains) -> list[Sealed]:
    """Return records of every kind that a processor makes, in several chains."""
    return [
        *chains.events(3, 9),
        *chains.event("acme", "ev-a"),
        *chains.event("acme", "ev-a", kind=Kind.DUPLICATE, ref=1),
        *chains.event("acme", "ev-a", kind=Kind.CONFLICT, ref=1),
        *chains.event("acme", "ev-b", kind=Kind.IMPORTED),
        *chains.event("acme", "ev-c", kind=Kind.CONTROL),
        *chains.quarantined("acme", Quarantine.VALUE_SIZE),
        *chains.quarantined("!partition-1", Quarantine.NO_KEY),
    ]


def test_every_kind_is_stored_as_it_is(store: TestStore, feeder: Feeder) -> None:
    """Entries verbatim, payloads where the kind carries one, search rows for events; heads and positions behind."""
    records = _all_kinds(Chains())
    feeder.feed(records)

    entries = {(row[1], row[2]): row for row in store.query("SELECT * FROM sealstream.entries")}
    assert len(entries) == len(records)
    for sealed in records:
        entry = parse(sealed.entry)
        partition, _, _, kind, topic_id, offset, event_id, received, _, data = entries[entry.tenant, entry.seq]
        assert (partition, kind, topic_id, offset) == (entry.partition, entry.kind, entry.topic_id, entry.offset)
        assert (event_id, received, data) == (entry.event_id or None, entry.received, sealed.entry)
    payloads = {(row[0], row[1]): row[2] for row in store.query("SELECT tenant, seq, bytes FROM sealstream.payloads")}
    bare = (Kind.DUPLICATE, Kind.QUARANTINED)
    assert payloads == {
        (parse(one.entry).tenant, parse(one.entry).seq): one.value
        for one in records
        if parse(one.entry).kind not in bare
    }
    searched = store.query("SELECT kind, count(*) FROM sealstream.events GROUP BY kind ORDER BY kind")
    assert searched == [(1, 10), (2, 1), (5, 1), (6, 1)]
    assert store.query("SELECT seq FROM sealstream.tenant_heads WHERE tenant = 'acme'") == [(6,)]
    positions = store.query("SELECT partition, next_offset FROM sealstream.positions ORDER BY partition")
    assert positions == list(feeder.offsets.items())
    assert feeder.reported == []


def test_a_search_row_is_exactly_the_event(store: TestStore, feeder: Feeder) -> None:
    """What COPY wrote in binary is read back by PostgreSQL as texts, times and JSON."""
    feeder.feed(Chains().event("acme", "ev-1"))
    row = store.query(
        "SELECT tenant, seq, kind, event_id, extract(epoch FROM received_at)::text, actor_type, actor_id, actor_name,"
        " action, outcome, targets->0->>'id', jsonb_typeof(context), metadata::text, undecoded FROM sealstream.events"
    )
    assert row == [
        (
            "acme",
            1,
            1,
            "ev-1",
            "1700000000.000000",
            "user",
            "user-of-ev-1",
            "Ada",
            "document.updated",
            "unknown",
            "document-of-ev-1",
            "object",
            "{}",
            None,
        )
    ]


def test_what_an_application_may_write_does_not_stop_the_store(store: TestStore, feeder: Feeder) -> None:
    """NULs, texts too long for an index and undecodable payloads are stored, and the undecodable is marked."""
    chains = Chains()
    nasty = AuditEvent(
        tenant="acme", actor=Actor("u", "x\0" * 40_000, "\0"), action="\0" * 9000, metadata={"\0": "\0"}, id="ev-1"
    )
    feeder.feed(chains.record("acme", encode_event(nasty), event_id="ev-1"))
    feeder.feed(chains.record("acme", encode_event(nasty, schema_id=7), event_id="ev-2"))
    assert store.query("SELECT seq, undecoded, length(actor_id) FROM sealstream.events ORDER BY seq") == [
        (1, None, 80_000),
        (2, "schema-unknown", None),
    ]


def test_a_batch_that_comes_again_is_not_doubled(store: TestStore, feeder: Feeder) -> None:
    """With the position set back, records are met again, compared, and found to be there; then the log goes on."""
    chains = Chains()
    first, second = _all_kinds(chains), chains.events(3, 5)
    feeder.feed(first)
    feeder.feed(second)
    before = store.contents()
    store.tamper("UPDATE sealstream.positions SET next_offset = 0")
    feeder.claim()
    written = feeder.writer.write(feeder.batch([*first, *second]))

    assert (written.added, written.compared, written.violations) == (0, True, ())
    assert store.contents() == before
    feeder.claim()
    third = chains.events(3, 5)
    assert not feeder.writer.write(feeder.batch(third)).compared


def test_batches_behind_a_position_that_was_set_back_meet_their_own_rows(store: TestStore, feeder: Feeder) -> None:
    """Also where a batch goes on without a break, COPY stops at a row that is there, and the batch is compared."""
    log = _all_kinds(Chains())
    feeder.feed_log(log)
    before = store.contents()
    _set_back(store, feeder, 1000)
    results = [feeder.feed_log(log[:end]) for end in (4, 9, 15, len(log))]

    assert all(written.compared and not written.added and not written.violations for written in results)
    assert store.contents() == before


def _set_back(store: TestStore, feeder: Feeder, number: int) -> None:
    """Set all positions back by so many offsets, as an operator might after a restore, and claim them anew."""
    store.tamper("UPDATE sealstream.positions SET next_offset = greatest(0, next_offset - %s)", number)
    feeder.claim()


@_SOME_EXAMPLES
@given(st.data())
def test_the_slow_path_ends_where_the_fast_one_does(store: TestStore, data: st.DataObject) -> None:
    """However a log is cut into batches, and however often positions are set back, the same rows result."""
    chains = Chains()
    log = [*_all_kinds(chains), *chains.events(3, 6)]
    ends = [*sorted(data.draw(st.lists(st.integers(1, len(log)), max_size=4))), len(log)]
    store.clear()
    with open_feeder(store) as feeder:
        feeder.claim()
        assert not feeder.feed_log(log).compared
        expected = store.contents()
        store.clear()
        feeder.claim()
        for end in ends:
            feeder.feed_log(log[:end])
            back = data.draw(st.integers(0, 10))
            if back:
                _set_back(store, feeder, back)
        # The first of these batches goes on where no chain ended; the others follow it and meet rows that are there.
        for end in range(1, len(log), data.draw(st.integers(1, 7))):
            feeder.feed_log(log[:end])
        feeder.feed_log(log)
        assert store.contents() == expected
        assert feeder.reported == []


@_SOME_EXAMPLES
@given(st.sets(st.integers(0, 20), min_size=1, max_size=10))
def test_what_is_missing_is_added_again(store: TestStore, missing: set[int]) -> None:
    """Rows that were removed behind the store's back come again if the log is read again."""
    log = _all_kinds(Chains())
    store.clear()
    with open_feeder(store) as feeder:
        feeder.claim()
        feeder.feed_log(log)
        expected = store.contents()
        for number in missing:
            entry = parse(log[number].entry)
            store.tamper("DELETE FROM sealstream.entries WHERE tenant = %s AND seq = %s", entry.tenant, entry.seq)
            store.query(
                "WITH a AS (DELETE FROM sealstream.events WHERE tenant = %s AND seq = %s) SELECT 1",
                entry.tenant,
                entry.seq,
            )
        _set_back(store, feeder, 1000)
        assert feeder.feed_log(log).added == len(missing)
        assert store.contents() == expected


def _alter(store: TestStore, feeder: Feeder, log: Sequence[Sealed], statement: str, *arguments: object) -> Violation:
    """Change the store, read the log again, and return the one violation that is reported."""
    store.tamper(statement, *arguments)
    before = store.contents()
    _set_back(store, feeder, 1000)
    written = feeder.feed_log(log)
    assert store.contents() == before, "what differs must be left alone"
    assert list(written.violations) == feeder.reported
    (violation,) = feeder.reported
    return violation


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE sealstream.entries SET received = 1 WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.entries SET hash = sha256('') WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.entries SET entry = entry || '\\x00' WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.entries SET event_id = NULL WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.payloads SET bytes = '\\x00' WHERE {}", ViolationType.PAYLOAD_ALTERED),
    ],
)
def test_a_differing_row_is_reported_and_left_alone(
    store: TestStore, feeder: Feeder, statement: str, kind: ViolationType
) -> None:
    """A row that is not what the log says is named by tenant and seq; the batch goes on behind it."""
    log = Chains().events(2, 10)
    feeder.feed_log(log)
    found = _alter(store, feeder, log, statement.format("tenant = 'tenant-1' AND seq = 3"))
    assert (found.type, found.tenant, found.seq) == (kind, "tenant-1", 3)


def test_a_payload_that_was_moved_away_does_not_come_back(store: TestStore, feeder: Feeder) -> None:
    """An erased payload is not brought back by a log that is read again."""
    log = Chains().events(2, 10)
    feeder.feed_log(log)
    store.tamper("DELETE FROM sealstream.payloads WHERE tenant = 'tenant-1' AND seq = 3")
    before = store.contents()
    _set_back(store, feeder, 1000)
    assert feeder.feed_log(log).violations == ()
    assert store.contents() == before


def test_two_histories_are_a_fork(store: TestStore, feeder: Feeder) -> None:
    """A log that tells another story from some seq on is reported entry by entry, and the first story is kept."""
    log = Chains().event("acme", "ev-1")
    feeder.feed_log(log)
    other = Chains().event("acme", "ev-other")  # the same genesis, another first event
    before = store.contents()
    _set_back(store, feeder, 1000)
    violations = feeder.feed_log(other).violations
    assert [(found.type, found.seq) for found in violations] == [(ViolationType.FORK, 1)]
    assert store.contents()[:3] == before[:3]


def test_a_hole_in_the_log_is_reported_once_and_the_rest_is_stored(store: TestStore, feeder: Feeder) -> None:
    """Where the log itself leaves entries out, the gap is named, and what follows is evidence all the same."""
    chains = Chains()
    log = [record for n in range(6) for record in chains.event("acme", f"ev-{n}")]
    feeder.feed_log([*log[:3], *log[5:]])

    assert [(found.type, found.tenant, found.seq) for found in feeder.reported] == [(ViolationType.GAP, "acme", 3)]
    assert [row[0] for row in store.query("SELECT seq FROM sealstream.entries ORDER BY seq")] == [0, 1, 2, 5, 6]
    feeder.feed(chains.event("acme", "ev-6"))
    assert len(feeder.reported) == 1


def test_a_batch_with_the_same_place_twice_is_no_dead_end(store: TestStore, feeder: Feeder) -> None:
    """Even a log that holds an entry twice, or two for one place, within one batch is stored and reported."""
    log = Chains().event("acme", "ev-1")
    other = Chains().event("acme", "ev-other")[1]
    written = feeder.feed([*log, log[1], other])

    assert written.added == 2
    assert [found.type for found in written.violations].count(ViolationType.FORK) == 1
    assert len(store.query("SELECT FROM sealstream.entries")) == 2


def test_violations_are_reported_before_the_store_goes_on(store: TestStore) -> None:
    """If a violation cannot be reported, the batch is not stored: it comes again, and the report with it."""

    def away(_violations: Sequence[Violation]) -> None:
        raise Unreachable("Kafka is away")

    chains = Chains()
    log = chains.event("acme", "ev-0") + chains.event("acme", "ev-1") + chains.event("acme", "ev-2")
    deaf = Feeder(store.login("sealstream_writer"), report=away)
    deaf.claim()
    with pytest.raises(Unreachable, match="Kafka is away"):
        deaf.feed_log([log[0], log[2]])
    assert store.query("SELECT count(*) FROM sealstream.entries") == [(0,)]
    deaf.writer.close()
    with open_feeder(store, writer="test/2") as feeder:
        feeder.claim()
        feeder.feed_log([log[0], log[2]])
        assert len(feeder.reported) == 1


def test_a_second_writer_takes_over_and_the_first_one_fails(store: TestStore, feeder: Feeder) -> None:
    """Whoever claims a partition is its only writer: a writer that was replaced cannot add a row."""
    chains = Chains()
    feeder.feed(chains.events(3, 5))
    with open_feeder(store, writer="test/2") as second:
        second.claim()
        more = chains.events(3, 5)
        second.offsets |= feeder.offsets
        second.feed(more)
        before = store.contents()
        with pytest.raises(WriterConflict, match="test/2"):
            feeder.feed(more)
    assert store.contents() == before


def test_a_position_that_moved_is_noticed(store: TestStore, feeder: Feeder) -> None:
    """A writer whose position is not where it left it stops instead of guessing."""
    chains = Chains()
    feeder.feed(chains.event("acme", "ev-0"))
    store.tamper("UPDATE sealstream.positions SET next_offset = next_offset + 1")
    with pytest.raises(WriterConflict, match="instead of"):
        feeder.feed(chains.event("acme", "ev-1"))


def test_a_head_that_moved_meanwhile_is_noticed(
    store: TestStore, feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two partitions' writers that hold the same tenant, as in an epoch's change, cannot both go on."""
    chains = Chains()
    feeder.feed(chains.event("acme", "ev-0"))
    heads = StoreWriter._heads  # pyright: ignore[reportPrivateUsage]

    def late(connection: Connection, tenants: set[str]) -> dict[str, Head]:
        found = heads(connection, tenants)
        store.tamper("UPDATE sealstream.tenant_heads SET seq = 50")
        return found

    monkeypatch.setattr(StoreWriter, "_heads", staticmethod(late))
    with pytest.raises(WriterConflict, match="same tenants"):
        feeder.feed(chains.event("acme", "ev-1"))
    assert store.query("SELECT count(*) FROM sealstream.entries") == [(2,)]


def test_a_log_that_begins_too_late_is_a_gap(store: TestStore) -> None:
    """Without a position a log must begin at 0; with one it must still have the next record."""
    with open_feeder(store) as feeder:
        with pytest.raises(SourceGap, match="offset 5"):
            feeder.writer.claim({0: 5}, topic_id=TOPIC_ID)
        assert feeder.writer.claim({0: 0}, topic_id=TOPIC_ID) == {0: 0}
        with pytest.raises(SourceGap, match="begins only at 1"):
            feeder.writer.claim({0: 1}, topic_id=TOPIC_ID)


def test_a_topic_that_was_made_anew_is_noticed(store: TestStore, feeder: Feeder) -> None:
    """A topic of the same name and another UUID is another log."""
    assert feeder.claim()
    with pytest.raises(InstanceDiffers, match="made anew"):
        feeder.writer.claim({0: 0}, topic_id=bytes(16))
    assert store.query("SELECT DISTINCT topic_id FROM sealstream.positions") == [(TOPIC_ID,)]


def test_a_partition_without_a_table_says_what_to_run(store: TestStore) -> None:
    """A store that was migrated for fewer partitions is an error with the way out, not a lost row."""
    with open_feeder(store) as feeder:
        feeder.offsets = dict.fromkeys(range(64), 0)
        feeder.claim()
        with pytest.raises(StoreError, match="sealstream migrate"):
            feeder.feed(Chains(partitions=64).events(64, 64))
    assert store.query("SELECT count(*) FROM sealstream.entries") == [(0,)]


def test_positions_pass_over_offsets_without_records(store: TestStore, feeder: Feeder) -> None:
    """The end of a transaction takes an offset; the position moves over it in the same guarded way."""
    feeder.writer.skip({0: 0}, {0: 3})
    assert store.query("SELECT next_offset FROM sealstream.positions WHERE partition = 0") == [(3,)]
    with pytest.raises(WriterConflict):
        feeder.writer.skip({0: 0}, {0: 4})
