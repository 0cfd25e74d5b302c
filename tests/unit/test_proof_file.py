"""Proof files: one form, every length bounded, and nothing of one can be changed or cut without being refused."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import VALUE_BYTES_MAX, Kind, pack, parse
from sealstream.schemas.errors import ProofFileInvalid, SealstreamError
from sealstream.schemas.evidence import verify_proof
from sealstream.schemas.log_proof import HASHES_MAX
from sealstream.schemas.note import Note, Signature, sign_note
from sealstream.schemas.proof_bytes import ProofBytes, pack_number, pack_sized
from sealstream.schemas.proof_file import (
    CHECK_BYTES,
    PROOF_BYTES_MAX,
    PROOF_LABEL,
    SCHEMA_BYTES_MAX,
    TIMESTAMP_BYTES_MAX,
    TIMESTAMPS_MAX,
    EarlierState,
    ProofFile,
    RootedMap,
)
from sealstream.schemas.proof_note import PROOF_NOTE_BYTES_MAX
from sealstream.schemas.proofs import inclusion_proof
from support.mutation import changed_bytes, cuts, mutated
from support.notes import LOG, NOW_SECONDS, ORIGIN, cosigned, policy, reader, signer, witness
from support.sealproofs import INSTANCE, SCHEMA, rechecked, with_earlier

ALL_OF_TWO = reader(policy(2, 2))
PROOF = INSTANCE.proof(8)
EARLIER = with_earlier()
STATE = EARLIER.earlier or pytest.fail("there is an earlier state")
HASH = bytes(32)


def refusal(data: bytes) -> str:
    """Return why a file's bytes are refused; empty if they are not."""
    try:
        verify_proof(ProofFile.parse(data), ALL_OF_TWO)
    except SealstreamError as error:
        return error.message
    return ""


@pytest.mark.parametrize("seq", range(21))
def test_comes_back(seq: int) -> None:
    """Whatever is packed is parsed to the same, with and without its optional parts."""
    for proof in (
        INSTANCE.proof(seq),
        INSTANCE.proof(seq, with_payload=False, timestamps=[b"one", b"two"]),
        INSTANCE.proof(seq, with_schema=seq not in (0, 3, 4)),
    ):
        assert ProofFile.parse(proof.pack()) == proof
        assert proof.parsed_entry() == parse(proof.entry)


def test_earlier_state_comes_back() -> None:
    """An earlier state is carried whole."""
    assert ProofFile.parse(EARLIER.pack()) == EARLIER


@pytest.mark.parametrize("proof", [PROOF, EARLIER], ids=["plain", "with an earlier state"])
def test_every_damage_is_refused(proof: ProofFile) -> None:
    """No byte of a file can be another one and none can be missing, at any place: damage is told from forgery."""
    for changed in (*changed_bytes(proof.pack()), *cuts(proof.pack())):
        with pytest.raises(ProofFileInvalid):
            ProofFile.parse(changed)


def test_every_forgery_is_refused() -> None:
    """Who changes any byte or cuts a file anywhere, and computes the checksum anew, is refused with a reason."""
    data = EARLIER.pack()
    flipped = (data[:place] + bytes((data[place] ^ 1 << place % 8,)) + data[place + 1 :] for place in range(len(data)))
    cut = (data[:place] + HASH[:CHECK_BYTES] for place in range(len(data) - CHECK_BYTES))
    changed = [*flipped, *cut][:-1]
    accepted = [one for one in changed if rechecked(one) != data and not refusal(rechecked(one))]
    assert accepted == []


@given(mutated(st.just(EARLIER.pack())), st.booleans())
def test_any_change(changed: bytes, forged: bool) -> None:
    """Bytes put in, taken out or replaced anywhere are refused with a typed error, whether or not the checksum fits."""
    data = rechecked(changed) if forged else changed
    assert refusal(data) or data == EARLIER.pack()


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, they are refused with a reason."""
    for candidate in (data, PROOF_LABEL + data, rechecked(PROOF_LABEL + data + HASH[:8])):
        with pytest.raises(ProofFileInvalid):
            ProofFile.parse(candidate)


HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=HASHES_MAX).map(tuple)


@given(
    st.builds(
        replace,
        st.just(EARLIER),
        payload=st.none() | st.binary(min_size=1, max_size=300),
        schema=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.encode),
        nonce=st.binary(min_size=32, max_size=32),
        size=st.integers(16, 2**63 - 1),
        path=HASHES,
        rooted=st.builds(
            replace,
            st.just(EARLIER.rooted),
            index=st.integers(0, 2),
            map_path=HASHES,
            chains=st.integers(3, 2**63 - 1),
            previous=st.binary(min_size=32, max_size=32).filter(any),
            length=st.integers(25, 2**22),
            root_path=HASHES,
            timestamps=st.lists(st.binary(min_size=1, max_size=50), max_size=TIMESTAMPS_MAX).map(tuple),
        ),
        earlier=st.none() | st.builds(replace, st.just(STATE), size=st.integers(1, 15), consistency=HASHES),
    )
)
def test_any_proof_comes_back(proof: ProofFile) -> None:
    """Fields may hold anything within their bounds, and two different proofs are two different files."""
    data = proof.pack()
    assert ProofFile.parse(data) == proof
    assert (data == EARLIER.pack()) == (proof == EARLIER)


def spliced(what: bytes, instead: bytes) -> bytes:
    """Return a plain proof's bytes with something else in the place of what stands there once, and a checksum."""
    data = EARLIER.pack()
    assert data.count(what) == 1
    return rechecked(data.replace(what, instead))


FLAGGED = b"\0\x01" + pack_number(STATE.size) + STATE.root  # no timestamps, and an earlier state
FIRST, *OTHERS = EARLIER.path
COUNTED = EARLIER.nonce + b"\x12" + bytes((len(OTHERS) + 65,)) + OTHERS[0]
WAY = pack_number(EARLIER.rooted.index) + b"\x04" + bytes((len(EARLIER.rooted.map_path),)) + EARLIER.rooted.map_path[0]
NOTE = pack_sized(ORIGIN.encode()) + b"\x05" + INSTANCE.checkpoint(5).root
SIGNED = NOTE + bytes((len(Note.parse(EARLIER.rooted.note).signatures), 0))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "label"),
        (b"c2sp.org/tlog-proof@v1\n", "label"),
        (PROOF_LABEL + bytes(PROOF_BYTES_MAX), "at most"),
        (PROOF_LABEL, "checksum"),
        (rechecked(PROOF_LABEL + HASH[:8]), "ends within"),
        (rechecked(EARLIER.pack() + b"\0"), "1 bytes behind"),
        (spliced(FLAGGED, FLAGGED[:1] + b"\x02" + FLAGGED[2:]), "the number 2 where 0 or 1"),
        (spliced(COUNTED, EARLIER.nonce + b"\x12\x40" + OTHERS[0]), "path of 64"),
        (spliced(COUNTED, EARLIER.nonce + b"\x12\x80\x01" + OTHERS[0]), "path of 64"),
        (
            spliced(COUNTED, EARLIER.nonce + b"\x12" + pack_number(len(EARLIER.path)) + FIRST + OTHERS[0]),
            "repeats a hash",
        ),
        (spliced(WAY, WAY[:2] + bytes((WAY[2] + 64,)) + WAY[3:]), "path of 6"),
        (spliced(FLAGGED, b"\x09" + FLAGGED[1:]), "9 timestamps"),
        (spliced(FLAGGED, b"\x01\0" + FLAGGED[1:]), "timestamp of 0 bytes"),
        (spliced(FLAGGED, b"\x01" + pack_number(65_537) + FLAGGED[1:]), "timestamp of 65537 bytes"),
        (spliced(NOTE, pack_number(PROOF_NOTE_BYTES_MAX + 1) + NOTE[1:]), "origin of 400001"),
        (spliced(NOTE, b"\0" + NOTE[1 + len(ORIGIN) :]), "no checkpoint"),
        (spliced(NOTE, NOTE.replace(b"demo", b"de\no")), "no checkpoint"),
        (spliced(NOTE, NOTE.replace(b"demo", b"de\xffo")), "no UTF-8"),
        (spliced(SIGNED, NOTE + b"\0\0"), "no checkpoint"),
        (spliced(SIGNED, NOTE + b"\x65\0"), "101 signatures"),
        (spliced(SIGNED, SIGNED[:-1] + pack_sized(ORIGIN.encode())), "repeats the origin"),
        (spliced(SIGNED, SIGNED[:-1] + pack_sized(b"w 1")), "no checkpoint"),
        (spliced(SIGNED, SIGNED[:-1] + pack_sized(b"w1\n")), "no checkpoint"),
        (spliced(SIGNED, SIGNED[:-1] + pack_number(PROOF_NOTE_BYTES_MAX + 1)), "name of 400001"),
        (rechecked(PROOF_LABEL + b"\xff\xff\x03" + HASH), "entry of 65535"),
        (rechecked(PROOF_LABEL + b"\x80\x00" + HASH), "shortest form"),
        (rechecked(PROOF_LABEL + b"\xff" * 9 + b"\x01" + HASH), "too large"),
    ],
)
def test_reasons(data: bytes, words: str) -> None:
    """What is wrong with bytes is said."""
    with pytest.raises(ProofFileInvalid, match=words):
        ProofFile.parse(data)


ROOTED = PROOF.rooted
OTHER_NOTE = sign_note(b"no checkpoint\n", [LOG])


def rooted(**fields: object) -> ProofFile:
    """Return a proof with another way up."""
    changed: RootedMap = replace(ROOTED, **fields)  # type: ignore[arg-type]  # what cannot be is what is tested
    return replace(PROOF, rooted=changed)


def earlier(**fields: object) -> ProofFile:
    """Return a proof with another earlier state."""
    changed: EarlierState = replace(STATE, **fields)  # type: ignore[arg-type]
    return replace(EARLIER, earlier=changed)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (replace(PROOF, entry=PROOF.entry[:-1]), "no entry"),
        (replace(INSTANCE.proof(3), payload=b"carried"), "carry none"),
        (replace(PROOF, payload=b""), "payload of 0"),
        (replace(PROOF, payload=bytes(VALUE_BYTES_MAX + 1)), "payload of 1000001"),
        (replace(INSTANCE.proof(0), schema=SCHEMA), "have none"),
        (replace(PROOF, schema=b""), "schema of 0"),
        (replace(PROOF, schema=b" " * (SCHEMA_BYTES_MAX + 1)), "schema of 262145"),
        (replace(PROOF, schema=b"\xff"), "no UTF-8"),
        (replace(PROOF, nonce=bytes(31)), "nonce of 31"),
        (replace(PROOF, size=8), "entry 8 in a chain of 8"),
        (replace(PROOF, size=2**63), "in a chain of"),
        (replace(PROOF, path=(HASH,) * 64), "more than 63"),
        (replace(PROOF, path=(bytes(31),)), "another size"),
        (rooted(index=4), "chain 4 in a map of 4"),
        (rooted(index=-1), "chain -1"),
        (rooted(chains=2**63), "chains"),
        (rooted(length=24), "coverage of 24"),
        (rooted(previous=HASH), "zeros"),
        (rooted(coverage=b""), "coverage of 0"),
        (rooted(round=3), "round 3 in a root log of 3"),
        (rooted(map_path=(HASH,) * 64), "map with more"),
        (rooted(root_path=(bytes(33),)), "root log with more"),
        (rooted(note=b"nothing"), "no checkpoint"),
        (rooted(note=OTHER_NOTE), "no checkpoint"),
        (rooted(note=bytes(PROOF_NOTE_BYTES_MAX + 1)), "note of 400001"),
        (rooted(note=ROOTED.note.replace(b"\n\n", b"\nmore\n\n", 1)), "extension lines"),
        (rooted(timestamps=(b"",)), "timestamp of 0"),
        (rooted(timestamps=(bytes(TIMESTAMP_BYTES_MAX + 1),)), "timestamp of 65537"),
        (rooted(timestamps=(b"one",) * 9), "9 timestamps"),
        (earlier(size=0), "earlier chain of 0"),
        (earlier(size=16), "earlier chain of 16 entries, for entry 15"),
        (earlier(root=b""), "earlier root"),
        (earlier(consistency=(b"",)), "consistency"),
        (earlier(rooted=replace(STATE.rooted, round=2)), "not the last of 4"),
    ],
)
def test_only_proofs_are_written(wrong: ProofFile, words: str) -> None:
    """What would not be read is not written, and why is said."""
    with pytest.raises(ProofFileInvalid, match=words):
        wrong.pack()


KEYS = (LOG, witness(1), witness(2), signer("other.example"))
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"), min_size=1)


@given(
    st.sets(st.sampled_from(range(len(KEYS)))).map(sorted),
    st.lists(st.builds(Signature, NAMES | st.just(ORIGIN), st.binary(min_size=4, max_size=4), st.binary(min_size=1))),
    st.integers(3, 2**63 - 1),
    st.sampled_from([ORIGIN, "a log / with \u00e9 and + in its name"]),
)
def test_any_note_comes_back(by: list[int], others: list[Signature], size: int, origin: str) -> None:
    """Whoever has signed, in whatever order and how often, the note that was signed comes back byte for byte."""
    text = Checkpoint(origin, size, HASH).pack()
    if not (by or others):
        return
    note = sign_note(text, [KEYS[number] for number in by], existing=others, time_seconds=7)
    proof = rooted(note=note, round=2)
    assert ProofFile.parse(proof.pack()).rooted.note == note


@given(st.integers(0, 2**63 - 1))
def test_any_number_comes_back(number: int) -> None:
    """A number has one form, of as few bytes as there can be."""
    data = pack_number(number)
    reading = ProofBytes(data, 0)
    assert reading.number() == number
    reading.end()
    assert len(data) == max(1, -(-number.bit_length() // 7))


ENTRIES, CHAINS, ROUNDS = 1_000_000, 10_000, 365 * 24 * 60
SIZES_SAMPLED = 2_000
SIZE_BYTES_MAX = 2_048


def height(index: int, size: int) -> int:
    """Return how many hashes the inclusion proof of a leaf has."""
    return len(inclusion_proof(index, size, lambda _node: HASH))


def first_proof(chance: random.Random) -> ProofFile:
    """Return the proof of an entry of a large instance in its first round, as long as a real one."""
    number = chance.randrange(1, ROUNDS)
    size = max(1, ENTRIES * (number + 1) // ROUNDS)
    seq = chance.randrange(max(0, min(size - 1, ENTRIES * number // ROUNDS)), size)
    prev, previous, index = bytes((1,)) * 32, bytes((2,)) * 32, chance.randrange(CHAINS)
    kind = Kind.EVENT if seq else Kind.GENESIS
    fields = replace(parse(PROOF.entry), kind=kind, seq=seq, prev=prev if seq else HASH, offset=seq)
    entry = pack(replace(fields, tenant="a-tenant.example", event_id=str(uuid.UUID(int=seq)) if seq else ""))
    path = [HASH] * height(seq, size)
    root_path = [HASH] * height(number, number + 1)
    for hashes, place, known in ((path, seq, prev), (root_path, number, previous)):
        hashes[:1] = [known] if place & 1 else hashes[:1]
    way = replace(
        ROOTED,
        index=index,
        map_path=(HASH,) * height(index, CHAINS),
        round=number,
        previous=previous,
        length=150,
        chains=CHAINS,
        root_path=tuple(root_path),
        note=cosigned({1: NOW_SECONDS, 2: NOW_SECONDS}, checkpoint=Checkpoint(ORIGIN, number + 1, HASH)),
    )
    return replace(PROOF, entry=entry, payload=None, size=size, path=tuple(path), rooted=way)


def test_size() -> None:
    """With 10,000 chains, a year of rounds and 2 witnesses, 99 of 100 proofs have at most 2 KB beside their payload.

    They are of entries in their first round, with names of usual length; 1,000,000 entries come in evenly over it.
    """
    chance = random.Random(22)
    sizes = sorted(len(first_proof(chance).pack()) for _ in range(SIZES_SAMPLED))
    assert sizes[SIZES_SAMPLED * 99 // 100] <= SIZE_BYTES_MAX
