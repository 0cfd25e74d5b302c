"""Signed notes, checkpoints, cosignatures, proofs and policies as other people's software reads and writes them.

The other side is a Go program over golang.org/x/mod/sumdb/note and github.com/transparency-dev/formats, asked both
ways: what we write it takes, what it writes we take, and what is wrong both refuse.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import FormatError, SealstreamError, SignatureInvalid, SignatureMissing
from sealstream.schemas.log_proof import LogProof
from sealstream.schemas.note import sign_note, verify_note
from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey
from sealstream.schemas.policy import Policy
from support.go import ORACLES, Oracle, go_program
from support.notes import CHECKPOINT, LOG, NOW_SECONDS, ORIGIN, cosigned, policy, signer, witness

TYPES = (KeyType.ED25519, KeyType.COSIGNATURE, KeyType.COSIGNATURE_ML_DSA_44)
TEXT = b"One line,\nand another.\n"
CLOCK_SECONDS_MAX = 60


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """The Go program, running."""
    with Oracle(go_program(ORACLES / "notes", tmp_path_factory.mktemp("go"))) as running:
        yield running


def encoded(data: bytes) -> str:
    """Return bytes as Go's JSON has them."""
    return base64.b64encode(data).decode()


def opened(oracle: Oracle, note: bytes, *keys: VerifierKey) -> dict[str, Any]:
    """Return what Go makes of a note."""
    return oracle.ask("open", note=encoded(note), keys=[str(key) for key in keys])


def ours(note: bytes, *keys: VerifierKey) -> str:
    """Return what we make of a note, in the oracle's words."""
    try:
        verify_note(note, keys)
    except SignatureInvalid:
        return "invalid"
    except SignatureMissing:
        return "unverified"
    except FormatError:
        return "malformed"
    return "ok"


@pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
def test_our_notes_are_taken(oracle: Oracle, key_type: KeyType) -> None:
    """Go verifies a note that we signed, with the verifier key as we write it, and reads the same time."""
    key = signer(ORIGIN, key_type)
    answer = opened(oracle, sign_note(CHECKPOINT.pack(), [key], time_seconds=NOW_SECONDS), key.verifier)

    assert (answer["kind"], answer["text"].encode()) == ("ok", CHECKPOINT.pack())
    (signature,) = answer["verified"]
    expected = 0 if key_type is KeyType.ED25519 else NOW_SECONDS
    assert signature == {"name": ORIGIN, "hash": key.verifier.key_id.hex(), "time": expected}


@pytest.mark.parametrize("key_type", TYPES, ids=lambda one: one.name)
def test_their_notes_are_taken(oracle: Oracle, key_type: KeyType) -> None:
    """A note that Go signed, with the signer key as we write it, verifies here, and its time is now."""
    key = signer(ORIGIN, key_type)
    answer = oracle.ask("sign", text=CHECKPOINT.pack().decode(), keys=[key.secret()])

    note = verify_note(base64.b64decode(answer["note"]), [key.verifier])
    assert note.text == CHECKPOINT.pack()
    time_seconds = note.verified[0].time_seconds
    if key_type is KeyType.ED25519:
        assert time_seconds is None
    else:
        assert time_seconds is not None
        assert abs(time_seconds - time.time()) < CLOCK_SECONDS_MAX


def test_their_keys_are_ours(oracle: Oracle) -> None:
    """Keys that Go made are read, belong together here as there, and are written back letter for letter."""
    skey, vkey, ml_skey, ml_vkey, cosignature_vkey = oracle.ask("generate", origin=ORIGIN)["keys"]

    key, ml_key = SignerKey.parse(skey), SignerKey.parse(ml_skey)
    assert (str(key.verifier), key.secret()) == (vkey, skey)
    assert (str(ml_key.verifier), ml_key.secret()) == (ml_vkey, ml_skey)
    assert str(VerifierKey(ORIGIN, KeyType.COSIGNATURE, key.verifier.public_key)) == cosignature_vkey


def test_many_signatures(oracle: Oracle) -> None:
    """A note with signatures of every type, of known and unknown keys and repeated, is the same to both."""
    keys = [signer(f"{name}.example", key_type) for name in "abc" for key_type in TYPES]
    note = sign_note(CHECKPOINT.pack(), keys, time_seconds=NOW_SECONDS)
    lines = note[len(CHECKPOINT.pack()) + 1 :].splitlines(keepends=True)
    note += lines[0] + lines[-1] + lines[4]
    known = [key.verifier for key in keys[::2]]

    answer = opened(oracle, note, *known)
    mine = verify_note(note, known)

    assert [(one["name"], one["hash"]) for one in answer["verified"]] == [
        (one.key.name, one.key.key_id.hex()) for one in mine.verified
    ]
    assert [(one["name"], one["hash"]) for one in answer["unverified"]] == [
        (one.name, one.key_id.hex()) for one in mine.unverified
    ]
    assert (len(mine.verified), len(mine.unverified)) == (5, 4)


def changed(note: bytes) -> Iterator[bytes]:
    """Yield a note with one byte changed, cut or doubled, at each place, and with odd pieces put in."""
    for place in range(len(note)):
        for byte in (note[place] ^ 1, note[place] ^ 0x20, 0x0A):
            yield note[:place] + bytes((byte,)) + note[place + 1 :]
        yield note[:place]
        yield note[:place] + note[place : place + 1] + note[place:]
    for piece in (b"\n", b"\n\n", b"\r\n", b"\x00", b"\xff", "— ".encode(), "\u3000".encode(), b"+", b" ", b"="):
        for place in range(0, len(note) + 1, 7):
            yield note[:place] + piece + note[place:]


def loose(note: bytes) -> bool:
    """Return whether a line's base64 is in a form that Go takes and we do not: bits set that stand for nothing."""
    for line in note.rpartition(b"\n\n")[2].splitlines():
        *_, word = line.split(b" ")
        try:
            if base64.b64encode(base64.b64decode(word, validate=True)) != word:
                return True
        except ValueError:
            continue
    return False


@pytest.mark.parametrize("key_type", TYPES[:2], ids=lambda one: one.name)
def test_what_is_wrong_is_wrong_to_both(oracle: Oracle, key_type: KeyType) -> None:
    """Each changed note gets the same verdict from Go and from us, but where base64 has a second form."""
    key, other = signer(ORIGIN, key_type), signer("other.example")
    note = sign_note(CHECKPOINT.pack(), [other, key], time_seconds=NOW_SECONDS)
    verdicts: dict[str, int] = {}
    for one in changed(note):
        verdict = opened(oracle, one, key.verifier)["kind"]
        mine = ours(one, key.verifier)
        # Go verifies the first line before it reads the next one, so of two faults it may name the other.
        alike = mine == verdict or {mine, verdict} == {"malformed", "invalid"}
        assert mine == "malformed" if loose(one) else alike, one
        verdicts[mine] = verdicts.get(mine, 0) + 1
    assert min(verdicts[kind] for kind in ("ok", "invalid", "unverified", "malformed")) > 3, verdicts


@pytest.mark.parametrize(
    ("lines", "kind"), [(99, "ok"), (100, "malformed")], ids=["a hundred signatures", "a hundred and one"]
)
def test_limit_of_signatures(oracle: Oracle, lines: int, kind: str) -> None:
    """The hundredth signature is read, and the next one refuses the note, as in Go."""
    strange = b"".join(sign_note(TEXT, [signer(f"{number}.example")])[len(TEXT) + 1 :] for number in range(lines))
    note = sign_note(TEXT, [LOG]) + strange

    assert ours(note, LOG.verifier) == opened(oracle, note, LOG.verifier)["kind"] == kind


@pytest.mark.parametrize(
    "name",
    ["a b", "a\u00a0b", "a\u1680b", "a\u2003b", "a\u2028b", "a\u202fb", "a\u3000b", "a\u0085b", "a+b", "a\x7fb",
     "a\u200bb", "a\ufeffb", "größe.example", "東京.example", ""],
    ids=ascii,
)  # fmt: skip
def test_names(oracle: Oracle, name: str) -> None:
    """A name that Go takes in a signature line we take, and no other."""
    note = sign_note(TEXT, [LOG])
    line = note[len(TEXT) + 1 :].replace(ORIGIN.encode(), name.encode())

    assert ours(note + line, LOG.verifier) == opened(oracle, note + line, LOG.verifier)["kind"]


@pytest.mark.parametrize("extensions", [(), ("one", "two words")], ids=["plain", "extended"])
def test_checkpoints(oracle: Oracle, extensions: tuple[str, ...]) -> None:
    """A checkpoint of ours is one to the transparency-dev modules, field for field."""
    checkpoint = Checkpoint(ORIGIN, 2**63 - 1, hashlib.sha256(b"x").digest(), extensions)
    answer = oracle.ask(
        "checkpoint", note=encoded(sign_note(checkpoint.pack(), [LOG])), keys=[str(LOG.verifier)], origin=ORIGIN
    )

    assert answer["kind"] == "ok", answer
    assert (answer["origin"], answer["size"]) == (checkpoint.origin, checkpoint.size)
    assert base64.b64decode(answer["root"]) == checkpoint.root
    assert answer.get("text", "") == "".join(f"{line}\n" for line in extensions)


@pytest.mark.parametrize("count", [0, 1, 63])
def test_proof_files(oracle: Oracle, count: int) -> None:
    """A proof file is the same bytes from both, and read back by both."""
    hashes = tuple(hashlib.sha256(bytes((number,))).digest() for number in range(count))
    proof = LogProof(41, hashes, cosigned({1: NOW_SECONDS}))
    made = oracle.ask(
        "proof", text=proof.checkpoint.decode(), index=proof.index, hashes=[encoded(one) for one in hashes]
    )

    assert base64.b64decode(made["note"]) == proof.pack()
    read = oracle.ask("proof", note=encoded(proof.pack()))
    assert (read["kind"], read["index"], read.get("hashes") or []) == ("ok", 41, [encoded(one) for one in hashes])
    assert base64.b64decode(read["note"]) == LogProof.parse(proof.pack()).checkpoint == proof.checkpoint


def test_quorums(oracle: Oracle) -> None:
    """Which witnesses are a quorum, for every subset of five in nested groups, is the same to both."""
    keys = {f"W{number}": witness(number).verifier for number in range(1, 6)}
    lines = [f"witness {name} {key} https://{key.name}" for name, key in keys.items()]
    lines += ["group X 2 W1 W2 W3", "group Y any W4 W5", "group Z all X Y", "quorum Z"]
    text = "".join(f"{line}\n" for line in (f"log {LOG.verifier}", *lines))
    mine = Policy.parse(text.encode())
    satisfied = 0
    for size in range(6):
        for chosen in itertools.combinations(range(1, 6), size):
            note = cosigned(dict.fromkeys(chosen, NOW_SECONDS))
            answer = oracle.ask("policy", text=text, note=encoded(note))
            assert answer["kind"] == "ok", answer
            expected = answer.get("satisfied", False)
            assert mine.satisfied({f"W{number}" for number in chosen}) == expected, chosen
            satisfied += expected
    assert satisfied == 4 * 3


def test_policies_are_read_alike(oracle: Oracle) -> None:
    """A policy that we write, with its witnesses' URLs, Go reads; one that contradicts itself both refuse."""
    text = policy().pack().decode()
    lines = text.splitlines()
    with_urls = "".join(f"{one} https://w\n" if one.startswith("witness") else f"{one}\n" for one in lines)
    assert oracle.ask("policy", text=with_urls, note="")["kind"] == "ok"
    for wrong in (
        with_urls.replace("quorum all-of-them", "quorum nobody"),
        with_urls.replace("group all-of-them 2", "group all-of-them 4"),
        with_urls.replace(" W3\n", " W4\n"),
        with_urls.replace("witness W2", "witness W1"),
        with_urls.replace("quorum all-of-them\n", ""),
        with_urls + "nonsense\n",
    ):
        assert wrong != with_urls
        assert oracle.ask("policy", text=wrong, note="")["kind"] == "policy"
        with pytest.raises(SealstreamError):
            Policy.parse(wrong.encode())
