"""Beginning in the middle of a log: what a recomputing witness takes from published files, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import Entry, entry_hash, pack
from sealstream.schemas.errors import CheckpointRefused, ConfigError, ObjectMissing, SourceExpired
from sealstream.schemas.log_layout import ROOT_CHECKPOINT, chain_prefix, coverage_path
from sealstream.schemas.note import sign_note
from sealstream.schemas.tiles import Bundle, pack_entries
from sealstream.sinks.witness.recomputing.refusal import Refusal
from support.chain_files import chain_files, entries_by_chain, publish_chain_files
from support.chained import INSTANCE, Chains
from support.chained import Sealed as Record
from support.memory_objects import MemoryObjects
from support.notes import signer
from support.recomputing import PARTITIONS, TOPIC_ID, MemoryJudge, busy_log, by_partition, word_of
from support.rounds import Entries, PlainRound, Sealed, make_round, publish_rounds, root_checkpoint

KEY = signer(INSTANCE)
KEYS = (KEY.verifier,)


def _rounds(entries: Entries, *cuts: dict[int, int]) -> list[PlainRound]:
    made: list[PlainRound] = []
    for ends in cuts:
        made.append(make_round(entries, ends, topic_id=TOPIC_ID, before=made))
    return made


def _published(entries: Entries, rounds: list[PlainRound]) -> MemoryObjects:
    objects = MemoryObjects()
    publish_rounds(objects, rounds)
    objects.put(ROOT_CHECKPOINT, sign_note(root_checkpoint(INSTANCE, rounds).pack(), [KEY]))
    publish_chain_files(objects, KEY, entries_by_chain(entries))
    return objects


def _sizes(judge: MemoryJudge) -> dict[str, int]:
    return {name.decode(): CompactRange.from_state(one.tree).end for name, one in judge.changes.chains.items()}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 80),
    marks=st.lists(st.integers(0, 60), min_size=2, max_size=5),
    idle=st.integers(0, 2),
    at_once=st.integers(1, 7),
    data=st.data(),
)
def test_beginning_in_the_middle_comes_to_what_computing_everything_comes_to(
    seed: int, count: int, marks: list[int], idle: int, at_once: int, data: st.DataObject
) -> None:
    """Whichever round is begun at, and whatever is still on Kafka from before it: what is remembered there, and behind
    every later round, is what a witness remembers that has seen everything.
    """
    entries = busy_log(seed, count)
    last = {number: max((_behind(one) for one in records), default=0) for number, records in entries.items()}
    cuts = [{n: min(_snapped(entries[n], mark), last[n]) for n in last} for mark in sorted(marks)]
    silent: dict[int, int] = {}
    rounds = _rounds(entries, *cuts, *[silent] * idle, last)
    size = data.draw(st.integers(1, len(rounds)))
    whole = MemoryJudge(entries, word_of(entries), at_once=at_once)
    whole.judge(rounds[:size])
    covered = {place.partition: place.end for place in whole.changes.log.places.values()}
    firsts = {number: _first_behind(entries[number], covered.get(number, 0)) for number in entries}
    starts = {number: data.draw(st.sampled_from([first, first // 2, 0])) for number, first in firsts.items()}
    judge = MemoryJudge(entries, word_of(entries), at_once=at_once, starts=starts)

    judge.begin(root_checkpoint(INSTANCE, rounds[:size]), _published(entries, rounds), KEYS)

    one, other = judge.changes, whole.changes
    assert (one.log.tree, one.log.previous, one.chains) == (other.log.tree, other.log.previous, other.chains)
    judge.judge(rounds)
    whole.judge(rounds)
    assert (judge.changes.log.tree, judge.changes.chains) == (whole.changes.log.tree, whole.changes.chains)


def _behind(one: Sealed) -> int:
    entry = one.parsed
    return int(one.value.split()[3]) + 1 if entry.kind == 7 else entry.offset + 1


def _snapped(records: list[Sealed], mark: int) -> int:
    """Return a mark, moved to where a notary ends a round: behind an entry."""
    return max((_behind(one) for one in records if one.parsed.offset < mark), default=0)


def _first_behind(records: list[Sealed], end: int) -> int:
    return next((at for at, one in enumerate(records) if one.parsed.offset >= end), len(records))


def _long_log() -> tuple[dict[int, list[Sealed]], list[PlainRound]]:
    """Return a log with a chain of several tiles, its rounds, and a third tenant that begins behind the first."""
    chains = Chains(partitions=PARTITIONS)
    records: list[Record] = []
    for number in range(700):
        records += chains.event("acme", f"ev-{number}")
        records += chains.event("globex", f"ev-{number}") if number % 7 == 0 else []
    middle = dict(chains.offsets)
    for number in range(20):
        records += chains.event("acme", f"later-{number}") + chains.event("newcomer", f"later-{number}")
    entries = by_partition(records)
    return entries, _rounds(entries, {0: 1, 1: 1}, middle, dict(chains.offsets))


def test_sizes_and_newer_chains() -> None:
    """A chain is cut where the round cuts it, however many tiles it has; one that began later is left out."""
    entries, rounds = _long_log()
    judge = MemoryJudge(entries, word_of(entries))

    judge.begin(root_checkpoint(INSTANCE, rounds[:2]), _published(entries, rounds), KEYS)

    assert _sizes(judge) == {name: head.size for name, head in rounds[1].heads.items()}
    assert "newcomer" not in _sizes(judge)


def test_chains_that_the_verifier_does_not_know_are_listed() -> None:
    """A chain that is in no epoch's audit.verifier any more is found in the storage, where that can be listed."""
    entries, rounds = _long_log()
    word = word_of(entries)
    (home,) = [number for number, known in word.chains.items() if known.get(b"globex") is not None]
    word.chains[home] = type(word.chains[home])()
    objects = _published(entries, rounds)
    checkpoint = root_checkpoint(INSTANCE, rounds[:2])
    judge = MemoryJudge(entries, word)

    judge.begin(checkpoint, objects, KEYS)

    assert _sizes(judge)["globex"] == rounds[1].heads["globex"].size

    def list_nothing(prefix: str) -> list[str]:
        raise ConfigError(f"{prefix} cannot be listed")

    objects.list = list_nothing  # type: ignore[method-assign]  # as over HTTP
    with pytest.raises(CheckpointRefused, match=r"round 1 has \d chains, and \d can be found"):
        MemoryJudge(entries, word).begin(checkpoint, objects, KEYS)


Files = dict[str, bytes]
PREFIX = chain_prefix("acme")


def _wrong_name(files: Files, _entries: Entries) -> None:
    """Give a chain the files of another one, its checkpoint included."""
    for path, data in [*files.items()]:
        if path.startswith(chain_prefix("globex")):
            files[PREFIX + path.removeprefix(chain_prefix("globex"))] = data


def _wrong_size(files: Files, entries: Entries) -> None:
    """Change the source offset of an entry in its bundle, so that the chain seems to be cut elsewhere."""
    chain = entries_by_chain(entries)["acme"]
    chain[-1] = pack(replace(_parsed(entries, "acme")[-1], offset=0))
    bundles = {path: data for path, data in chain_files(KEY, "acme", chain) if "/tile/entries/" in path}
    files.update(bundles)


def _other_size(files: Files, entries: Entries) -> None:
    """Sign another size with another key."""
    chain = entries_by_chain(entries)["acme"][:-1]
    files.update(chain_files(signer(INSTANCE, number=1), "acme", chain))


def _foreign_tile(files: Files, _entries: Entries) -> None:
    """Put a tile of another chain in the place of a full one."""
    files[f"{PREFIX}tile/0/000"] = bytes(32 * 256)


def _swapped_tiles(files: Files, _entries: Entries) -> None:
    """Swap two tiles of one level."""
    one, other = f"{PREFIX}tile/0/000", f"{PREFIX}tile/0/001"
    files[one], files[other] = files[other], files[one]


def _cut_tile(files: Files, _entries: Entries) -> None:
    """Cut the tile at the right edge."""
    (path,) = [path for path in files if path.startswith(f"{PREFIX}tile/0/002.p/")]
    files[path] = files[path][:-32]


def _no_tile(files: Files, _entries: Entries) -> None:
    """Take it away."""
    (path,) = [path for path in files if path.startswith(f"{PREFIX}tile/0/002.p/")]
    del files[path]


def _no_entries(files: Files, _entries: Entries) -> None:
    """Take a bundle away."""
    (path,) = [path for path in files if path.startswith(f"{PREFIX}tile/entries/002.p/")]
    del files[path]


def _signed_for_another(files: Files, entries: Entries) -> None:
    """Let the log itself have signed another chain's entries as this one's."""
    files.update(chain_files(KEY, "acme", entries_by_chain(entries)["globex"]))


def _missing(files: Files, _entries: Entries) -> None:
    """Take a chain away."""
    for path in [path for path in files if path.startswith(PREFIX)]:
        del files[path]


def _parsed(entries: Entries, tenant: str) -> list[Entry]:
    return [one.parsed for records in entries.values() for one in records if one.parsed.tenant == tenant]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_wrong_name, "chain acme: its checkpoint is not signed by the log"),
        (_wrong_size, "chain acme: entry 720: "),
        (_other_size, "chain acme: its checkpoint is not signed by the log"),
        (_foreign_tile, "chain acme: entry 210: inclusion proof"),
        (_swapped_tiles, "chain acme: entry 466: inclusion proof"),
        (_cut_tile, "chain acme: tile/0/002.p/"),
        (_no_tile, "chain acme: there is no "),
        (_no_entries, "chain acme: there is no "),
        (_signed_for_another, "chain acme: entry 100 of globex stands at 100"),
        (_missing, "nothing is published of acme"),
    ],
)
def test_files_of_a_chain_that_are_not_what_was_signed(change: Callable[[Files, Entries], None], words: str) -> None:
    """Whatever was done to the files of one chain, nothing begins, and the chain is named."""
    entries, rounds = _long_log()
    objects = _published(entries, rounds)
    change(objects.files, entries)
    judge = MemoryJudge(entries, word_of(entries))
    # Cut behind the first tile and before the last: tiles of both sides are needed.
    inner = _rounds(entries, {0: 1, 1: 1}, {0: 400, 1: 400})
    publish_rounds(objects, inner)

    with pytest.raises(CheckpointRefused) as refused:
        judge.begin(root_checkpoint(INSTANCE, inner), objects, KEYS)

    assert words in refused.value.message
    assert not judge.changes.chains


def test_an_older_state_of_a_chain() -> None:
    """Files of a chain that the log itself has signed, at an earlier time, do not come to the map of the round."""
    entries, rounds = _long_log()
    objects = _published(entries, rounds)
    chain = entries_by_chain(entries)["acme"][:300]
    for path in [path for path in objects.files if path.startswith(PREFIX)]:
        del objects.files[path]
    objects.put_many(chain_files(KEY, "acme", chain))

    with pytest.raises(CheckpointRefused, match="come to another map"):
        MemoryJudge(entries, word_of(entries)).begin(root_checkpoint(INSTANCE, rounds), objects, KEYS)


@pytest.mark.parametrize("what", ["leaf", "tile", "coverage"])
def test_a_root_log_that_is_not_what_was_signed(what: str) -> None:
    """Leaves, tiles and coverages of the rounds before are held against the checkpoint that the operator trusts."""
    entries, rounds = _long_log()
    objects = _published(entries, rounds)
    other = _rounds(entries, {0: 1, 1: 1}, {0: 300, 1: 100}, {0: 720, 1: 120})
    forged = MemoryObjects()
    publish_rounds(forged, other)
    paths = {"leaf": "root/tile/entries/000.p/3", "tile": "root/tile/0/000.p/3", "coverage": coverage_path(2)}
    objects.files[paths[what]] = forged.files[paths[what]]

    with pytest.raises(CheckpointRefused):
        MemoryJudge(entries, word_of(entries)).begin(root_checkpoint(INSTANCE, rounds), objects, KEYS)


def test_an_earlier_round_that_is_not_what_was_signed() -> None:
    """Where a partition has not come forward for a while, the rounds that are gone back are held against the last."""
    entries, rounds = _long_log()
    nothing: dict[int, int] = {}
    rounds = [*rounds, make_round(entries, nothing, topic_id=TOPIC_ID, before=rounds)]
    objects = _published(entries, rounds)
    forged = MemoryObjects()
    publish_rounds(forged, _rounds(entries, {0: 1, 1: 1}, {0: 300, 1: 100}, {0: 720, 1: 120}, nothing))
    leaves = [Bundle(0, 4).entries(one.files["root/tile/entries/000.p/4"]) for one in (objects, forged)]
    objects.files["root/tile/entries/000.p/4"] = pack_entries([*leaves[1][:3], leaves[0][3]])
    objects.files[coverage_path(2)] = forged.files[coverage_path(2)]

    with pytest.raises(CheckpointRefused, match="round 2 is published as another one than was signed"):
        MemoryJudge(entries, word_of(entries)).begin(root_checkpoint(INSTANCE, rounds), objects, KEYS)


def test_a_log_that_is_not_published() -> None:
    """Without the published rounds nothing begins."""
    entries, rounds = _long_log()

    with pytest.raises((CheckpointRefused, ObjectMissing)):
        MemoryJudge(entries, word_of(entries)).begin(root_checkpoint(INSTANCE, rounds), MemoryObjects(), KEYS)


@pytest.mark.parametrize("gone", [1, 5])
def test_what_expired_behind_the_checkpoint(gone: int) -> None:
    """Where audit.chained lacks entries behind the checkpoint nothing begins; partition, chain and seq are named."""
    entries, rounds = _long_log()
    home = next(number for number, records in entries.items() if records[0].parsed.tenant == "acme")
    first = _first_behind(entries[home], rounds[1].ends[TOPIC_ID, home])
    judge = MemoryJudge(entries, word_of(entries), starts={home: first + gone})

    with pytest.raises(SourceExpired) as expired:
        judge.begin(root_checkpoint(INSTANCE, rounds[:2]), _published(entries, rounds), KEYS)

    assert f"partition {home} begins at offset {first + gone}" in expired.value.message
    assert "chain acme seq 701" in expired.value.message


def test_an_attack_behind_the_checkpoint() -> None:
    """A witness that began in the middle names what is wrong behind it as one that has seen everything does."""
    entries, rounds = _long_log()
    home = next(number for number, records in entries.items() if records[0].parsed.tenant == "acme")
    index = max(at for at, one in enumerate(entries[home]) if one.parsed.tenant == "acme")
    one = entries[home][index]
    forged = replace(one.parsed, received=1)
    changed = [*entries[home][:index], one._replace(entry=pack(forged)), *entries[home][index + 1 :]]
    stored = entries | {home: changed}
    ends = {number: end for (_, number), end in rounds[2].ends.items()}
    lie = make_round(stored, ends, topic_id=TOPIC_ID, before=rounds[:2])
    starts = {number: _first_behind(entries[number], rounds[1].ends[TOPIC_ID, number]) for number in entries}
    judge = MemoryJudge(entries, word_of(entries), starts=starts, stored=stored)
    judge.begin(root_checkpoint(INSTANCE, rounds[:2]), _published(entries, rounds), KEYS)

    with pytest.raises(Refusal) as refused:
        judge.judge([*rounds[:2], lie])

    found = refused.value.violation
    assert found is not None
    assert (found.type, found.tenant, found.seq) == ("edited", "acme", forged.seq)
    assert (found.expected, found.found) == (entry_hash(one.entry).hex(), entry_hash(pack(forged)).hex())
