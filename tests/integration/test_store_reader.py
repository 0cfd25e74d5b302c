"""The reader of the store, as an auditor's login on a real PostgreSQL: both fronts give the same answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import Kind, entry_hash, parse
from sealstream.schemas.errors import StoreDamaged, StoreError, Unreachable
from sealstream.schemas.event import Actor, AuditEvent, Context, Outcome, Target
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.store import queries
from sealstream.sinks.store.migrate import migrate
from sealstream.sinks.store.reader import AsyncAuditStore, AuditStore
from support.chained import Chains, Sealed
from support.stores import TestStore, migrated, open_feeder


@dataclass
class Filled:
    """A store with some chains in it, and a login that reads two of them."""

    store: TestStore
    log: list[Sealed]
    url: str

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Ask both fronts, check that they agree (but for the time of asking), and return the answer."""
        with AuditStore(self.url, timeout_seconds=5) as reader:
            found = getattr(reader, method)(*arguments, **options)

        async def twin() -> Any:
            async with AsyncAuditStore(self.url, timeout_seconds=5) as other:
                return await getattr(other, method)(*arguments, **options)

        also = asyncio.run(twin())
        if method == "verify_chain":
            assert (also.is_valid, also.first_bad_seq, also.checked_through) == (
                found.is_valid,
                found.first_bad_seq,
                found.checked_through,
            )
            assert [v.id for v in also.violations] == [v.id for v in found.violations]
        else:
            assert also == found
        return found

    def refused(self, error: type[Exception], method: str, *arguments: Any, **options: Any) -> Any:
        """Ask both fronts for what both must refuse, and return the error."""
        with AuditStore(self.url, timeout_seconds=2) as reader, pytest.raises(error) as raised:
            getattr(reader, method)(*arguments, **options)

        async def twin() -> None:
            async with AsyncAuditStore(self.url, timeout_seconds=2) as other:
                await getattr(other, method)(*arguments, **options)

        with pytest.raises(error) as also:
            asyncio.run(twin())
        assert type(also.value) is type(raised.value)
        return raised.value


def _event(number: int, **changes: Any) -> AuditEvent:
    values: dict[str, Any] = {
        "tenant": "acme",
        "actor": Actor("user", f"u-{number % 2}", "Ada" if number % 2 else "Grace"),
        "action": ("document.created", "document.deleted", "login")[number % 3],
        "targets": (Target("document", f"d-{number % 4}"), Target("folder", "f-1")),
        "outcome": Outcome.DENIED if number == 5 else Outcome.SUCCESS,
        "context": Context(request_id=f"r-{number}", ip="10.0.0.1"),
        "metadata": {"note": f"50% of_{number}"},
        "id": f"ev-{number}",
        "occurred_at": datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number),
    }
    return AuditEvent(**values | changes)


@pytest.fixture
def filled(database_url: str) -> Iterator[Filled]:
    """Twelve events of acme, a re-send of ev-1 after the window, a duplicate and a conflict of ev-2; other tenants."""
    chains = Chains()
    log: list[Sealed] = []
    for number in range(12):
        log += chains.record("acme", encode_event(_event(number)), event_id=f"ev-{number}")
    resent = next(one.value for one in log if parse(one.entry).event_id == "ev-1")
    log += chains.record("acme", resent, event_id="ev-1")
    log += chains.record("acme", encode_event(_event(2)), event_id="ev-2", kind=Kind.CONFLICT, ref=3)
    log += chains.record("acme", b"(as ev-2)", event_id="ev-2", kind=Kind.DUPLICATE, ref=3)
    log += chains.events(3, 9)
    again = encode_event(_event(0, tenant="tenant-1", id="ev-r"))
    for _ in range(3):
        log += chains.record("tenant-1", again, event_id="ev-r")
    with migrated(database_url) as store:
        with open_feeder(store) as feeder:
            feeder.claim()
            feeder.feed(log)
        yield Filled(store, log, store.reader("acme", "tenant-1"))


def test_a_sound_chain_verifies_and_says_what_that_leaves_open(filled: Filled) -> None:
    """The result names how far, when and at which level; and what a chain alone cannot exclude."""
    result = filled.ask("verify_chain", "acme")

    assert result.is_valid
    assert (result.first_bad_seq, result.violations, result.violation_count) == (None, (), 0)
    assert (result.level, result.checked_through, result.entries) == ("chain", 15, 16)
    assert abs(datetime.now(UTC) - result.as_of) < timedelta(minutes=5)
    assert any("cut off" in words for words in result.not_excluded)
    assert any("genesis" in words for words in result.not_excluded)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE sealstream.entries SET entry = overlay(entry PLACING '\\x00' FROM 70) WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.entries SET hash = sha256('') WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.entries SET received = received + 1 WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.entries SET event_id = 'ev-0' WHERE {}", ViolationType.EDITED),
        ("UPDATE sealstream.entries SET kind = 2 WHERE {}", ViolationType.EDITED),
        ("DELETE FROM sealstream.entries WHERE {}", ViolationType.GAP),
        ("UPDATE sealstream.payloads SET bytes = '\\x00' WHERE {}", ViolationType.PAYLOAD_ALTERED),
        ("DELETE FROM sealstream.payloads WHERE {}", ViolationType.PAYLOAD_ALTERED),
    ],
)
def test_any_change_to_a_row_is_named_by_its_seq(filled: Filled, statement: str, kind: ViolationType) -> None:
    """Whatever a superuser changes in the middle of a chain, the verification names its place; other chains hold."""
    filled.store.tamper(statement.format("tenant = 'acme' AND seq = 7"))
    result = filled.ask("verify_chain", "acme")

    assert not result.is_valid
    assert result.first_bad_seq == 7
    assert result.violations[0].type is kind
    assert result.violations[0].tenant == "acme"
    assert filled.ask("verify_chain", "tenant-1").is_valid


def test_a_cut_tail_is_what_a_chain_alone_cannot_show(filled: Filled) -> None:
    """The words in the result are true: without its end the chain still verifies."""
    filled.store.tamper("DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq > 5")
    result = filled.ask("verify_chain", "acme")
    assert (result.is_valid, result.checked_through) == (True, 5)


def test_a_chain_that_nobody_can_see_is_not_valid_but_an_error(filled: Filled) -> None:
    """Nothing checked is no success: an unknown tenant, and one that belongs to others, say so."""
    for tenant in ("nobody", "tenant-2"):
        assert "reader_tenants" in str(filled.refused(StoreError, "verify_chain", tenant))


def test_every_record_of_an_event_is_shown(filled: Filled) -> None:
    """An id gives all of its records, each with hash, predecessor, bytes, and what it repeats or refers to."""
    first, again = filled.ask("get_event_proof", "acme", "ev-1")
    assert (first.seq, first.kind, first.repeat_of, first.ref) == (2, Kind.EVENT, None, None)
    assert (again.seq, again.kind, again.repeat_of) == (13, Kind.EVENT, 2)
    entry = next(one for one in filled.log if parse(one.entry).event_id == "ev-1")
    assert (first.entry, first.payload) == (entry.entry, entry.value)
    assert first.chain_hash == entry_hash(first.entry)
    assert first.prev_hash == parse(first.entry).prev
    assert first.received == datetime(2023, 11, 14, 22, 13, 20, 1000, tzinfo=UTC)

    original, conflict, duplicate = filled.ask("get_event_proof", "acme", "ev-2")
    assert (original.kind, conflict.kind, duplicate.kind) == (Kind.EVENT, Kind.CONFLICT, Kind.DUPLICATE)
    assert (original.ref, conflict.ref, duplicate.ref) == (None, 3, 3)
    assert (conflict.repeat_of, duplicate.repeat_of, duplicate.payload) == (None, None, None)


def test_a_chain_is_read_by_its_places(filled: Filled) -> None:
    """One record, a part of a chain in its order, and the part that a span of time lies in: from both fronts alike."""
    genesis = filled.ask("get_record", "acme", 0)
    assert (genesis.kind, genesis.event_id) == (Kind.GENESIS, "")
    with AuditStore(filled.url, timeout_seconds=5) as reader:
        part = list(reader.records("acme", 3, 9))

    async def twin() -> list[Any]:
        async with AsyncAuditStore(filled.url, timeout_seconds=5) as other:
            return [record async for record in other.records("acme", 3, 9)]

    assert asyncio.run(twin()) == part == [filled.ask("get_record", "acme", seq) for seq in range(3, 10)]
    assert filled.ask("seqs_between", "acme", part[0].received, part[-1].received) == (3, 8)
    assert filled.ask("seqs_between", "acme", None, part[0].received) == (None, 2)
    assert filled.ask("seqs_between", "acme", datetime(2100, 1, 1, tzinfo=UTC), None) == (None, None)
    assert "no entry 99" in str(filled.refused(StoreError, "get_record", "acme", 99))
    assert "time zone" in str(filled.refused(StoreError, "seqs_between", "acme", datetime(2026, 1, 1), None))  # noqa: DTZ001
    filled.store.tamper("UPDATE sealstream.entries SET received = received + 1 WHERE tenant = 'acme' AND seq = 5")
    damaged = filled.refused(StoreDamaged, "get_record", "acme", 5)
    assert (damaged.tenant, damaged.seq) == ("acme", 5)


def test_every_repeat_names_the_first_record(filled: Filled) -> None:
    """However often an event came again, what it repeats is its first record."""
    found = filled.ask("get_event_proof", "tenant-1", "ev-r")
    assert [(proof.seq, proof.repeat_of) for proof in found] == [(4, None), (5, 4), (6, 4)]


def test_records_of_an_event_are_bounded_and_say_so(filled: Filled) -> None:
    """Of very many records the first ones come, and the result says that there are more."""
    found = filled.ask("get_event_proof", "acme", "ev-2", limit=2)
    assert (len(found), found.complete) == (2, False)
    assert filled.ask("get_event_proof", "acme", "ev-2", limit=3).complete
    assert len(filled.ask("get_event_proof", "acme", "none")) == 0
    assert len(filled.ask("get_event_proof", "tenant-2", "ev-2")) == 0
    filled.refused(StoreError, "get_event_proof", "acme", "ev-2", limit=0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sealstream.entries SET entry = overlay(entry PLACING '\\x00' FROM 70) WHERE {}",
        "UPDATE sealstream.entries SET entry = 'x' WHERE {}",
        "UPDATE sealstream.entries SET hash = sha256('') WHERE {}",
        "UPDATE sealstream.entries SET kind = 2 WHERE {}",
        "UPDATE sealstream.payloads SET bytes = '\\x00' WHERE {}",
        "DELETE FROM sealstream.payloads WHERE {}",
    ],
)
def test_a_damaged_record_is_no_proof(filled: Filled, statement: str) -> None:
    """A row that does not hold together is an error that names tenant and seq, never an answer."""
    filled.store.tamper(statement.format("tenant = 'acme' AND seq = 6"))
    error = filled.refused(StoreDamaged, "get_event_proof", "acme", "ev-5")
    assert (error.tenant, error.seq) == ("acme", 6)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"actor": "u-1"}, [13, 12, 10, 8, 6, 4, 2]),
        ({"action": "login"}, [14, 12, 9, 6, 3]),
        ({"action": "document.*"}, [13, 11, 10, 8, 7, 5, 4, 2, 1]),
        ({"action": "doc%"}, []),
        ({"target": "d-3"}, [12, 8, 4]),
        ({"target": "f-1", "actor": "u-0", "action": "login"}, [14, 9, 3]),
        ({"outcome": "denied"}, [6]),
        ({"request_id": "r-7"}, [8]),
        ({"text": "ada", "target": "d-1"}, [13, 10, 6, 2]),
        ({"text": "50% OF_7"}, [8]),
        ({"text": "50_"}, []),
        ({"occurred_since": datetime(2020, 1, 10, tzinfo=UTC)}, [12, 11, 10]),
        ({"occurred_until": datetime(2020, 1, 3, tzinfo=UTC)}, [13, 2, 1]),
        ({"since": datetime(2023, 11, 14, 22, 13, 20, 10_000, tzinfo=UTC)}, [14, 13, 12, 11]),
        ({"until": datetime(2023, 11, 14, 22, 13, 20, 2_000, tzinfo=UTC)}, [2, 1]),
        ({"actor": "nobody"}, []),
    ],
)
def test_a_search_finds_what_its_conditions_say(
    filled: Filled, conditions: dict[str, Any], expected: list[int]
) -> None:
    """Conditions narrow, newest first; duplicates and quarantined records are no results, conflicts are."""
    page = filled.ask("search", tenant="acme", **conditions)
    assert [event.seq for event in page.events] == expected
    assert page.cursor is None


def test_pages_make_up_the_whole_search(filled: Filled) -> None:
    """However small the pages, each event comes once, also where many have the same time."""
    filled.store.query("UPDATE sealstream.events SET received_at = '2023-11-14' RETURNING 1")
    found: list[int] = []
    cursor = None
    while True:
        page = filled.ask("search", tenant="acme", limit=3, cursor=cursor)
        found += [event.seq for event in page.events]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == list(range(14, 0, -1))


def test_a_found_event_has_every_field(filled: Filled) -> None:
    """A search result is the event as it was published, typed."""
    (event,) = filled.ask("search", tenant="acme", request_id="r-5").events
    assert (event.tenant, event.seq, event.kind, event.event_id) == ("acme", 6, Kind.EVENT, "ev-5")
    assert (event.actor_type, event.actor_id, event.actor_name) == ("user", "u-1", "Ada")
    assert (event.action, event.outcome, event.ip, event.request_id) == ("login", "denied", "10.0.0.1", "r-5")
    assert event.occurred_at == datetime(2020, 1, 6, tzinfo=UTC)
    assert event.targets == ({"type": "document", "id": "d-1"}, {"type": "folder", "id": "f-1"})
    assert (event.metadata, event.context, event.undecoded) == ({"note": "50% of_5"}, {}, None)


def test_a_reader_finds_its_tenants_and_their_events(filled: Filled) -> None:
    """A login sees the chains that it may read, with their ends, and looks an id up in these alone."""
    heads = filled.ask("tenants")
    assert [(head.tenant, head.seq) for head in heads] == [("acme", 15), ("tenant-1", 6)]
    assert heads[0].hash == entry_hash(filled.log[15].entry)
    assert [head.tenant for head in filled.ask("tenants", after="acme")] == ["tenant-1"]
    assert filled.ask("tenants_of_event", "ev-1") == ("acme",)
    assert filled.ask("tenants_of_event", "nothing") == ()


def test_a_store_that_is_away_or_closed_says_so(filled: Filled) -> None:
    """No call hangs: a server that does not answer, and a login that is refused, are errors within the time given."""
    place = filled.url.rpartition("@")[2]
    for url in ("postgresql://u:hunter2@127.0.0.1:1/x", f"postgresql://no_such_login:hunter2@{place}"):
        filled.url = url
        error = filled.refused(Unreachable, "verify_chain", "acme")
        assert "hunter2" not in str(error)


def test_a_store_that_was_not_migrated_says_what_to_run(filled: Filled, database_server: str) -> None:
    """The hint is the command."""
    filled.url = database_server
    error = filled.refused(StoreError, "search", tenant="acme")
    assert error.hint == "run sealstream migrate"


def test_a_login_without_rights_is_told_which_it_needs(filled: Filled) -> None:
    """The error names the group role."""
    filled.url = filled.store.login()
    assert "sealstream_reader" in str(filled.refused(StoreError, "verify_chain", "acme"))


def test_a_reader_survives_a_broken_connection(filled: Filled) -> None:
    """A connection that the server ended is replaced; the next call works."""
    with AuditStore(filled.url) as reader:
        assert reader.verify_chain("acme").is_valid
        filled.store.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sealstream-reader'"
        )
        assert reader.verify_chain("acme").is_valid


def test_a_reader_cannot_write(filled: Filled) -> None:
    """Even a login with more rights than it needs reads only."""
    with (
        AuditStore(filled.store.url) as reader,
        pytest.raises(Unreachable, match="read-only"),
        reader._connection() as connection,  # pyright: ignore[reportPrivateUsage]
    ):
        connection.execute("DELETE FROM sealstream.events")


def test_a_long_question_is_given_up(filled: Filled) -> None:
    """The server stops a statement after the time given, and the error says that it did."""
    with (
        AuditStore(filled.url, statement_timeout_seconds=0.2) as reader,
        pytest.raises(Unreachable, match="in time"),
        reader._connection() as connection,  # pyright: ignore[reportPrivateUsage]
    ):
        connection.execute("SELECT pg_sleep(5)")


def test_a_tenant_s_rows_are_found_by_index(filled: Filled) -> None:
    """Row-level security does not turn a look-up into a walk over everybody's rows."""
    with psycopg.connect(filled.url) as connection:
        connection.execute("SET enable_seqscan = off")
        for query in (queries.PROOFS, queries.CHAIN):
            plan = "\n".join(
                str(line)
                for (line,) in connection.execute(
                    sql.SQL("EXPLAIN ") + query, {"tenant": "acme", "event_id": "ev-1", "limit": 10}
                )
            )
            assert "Seq Scan on entries" not in plan
            assert "Seq Scan on payloads" not in plan


async def test_one_asynchronous_reader_serves_many_at_once(filled: Filled) -> None:
    """More questions than connections wait for one, and all are answered."""
    async with AsyncAuditStore(filled.url) as reader:
        results = await asyncio.gather(*(reader.verify_chain("acme") for _ in range(12)))
    assert all(result.is_valid for result in results)


def test_migrating_does_not_disturb_readers(filled: Filled) -> None:
    """A store that is migrated again under a reader stays readable."""
    with AuditStore(filled.url) as reader:
        assert reader.search(tenant="acme").events
        assert migrate(filled.store.url, partitions=8) == []
        assert reader.search(tenant="acme").events
        assert reader.verify_chain("acme").is_valid
