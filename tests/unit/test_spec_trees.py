"""SPEC.md is right about trees: its vectors come out of the RFC's words, of bytes joined by hand, and of the code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sealstream.schemas.coverage import (
    COVERAGE_BYTES_MAX,
    COVERAGE_BYTES_MIN,
    COVERAGE_LABEL,
    OffsetRange,
    PartitionCoverage,
    pack_coverage,
    parse_coverage,
)
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.merkle import EMPTY_ROOT, leaf_hash
from sealstream.schemas.proofs import verify_consistency, verify_inclusion
from sealstream.schemas.round import ROUND_BYTES, ROUND_LABEL, Round, RoundFollower
from sealstream.schemas.tenant_map import MAP_LABEL, MAP_LEAF_BYTES, MapLeaf, TenantMap, map_key
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.tiles import Bundle, Tile, extend_bundles, parse_path
from support import spec, tree_vectors

DATA = [b"%d" % index for index in range(tree_vectors.TILE_TREE_SIZE)]
LEAVES = [leaf_hash(data) for data in DATA]


def proofs_of(name: str) -> Iterator[tuple[int, int, list[bytes]]]:
    """Yield the proofs of a block: two numbers, and the hashes in the lines below them."""
    (block,) = spec.blocks(name)
    hashes: list[bytes] = []
    head: list[str] = []
    for line in [*block.splitlines(), "0 0"]:
        if line.startswith(" "):
            hashes.append(bytes.fromhex(line))
            continue
        if head:
            yield int(head[0]), int(head[1]), hashes
        head, hashes = line.split(), []


def fields_of(name: str) -> Iterator[tuple[str, bytes | str]]:
    """Yield the lines of a block: a name, and hex that may go on in lines that begin with blanks."""
    (block,) = spec.blocks(name)
    known = ""
    for line in [*block.splitlines(), "end"]:
        if line.startswith(" "):
            known += line.strip()
            continue
        if known:
            word, _, content = known.partition(" ")
            yield word, content.strip() if word == "chain" else bytes.fromhex(content)
        known = line


class TestIndependently:
    """The page says what a few lines without the product say."""

    def test_blocks(self) -> None:
        """Each block is what the RFC's recursion and hand-made bytes give, character for character."""
        for name, wanted in (
            ("tree_roots", tree_vectors.roots_block()),
            ("inclusions", tree_vectors.inclusions_block()),
            ("consistencies", tree_vectors.consistencies_block()),
            ("tiles", tree_vectors.tiles_block()),
            ("map", tree_vectors.map_block()),
            ("rounds", tree_vectors.rounds_block()),
        ):
            assert spec.blocks(name) == [wanted], name

    def test_labels(self) -> None:
        """The labels and sizes in the tables are those of the code."""
        text = spec.text()
        for label in (MAP_LABEL, ROUND_LABEL, COVERAGE_LABEL):
            assert f"`{label.decode().strip()}\\n`" in text
            assert f"`{label.hex()}`" in text
        assert ["label", str(len(MAP_LABEL))] == spec.table("## 14. The tenant map")[0][:2]
        assert ["label", str(len(ROUND_LABEL))] == spec.table("### 15.1 The leaf")[0][:2]
        for heading, size in (("## 14. The tenant map", MAP_LEAF_BYTES), ("### 15.1 The leaf", ROUND_BYTES)):
            assert sum(int(row[1]) for row in spec.table(heading)) == size
        assert f"the size of the coverage; {COVERAGE_BYTES_MIN} to {COVERAGE_BYTES_MAX:,} |" in text


class TestCode:
    """The code does what the page says."""

    def test_roots(self) -> None:
        """The root of each size."""
        for size, root in spec.rows("tree_roots"):
            assert MemoryTree(LEAVES[: int(size)]).root().hex() == root

    def test_inclusions(self) -> None:
        """Each inclusion proof is made, and holds."""
        for index, size, wanted in proofs_of("inclusions"):
            tree = MemoryTree(LEAVES[:size])
            assert tree.inclusion_proof(index) == wanted
            verify_inclusion(wanted, leaf=LEAVES[index], index=index, size=size, root=tree.root())

    def test_consistencies(self) -> None:
        """Each consistency proof is made, and holds."""
        for first, second, wanted in proofs_of("consistencies"):
            tree, older = MemoryTree(LEAVES[:second]), MemoryTree(LEAVES[:first])
            assert tree.consistency_proof(first) == wanted
            verify_consistency(
                wanted,
                first_size=first,
                first_root=older.root(),
                second_size=second,
                second_root=tree.root(),
            )

    def test_tiles(self) -> None:
        """Each file of the log, and no other."""
        edge = TileEdge()
        files = {tile.path(): data for tile, data in edge.extend(LEAVES) + edge.partial()}
        files |= {bundle.path(): data for bundle, data in extend_bundles(0, b"", DATA)}
        assert {path: hashlib.sha256(data).hexdigest() for path, data in files.items()} == dict(spec.rows("tiles"))

    def test_tile_paths(self) -> None:
        """Each path is that of its place, and is read back."""
        for level, index, width, path in spec.rows("tile_paths"):
            place = Bundle(int(index), int(width)) if level == "e" else Tile(int(level), int(index), int(width))
            assert (place.path(), parse_path(path)) == (path, place)

    def test_map(self) -> None:
        """Each leaf of the map, and its root."""
        made = TenantMap()
        fields = list(fields_of("map"))
        for place in range(0, len(fields) - 1, 4):
            (_, chain), (_, nonce), (_, data), (_, digest) = fields[place : place + 4]
            assert isinstance(chain, str)
            assert isinstance(nonce, bytes)
            assert isinstance(data, bytes)
            leaf = MapLeaf.parse(data)
            assert (leaf.key, leaf.root) == (map_key(nonce, chain), MemoryTree(LEAVES[: leaf.size]).root())
            assert (leaf.pack(), leaf.hash()) == (data, digest)
            made.update([leaf])
        assert made.size == len(tree_vectors.CHAINS) == (len(fields) - 1) // 4
        assert fields[-1] == ("root", made.root())

    def test_rounds(self) -> None:
        """Each leaf of the root log and its coverage are read, made again, and follow each other."""
        follower = RoundFollower()
        fields = list(fields_of("rounds"))
        hashes: list[bytes] = []
        for place in range(0, len(fields) - 1, 3):
            (_, covered), (_, data), (_, digest) = fields[place : place + 3]
            assert isinstance(covered, bytes)
            assert isinstance(data, bytes)
            found, parts = follower.follow(data, covered)
            assert (pack_coverage(parts), found.pack(), found.hash()) == (covered, data, digest)
            hashes.append(found.hash())
        assert ("root", MemoryTree(hashes).root()) == fields[-1]
        assert Round.parse(tree_vectors.rounds()[0][0]).map_root == EMPTY_ROOT

    def test_coverage(self) -> None:
        """The coverage of the second round says what its vector was made from."""
        assert parse_coverage(tree_vectors.coverage()) == tuple(
            PartitionCoverage(
                tree_vectors.TOPIC_ID,
                partition,
                begin,
                end,
                counts,
                tuple(OffsetRange(*one) for one in invisible),
                tuple(OffsetRange(*one) for one in lost),
            )
            for partition, begin, end, counts, invisible, lost in tree_vectors.COVERED
        )
        sizes = sum(size for _, size in tree_vectors.CHAINS)
        assert sizes == sum(sum(counts) for _, _, _, counts, _, _ in tree_vectors.COVERED)
