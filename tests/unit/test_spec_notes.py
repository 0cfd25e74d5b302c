"""SPEC.md is right about what is signed: its vectors come out of a few lines of their own, and out of the code."""

from __future__ import annotations

import base64
import hashlib
import re
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealstream.schemas import cosignature, policy, trust
from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.errors import NameInvalid
from sealstream.schemas.key_history import KeyHistory, Rotation
from sealstream.schemas.log_proof import EXTRA_BYTES_MAX, HASHES_MAX, LogProof
from sealstream.schemas.note import NOTE_BYTES_MAX, SIGNATURES_MAX, Note, sign_note
from sealstream.schemas.note_key import STATEMENT_LABEL, KeyType, SignerKey, VerifierKey
from sealstream.schemas.policy import Policy
from sealstream.schemas.proofs import verify_inclusion
from sealstream.schemas.tenant_name import decode_tenant, encode_tenant
from sealstream.schemas.trust import Reader, verify_log_proof
from support import spec

INSTANCE = "demo.example/audit"
QUORUM_SECONDS = 1_700_000_160
VKEYS = spec.blocks("vkeys")[0].splitlines()
NOTE = spec.blocks("checkpoint")[0].encode()
PROOF = spec.blocks("log_proof")[0].encode()
POLICY = spec.blocks("policy")[0].encode()
ROTATION = spec.blocks("rotation")[0].encode()


def given_keys() -> list[tuple[SignerKey, str, str, str]]:
    """Return the keys of the page: each with its id, the id of its statements, and the digest of its text."""
    words = spec.blocks("note_keys")[0].split()
    found: list[tuple[SignerKey, str, str, str]] = []
    for name, number, seed, *ids in zip(*(words[place::6] for place in range(6)), strict=True):
        key_type, raw = KeyType(int(number, 16)), bytes.fromhex(seed)
        private = (
            MLDSA44PrivateKey.from_seed_bytes(raw)
            if key_type is KeyType.COSIGNATURE_ML_DSA_44
            else Ed25519PrivateKey.from_private_bytes(raw)
        )
        found.append((SignerKey(name, key_type, private), *ids))
    return found


KEYS = [key for key, *_ in given_keys()]


def ed25519_holds(vkey: str, message: bytes, signature: bytes) -> bool:
    """Verify a signature by the key in a vkey, with the library alone."""
    material = base64.b64decode(vkey.split("+", 2)[2])
    Ed25519PublicKey.from_public_bytes(material[1:]).verify(signature, message)
    return True


def lines_of(note: bytes) -> tuple[bytes, list[tuple[str, bytes, bytes]]]:
    """Return a note's text, and name, id and signature of its lines, cut by hand."""
    text, _, lines = note.rpartition(b"\n\n")
    words = [line.decode().split(" ") for line in lines.splitlines()]
    contents = [base64.b64decode(word[2]) for word in words]
    return text + b"\n", [(word[1], content[:4], content[4:]) for word, content in zip(words, contents, strict=True)]


class TestIndependently:
    """The page says what a few lines without the product say."""

    def test_key_ids(self) -> None:
        """An id is the beginning of a hash over name, type and key."""
        for key, key_id, statement_id, digest in given_keys():
            public, number = key.verifier.public_key, bytes((key.verifier.type,))
            name = key.verifier.name.encode()
            assert hashlib.sha256(name + b"\n" + number + public).hexdigest()[:8] == key_id
            label = b"\xff" + b"sealstream/statement1\n"
            assert hashlib.sha256(name + b"\n" + label + number + public).hexdigest()[:8] == statement_id
            vkey = f"{key.verifier.name}+{key_id}+{base64.b64encode(number + public).decode()}"
            assert hashlib.sha256(vkey.encode()).hexdigest() == digest
            assert vkey in VKEYS or key.verifier.type is KeyType.COSIGNATURE_ML_DSA_44

    def test_checkpoint(self) -> None:
        """The log signs the text; the witnesses the text behind two lines, with the time before the signature."""
        text, lines = lines_of(NOTE)
        by_name = {vkey.split("+")[0]: vkey for vkey in VKEYS}
        for name, key_id, signature in lines:
            vkey = by_name[name]
            assert key_id.hex() == vkey.split("+")[1]
            if name == f"{INSTANCE}/acme":
                assert ed25519_holds(vkey, text, signature)
                continue
            (time_seconds,) = struct.unpack(">Q", signature[:8])
            message = f"cosignature/v1\ntime {time_seconds}\n".encode() + text
            assert ed25519_holds(vkey, message, signature[8:])
        assert len(lines) == 3
        origin, size, encoded = text.decode().splitlines()
        assert (origin, size) == (f"{INSTANCE}/acme", "5")
        assert base64.b64decode(encoded).hex() == dict(spec.rows("roots"))["5"]

    def test_messages(self) -> None:
        """The messages under cosignatures, joined by hand."""
        text, _ = lines_of(NOTE)
        origin, size, encoded = text.decode().splitlines()
        first, second = spec.blocks("messages")[0].split("\n06 ")
        _, name, time_seconds, *message = first.split()
        assert bytes.fromhex("".join(message)) == f"cosignature/v1\ntime {time_seconds}\n".encode() + text
        name, time_seconds, *message = second.split()
        assert bytes.fromhex("".join(message)) == b"".join(
            (
                b"subtree/v1\n\x00",
                bytes((len(name),)) + name.encode(),
                struct.pack(">Q", int(time_seconds)),
                bytes((len(origin),)) + origin.encode(),
                struct.pack(">QQ", 0, int(size)),
                base64.b64decode(encoded),
            )
        )

    def test_log_proof(self) -> None:
        """The proof's file holds the index, the way up and the checkpoint, and leads from the entry to the root."""
        head, _, checkpoint = PROOF.partition(b"\n\n")
        label, index, *hashes = head.decode().splitlines()
        assert (label, index, checkpoint) == ("c2sp.org/tlog-proof@v1", "index 3", NOTE)
        verify_inclusion(
            [base64.b64decode(one) for one in hashes],
            leaf=spec.entries()[3].hash,
            index=3,
            size=5,
            root=bytes.fromhex(dict(spec.rows("roots"))["5"]),
        )

    def test_rotation(self) -> None:
        """Both keys sign the text behind a label, under ids of their own."""
        text, lines = lines_of(ROTATION)
        ids = {statement_id for _, _, statement_id, _ in given_keys()}
        assert [vkey.split()[1] for vkey in text.decode().splitlines()[1:3]] == [VKEYS[0], VKEYS[2]]
        for vkey, (name, key_id, signature) in zip((VKEYS[0], VKEYS[2]), lines, strict=True):
            assert (name, key_id.hex() in ids) == (INSTANCE, True)
            assert ed25519_holds(vkey, b"sealstream/statement1\n" + text, signature)


class TestCode:
    """The code makes and takes what the page gives."""

    def test_keys(self) -> None:
        """Each key has the ids and the text given, and both its forms are read back."""
        for key, key_id, statement_id, digest in given_keys():
            assert (key.verifier.key_id.hex(), key.verifier.statement_id.hex()) == (key_id, statement_id)
            assert hashlib.sha256(str(key.verifier).encode()).hexdigest() == digest
            assert VerifierKey.parse(str(key.verifier)) == key.verifier
        assert [str(key.verifier) for key in KEYS[:5]] == VKEYS

    def test_checkpoint(self) -> None:
        """The note is made of its keys, byte for byte: Ed25519 leaves no choice."""
        checkpoint = Checkpoint.parse(Note.parse(NOTE).text)
        assert checkpoint.origin == chain_origin(INSTANCE, "acme")
        made = sign_note(checkpoint.pack(), [KEYS[1]])
        for key, time_seconds in ((KEYS[3], QUORUM_SECONDS - 60), (KEYS[4], QUORUM_SECONDS)):
            existing = Note.parse(made).signatures
            made = sign_note(checkpoint.pack(), [key], existing=existing, time_seconds=time_seconds)
        assert made == NOTE

    def test_messages(self) -> None:
        """The messages under cosignatures."""
        text = Note.parse(NOTE).text
        first, second = spec.blocks("messages")[0].split("\n06 ")
        words = first.split()
        assert cosignature.ed25519_message(text, int(words[2])).hex() == "".join(words[3:])
        words = second.split()
        assert cosignature.ml_dsa_message(text, int(words[1]), words[0]).hex() == "".join(words[2:])

    def test_proof_and_policy(self) -> None:
        """The proof holds by the policy, at the time given, and not without the second witness."""
        reader = Reader(Policy.parse(POLICY), now_seconds=QUORUM_SECONDS)
        proof = LogProof.parse(PROOF)
        trusted = verify_log_proof(proof, spec.entries()[3].hash, reader, origin=chain_origin(INSTANCE, "acme"))
        assert trusted.quorum_time_seconds == QUORUM_SECONDS
        assert (proof.pack(), Policy.parse(POLICY).pack()) == (PROOF, POLICY)

    def test_rotation(self) -> None:
        """The record is read, and holds for the chain's log as well."""
        rotation = Rotation.parse(ROTATION)
        assert (rotation.old, rotation.new) == (KEYS[0].verifier, KEYS[2].verifier)
        lineage = KeyHistory([rotation]).lineage(KEYS[1].verifier)
        assert [(one.not_before_seconds, one.not_after_seconds) for one in lineage] == [
            (0, 1_710_000_000),
            (1_709_000_000, None),
        ]

    def test_names(self) -> None:
        """The names of chains in names of files."""
        for chain, name in spec.rows("tenant_names"):
            assert encode_tenant(chain) == name
            assert decode_tenant(name) == chain
        with pytest.raises(NameInvalid):
            decode_tenant("Acme")

    def test_tables(self) -> None:
        """The types of keys and the sizes of their keys and signatures."""
        rows = spec.table("### 17.1 Keys")
        assert [int(row[0], 16) for row in rows] == [int(key_type) for key_type in KeyType]
        for row, key_type in zip(rows[:3], KeyType, strict=False):
            key = next(key for key in KEYS if key.verifier.type is key_type)
            (size,) = re.findall(r"([0-9,]+) bytes", row[1])
            assert len(key.verifier.public_key) == int(size.replace(",", ""))
            signed = key.sign(Note.parse(NOTE).text, time_seconds=1)
            assert len(signed) == sum(int(part.replace(",", "")) for part in re.findall(r"[0-9,]+", row[2]))

    def test_limits(self) -> None:
        """The limits that the page names are those of the code."""
        text = " ".join(spec.text().split())
        assert f"at least one and at most {SIGNATURES_MAX};" in text
        assert f"A note has at most {NOTE_BYTES_MAX:,} bytes" in text
        assert f"of 1 to {EXTRA_BYTES_MAX:,} bytes" in text
        assert f"at most {HASHES_MAX} lines" in text
        assert f"has at most {cosignature.NAME_BYTES_MAX} bytes" in text
        limits = (policy.POLICY_BYTES_MAX, policy.LOGS_MAX, policy.NAMES_MAX)
        assert "At most {:,} bytes, {} logs, and {} witnesses and groups".format(*limits) in text
        assert f"no more than {trust.CLOCK_SKEW_SECONDS} s in the future" in text
        assert STATEMENT_LABEL.decode().strip() in text
