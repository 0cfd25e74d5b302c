"""What a comparison with published roots decides, without a server: verified tiles, differences, older states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.coverage import OffsetRange, PartitionCoverage
from sealstream.schemas.entry import Kind, entry_hash
from sealstream.schemas.errors import ConfigError, ObjectMissing, SignatureMissing, TileInvalid, Untrusted
from sealstream.schemas.merkle import Node, leaf_hash, root
from sealstream.schemas.round import Round
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.violation import Violation, ViolationType
from sealstream.sinks.verifier.accounting import disagreement, older_state
from sealstream.sinks.verifier.believing import Believed, believe, check_age, log_of
from sealstream.sinks.verifier.comparing import Comparison, Difference, Judge, Reached, first_difference
from sealstream.sinks.verifier.levels import Level, not_excluded
from sealstream.sinks.verifier.published import Head
from sealstream.sinks.verifier.trusted_tiles import TrustedTiles
from support.notes import CHECKPOINT, LOG, NOW_SECONDS, ORIGIN, cosigned, policy, reader, signer
from support.rounds import PlainRound, seal_round

SIZES = (1, 2, 255, 256, 257, 600, 65_536, 65_537 + 256)
TOPIC = bytes(range(16))
CHAIN = "acme"


def _entries(count: int, *, forged_from: int | None = None) -> list[bytes]:
    return [b"%d%s" % (n, b"!" if forged_from is not None and n >= forged_from else b"") for n in range(count)]


class Files(dict[str, bytes]):
    """The files of a tree's tiles."""

    @classmethod
    def of(cls, entries: list[bytes]) -> Files:
        """Return the tiles of a tree with these leaves."""
        edge = TileEdge()
        made = edge.extend([leaf_hash(entry) for entry in entries])
        return cls({tile.path(): data for tile, data in (*made, *edge.partial())})

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        try:
            return self[path]
        except KeyError:
            raise ObjectMissing(f"there is no {path}") from None


def _root(entries: list[bytes]) -> bytes:
    return root(map(leaf_hash, entries))


@cache
def _tree(size: int) -> tuple[list[bytes], Files, bytes]:
    """Return a tree's entries, tiles and root."""
    entries = _entries(size)
    return entries, Files.of(entries), _root(entries)


def _tiles(entries: list[bytes], files: Files | None = None) -> TrustedTiles:
    return TrustedTiles(len(entries), _root(entries), (Files.of(entries) if files is None else files).read)


# -- tiles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_tiles_that_lead_to_the_root_give_leaves_and_older_roots(size: int) -> None:
    """At sizes around those where tiles become full: leaves, nodes and older roots are those of the tree."""
    entries = _entries(size)
    tiles = _tiles(entries)

    for index in {0, size // 2, size - 1}:
        assert tiles.leaf(index) == leaf_hash(entries[index])
    for older in {1, size // 3 + 1, size}:
        assert tiles.root_at(older) == _root(entries[:older])
    assert tiles.node(Node(0, size - 1)) == leaf_hash(entries[-1])


@settings(max_examples=60)
@given(size=st.sampled_from((3, 257, 600, 66_000)), luck=st.lists(st.integers(0, 2**20), min_size=4, max_size=4))
def test_no_altered_tile_is_believed(size: int, luck: list[int]) -> None:
    """Whichever byte of whichever tile is changed: a leaf is the right one, or the tile is refused."""
    entries, whole, tree_root = _tree(size)
    files = Files(whole)
    path = sorted(files)[luck[0] % len(files)]
    data = bytearray(files[path])
    data[luck[1] % len(data)] ^= 1 << luck[2] % 8
    files[path] = bytes(data)
    index = luck[3] % size

    try:
        leaf = TrustedTiles(size, tree_root, files.read).leaf(index)
    except TileInvalid:
        return
    assert leaf == leaf_hash(entries[index])


def test_a_full_tile_serves_for_an_erased_partial_one() -> None:
    """A log may erase a partial tile once the full one is there."""
    now, before = _entries(600), _entries(500)
    older = {path: data for path, data in Files.of(before).items() if path.startswith("tile/1")}
    files = Files(Files.of(now) | older)

    assert "tile/0/001.p/244" not in files
    assert TrustedTiles(500, _root(before), files.read).leaf(499) == leaf_hash(before[499])
    with pytest.raises(TileInvalid):
        TrustedTiles(500, _root(now), files.read)
    with pytest.raises(ObjectMissing):
        TrustedTiles(500, _root(before), Files().read)


# -- differences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [0, 255, 256, 300, 599])
def test_the_first_entry_that_differs_is_found(seq: int) -> None:
    """The exact seq where all tiles are there; the block of 256 where its own is gone; what is left where more is."""
    published = _entries(600)
    stored = list(enumerate(_entries(600, forged_from=seq)))
    files = Files.of(published)
    assert first_difference(stored, _tiles(published, files)) == Difference(seq, seq)
    assert first_difference(enumerate(published), _tiles(published, files)) is None
    block = seq // 256
    if files.pop(f"tile/0/00{block}", None) is None:
        return

    assert first_difference(stored, _tiles(published, files)) == Difference(256 * block, 256 * block + 255)
    assert first_difference(enumerate(published), _tiles(published, files)) is None


def test_rows_that_are_missing_hide_no_difference() -> None:
    """Entries that are there are compared by their own place, whatever is missing before them."""
    published = _entries(600)
    stored = [(n, entry) for n, entry in enumerate(_entries(600, forged_from=400)) if not 100 <= n < 300]

    assert first_difference(stored, _tiles(published)) == Difference(400, 400)


def _judged(
    stored: list[bytes],
    published: list[bytes],
    *,
    known: Sequence[tuple[str, int]] = (),
    files: Files | None = None,
) -> tuple[list[tuple[str, int | None]], dict[str, int]]:
    """Return what is found of a chain, and where it ends if all before that is right."""
    heads = {CHAIN: Head(len(published), _root(published))}
    tree = CompactRange()
    tree.extend([leaf_hash(entry) for entry in stored[: len(published)]])
    comparison = Comparison(heads)
    comparison.take(CHAIN, len(stored) - 1, None if known else tree)
    violations = [Violation(type=ViolationType(kind), tenant=CHAIN, seq=seq, message="") for kind, seq in known]
    judge = Judge(
        "i",
        heads,
        tiles_of=lambda _: _tiles(published, files),
        entries_of=lambda _, last: list(enumerate(stored))[: last + 1],
        known={CHAIN: violations} if known else {},
    )
    found = [(v.type.value, v.seq) for v in judge.differing(comparison.differing)]
    return found, judge.short


def test_the_table_of_decisions() -> None:
    """What is called what, and what is called nothing because the chain's own check has named it."""
    right, gone = _entries(600), Files()
    fork = _entries(600, forged_from=300)

    assert _judged(right, right) == ([], {})
    assert _judged([*right, b"growth"], right) == ([], {})
    assert _judged(right[:400], right) == ([], {CHAIN: 400})
    assert _judged(fork, right) == ([("fork", 300)], {})
    assert _judged([*fork, b"growth"], right) == ([("fork", 300)], {})
    assert _judged(fork[:400], right) == ([("fork", 300)], {})
    assert _judged(fork[:300], right) == ([], {CHAIN: 300})
    assert _judged(right[:400], right, files=gone) == ([], {CHAIN: 400})
    assert _judged(fork, right, files=gone) == ([("fork", 0)], {})
    assert _judged(right, right, known=[("payload-altered", 5)]) == ([], {})
    assert _judged(fork, right, known=[("edited", 300)]) == ([], {})
    assert _judged(fork, right, known=[("edited", 299)]) == ([], {})
    assert _judged(fork, right, known=[("edited", 301)]) == ([("fork", 300)], {})
    assert _judged(fork, right, known=[("reordered", 301)]) == ([], {})
    assert _judged(fork, right, known=[("reordered", 302)]) == ([("fork", 300)], {})
    assert _judged(fork, right, known=[("edited", 450)]) == ([("fork", 300)], {})
    assert _judged(right[:400], right, known=[("edited", 5)]) == ([("truncated", 400)], {})
    assert _judged(right[:400], right, known=[("truncated", 400)]) == ([], {})


def test_chains_that_nothing_is_there_of_have_vanished() -> None:
    """A chain that was published and never came up; one that came up and was never published is kept apart."""
    entries = _entries(3)
    comparison = Comparison({CHAIN: Head(3, _root(entries)), "gone": Head(1, bytes(32))})
    tree = CompactRange()
    tree.extend(map(leaf_hash, entries))
    comparison.take(CHAIN, 7, tree)
    comparison.take("new", 2, None)

    assert (comparison.held, comparison.unpublished) == ({CHAIN: 7}, {"new"})
    assert (comparison.vanished(), comparison.differing) == (["gone"], dict[str, Reached]())


# -- rounds ------------------------------------------------------------------------------------------------------------


def _part(partition: int, begin: int, end: int, *invisible: tuple[int, int]) -> PartitionCoverage:
    ranges = tuple(OffsetRange(*one) for one in invisible)
    counts = [0] * len(Kind)
    counts[Kind.EVENT] = end - begin - sum(one.count for one in ranges)
    return PartitionCoverage(TOPIC, partition, begin, end, tuple(counts), ranges)


ROUNDS = [[_part(0, 0, 10), _part(1, 0, 4)], [], [_part(0, 10, 20, (12, 13))], [_part(1, 4, 9), _part(0, 20, 22)]]


def _rounds() -> Iterator[tuple[Round, tuple[PartitionCoverage, ...]]]:
    before: PlainRound | None = None
    for parts in ROUNDS:
        before = seal_round(before, parts, {})
        yield before.leaf, before.parts


@pytest.mark.parametrize(
    ("positions", "stored", "expected"),
    [
        ((22, 9), (20, 9), None),  # all is there
        ((20, 4), (18, 4), 2),
        ((21, 4), (19, 4), 2),
        ((20, 8), (18, 8), 2),
        ((15, 4), (13, 4), 1),
        ((10, 4), (10, 4), 1),
        ((7, 4), (7, 4), -1),
        ((0, 0), (0, 0), -1),
        ((15, 9), (13, 9), None),  # one partition is ahead by two rounds
        ((20, 4), (17, 4), None),  # a record is missing before the end
        ((15, 4), (12, 4), None),
    ],
)
def test_an_older_state_is_one_between_two_rounds(
    positions: tuple[int, int], stored: tuple[int, int], expected: int | None
) -> None:
    """All of one round, nothing behind the next one, and each source partition up to some offset without a hole."""
    places = {(TOPIC, number): position for number, position in enumerate(positions)}

    assert older_state(_rounds(), places, lambda place: stored[place[1]]) == expected


def test_where_store_and_rounds_disagree_is_named() -> None:
    """The first offset that is a record for one of the two only; else it is the kinds that differ."""
    right = [n for n in range(22) if n not in (12, 13)]

    def at(offsets: list[int]) -> tuple[str, int | None]:
        found = disagreement(_rounds(), (TOPIC, 0), offsets, "i")
        assert (found.tenant, found.partition, found.topic_id) == ("!partition-0", 0, TOPIC)
        return found.type.value, found.offset

    assert at(sorted([*right, 13])) == ("gap", 13)
    assert at([n for n in right if n != 11]) == ("gap", 11)
    assert at(right[:-1]) == ("gap", 21)
    assert at([]) == ("gap", 0)
    assert at(right) == ("edited", None)


# -- belief ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_worth_what_its_signatures_are() -> None:
    """A quorum makes it witnessed; the log alone, a checkpoint; a stranger, nothing."""
    times = {1: NOW_SECONDS - 100, 2: NOW_SECONDS - 50}

    witnessed = believe(cosigned(times), reader(), origin=ORIGIN)
    assert (witnessed.level, witnessed.time_seconds) == (Level.WITNESSED, NOW_SECONDS - 50)
    alone = believe(cosigned({1: NOW_SECONDS}), reader(), origin=ORIGIN)
    assert (alone.level, alone.time_seconds) == (Level.CHECKPOINT, None)
    assert "W1 cosigned" in alone.why_not_more
    nobody = believe(cosigned({}), reader(policy(0)), origin=ORIGIN)
    assert (nobody.level, nobody.why_not_more) == (Level.CHECKPOINT, "the policy asks for no witness")
    with pytest.raises(SignatureMissing):
        believe(cosigned(times, log=signer(ORIGIN, number=1)), reader(), origin=ORIGIN)
    with pytest.raises(Untrusted):
        believe(cosigned(times), reader(), origin=f"{ORIGIN}/other")


def test_an_old_checkpoint_is_refused_where_a_fresh_one_is_asked_for() -> None:
    """One that is older than asked, and one of which nobody says how old it is."""
    found = Believed(CHECKPOINT, Level.WITNESSED, NOW_SECONDS - 100)
    check_age(found, NOW_SECONDS, 100)
    check_age(replace(found, time_seconds=None), NOW_SECONDS, None)
    for one in (found, replace(found, time_seconds=None)):
        with pytest.raises(Untrusted):
            check_age(one, NOW_SECONDS, 99)


def test_the_log_is_the_readers_choice() -> None:
    """The policy's only log, or the one that is asked for; never one that it does not have."""
    assert log_of(policy(), "").key == LOG.verifier
    assert log_of(policy(), ORIGIN).key == LOG.verifier
    with pytest.raises(ConfigError):
        log_of(policy(), "another.example")
    several = replace(policy(), logs=(*policy().logs, replace(policy().logs[0], key=signer("b.example").verifier)))
    with pytest.raises(ConfigError):
        log_of(several, "")


def test_each_level_says_what_it_leaves_open() -> None:
    """A chain alone cannot exclude a cut end; above it that is excluded, and growth is what is not."""
    words = {level: " ".join(not_excluded(level)) for level in Level}

    assert "cut off together with" in words[Level.CHAIN]
    assert all("behind the checkpoint" in words[level] for level in Level if level is not Level.CHAIN)
    assert all("cut off together with" not in words[level] for level in Level if level is not Level.CHAIN)
    assert all("before it was stored" in text for text in words.values())
    assert len(set(words.values())) == len(Level)


def test_a_leafs_hash_is_the_entrys() -> None:
    """What is compared with the tiles is the hash that the chain has."""
    assert entry_hash(b"x") == leaf_hash(b"x")
