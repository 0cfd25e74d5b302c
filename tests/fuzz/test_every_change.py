"""No byte of evidence can be changed, and none be cut off, without its reader saying so; where one can, it is named.

Each byte is changed in several ways and each cut is made, of what is signed and of what hashes commit to; the reader
has the root, or the policy, from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import pytest

from fuzz.signed import INDEX, LEAVES, NOTE, PROOF
from fuzz.target import cpu_limit
from fuzz.trees import COVERAGE, ENTRIES, HASHES, ROUND, bundles_of, tiles_of
from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import entry_hash
from sealstream.schemas.errors import ProofInvalid, SealstreamError
from sealstream.schemas.evidence import verify_proof
from sealstream.schemas.key_history import Rotation, sign_rotation
from sealstream.schemas.log_proof import LogProof
from sealstream.schemas.memory_tree import MemoryTree
from sealstream.schemas.note_key import VerifierKey
from sealstream.schemas.proof_bytes import pack_sized
from sealstream.schemas.proof_file import CHECK_BYTES, ProofFile
from sealstream.schemas.proofs import verify_inclusion
from sealstream.schemas.round import Round, RoundFollower
from sealstream.schemas.tenant_map import MapLeaf
from sealstream.schemas.tile_tree import verify_tiles
from sealstream.schemas.tiles import Tile
from sealstream.schemas.trust import verify_checkpoint, verify_log_proof
from support.notes import CHECKPOINT, LOG, NOW_SECONDS, ORIGIN, cosigned, policy, reader, signer, witness
from support.sealproofs import INSTANCE, with_earlier

Verify: TypeAlias = Callable[[bytes], object]

MASKS: Final = (0x01, 0x04, 0x10, 0x20, 0x80)
FEW_MASKS: Final = (0x01, 0x20, 0x80)
ALL_OF_TWO: Final = reader(policy(2, 2))
TWO_OF_THREE: Final = reader(policy(3, 2))


def changes(data: bytes, masks: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """Yield each place with the bytes that have another value there: some bits of it turned, and a newline."""
    for place, byte in enumerate(data):
        for value in {*(byte ^ mask for mask in masks), 0x0A} - {byte}:
            yield place, data[:place] + bytes((value,)) + data[place + 1 :]


def held(data: bytes, verify: Verify, masks: tuple[int, ...] = MASKS, cut_to: frozenset[int] = frozenset()) -> set[int]:
    """Return the places at which some change is taken, after a look that all is well with the bytes as they are.

    Every cut is tried as well; none may be taken but those that leave one of so many bytes.
    """
    verify(data)
    assert {size for size in range(len(data)) if taken(data[:size], verify)} == cut_to
    return {place for place, changed in changes(data, masks) if taken(changed, verify)}


def taken(data: bytes, verify: Verify) -> bool:
    """Return whether bytes are taken; whatever else is raised than a typed error fails the test."""
    with cpu_limit():
        try:
            verify(data)
        except SealstreamError:
            return False
    return True


def places(data: bytes, piece: bytes) -> set[int]:
    """Return the places of a piece of bytes that is there once."""
    assert data.count(piece) == 1
    begin = data.index(piece)
    return set(range(begin, begin + len(piece)))


def test_checkpoint() -> None:
    """A checkpoint all of whose signatures are asked for cannot be changed anywhere."""
    assert held(NOTE, lambda data: verify_checkpoint(data, ALL_OF_TWO, origin=ORIGIN)) == set()


def test_checkpoint_with_a_witness_to_spare() -> None:
    """Who makes a cosignature one of an unknown key takes it away, as he can; what is left is the same checkpoint.

    Only the name and the id of a key that the quorum does not need can be changed, and its whole line be missing.
    """
    note = cosigned(dict.fromkeys((1, 2, 3), NOW_SECONDS))

    def verify(data: bytes) -> None:
        found = verify_checkpoint(data, TWO_OF_THREE, origin=ORIGIN)
        assert found.checkpoint == CHECKPOINT

    expected: set[int] = set()
    for number in (1, 2, 3):  # any one of them can be spared
        key = witness(number).verifier
        name = key.name.encode()
        begin = note.index(name + b" ")
        # The id is 4 bytes: the first five characters of the base64 and two bits of the sixth.
        expected |= {*range(begin, begin + len(name)), *range(begin + len(name) + 1, begin + len(name) + 7)}
    without_the_last = len(note) - len(note.splitlines(keepends=True)[-1])
    assert held(note, verify, cut_to=frozenset({without_the_last})) == expected


def test_log_proof() -> None:
    """A log's proof cannot be changed anywhere."""
    leaf = LEAVES[INDEX]
    assert held(PROOF, lambda data: verify_log_proof(LogProof.parse(data), leaf, ALL_OF_TWO, origin=ORIGIN)) == set()


def test_log_proof_with_extra_data() -> None:
    """Extra data is a hint that nothing vouches for, and the only thing in a log's proof that can be changed."""
    honest = LogProof.parse(PROOF)
    extra = b"abc"
    data = LogProof(honest.index, honest.hashes, honest.checkpoint, extra).pack()
    leaf = LEAVES[INDEX]

    found = held(data, lambda changed: verify_log_proof(LogProof.parse(changed), leaf, ALL_OF_TWO), FEW_MASKS)

    assert found == places(data, base64.b64encode(extra))


def files_of(size: int) -> dict[str, bytes]:
    """Return the files of the log of the first entries."""
    tiles = {tile.path(): data for tile, data in tiles_of(HASHES[:size]).items()}
    return tiles | {bundle.path(): data for bundle, data in bundles_of(ENTRIES[:size]).items()}


def verify_files(size: int, files: dict[str, bytes]) -> None:
    """Verify the log of the first entries, out of these files."""
    root = MemoryTree(HASHES[:size]).root()
    verify_tiles(size, root, lambda tile: files[tile.path()], lambda bundle: files[bundle.path()])


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("tile/0/000.p/9", 9),
        ("tile/entries/000.p/9", 9),
        ("tile/1/000.p/1", 256),
    ],
)
def test_tiles(path: str, size: int) -> None:
    """No tile and no entry bundle can be changed anywhere."""
    files = files_of(size)

    assert held(files[path], lambda changed: verify_files(size, files | {path: changed}), FEW_MASKS) == set()


def test_a_full_tile() -> None:
    """No byte of a full tile can be changed."""
    tile, size = Tile(0, 0), 256
    tiles = tiles_of(HASHES[:size])
    root = MemoryTree(HASHES[:size]).root()

    def verify(data: bytes) -> None:
        verify_tiles(size, root, lambda one: data if one == tile else tiles[one])

    data = tiles[tile]
    verify(data)
    for place in range(len(data)):
        assert not taken(data[:place] + bytes((data[place] ^ 1 << place % 8,)) + data[place + 1 :], verify)


def test_coverage() -> None:
    """A coverage cannot be changed under the leaf that commits to it."""
    assert held(COVERAGE, lambda data: RoundFollower().follow(ROUND.pack(), data)) == set()


MAP_LEAF: Final = MapLeaf(HASHES[0], 300, HASHES[1])


LEAVES_OF_TREES: Final[dict[str, tuple[bytes, Callable[[bytes], bytes]]]] = {
    "round": (ROUND.pack(), lambda data: Round.parse(data).hash()),
    "map leaf": (MAP_LEAF.pack(), lambda data: MapLeaf.parse(data).hash()),
    "entry": (ENTRIES[7], entry_hash),
}


@pytest.mark.parametrize(("data", "leaf_hash"), LEAVES_OF_TREES.values(), ids=LEAVES_OF_TREES)
def test_leaves(data: bytes, leaf_hash: Callable[[bytes], bytes]) -> None:
    """A leaf of any tree cannot be changed under a root that is known."""
    leaves = [*HASHES[:5], leaf_hash(data), *HASHES[6:9]]
    tree = MemoryTree(leaves)
    path = tree.inclusion_proof(5)

    def verify(changed: bytes) -> None:
        verify_inclusion(path, leaf=leaf_hash(changed), index=5, size=tree.size, root=tree.root())

    assert held(data, verify) == set()


def test_paths() -> None:
    """The hashes of an inclusion and of a consistency proof cannot be changed, nor can there be fewer."""
    tree = MemoryTree(HASHES)
    path = b"".join(tree.inclusion_proof(17))

    def verify(changed: bytes) -> None:
        hashes = [changed[place : place + 32] for place in range(0, len(changed), 32)]
        verify_inclusion(hashes, leaf=HASHES[17], index=17, size=tree.size, root=tree.root())

    assert held(path, verify, FEW_MASKS) == set()
    for index, size in ((16, 300), (18, 300), (17, 17), (300 + 17, 300)):
        with pytest.raises(ProofInvalid):
            verify_inclusion(tree.inclusion_proof(17), leaf=HASHES[17], index=index, size=size, root=tree.root())


def test_keys_and_rotations() -> None:
    """A verifier key and a rotation's record cannot be changed anywhere."""
    _, record = sign_rotation(LOG, signer(ORIGIN, number=1), old_not_after_seconds=7, new_not_before_seconds=5)

    assert held(record, Rotation.parse) == set()
    assert held(str(LOG.verifier).encode(), lambda data: VerifierKey.parse(data.decode("latin-1"))) == set()


def test_proof_file() -> None:
    """A proof file cannot be changed anywhere."""
    data = with_earlier().pack()

    assert held(data, lambda changed: verify_proof(ProofFile.parse(changed), ALL_OF_TWO), FEW_MASKS) == set()


@pytest.mark.parametrize("with_schema", [False, True], ids=["no schema", "schema"])
def test_proof_file_with_its_check_made_anew(with_schema: bool) -> None:
    """Who changes a proof file and makes its check anew can change the schema's text and timestamps that nobody judges.

    Both say nothing of what is proven: nothing vouches for the schema, and who gives no roots of authorities is told
    that no timestamp was judged.
    """
    token = b"a response that nobody judges here"
    schema = b'"bytes"'
    honest = INSTANCE.proof(10, timestamps=[token], with_schema=with_schema)
    body = honest.pack()[:-CHECK_BYTES]
    if with_schema:
        whole = honest.schema or b""
        body = body.replace(pack_sized(whole), pack_sized(schema))

    def verify(changed: bytes) -> None:
        found = verify_proof(ProofFile.parse(changed + hashlib.sha256(changed).digest()[:CHECK_BYTES]), ALL_OF_TWO)
        assert (found.entry.seq, found.entry_hash, found.chain_size) == (10, INSTANCE.chains[0].hashes[10], 13)
        assert found.trusted.checkpoint == INSTANCE.checkpoint(3)
        assert any("not judged" in words for words in found.not_proven)

    assert held(body, verify, FEW_MASKS) == places(body, token) | (places(body, schema) if with_schema else set())


def test_checkpoint_of_the_empty_tree() -> None:
    """A checkpoint of no entries cannot be changed into one of some."""
    empty = Checkpoint(ORIGIN, 0, MemoryTree().root())
    note = cosigned({1: NOW_SECONDS, 2: NOW_SECONDS}, checkpoint=empty)

    assert held(note, lambda data: verify_checkpoint(data, ALL_OF_TWO), FEW_MASKS) == set()
