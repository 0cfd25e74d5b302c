"""`sealstream verify` against what was published, on a real PostgreSQL: what a chain alone cannot show is named."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sealstream.kafka.partition import partition_of
from sealstream.schemas.coverage import OffsetRange
from sealstream.schemas.entry import Kind
from sealstream.schemas.errors import ConfigError, FormatError, StoreError, Unreachable, Untrusted
from sealstream.sinks.verifier.audit import VerifyResult
from sealstream.sinks.verifier.levels import Level
from support.chained import INSTANCE, Sealed
from support.compared import PARTITIONS, POLICY, TOPIC_ID, Compared, compared, key_of
from support.model import Model, SourceRecord
from support.notes import NOW_SECONDS, policy, signer
from support.providers import fresh_database
from support.publish import event_value
from support.rounds import SECRET, PlainRound, root_checkpoint, seal_round
from support.served import served
from support.shell import Shell
from support.stores import TestStore, migrated
from support.timestamping import Authority, make_authority

TENANTS = ("acme", "globex", "initech", "umbrella")


@pytest.fixture(scope="module")
def databases(database_server: str) -> Iterator[tuple[TestStore, str, str]]:
    """A store, the same as its writer, and a second database; each test finds them empty."""
    with fresh_database(database_server) as url, fresh_database(database_server) as notary, migrated(url) as store:
        yield store, notary, store.login("sealstream_writer")


@pytest.fixture
def instance(databases: tuple[TestStore, str, str], tmp_path: Path) -> Compared:
    """Three rounds of four tenants, and a few entries behind them."""
    store, notary, writer = databases
    made = compared(store, tmp_path / "log", notary, writer)
    made.append(*TENANTS, count=5)
    made.publish()
    made.append(*TENANTS, count=5, skip=1)
    made.publish()
    made.append("acme", "globex", count=4)
    made.publish()
    made.append("acme", "globex", "late", count=2)
    return made


def _found(result: VerifyResult) -> list[tuple[str, str, int | None]]:
    return [(v.type.value, v.tenant, v.seq) for v in result.violations]


def test_a_right_store_reaches_the_checkpoints_level(instance: Compared) -> None:
    """All that a quorum's checkpoint covers holds; what was stored behind it is counted apart, and no finding."""
    result = instance.verify(require=Level.WITNESSED)

    assert (result.failure, _found(result), result.exit_code) == (None, [], 0)
    assert (result.level, result.growth) == (Level.WITNESSED, 2 + 2 + 3)
    assert result.checked_through == {"acme": 14, "globex": 14, "initech": 10, "umbrella": 10}
    assert result.as_of.timestamp() == instance.seconds(3)
    assert any("behind the checkpoint" in words for words in result.not_excluded)


def test_a_cut_end_is_truncated(instance: Compared) -> None:
    """A chain whose end was cut off, the store's own table of heads included, is named with the first seq missing."""
    instance.cut("acme", 9)

    assert instance.verify(against={"storage": ""}).exit_code == 2
    result = instance.verify()

    assert (_found(result), result.exit_code) == ([("truncated", "acme", 9)], 1)
    assert result.checked_through == {"acme": 8, "globex": 14, "initech": 10, "umbrella": 10}


def test_what_the_chain_shows_by_itself_is_named_once(instance: Compared) -> None:
    """An end that the store's table of heads still knows, and an entry that was edited, are one finding each."""
    instance.store.tamper("DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq >= 9")
    instance.store.tamper(
        "UPDATE sealstream.entries SET entry = set_byte(entry, 70, 1) WHERE tenant = 'globex' AND seq = 4"
    )
    instance.store.tamper("DELETE FROM sealstream.entries WHERE tenant = 'initech' AND seq = 3")

    found = _found(instance.verify())

    assert found == [("truncated", "acme", 9), ("edited", "globex", 4), ("gap", "initech", 3)]


def test_a_vanished_chain_is_truncated_from_its_beginning(instance: Compared) -> None:
    """A tenant of whom nothing is left is named; where even the notary does not say the name, by his key in the map."""
    instance.cut("umbrella", 0)
    assert _found(instance.verify()) == [("truncated", "umbrella", 0)]
    assert _found(instance.verify(tenant="umbrella")) == [("truncated", "umbrella", 0)]

    instance.forget("DELETE FROM sealstream_notary.chains WHERE chain = 'umbrella'")

    assert _found(instance.verify()) == [("truncated", f"!map-{key_of('umbrella').hex()}", 0)]


@pytest.mark.parametrize(("state", "words"), [(24, "round 0"), (31, "round 0"), (44, "round 1"), (9, "its beginning")])
def test_an_older_store_is_a_rollback(instance: Compared, state: int, words: str) -> None:
    """A store that was put back to an older state, of a round or between two, is named as that, and which."""
    instance.restore(instance.sealed[:state])

    result = instance.verify()

    assert result.exit_code == 1
    assert {v.type.value for v in result.violations} == {"rollback"}
    assert "acme" in {v.tenant for v in result.violations}
    left = Counter(one.key.decode() for one in instance.sealed[:state])
    assert [v.seq for v in result.violations] == [left[v.tenant] for v in result.violations]
    assert all(words in v.message for v in result.violations)
    if words == "round 1":
        assert datetime.fromtimestamp(instance.seconds(2), UTC).isoformat(sep=" ") in result.violations[0].message


def test_several_cut_ends_are_no_older_store(instance: Compared) -> None:
    """Ends cut off so that they fit no state that the store ever had are cut ends, each by itself."""
    instance.cut("acme", 4)
    instance.cut("initech", 9)

    assert _found(instance.verify()) == [("truncated", "acme", 4), ("truncated", "initech", 9)]


@pytest.mark.parametrize("seq", [1, 6, 14])
def test_a_chain_written_anew_is_a_fork(instance: Compared, seq: int) -> None:
    """A chain that holds by itself, and is another one than was published, is named with the first seq that differs;
    so it is for one tenant and for a range.
    """
    instance.restore(instance.rewritten("acme", seq))

    assert instance.verify(tenant="globex").exit_code == 0
    asked: list[dict[str, Any]] = [{}, {"tenant": "acme"}, {"tenant": "acme", "first_seq": 14, "last_seq": 14}]
    for options in asked:
        result = instance.verify(**options)
        assert (_found(result), result.exit_code) == ([("fork", "acme", seq)], 1), options
        assert result.checked_through.get("acme", -1) <= seq - 1


def test_growth_alone_can_be_another_one(instance: Compared) -> None:
    """What was stored behind the checkpoint is no part of it: cutting it off or writing it anew shows only later."""
    instance.restore(instance.rewritten("acme", 15))
    assert instance.verify().exit_code == 0
    instance.cut("acme", 15)

    assert instance.verify().exit_code == 0


def test_where_hashes_are_gone_the_smallest_range_is_told(instance: Compared) -> None:
    """Without the published hashes of 256 entries, the block of them is named; without any, the whole chain."""
    instance.append("acme", count=700)
    instance.publish()
    forged = instance.rewritten("acme", 300)
    instance.restore(forged)
    assert _found(instance.verify(tenant="acme")) == [("fork", "acme", 300)]
    tiles = instance.directory / "chains/acme/tile"
    (tiles / "0/001").unlink()

    result = instance.verify(tenant="acme")

    assert _found(result) == [("fork", "acme", 256)]
    assert "a seq from 256 to 511" in result.violations[0].message
    shutil.rmtree(tiles)
    result = instance.verify(tenant="acme")
    assert _found(result) == [("fork", "acme", 0)]
    assert "a seq from 0 to 716" in result.violations[0].message


def test_tiles_that_were_altered_tell_nothing(instance: Compared) -> None:
    """Published hashes count only where they lead to the root: altered ones accuse nobody, and hide nothing."""
    instance.append("acme", count=700)
    instance.publish()
    tile = instance.directory / "chains/acme/tile/0/001"
    tile.write_bytes(tile.read_bytes()[::-1])
    assert instance.verify().exit_code == 0
    instance.restore(instance.rewritten("acme", 300))

    assert _found(instance.verify(tenant="acme")) == [("fork", "acme", 256)]


def test_a_kept_checkpoint_shows_a_fork(instance: Compared, tmp_path: Path) -> None:
    """A root log that was shown to one reader, and another one to others: whoever kept a checkpoint finds it."""
    kept = instance.sign()
    assert instance.verify(against={"checkpoint": kept}).exit_code == 0
    other = replace(instance, directory=tmp_path / "other", sealed=[], rounds=[], offsets={}, make_tables=False)
    other.directory.mkdir()
    instance.forget("TRUNCATE sealstream_notary.map_leaves")
    other.append("acme", count=3, stored=False)
    for _ in range(4):
        other.publish()

    result = instance.verify(against={"checkpoint": kept, "storage": str(other.directory)})

    assert (_found(result), result.exit_code) == ([("fork", "!root", None)], 1)
    assert "4 rounds" in result.violations[0].message
    assert "3" in result.violations[0].message
    assert result.level is Level.CHAIN


def test_a_root_log_that_went_back_is_a_rollback(instance: Compared) -> None:
    """A published root log that ends before the checkpoint that a reader has kept."""
    kept = instance.sign()
    instance.sign(instance.rounds[:2])

    result = instance.verify(against={"checkpoint": kept})

    assert _found(result) == [("rollback", "!root", 2)]


def test_a_checkpoint_alone_is_enough(instance: Compared) -> None:
    """Where the published checkpoint is gone, the kept one serves; where there is none, nothing was checked."""
    kept = instance.sign()
    (instance.directory / "root/checkpoint").unlink()

    assert instance.verify(against={"checkpoint": kept}, require=Level.WITNESSED).exit_code == 0
    assert instance.verify().exit_code == 2


def test_a_round_that_is_missing_is_a_gap(instance: Compared) -> None:
    """A log that leaves a round out, and signs that."""
    instance.publish(alter=lambda rounds: [rounds[0], *rounds[2:]])

    result = instance.verify()

    assert (_found(result), result.exit_code) == ([("gap", "!root", 1)], 1)


def test_offsets_that_no_round_has_are_a_gap(instance: Compared) -> None:
    """A log that leaves source offsets out between two rounds: the partition and the first of them are named."""

    def lie(rounds: Sequence[PlainRound]) -> list[PlainRound]:
        first = next(part for part in rounds[1].parts if part.begin < part.end)
        (lost, *rest) = first.invisible
        changed = replace(first, begin=lost.last + 1, invisible=tuple(rest))
        parts = tuple(changed if part is first else part for part in rounds[1].parts)
        last = seal_round(rounds[0], parts, rounds[1].heads)
        return [rounds[0], last, seal_round(last, rounds[2].parts, rounds[2].heads)]

    first = next(part for part in instance.rounds[1].parts if part.begin < part.end)
    instance.rounds = instance.rounds[:3]
    instance.relog(lie(instance.rounds))

    result = instance.verify()

    assert _found(result) == [("gap", f"!partition-{first.partition}", None)]
    assert result.violations[0].offset == first.begin


def test_a_record_that_a_round_denies_is_a_gap(instance: Compared) -> None:
    """A log that calls one record invisible and another offset a record: the sums agree, and the store shows it."""
    first = next(part for part in instance.rounds[1].parts if part.invisible)
    *rest, hidden = first.invisible
    changed = replace(first, invisible=(*rest, OffsetRange(hidden.first + 1, hidden.last + 1)))
    parts = tuple(changed if part is first else part for part in instance.rounds[1].parts)
    second = seal_round(instance.rounds[0], parts, instance.rounds[1].heads)
    instance.relog([instance.rounds[0], second, seal_round(second, instance.rounds[2].parts, instance.rounds[2].heads)])

    result = instance.verify()

    assert _found(result) == [("gap", f"!partition-{first.partition}", None)]
    assert result.violations[0].offset == hidden.first


def test_kinds_that_a_round_does_not_count_are_named(instance: Compared) -> None:
    """A log that counts an event as an imported one: the sums agree, and the kinds in the store do not."""
    first = next(part for part in instance.rounds[1].parts if part.begin < part.end)
    counts = list(first.counts)
    counts[Kind.EVENT], counts[Kind.IMPORTED] = counts[Kind.EVENT] - 1, 1
    parts = tuple(replace(part, counts=tuple(counts)) if part is first else part for part in instance.rounds[1].parts)
    second = seal_round(instance.rounds[0], parts, instance.rounds[1].heads)
    instance.relog([instance.rounds[0], second, seal_round(second, instance.rounds[2].parts, instance.rounds[2].heads)])

    result = instance.verify()

    assert _found(result) == [("edited", f"!partition-{first.partition}", None)]
    assert result.violations[0].offset is None


def test_a_chain_that_no_round_has_is_foreign(instance: Compared) -> None:
    """A chain, or the end of one, put into the store at offsets that the rounds have accounted for without it."""
    first = next(part for part in instance.rounds[1].parts if part.invisible)
    model = Model(instance.genesis, TOPIC_ID, first.partition)
    name = next(n for n in (f"evil-{k}" for k in range(99)) if partition_of(n.encode(), PARTITIONS) == first.partition)
    record = SourceRecord(
        first.partition, first.invisible[0].first, name.encode(), event_value(name, "x"), 1_700_000_000_000
    )
    instance.feed([Sealed(r.partition, r.key, r.value, r.entry) for r in model.expect([record])])

    result = instance.verify()

    assert (_found(result), result.exit_code) == ([("foreign", name, 0)], 1)


def test_what_cannot_be_compared_exits_with_2(instance: Compared, tmp_path: Path) -> None:
    """No checkpoint, an unknown key, a checkpoint that is older than asked for or that nobody dates, a map that is gone
    or another one, a range that nothing was published of, a missing round, a reader of some tenants only, a level that
    is not reached, no storage: never a clean result.
    """
    (tmp_path / "empty").mkdir()
    others = policy(3, 2, log=signer(INSTANCE, number=1)).pack()
    strangers = policy(3, 2, log=signer("another.example/audit")).pack()
    limited = instance.store.reader("acme")
    results = {
        StoreError: [
            instance.verify(against={"storage": str(tmp_path / "empty")}),
            instance.verify(tenant="acme", first_seq=15),
            instance.verify(tenant="late"),
            instance.verify(tenant="nobody"),
        ],
        Untrusted: [
            instance.verify(against={"policy": others}),
            instance.verify(against={"age_seconds_max": 60}),
            instance.verify(against={"checkpoint": instance.note(root_checkpoint("another.example/x", []))}),
        ],
        ConfigError: [
            instance.verify(against={"storage": ""}),
            instance.verify(against={"storage": str(tmp_path / "nowhere")}),
            instance.verify(against={"instance": "another.example/audit"}),
            instance.verify(against={"policy": strangers, "instance": INSTANCE}),
            instance.verify(url=limited),
            instance.verify(against={"map_secret": b"", "age_seconds_max": 60}),
            instance.verify(against={"map_secret": b""}, require=Level.WITNESSED),
        ],
        FormatError: [instance.verify(against={"policy": b"nonsense"}), instance.verify(against={"checkpoint": b"x"})],
        Unreachable: [instance.verify(against={"notary_database": "postgresql://127.0.0.1:1/x"}, timeout_seconds=2)],
    }

    for error, several in results.items():
        for result in several:
            assert result.exit_code == 2, result.failure
            assert isinstance(result.failure, error), result.failure
            assert _found(result) == []


@pytest.mark.parametrize(
    ("statement", "path"),
    [
        ("DELETE FROM sealstream_notary.map_leaves", ""),
        ("UPDATE sealstream_notary.map_leaves SET data = set_byte(data, 60, 255)", ""),
        ("", "root/coverage/001"),
        ("", "root/tile/entries/000.p/3"),
        ("", "root/tile/0/000.p/3"),
    ],
)
def test_evidence_that_is_gone_is_no_clean_result(instance: Compared, statement: str, path: str) -> None:
    """What the comparison takes, and what is gone or not what the root commits to, is missed, and accuses nobody."""
    if statement:
        instance.forget(statement)
    if path:
        (instance.directory / path).unlink()

    result = instance.verify()

    assert (_found(result), result.exit_code, result.level) == ([], 2, Level.CHAIN)


@pytest.mark.parametrize(
    ("path", "place", "seq"),
    [
        ("root/coverage/001", 40, 1),
        ("root/tile/entries/000.p/3", 40, 0),
        ("root/tile/entries/000.p/3", -1, 2),
        ("root/tile/0/000.p/3", 40, None),
    ],
)
def test_a_root_log_that_was_altered_is_named(instance: Compared, path: str, place: int, seq: int | None) -> None:
    """A published file of the root log that is not what was signed is a finding, and never taken for right."""
    file = instance.directory / path
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)

    result = instance.verify()

    assert (_found(result), result.exit_code, result.level) == ([("edited", "!root", seq)], 1, Level.CHAIN)


def test_fewer_cosignatures_reach_a_lower_level(instance: Compared) -> None:
    """Without a quorum the log's signature is what counts: the level says so, and so do the words."""
    instance.sign(witnesses=(1,))

    result = instance.verify()

    assert (result.exit_code, result.level) == (0, Level.CHECKPOINT)
    assert any("no witness" in words for words in result.not_excluded)
    result = instance.verify(require=Level.WITNESSED)
    assert (result.exit_code, type(result.failure)) == (2, ConfigError)
    assert "W1 cosigned" in str(result.failure)


def test_an_auditor_of_one_tenant_goes_by_its_own_checkpoint(instance: Compared) -> None:
    """Who may not see the notary's database compares a chain with the checkpoint of its own, and is told what that is
    worth: a cut end and another history show, for one tenant as for those that a login may read.
    """
    url = instance.store.reader("acme", "globex")
    own = {"notary_database": "", "map_secret": b""}
    for tenant in (None, "acme"):
        result = instance.verify(url=url, against=own, tenant=tenant)
        assert (result.exit_code, result.level) == (0, Level.CHECKPOINT), result.failure
        assert any("checkpoint of its own" in words for words in result.not_excluded)

    instance.cut("acme", 9)

    assert _found(instance.verify(url=url, against=own)) == [("truncated", "acme", 9)]
    instance.restore(instance.rewritten("globex", 3))
    assert _found(instance.verify(url=url, against=own, tenant="globex")) == [("fork", "globex", 3)]


def test_a_later_run_compares_what_it_did_not_read(instance: Compared, tmp_path: Path) -> None:
    """With a state file only what is new is read, and all of it is compared: an entry stands for all before it."""
    options: dict[str, Any] = {"state_path": tmp_path / "state.json"}
    assert instance.verify(**options).exit_code == 0
    instance.append(*TENANTS, count=3)
    instance.publish()

    result = instance.verify(**options)

    assert (result.exit_code, result.level) == (0, Level.WITNESSED), result.failure
    assert result.entries == 4 * 4 + 1
    assert result.checked_through["acme"] == 19
    instance.restore(instance.rewritten("acme", 18))
    for _ in range(2):
        result = instance.verify(against={}, state_path=tmp_path / "other.json")
        assert _found(result) == [("fork", "acme", 18)]


def test_a_later_run_follows_the_root_log_from_where_it_was(instance: Compared, tmp_path: Path) -> None:
    """Rounds that were followed once are not read again; what is published later must continue them."""
    options: dict[str, Any] = {"state_path": tmp_path / "state.json"}
    assert instance.verify(**options).exit_code == 0
    coverage = instance.directory / "root/coverage/000"
    data = coverage.read_bytes()
    coverage.unlink()
    instance.append(*TENANTS, count=3)
    instance.publish()
    coverage.unlink()

    assert instance.verify().exit_code == 2
    for _ in range(2):
        result = instance.verify(**options)
        assert (result.exit_code, result.level) == (0, Level.WITNESSED), result.failure
    coverage.write_bytes(data)
    instance.sign(instance.rounds[:2])
    assert _found(instance.verify(**options)) == [("rollback", "!root", 2)]
    instance.sign()
    assert instance.verify(**options).exit_code == 0
    foreign = tmp_path / "state.json"
    foreign.write_text(foreign.read_text().replace(INSTANCE, "other.example/audit"))
    assert instance.verify(**options).exit_code == 2


def test_a_state_shows_a_fork_of_the_root_log(instance: Compared, tmp_path: Path) -> None:
    """A root log that is another one than the one that an earlier run has followed is a fork, however long it is."""
    options: dict[str, Any] = {"state_path": tmp_path / "state.json"}
    instance.sign()
    assert instance.verify(**options).exit_code == 0
    other = replace(instance, directory=tmp_path / "other", sealed=[], rounds=[], offsets={}, make_tables=False)
    other.directory.mkdir()
    instance.forget("TRUNCATE sealstream_notary.map_leaves")
    other.append("acme", count=3, stored=False)
    for _ in range(4):
        other.publish()

    for _ in range(2):
        result = instance.verify(against={"storage": str(other.directory)}, **options)
        assert (_found(result), result.exit_code) == ([("fork", "!root", None)], 1)


def test_two_processes_find_what_one_finds(instance: Compared) -> None:
    """Chains cut into parts, in processes of their own: the same roots, and the same findings in the same order."""
    instance.append("acme", count=300)
    instance.append("globex", count=150)
    instance.publish()
    options: dict[str, Any] = {"workers": 2, "piece_entries": 50}
    clean = instance.verify(**options)
    assert (clean.exit_code, clean.level) == (0, Level.WITNESSED)
    instance.restore(instance.rewritten("acme", 200))
    instance.store.tamper("UPDATE sealstream.entries SET received = 1 WHERE tenant = 'globex' AND seq = 90")
    instance.cut("umbrella", 7)

    found = _found(instance.verify(**options))

    assert found == [("fork", "acme", 200), ("edited", "globex", 90), ("truncated", "umbrella", 7)]
    assert found == _found(instance.verify())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A timestamp authority."""
    return make_authority(tmp_path_factory.mktemp("tsa") / "authority")


def test_a_timestamped_checkpoint_is_anchored(instance: Compared, authority: Authority) -> None:
    """The newest checkpoint that has a timestamp is gone by where that level is asked for; what it does not cover is
    growth. Without the authority's roots, or with a timestamp of something else, it is not reached.
    """
    instance.stamp(2, authority.stamp)
    trusted = {"timestamp_roots": authority.roots_pem.decode()}

    result = instance.verify(require=Level.ANCHORED, against=trusted)

    assert (result.exit_code, result.level) == (0, Level.ANCHORED), result.failure
    assert result.checked_through == dict.fromkeys(TENANTS, 10)
    assert abs(result.as_of.timestamp() - time.time()) < 600
    result = instance.verify(against=trusted)
    assert (result.exit_code, result.level) == (0, Level.WITNESSED)
    result = instance.verify(require=Level.ANCHORED)
    assert (result.exit_code, _found(result)) == (2, [])
    instance.stamp(3, lambda note: authority.stamp(note + b"?"))
    assert instance.verify(require=Level.ANCHORED, against=trusted).exit_code == 0
    instance.stamp(2, lambda note: authority.stamp(note + b"?"))
    result = instance.verify(require=Level.ANCHORED, against=trusted)
    assert (result.exit_code, _found(result)) == (2, [])


def test_the_command_compares(instance: Compared, tmp_path: Path) -> None:
    """The command takes what to compare with from options or settings, and its exit code tells what came of it."""
    note = tmp_path / "kept"
    note.write_bytes(instance.sign())
    rules = tmp_path / "policy"
    rules.write_bytes(POLICY.pack())
    shell = Shell(
        SEALSTREAM_DATABASE=instance.store.url,
        SEALSTREAM_NOTARY_DATABASE=instance.notary,
        SEALSTREAM_MAP_SECRET=SECRET.hex(),
        SEALSTREAM_LOG_STORAGE=str(instance.directory),
    )
    moment = datetime.fromtimestamp(NOW_SECONDS, UTC).isoformat()
    asked = ("verify", "--policy", str(rules), "--checkpoint", str(note), "--at", moment, "--require", "witnessed")

    assert shell.json("verify")["level"] == "chain"
    found = shell.json(*asked)

    assert (found["exit_code"], found["level"], found["growth"]) == (0, "witnessed", 7), found["failure"]
    instance.cut("acme", 9)
    found = shell.json(*asked)
    assert found["exit_code"] == 1
    assert [(v["type"], v["tenant"], v["seq"]) for v in found["violations"]] == [("truncated", "acme", 9)]
    done = shell.run(*asked, "--not-older-than", "60")
    assert done.returncode == 2
    assert "86,280 s old" in " ".join(done.stderr.split())


def test_logs_may_be_read_over_http(instance: Compared, authority: Authority) -> None:
    """Whoever serves the published files, which cannot be listed there: the same levels, and the same findings."""
    instance.stamp(2, authority.stamp)
    with served(instance.directory) as url:
        web = {"storage": url, "timestamp_roots": authority.roots_pem.decode()}
        for level in (Level.WITNESSED, Level.ANCHORED):
            result = instance.verify(against=web, require=level)
            assert (result.exit_code, result.level) == (0, level), result.failure
        instance.cut("acme", 9)
        assert _found(instance.verify(against=web)) == [("truncated", "acme", 9)]


def test_a_name_that_is_none_is_named(instance: Compared) -> None:
    """A row under a name that no chain has keeps nothing else from being checked."""
    instance.store.tamper("UPDATE sealstream.entries SET tenant = 'a b' WHERE tenant = 'late' AND seq = 0")

    result = instance.verify()

    assert result.exit_code == 1
    assert ("foreign", "a b", 0) in _found(result)
    assert result.checked_through["acme"] == 14
