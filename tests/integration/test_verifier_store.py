"""`sealstream verify` on a real PostgreSQL: what a superuser changes behind the guards is named, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import ConfigError, StoreError, Unreachable
from sealstream.sinks.verifier.audit import VerifyResult, verify_store
from sealstream.sinks.verifier.levels import Level
from support.chained import INSTANCE, Sealed
from support.model import LostRange, Model, SourceRecord, next_epoch
from support.publish import event_value
from support.stores import Feeder, TestStore, migrated

GENESIS = Genesis(INSTANCE, 4, window_offsets=1_000)
TENANTS = ("acme", "globex", "initech")
MISSING_KEYS = 3


def _log(first: int, last: int, models: list[Model]) -> list[Sealed]:
    """Return what events of each tenant become, and in partition 0 some records without a key; some events repeat."""
    sealed: list[Sealed] = []
    for number in range(first, last):
        for tenant in TENANTS:
            value = event_value(tenant, f"e-{number - number % 7 // 6}")
            partition = partition_of(tenant.encode(), 4)
            offset = 10 * number + TENANTS.index(tenant)
            sealed += _seal(models, partition, offset, tenant.encode(), value)
        if number < MISSING_KEYS:
            sealed += _seal(models, 0, 10 * number + 9, None, b"x")
    return sealed


def _seal(models: list[Model], partition: int, offset: int, key: bytes | None, value: bytes) -> list[Sealed]:
    record = SourceRecord(partition, offset, key, value, 1_700_000_000_000 + offset)
    return [Sealed(r.partition, r.key, r.value, r.entry) for r in models[partition].expect([record])]


@pytest.fixture
def models() -> list[Model]:
    """The tests' own chainer, a partition each."""
    return [Model(GENESIS, bytes(range(16)), n) for n in range(4)]


@pytest.fixture
def store(database_url: str, models: list[Model]) -> Iterator[TestStore]:
    """A store with 20 events of each tenant, and with records that belong to none."""
    with migrated(database_url) as found:
        _feed(found, _log(0, 20, models))
        yield found


def _feed(store: TestStore, records: list[Sealed]) -> None:
    feeder = Feeder(store.login("sealstream_writer"))
    try:
        feeder.claim()
        feeder.feed(records)
    finally:
        feeder.writer.close()


def _found(result: VerifyResult) -> list[tuple[str, str, int | None]]:
    return [(v.type.value, v.tenant, v.seq) for v in result.violations]


def test_a_right_store_is_clean(store: TestStore) -> None:
    """Everything is checked and holds: exit code 0, each chain to its end, and in words what that does not exclude."""
    steps: list[tuple[int, int]] = []

    result = verify_store(store.url, on_progress=lambda done, total: steps.append((done, total)))

    assert (result.exit_code, result.failure, _found(result)) == (0, None, [])
    assert result.checked_through == dict.fromkeys(TENANTS, 20) | {"!partition-0": MISSING_KEYS}
    assert (result.chains, result.entries) == (4, 3 * 21 + MISSING_KEYS + 1)
    assert steps[-1] == (result.entries, result.entries)
    assert result.not_excluded
    assert json.loads(json.dumps(result.to_dict()))["level"] == "chain"


HERE = "WHERE tenant = 'acme' AND seq = 9"
ENTRIES = "UPDATE sealstream.entries SET"
FORGED = "set_byte(entry, 70, 1)"
AGAIN = """SELECT (partition + 1) % 4, tenant, seq, kind, topic_id, "offset" + 5000, event_id, received, hash, entry
    FROM sealstream.entries"""
TAMPERING = {
    f"{ENTRIES} kind = 2 {HERE}": "edited",
    f"{ENTRIES} topic_id = decode(repeat('00', 16), 'hex') {HERE}": "edited",
    f'{ENTRIES} "offset" = 5555 {HERE}': "edited",
    f"{ENTRIES} event_id = 'x' {HERE}": "edited",
    f"{ENTRIES} event_id = NULL {HERE}": "edited",
    f"{ENTRIES} received = 1 {HERE}": "edited",
    f"{ENTRIES} hash = sha256('x') {HERE}": "edited",
    f"{ENTRIES} entry = 'x' {HERE}": "edited",
    f"{ENTRIES} entry = {FORGED} {HERE}": "edited",
    f"{ENTRIES} entry = {FORGED}, hash = sha256('\\x00' || {FORGED}) {HERE}": "edited",
    f"{ENTRIES} partition = (partition + 1) % 4 {HERE}": "foreign",
    f"UPDATE sealstream.payloads SET bytes = 'x' {HERE}": "payload-altered",
    f"DELETE FROM sealstream.payloads {HERE}": "payload-altered",
    f"INSERT INTO sealstream.payloads SELECT * FROM sealstream.payloads {HERE}": "payload-altered",
    f"DELETE FROM sealstream.entries {HERE}": "gap",
    "DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq BETWEEN 9 AND 12": "gap",
    "DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq >= 9": "truncated",
    f"INSERT INTO sealstream.entries {AGAIN} {HERE}": "fork",
    "UPDATE sealstream.tenant_heads SET hash = sha256('x') WHERE tenant = 'acme'": "edited",
}


@pytest.mark.parametrize(("statement", "kind"), TAMPERING.items())
def test_a_superusers_change_is_named(store: TestStore, statement: str, kind: str) -> None:
    """Each column and each row that is changed behind the guards gives one violation with its type, tenant and seq."""
    store.tamper(statement)

    result = verify_store(store.url)

    seq = 20 if "tenant_heads" in statement else 9
    assert (_found(result), result.exit_code) == ([(kind, "acme", seq)], 1)
    assert result.checked_through["acme"] == seq - 1
    assert result.checked_through["globex"] == 20


def test_swapped_rows_are_named(store: TestStore) -> None:
    """Two rows that have changed places are reordered, each by its own name."""
    for change in ("seq + 1000 WHERE seq IN (9, 10)", "1019 - seq WHERE seq > 1000"):
        store.tamper(f"UPDATE sealstream.entries SET seq = {change} AND tenant = 'acme'")

    result = verify_store(store.url, tenant="acme")

    assert ("reordered", "acme", 9) in _found(result)
    assert ("reordered", "acme", 10) in _found(result)
    assert result.exit_code == 1


def test_a_later_run_goes_on_where_the_last_one_ended(store: TestStore, models: list[Model], tmp_path: Path) -> None:
    """With a state file only what is new is read, repeats across the two runs are judged right, and what was verified
    once and is gone or different now shows.
    """
    state = tmp_path / "state.json"
    assert verify_store(store.url, state_path=state).exit_code == 0
    _feed(store, _log(20, 30, models))

    result = verify_store(store.url, state_path=state)

    assert (result.exit_code, result.entries) == (0, 3 * 11 + 1)  # the last verified entry is looked at again
    assert result.checked_through == dict.fromkeys(TENANTS, 30) | {"!partition-0": MISSING_KEYS}
    store.tamper("DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq > 25")
    store.tamper("DELETE FROM sealstream.payloads WHERE tenant = 'acme' AND seq > 25")
    store.tamper("UPDATE sealstream.tenant_heads SET seq = 25 WHERE tenant = 'acme'")
    store.tamper("DELETE FROM sealstream.entries WHERE tenant = 'initech'")
    store.tamper("DELETE FROM sealstream.payloads WHERE tenant = 'initech'")
    store.tamper("DELETE FROM sealstream.tenant_heads WHERE tenant = 'initech'")
    for _ in range(2):  # a violation is not remembered as verified
        result = verify_store(store.url, state_path=state)
        assert (_found(result), result.exit_code) == ([("truncated", "acme", 30), ("truncated", "initech", 30)], 1)


def test_a_range_is_checked_for_itself(store: TestStore) -> None:
    """A tenant and a range of it are checked with the repeats that lie before it; what lies outside is left alone."""
    store.tamper("UPDATE sealstream.entries SET received = 1 WHERE tenant = 'acme' AND seq IN (3, 18)")

    result = verify_store(store.url, tenant="acme", first_seq=5, last_seq=15)

    assert (result.exit_code, result.entries, result.checked_through) == (0, 11, {"acme": 15})


def test_what_cannot_be_checked_exits_with_2(store: TestStore, tmp_path: Path, database_server: str) -> None:
    """Nothing of that name, an empty range, no store, no server, no rights, another store's state, a level that is not
    reached: never a clean result.
    """
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"version": 1, "store": "another", "chains": {}}))
    results = {
        StoreError: [
            verify_store(store.url, tenant="nobody"),
            verify_store(store.url, tenant="acme", first_seq=100),
            verify_store(database_server),
            verify_store(store.reader("nobody")),
            verify_store(store.login()),
        ],
        Unreachable: [verify_store("postgresql://127.0.0.1:1/x", timeout_seconds=2)],
        ConfigError: [
            verify_store("nonsense://"),
            verify_store(store.url, first_seq=1),
            verify_store(store.url, tenant="acme", first_seq=5, last_seq=4),
            verify_store(store.url, require=Level.WITNESSED),
            verify_store(store.url, state_path=state),
        ],
    }

    for error, several in results.items():
        for result in several:
            assert (result.exit_code, type(result.failure)) == (2, error), result.failure
            assert _found(result) == []


def test_an_empty_store_is_not_clean(database_url: str) -> None:
    """A store without a single entry was not checked: exit code 2."""
    with migrated(database_url) as empty:
        result = verify_store(empty.url)

    assert (result.exit_code, type(result.failure)) == (2, StoreError)


def test_a_reader_of_one_tenant_verifies_that_tenant(store: TestStore, tmp_path: Path) -> None:
    """A login that may read one tenant verifies it, with a state file as well, and sees nothing of the others."""
    url = store.reader("acme")

    for _ in range(2):
        result = verify_store(url, state_path=tmp_path / "state.json")
        assert (result.exit_code, result.checked_through) == (0, {"acme": 20}), result.failure


def _declare_lost(store: TestStore, models: list[Model], first: int, last: int) -> None:
    """Store the entry of an accepted gap."""
    made = models[0].expect([LostRange(0, first, last, 0)])
    _feed(store, [Sealed(r.partition, r.key, r.value, r.entry) for r in made])


def test_a_gap_holds_as_long_as_nothing_of_it_is_stored(store: TestStore, models: list[Model]) -> None:
    """An accepted gap is a part of its chain; one that declares lost what another chain holds is a violation."""
    _declare_lost(store, models, 191, 199)
    assert _found(verify_store(store.url)) == []
    _feed(store, _log(20, 22, models))
    _declare_lost(store, models, 205, 230)

    assert _found(verify_store(store.url)) == [("gap", "!partition-0", MISSING_KEYS + 2)]


def test_an_epoch_holds_in_the_store(store: TestStore, models: list[Model]) -> None:
    """Chains that go on in another topic and other partitions are clean, also for who begins behind the epoch."""
    following = next_epoch(models, replace(GENESIS, window_offsets=500), bytes(range(16, 32)))
    _feed(store, _log(0, 8, following))
    result = verify_store(store.url)

    assert (_found(result), result.exit_code) == ([], 0)
    assert result.checked_through["acme"] == 20 + 1 + 8
    for first in (20, 21, 22, 25):
        assert _found(verify_store(store.url, tenant="acme", first_seq=first)) == []
