"""The proof file: what shows one entry to stand in a chain, up to a root checkpoint that others have signed.

It holds data only. Whom to believe, and what time it is, come from its reader (:mod:`sealstream.schemas.evidence`).
What can be computed is not in it: roots of chain and map, the key in the map, the leaves, and the text around a
checkpoint's fields. ``SPEC.md`` section 22 gives the layout with test vectors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import CARRIED_KINDS, VALUE_BYTES_MAX, WINDOW_KINDS, ZERO_HASH, Entry
from sealstream.schemas.entry import parse as parse_entry
from sealstream.schemas.errors import EntryInvalid, LeafInvalid, ProofFileInvalid
from sealstream.schemas.log_proof import HASHES_MAX
from sealstream.schemas.merkle import HASH_BYTES, SIZE_MAX
from sealstream.schemas.proof_bytes import CUT_HINT, ProofBytes, pack_hashes, pack_number, pack_sized
from sealstream.schemas.proof_note import pack_note, parse_note, read_note
from sealstream.schemas.round import Round
from sealstream.schemas.tenant_map import NONCE_BYTES

PROOF_LABEL: Final = b"sealproof1\n"
PROOF_SUFFIX: Final = ".sealproof"
PROOF_BYTES_MAX: Final = 4 * 2**20
SCHEMA_BYTES_MAX: Final = 262_144
TIMESTAMPS_MAX: Final = 8
TIMESTAMP_BYTES_MAX: Final = 65_536
CHECK_BYTES: Final = 8
"""How many bytes of the SHA-256 of all before them stand at the end: they tell a damaged file from a forged one."""

_ENTRY_BYTES_MAX: Final = 1_024  # the longest has fewer; parsing it says so


@dataclass(frozen=True, slots=True)
class RootedMap:
    """The way from a chain's leaf in the tenant map of a round up to a signed checkpoint of the root log.

    Arguments:
        index: The chain's place in the map.
        map_path: The inclusion proof of its leaf in the map.
        round: The number of the round.
        previous: As in :class:`~sealstream.schemas.round.Round`, and so the next three.
        length: Size of the round's coverage in bytes.
        coverage: Digest of the round's coverage.
        chains: The number of chains in the map.
        root_path: The inclusion proof of the round in the root log, as large as the checkpoint says.
        note: The root checkpoint as it was signed and cosigned, without extension lines. Best that of the size
            ``round + 1``.
        timestamps: RFC 3161 responses (DER) over the bytes of ``note``.
    """

    index: int
    map_path: tuple[bytes, ...]
    round: int
    previous: bytes
    length: int
    coverage: bytes
    chains: int
    root_path: tuple[bytes, ...]
    note: bytes
    timestamps: tuple[bytes, ...] = ()

    def leaf(self, map_root: bytes) -> Round:
        """Return the leaf of the root log, given the map's root, which is computed and not carried."""
        return Round(self.round, self.previous, self.length, self.coverage, self.chains, map_root)

    def checkpoint(self) -> Checkpoint:
        """Return what the note says; nothing of it is verified.

        Raises:
            NoteInvalid: The bytes are no note.
            CheckpointInvalid: The note is none of a checkpoint.
        """
        return parse_note(self.note)[0]


@dataclass(frozen=True, slots=True)
class EarlierState:
    """The same chain without the entry, under an earlier checkpoint of the same root log.

    Arguments:
        size: The number of its entries then: at most the entry's seq.
        root: The root of its tree then.
        rooted: The way up; the round is the last one under its checkpoint.
        consistency: That the later checkpoint's tree grew out of the earlier one's.
    """

    size: int
    root: bytes
    rooted: RootedMap
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProofFile:
    """One entry with everything that shows where it stands.

    Arguments:
        entry: The entry's bytes.
        payload: The bytes that it commits to; ``None`` for kinds that carry none, or where they are elsewhere or were
            erased. They can be given when it is verified.
        schema: The writer's Avro schema of the payload, whole and as UTF-8 text, so that it can be read when nothing
            else is left; ``None`` for none. Nothing vouches for it.
        nonce: The chain's nonce in the tenant map, 32 bytes.
        size: The number of entries of the chain in the round.
        path: The inclusion proof of the entry in the chain of that size; its index is the entry's seq.
        rooted: The way from the chain up to a root checkpoint.
        earlier: What bounds the time from below; ``None`` for nothing.
    """

    entry: bytes
    payload: bytes | None
    schema: bytes | None
    nonce: bytes
    size: int
    path: tuple[bytes, ...]
    rooted: RootedMap
    earlier: EarlierState | None = None

    def pack(self) -> bytes:
        """Return the file's bytes. They are of one form, but they may prove nothing: verify them before handing out.

        Raises:
            ProofFileInvalid: A field is out of range, or fields contradict each other.
        """
        self.check()
        parts = [
            PROOF_LABEL,
            pack_sized(self.entry),
            pack_sized(self.payload or b""),
            pack_sized(self.schema or b""),
            self.nonce,
            pack_number(self.size),
            pack_hashes(self.path, _entry_of(self.entry).prev),
            _pack_rooted(self.rooted),
            pack_number(self.earlier is not None),
        ]
        if self.earlier is not None:
            parts += [
                pack_number(self.earlier.size),
                self.earlier.root,
                _pack_rooted(self.earlier.rooted),
                pack_hashes(self.earlier.consistency),
            ]
        data = b"".join(parts)
        return data + _checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> ProofFile:
        """Return the proof that a file's bytes are, the inverse of :meth:`pack`; nothing of it is verified.

        Raises:
            ProofFileInvalid: The bytes are no proof file in its one form, or were damaged.
        """
        if len(data) > PROOF_BYTES_MAX:
            raise ProofFileInvalid(f"proof file has {len(data)} bytes; at most {PROOF_BYTES_MAX} are read")
        if not data.startswith(PROOF_LABEL):
            raise ProofFileInvalid(
                "proof file does not begin with its label", hint="it is a file of another kind, or of a newer format"
            )
        body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
        if _checksum(body) != check:
            raise ProofFileInvalid("proof file does not have the checksum at its end", hint=CUT_HINT)
        reading = ProofBytes(body, len(PROOF_LABEL))
        entry = reading.sized("entry", _ENTRY_BYTES_MAX)
        proof = cls(
            entry=entry,
            payload=reading.sized("payload", VALUE_BYTES_MAX) or None,
            schema=reading.sized("schema", SCHEMA_BYTES_MAX) or None,
            nonce=reading.take(NONCE_BYTES),
            size=reading.number(),
            path=reading.hashes(_entry_of(entry).prev),
            rooted=_read_rooted(reading),
            earlier=_read_earlier(reading),
        )
        reading.end()
        proof.check()
        return proof

    def check(self) -> None:
        """Refuse what would not be read back, or what no honest prover writes.

        Raises:
            ProofFileInvalid: A field is out of range, or fields contradict each other.
        """
        entry = _entry_of(self.entry)
        _check_payload(self, entry)
        if len(self.nonce) != NONCE_BYTES:
            raise ProofFileInvalid(f"proof file has a nonce of {len(self.nonce)} bytes instead of {NONCE_BYTES}")
        if not entry.seq < self.size <= SIZE_MAX:
            raise ProofFileInvalid(f"proof file is of entry {entry.seq} in a chain of {self.size}")
        _check_path("chain", self.path)
        _check_rooted(self.rooted)
        if self.earlier is not None:
            _check_earlier(self.earlier, entry)

    def parsed_entry(self) -> Entry:
        """Return the entry's fields.

        Raises:
            EntryInvalid: The bytes are no entry.
        """
        return parse_entry(self.entry)


def _read_rooted(reading: ProofBytes) -> RootedMap:
    return RootedMap(
        index=reading.number(),
        round=reading.number(),
        map_path=reading.hashes(),
        previous=(previous := reading.hash()),
        length=reading.number(),
        coverage=reading.hash(),
        chains=reading.number(),
        root_path=reading.hashes(previous),
        note=read_note(reading),
        timestamps=tuple(
            reading.sized("timestamp", TIMESTAMP_BYTES_MAX) for _ in range(reading.count("timestamps", TIMESTAMPS_MAX))
        ),
    )


def _read_earlier(reading: ProofBytes) -> EarlierState | None:
    present = reading.number()
    if present > 1:
        raise ProofFileInvalid(f"proof file has the number {present} where 0 or 1 stands")
    if not present:
        return None
    return EarlierState(reading.number(), reading.hash(), _read_rooted(reading), reading.hashes())


def _entry_of(data: bytes) -> Entry:
    try:
        return parse_entry(data)
    except EntryInvalid as error:
        raise ProofFileInvalid(f"proof file has no entry: {error.message}", hint=error.hint) from error


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:CHECK_BYTES]


def _pack_rooted(rooted: RootedMap) -> bytes:
    return b"".join(
        (
            pack_number(rooted.index),
            pack_number(rooted.round),
            pack_hashes(rooted.map_path),
            rooted.previous,
            pack_number(rooted.length),
            rooted.coverage,
            pack_number(rooted.chains),
            pack_hashes(rooted.root_path, rooted.previous),
            pack_note(rooted.note),
            pack_number(len(rooted.timestamps)),
            *(pack_sized(token) for token in rooted.timestamps),
        )
    )


def _check_payload(proof: ProofFile, entry: Entry) -> None:
    if proof.payload is not None:
        if entry.kind not in CARRIED_KINDS:
            raise ProofFileInvalid(f"proof file has a payload, and entries of kind {int(entry.kind)} carry none")
        if not 0 < len(proof.payload) <= VALUE_BYTES_MAX:
            raise ProofFileInvalid(f"proof file has a payload of {len(proof.payload)} bytes")
    if proof.schema is not None:
        if entry.kind not in WINDOW_KINDS:
            raise ProofFileInvalid(f"proof file has a schema, and entries of kind {int(entry.kind)} have none")
        if not 0 < len(proof.schema) <= SCHEMA_BYTES_MAX:
            raise ProofFileInvalid(f"proof file has a schema of {len(proof.schema)} bytes")
        try:
            proof.schema.decode()
        except UnicodeDecodeError as error:
            raise ProofFileInvalid("proof file has a schema that is no UTF-8") from error


def _check_earlier(earlier: EarlierState, entry: Entry) -> None:
    if not 0 < earlier.size <= entry.seq:
        raise ProofFileInvalid(f"proof file has an earlier chain of {earlier.size} entries, for entry {entry.seq}")
    if len(earlier.root) != HASH_BYTES:
        raise ProofFileInvalid(f"proof file has an earlier root of {len(earlier.root)} bytes")
    _check_path("consistency proof", earlier.consistency)
    _check_rooted(earlier.rooted)
    size = earlier.rooted.checkpoint().size
    if earlier.rooted.round != size - 1:
        raise ProofFileInvalid(
            f"proof file has an earlier round {earlier.rooted.round}, which is not the last of {size}",
            hint="a later round under the same checkpoint may have the entry",
        )


def _check_rooted(rooted: RootedMap) -> None:
    if not 0 <= rooted.index < rooted.chains:
        raise ProofFileInvalid(f"proof file is of chain {rooted.index} in a map of {rooted.chains}")
    _check_path("map", rooted.map_path)
    _check_path("root log", rooted.root_path)
    try:
        rooted.leaf(ZERO_HASH).pack()  # the ranges; the map's root is computed when it is verified
    except LeafInvalid as error:
        raise ProofFileInvalid(f"proof file: {error.message}", hint=error.hint) from error
    pack_note(rooted.note)  # it has a checkpoint's fields and no more
    size = rooted.checkpoint().size
    if rooted.round >= size:
        raise ProofFileInvalid(f"proof file is of round {rooted.round} in a root log of {size}")
    if len(rooted.timestamps) > TIMESTAMPS_MAX:
        raise ProofFileInvalid(f"proof file has {len(rooted.timestamps)} timestamps; at most {TIMESTAMPS_MAX} fit")
    for token in rooted.timestamps:
        if not 0 < len(token) <= TIMESTAMP_BYTES_MAX:
            raise ProofFileInvalid(f"proof file has a timestamp of {len(token)} bytes")


def _check_path(what: str, path: tuple[bytes, ...]) -> None:
    if len(path) > HASHES_MAX or any(len(one) != HASH_BYTES for one in path):
        raise ProofFileInvalid(
            f"proof file has a {what} with more than {HASHES_MAX} hashes, or one of another size than {HASH_BYTES}"
        )
