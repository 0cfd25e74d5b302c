"""A small instance in memory, with chains, rounds and signed root checkpoints, that proof files are made of.

Its trees are those of the RFC's recursion, and not the product's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.codec import schema_text
from sealstream.schemas.coverage import coverage_digest
from sealstream.schemas.entry import ZERO_HASH, Entry, Genesis, Kind, entry_hash, pack, payload_digest
from sealstream.schemas.event import EventKind
from sealstream.schemas.note import Note
from sealstream.schemas.note_key import SignerKey
from sealstream.schemas.proof_bytes import pack_sized
from sealstream.schemas.proof_file import CHECK_BYTES, EarlierState, ProofFile, RootedMap
from sealstream.schemas.round import Round
from sealstream.schemas.tenant_map import MapLeaf, map_key
from support import rfc_trees
from support.notes import LOG, NOW_SECONDS, ORIGIN, cosigned
from support.publish import event_value

TENANT: Final = "acme"
SCHEMA: Final = schema_text("AuditEvent").encode()
ROUND_SECONDS: Final = 60
TOPIC_ID: Final = bytes(range(16))
SIGNED_SECONDS: Final = NOW_SECONDS - 3_600


def rechecked(data: bytes) -> bytes:
    """Return a file's bytes with a checksum that fits, as whoever changes a file on purpose makes it."""
    body = data[:-CHECK_BYTES]
    return body + hashlib.sha256(body).digest()[:CHECK_BYTES]


def nonce(chain: str) -> bytes:
    """Return the nonce of a chain, which is a random one outside of tests."""
    return hashlib.sha256(b"nonce " + chain.encode()).digest()


@dataclass(frozen=True)
class Chain:
    """A chain: its entries, and the payloads that they commit to."""

    name: str
    entries: tuple[bytes, ...]
    payloads: tuple[bytes, ...]

    @cached_property
    def hashes(self) -> list[bytes]:
        """The entries' hashes."""
        return [entry_hash(data) for data in self.entries]


def chain(name: str, count: int, *, instance: str = ORIGIN, received_seconds: int = SIGNED_SECONDS - 600) -> Chain:
    """Return a chain with so many entries: genesis, events, and one of each other kind that a tenant's chain has.

    The entry with seq 3 is a duplicate, seq 4 is quarantined, seq 5 an event that was imported.
    """
    entries: list[bytes] = []
    payloads: list[bytes] = []
    prev = ZERO_HASH
    for seq in range(count):
        kind = {0: Kind.GENESIS, 3: Kind.DUPLICATE, 4: Kind.QUARANTINED, 5: Kind.IMPORTED}.get(seq, Kind.EVENT)
        event_id = {0: "", 3: "ev-1", 4: ""}.get(seq, f"ev-{seq}")
        payload = _payload(name, kind, event_id, instance)
        entry = Entry(
            kind=kind,
            tenant=name,
            seq=seq,
            prev=prev,
            received=(received_seconds + seq) * 1_000_000,
            topic_id=TOPIC_ID,
            partition=0,
            offset=max(0, seq - 1),
            event_id=event_id,
            length=len(payload),
            payload=payload_digest(payload),
            reason=5 if kind is Kind.QUARANTINED else 0,
            ref=1 if kind is Kind.DUPLICATE else 0,
        )
        entries.append(pack(entry))
        payloads.append(payload)
        prev = entry_hash(entries[-1])
    return Chain(name, tuple(entries), tuple(payloads))


def _payload(name: str, kind: Kind, event_id: str, instance: str) -> bytes:
    if kind is Kind.GENESIS:
        return Genesis(instance, 4).payload()
    if kind is Kind.QUARANTINED:
        return b"no event"
    return event_value(name, event_id, kind=EventKind.IMPORTED if kind is Kind.IMPORTED else EventKind.EVENT)


@dataclass(frozen=True)
class Instance:
    """Chains, and how far each was in each round; a round has the map of all chains that have entries by then.

    Arguments:
        chains: The chains.
        sizes: For each round the number of entries of each chain, in the order of the chains; 0 for none yet.
        origin: The instance's name.
        log: Its key.
    """

    chains: tuple[Chain, ...]
    sizes: tuple[tuple[int, ...], ...]
    origin: str = ORIGIN
    log: SignerKey = LOG
    coverage: bytes = field(default=b"sealstream/coverage1\n" + bytes(4))

    def leaves(self, round_number: int) -> list[MapLeaf]:
        """Return the leaves of a round's map in their order."""
        found = [
            MapLeaf(map_key(nonce(one.name), one.name), size, rfc_trees.mth(one.hashes[:size]))
            for one, size in zip(self.chains, self.sizes[round_number], strict=True)
            if size
        ]
        return sorted(found, key=lambda leaf: leaf.key)

    @cached_property
    def rounds(self) -> list[Round]:
        """The leaves of the root log."""
        found: list[Round] = []
        for number in range(len(self.sizes)):
            leaves = [leaf.hash() for leaf in self.leaves(number)]
            previous = found[-1].hash() if found else ZERO_HASH
            digest = coverage_digest(self.coverage)
            found.append(Round(number, previous, len(self.coverage), digest, len(leaves), rfc_trees.mth(leaves)))
        return found

    def checkpoint(self, size: int) -> Checkpoint:
        """Return the root checkpoint of a size."""
        return Checkpoint(self.origin, size, rfc_trees.mth([one.hash() for one in self.rounds[:size]]))

    def note(self, size: int, witnesses: dict[int, int] | None = None, *, generation: int = 0) -> bytes:
        """Return the root checkpoint of a size, signed, and cosigned by witnesses at the times given.

        Arguments:
            size: The checkpoint's size.
            witnesses: The time of each witness's cosignature; by default two, some seconds after its round.
            generation: Which of their keys the witnesses use.
        """
        at = SIGNED_SECONDS + size * ROUND_SECONDS
        times = {1: at + 2, 2: at + 1} if witnesses is None else witnesses
        return cosigned(times, log=self.log, checkpoint=self.checkpoint(size), generation=generation)

    def rooted(
        self, name: str, round_number: int, note: bytes, size: int, timestamps: Sequence[bytes] = ()
    ) -> RootedMap:
        """Return a chain's way up in a round to the checkpoint of a size."""
        leaves = self.leaves(round_number)
        index = [leaf.key for leaf in leaves].index(map_key(nonce(name), name))
        leaf = self.rounds[round_number]
        return RootedMap(
            index=index,
            map_path=tuple(rfc_trees.path(index, [one.hash() for one in leaves])),
            round=round_number,
            previous=leaf.previous,
            length=leaf.length,
            coverage=leaf.coverage,
            chains=leaf.chains,
            root_path=tuple(rfc_trees.path(round_number, [one.hash() for one in self.rounds[:size]])),
            note=note,
            timestamps=tuple(timestamps),
        )

    def proof(
        self,
        seq: int,
        *,
        name: str = TENANT,
        round_number: int | None = None,
        size: int | None = None,
        note: bytes | None = None,
        timestamps: Sequence[bytes] = (),
        earlier: EarlierState | None = None,
        with_payload: bool = True,
        with_schema: bool = False,
    ) -> ProofFile:
        """Return the proof of an entry, by default in the first round that has it and under that round's checkpoint."""
        place = [one.name for one in self.chains].index(name)
        one = self.chains[place]
        number = round_number
        if number is None:
            number = next(found for found, sizes in enumerate(self.sizes) if sizes[place] > seq)
        size = size or number + 1
        chain_size = self.sizes[number][place]
        carried = with_payload and seq not in (3, 4)
        return ProofFile(
            entry=one.entries[seq],
            payload=one.payloads[seq] if carried else None,
            schema=SCHEMA if with_schema else None,
            nonce=nonce(name),
            size=chain_size,
            path=tuple(rfc_trees.path(seq, one.hashes[:chain_size])),
            rooted=self.rooted(name, number, note or self.note(size), size, timestamps),
            earlier=earlier,
        )

    def earlier(
        self,
        later_size: int,
        size: int,
        *,
        name: str = TENANT,
        note: bytes | None = None,
        timestamps: Sequence[bytes] = (),
    ) -> EarlierState:
        """Return a chain's state under the checkpoint of an earlier size."""
        place = [one.name for one in self.chains].index(name)
        chain_size = self.sizes[size - 1][place]
        hashes = [one.hash() for one in self.rounds[:later_size]]
        return EarlierState(
            size=chain_size,
            root=rfc_trees.mth(self.chains[place].hashes[:chain_size]),
            rooted=self.rooted(name, size - 1, note or self.note(size), size, timestamps),
            consistency=tuple(rfc_trees.proof(size, hashes)) if size < later_size else (),
        )


INSTANCE: Final = Instance(
    (chain(TENANT, 21), chain("globex", 9), chain("initech", 2), chain("!partition-0", 1)),
    ((0, 1, 0, 1), (8, 2, 2, 1), (13, 2, 2, 1), (13, 4, 2, 1), (18, 5, 2, 1), (21, 9, 2, 1)),
)
"""Three tenants and six rounds: the first chain is not in the first of them."""


def with_earlier(seq: int = 15) -> ProofFile:
    """Return the proof of an entry with a state without it before."""
    return INSTANCE.proof(seq, earlier=INSTANCE.earlier(5, 4))


def other_forms() -> dict[str, bytes]:
    """Return files that say the same as one with an earlier state, each in another form, which none may have."""
    proof = with_earlier()
    state = proof.earlier
    assert state is not None
    data, way = proof.pack(), state.rooted
    size, chains = bytes((proof.size,)), bytes((way.chains,))
    origin = pack_sized(ORIGIN.encode())
    signed = len(Note.parse(proof.rooted.note).signatures)
    forms = {
        "path": (proof.nonce + size, (64 + len(proof.path),), (len(proof.path), *proof.path[0])),
        "root path": (way.coverage + chains, (64 + len(way.root_path),), (len(way.root_path), *way.root_path[0])),
        "number": (proof.nonce, size, (0x80 + proof.size, 0)),
        "name": (INSTANCE.checkpoint(5).root, (signed, 0), (signed, *origin)),
    }
    found: dict[str, bytes] = {}
    for name, (before, usual, other) in forms.items():
        assert data.count(before + bytes(usual)) == 1, name
        found[name] = rechecked(data.replace(before + bytes(usual), before + bytes(other)))
    return found
