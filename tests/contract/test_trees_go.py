"""Trees, proofs and tiles as Certificate Transparency's and the Go checksum database's own code sees them.

The program in ``tests/oracles/trees`` uses github.com/transparency-dev/merkle and golang.org/x/mod/sumdb/tlog. What it
gives is what ours gives; each accepts the other's proofs; and both refuse the same changed ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.errors import ProofInvalid
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion
from sealstream.schemas.tile_tree import TileEdge
from sealstream.schemas.tiles import new_tiles
from support import rfc_trees
from support.go import ORACLES, Oracle, go_program

LEAVES = rfc_trees.leaves(300)
TREE = MemoryTree(LEAVES)
SEED = 6962

Request: TypeAlias = dict[str, Any]
Mutated: TypeAlias = tuple[Request, Callable[[], None]]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Generator[Oracle]:
    """The program, running."""
    with Oracle(go_program(ORACLES / "trees", tmp_path_factory.mktemp("oracle"))) as running:
        yield running


def ask(oracle: Oracle, requests: Iterable[Request]) -> list[dict[str, Any]]:
    """Return the program's answers to some requests."""
    return [oracle.ask(**request) for request in requests]


def texts(hashes: Sequence[bytes]) -> list[str]:
    """Return hashes as the program reads them."""
    return [value.hex() for value in hashes]


def root_of(size: int) -> bytes:
    """Return the root over the first leaves."""
    return MemoryTree(LEAVES[:size]).root()


def inclusion_request(
    proof: Sequence[bytes], index: int, size: int, leaf: bytes, root: bytes
) -> tuple[Request, Callable[[], None]]:
    """Return the question whether an inclusion proof holds, for the program and for our code."""
    request = {
        "do": "verify-inclusion",
        "proof": texts(proof),
        "index": index,
        "size": size,
        "leaves": texts([leaf]),
        "roots": texts([root]),
    }
    return request, lambda: verify_inclusion(proof, leaf=leaf, index=index, size=size, root=root)


def consistency_request(
    proof: Sequence[bytes], first: int, second: int, roots: tuple[bytes, bytes]
) -> tuple[Request, Callable[[], None]]:
    """Return the question whether a consistency proof holds, for the program and for our code."""
    request = {
        "do": "verify-consistency",
        "proof": texts(proof),
        "first": first,
        "size": second,
        "roots": texts(roots),
    }

    def ours() -> None:
        verify_consistency(proof, first_size=first, first_root=roots[0], second_size=second, second_root=roots[1])

    return request, ours


def accepted(check: Callable[[], None]) -> bool:
    """Return whether our code takes a proof; it may refuse it in one way only."""
    try:
        check()
    except ProofInvalid:
        return False
    return True


def changed(proof: list[bytes], chance: random.Random) -> list[bytes]:
    """Return a proof with something wrong: a byte, a hash missing, doubled, swapped or added."""
    place = chance.randrange(len(proof) + 1)
    if place == len(proof):
        return [*proof, LEAVES[chance.randrange(9)]]
    kind = chance.randrange(4)
    if kind == 0:
        value = bytearray(proof[place])
        value[chance.randrange(32)] ^= 1 << chance.randrange(8)
        return [*proof[:place], bytes(value), *proof[place + 1 :]]
    if kind == 1:
        return [*proof[:place], *proof[place + 1 :]]
    if kind == 2:
        return proof[:place]
    return [*proof[:place], proof[place], *proof[place:]]


def test_roots(oracle: Oracle) -> None:
    """For any number of leaves both come to one root."""
    (answer,) = ask(oracle, [{"do": "roots", "leaves": texts(LEAVES)}])
    assert answer["hashes"] == texts([root_of(size) for size in range(len(LEAVES) + 1)])


def test_compact_ranges(oracle: Oracle) -> None:
    """A range between any two leaves has the same hashes in the same order."""
    chance = random.Random(SEED)
    bounds = [sorted((chance.randrange(300), chance.randrange(300))) for _ in range(150)]
    requests = [{"do": "range", "first": begin, "leaves": texts(LEAVES[begin:end])} for begin, end in bounds]
    for (begin, end), answer in zip(bounds, ask(oracle, requests), strict=True):
        ours = CompactRange(begin)
        ours.extend(LEAVES[begin:end])
        assert answer["hashes"] == texts(ours.hashes)


def test_proofs_are_the_same(oracle: Oracle) -> None:
    """Each makes the proofs that the other one makes, for each leaf and older size of trees of many sizes."""
    places = [(index, size) for size in (*range(1, 18), 31, 32, 33, 64, 100, 257) for index in range(size)]
    requests = [
        {"do": "inclusion", "index": index, "size": size, "leaves": texts(LEAVES[:size])} for index, size in places
    ] + [{"do": "consistency", "first": first, "size": size, "leaves": texts(LEAVES[:size])} for first, size in places]
    answers = ask(oracle, requests)
    for (index, size), answer in zip(places, answers, strict=False):
        assert (answer["error"], answer["hashes"]) == ("", texts(inclusion_proof(index, size, TREE.node)))
    for (first, size), answer in zip(places, answers[len(places) :], strict=True):
        assert (answer["error"], answer["hashes"]) == ("", texts(consistency_proof(first, size, TREE.node)))


def test_both_accept(oracle: Oracle) -> None:
    """Proofs that hold are accepted by both."""
    questions: list[Mutated] = []
    for size in (1, 2, 3, 7, 8, 100, 255, 256, 257, 300):
        for index in {0, size // 3, size - 1}:
            proof = inclusion_proof(index, size, TREE.node)
            questions.append(inclusion_request(proof, index, size, LEAVES[index], root_of(size)))
        for first in {0, 1, size // 2, size - 1, size}:
            proof = consistency_proof(first, size, TREE.node)
            questions.append(consistency_request(proof, first, size, (root_of(first), root_of(size))))
    answers = ask(oracle, [request for request, _ in questions])
    for (request, ours), answer in zip(questions, answers, strict=True):
        assert (answer["error"], accepted(ours)) == ("", True), request


def test_both_refuse(oracle: Oracle) -> None:
    """Proofs that were changed, or that are for another place, size or root, are refused by both."""
    chance = random.Random(SEED)
    questions: list[Mutated] = []
    for _ in range(400):
        size = chance.randrange(2, 300)
        index, first = chance.randrange(size), chance.randrange(1, size)
        leaf, root, older = LEAVES[index], root_of(size), root_of(first)
        proof = inclusion_proof(index, size, TREE.node)
        growth = consistency_proof(first, size, TREE.node)
        questions += [
            inclusion_request(changed(proof, chance), index, size, leaf, root),
            inclusion_request(proof, (index + 1) % size, size, leaf, root),
            inclusion_request(proof, index, size, LEAVES[index - 1], root),
            inclusion_request(proof, index, size, leaf, older),
            inclusion_request(proof, size, size, leaf, root),
            consistency_request(changed(growth, chance), first, size, (older, root)),
            consistency_request(growth, first, size, (root, older)),
            consistency_request(growth, first, size, (older, LEAVES[0])),
            consistency_request(growth, size, first, (older, root)),
            consistency_request([leaf], size, size, (root, root)),
            consistency_request([leaf], 0, size, (root_of(0), root)),
        ]
    answers = ask(oracle, [request for request, _ in questions])
    for (request, ours), answer in zip(questions, answers, strict=True):
        assert answer["error"], request
        assert not accepted(ours), request


def test_any_size_is_judged_alike(oracle: Oracle) -> None:
    """A proof under a size that is not its own is judged alike by both, whatever the verdict."""
    questions: list[Mutated] = []
    for size in (5, 6, 7, 8, 12):
        for index in range(size):
            proof = inclusion_proof(index, size, TREE.node)
            questions += [
                inclusion_request(proof, index, other, LEAVES[index], root_of(size)) for other in range(index + 1, 20)
            ]
        for first in range(1, size):
            growth = consistency_proof(first, size, TREE.node)
            roots = (root_of(first), root_of(size))
            questions += [consistency_request(growth, first, other, roots) for other in range(first, 20)]
    answers = ask(oracle, [request for request, _ in questions])
    verdicts = [accepted(ours) for _, ours in questions]
    assert verdicts == [not answer["error"] for answer in answers]
    assert {True, False} == set(verdicts)


def test_new_tiles(oracle: Oracle) -> None:
    """When a tree grows, both name the same new tiles under the same paths."""
    chance = random.Random(SEED)
    sizes = [(0, 0), (0, 1), (0, 256), (255, 256), (0, 70_000), (65_535, 65_537), (2**40, 2**40 + 700)]
    lows = [chance.randrange(2 ** chance.randrange(60)) for _ in range(60)]
    sizes += [(low, low + chance.randrange(1_500)) for low in lows]
    answers = ask(oracle, [{"do": "new-tiles", "first": old, "size": new} for old, new in sizes])
    for (old, new), answer in zip(sizes, answers, strict=True):
        assert [tile.path() for tile in new_tiles(old, new)] == (answer["paths"] or [])


@pytest.mark.parametrize("size", [1, 256, 300, 66_000])
def test_reads_our_tiles(oracle: Oracle, tmp_path: Path, size: int) -> None:
    """Out of a directory of our tiles, the other code proves every leaf it is asked for, and accepts the root."""
    leaves = rfc_trees.leaves(size)
    edge = TileEdge()
    for tile, data in edge.extend(leaves) + edge.partial():
        path = tmp_path / tile.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    indices = sorted({0, 1 % size, size // 2, size - 1, *range(0, size, 5_000)})
    request: Request = {
        "do": "read-tiles", "directory": str(tmp_path), "size": size, "roots": texts([edge.root()]), "indices": indices,
    }  # fmt: skip
    (answer,) = ask(oracle, [request])
    assert (answer["error"], answer["hashes"]) == ("", texts([leaves[index] for index in indices]))

    (refused,) = ask(oracle, [request | {"roots": texts([leaves[0][::-1]])}])
    assert refused["error"]


def test_refuses_a_changed_tile(oracle: Oracle, tmp_path: Path) -> None:
    """A directory in which one byte of a tile differs is refused by the other code as well."""
    edge = TileEdge()
    for tile, data in edge.extend(LEAVES) + edge.partial():
        path = tmp_path / tile.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    request: Request = {
        "do": "read-tiles", "directory": str(tmp_path), "size": 300, "roots": texts([edge.root()]),
        "indices": list(range(300)),
    }  # fmt: skip
    for tile in new_tiles(0, 300):
        path = tmp_path / tile.path()
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        (answer,) = ask(oracle, [request])
        assert answer["error"], tile
        path.write_bytes(data)
