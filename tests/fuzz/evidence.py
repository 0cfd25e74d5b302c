"""Targets: proof files, bundles, timestamps, and what a witness is asked."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fuzz.records import FIXED_SCHEMA
from fuzz.signed import NOTE
from fuzz.target import Target, same
from sealstream.schemas.bundle import BundleEnd, BundleEntry, BundleHead, BundleSchema, parse_line
from sealstream.schemas.bundle_check import verify_bundle
from sealstream.schemas.codec import frame_confluent
from sealstream.schemas.compact_range import CompactRange
from sealstream.schemas.entry import pack, parse, payload_digest
from sealstream.schemas.errors import (
    BundleInvalid,
    EvidenceInvalid,
    FormatError,
    ProofFileInvalid,
    TimestampInvalid,
    TimestampUntrusted,
    Untrusted,
)
from sealstream.schemas.evidence import verify_proof
from sealstream.schemas.key_history import KeyHistory
from sealstream.schemas.proof_file import CHECK_BYTES, ProofFile
from sealstream.schemas.timestamp import verify_timestamp
from sealstream.sinks.witness.protocol import AddCheckpoint, KnownLogs, Refusal, check_consistent, check_sizes
from support.notes import NOW_SECONDS, policy, reader
from support.sealproofs import INSTANCE, SCHEMA, Chain, Instance, chain, nonce, with_earlier

_SEEDS: Final = Path(__file__).with_name("seeds")
_ROOTS: Final = (_SEEDS / "timestamp-roots.pem").read_bytes()
_TOKEN: Final = (_SEEDS / "timestamp.der").read_bytes()
"""A response over :data:`NOTE`, by an authority that the tests made with OpenSSL."""

_READER: Final = reader(policy(2, 2))


def _load(path: Path) -> Any:
    """Return a module that is no part of a package."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


STANDALONE: Final = _load(Path(__file__).parents[2] / "deploy" / "standalone" / "sealstream_verify.py")
_CHAIN: Final = INSTANCE.chains[0]
_PROOFS: Final = (
    with_earlier(),
    INSTANCE.proof(10, with_schema=True, timestamps=[b"no response"]),
    INSTANCE.proof(0),
    INSTANCE.proof(3),
)


def _framed() -> ProofFile:
    """Return the proof of an event that does not name the shipped schema, so that the file's own is looked at."""
    one = chain(_CHAIN.name, 2)
    payload = frame_confluent(7, one.payloads[1][10:])
    entry = pack(replace(parse(one.entries[1]), length=len(payload), payload=payload_digest(payload)))
    framed = Chain(one.name, (one.entries[0], entry), (one.payloads[0], payload))
    return Instance((framed,), ((2,),)).proof(1)


_FRAMED: Final = _framed()


def _proven(data: bytes) -> None:
    """A file without its check, which is made here: what is believed of it is what the instance has."""
    proof = ProofFile.parse(data + hashlib.sha256(data).digest()[:CHECK_BYTES])
    found = verify_proof(proof, _READER)
    place = [one.name for one in INSTANCE.chains].index(found.entry.tenant)
    assert INSTANCE.chains[place].hashes[found.entry.seq] == found.entry_hash
    assert INSTANCE.sizes[found.round][place] == found.chain_size
    assert found.trusted.checkpoint == INSTANCE.checkpoint(found.trusted.checkpoint.size)


def _standalone(data: bytes) -> None:
    """As :func:`_proven`, by the file that auditors get: it takes nothing that we do not take."""
    file = data + hashlib.sha256(data).digest()[:CHECK_BYTES]
    STANDALONE.Proof(file, STANDALONE.Policy(policy(2, 2).pack().decode(), b""), NOW_SECONDS, b"", [None, None])
    _proven(data)


def _decoded(data: bytes) -> None:
    """The writer's schema in a file is the file's own: whatever it is, the proof holds or is refused."""
    verify_proof(replace(_FRAMED, schema=data), _READER)


def _timestamp(data: bytes) -> None:
    found = verify_timestamp(data, NOTE, _ROOTS)
    assert found == verify_timestamp(_TOKEN, NOTE, _ROOTS)


def _line(data: bytes) -> None:
    line = parse_line(data)
    found: BundleHead | BundleSchema | BundleEntry | BundleEnd
    match line.get("type"):
        case "bundle":
            found = BundleHead.parse(line)
        case "schema":
            found = BundleSchema.parse(line)
        case "entry":
            found = BundleEntry.parse(line)
            found.says_of_itself()
        case _:
            found = BundleEnd.parse(line)
    assert found.pack() == data


def _head() -> BundleHead:
    before, behind = CompactRange(), CompactRange(6)
    before.extend(_CHAIN.hashes[:2])
    behind.extend(_CHAIN.hashes[6:13])
    proof = INSTANCE.proof(5, round_number=2)
    return BundleHead(
        _CHAIN.name, 2, 5, 13, nonce(_CHAIN.name), tuple(before.hashes), tuple(behind.hashes), proof.rooted
    )


_CLEAN: Final = 0


def _bundle(data: bytes) -> None:
    """Whatever is wrong with a bundle stands in the result; one that holds has the entries that the instance has.

    The last line is made here, as a forger would.
    """
    body = b"".join(data.splitlines(keepends=True))
    count = body.count(b'"type":"entry"')
    whole = body + BundleEnd(count, hashlib.sha256(body).digest()).pack()
    result = verify_bundle(io.BytesIO(whole).readline, _READER)
    json.dumps(result.to_dict())
    assert result.is_valid == (result.exit_code == _CLEAN)
    if not result.is_valid:
        raise result.failure or BundleInvalid("violations")
    entries = [BundleEntry.parse(parse_line(line)) for line in body.splitlines(keepends=True)[1:] if b'"entry"' in line]
    assert [one.hash for one in entries] == _CHAIN.hashes[result.first : result.last + 1]


def _asked(data: bytes) -> None:
    """A witness that knows nothing yet takes a checkpoint from the first size on, and no other."""
    request = KnownLogs(_READER.policy, KeyHistory()).check_signed(AddCheckpoint.parse(data), now_seconds=NOW_SECONDS)
    check_sizes(request)
    check_consistent(request, None, may_begin=True)
    assert request.old_size == 0


_LINES: Final = (
    _head().pack(),
    BundleSchema(b"\xc3\x01" + bytes(8), SCHEMA).pack(),
    BundleEntry.of(_CHAIN.entries[1], _CHAIN.hashes[1], _CHAIN.payloads[1]).pack(),
    BundleEntry.of(_CHAIN.entries[3], _CHAIN.hashes[3], None).pack(),
    BundleEnd(4, bytes(32)).pack(),
)
_BUNDLE: Final = b"".join(
    (
        _LINES[0],
        *(
            BundleEntry.of(_CHAIN.entries[seq], _CHAIN.hashes[seq], payload).pack()
            for seq, payload in ((2, _CHAIN.payloads[2]), (3, None), (4, None), (5, _CHAIN.payloads[5]))
        ),
    )
)
_REFUSALS: Final = (FormatError, Untrusted, EvidenceInvalid)

TARGETS: Final = (
    Target(
        "proof-file",
        same(ProofFile.parse, ProofFile.pack),
        tuple(proof.pack() for proof in _PROOFS),
        (ProofFileInvalid,),
    ),
    Target("proof", _proven, tuple(proof.pack()[:-CHECK_BYTES] for proof in _PROOFS), _REFUSALS),
    Target(
        "standalone-proof",
        _standalone,
        tuple(proof.pack()[:-CHECK_BYTES] for proof in _PROOFS),
        (STANDALONE.UnprovenError, ValueError),  # both are answers of its command line
    ),
    Target("proof-schema", _decoded, (SCHEMA, b'"string"', FIXED_SCHEMA), _REFUSALS),
    Target("bundle-line", _line, _LINES, (FormatError,)),
    Target("bundle-file", _bundle, (_BUNDLE,), _REFUSALS),
    Target("timestamp", _timestamp, (_TOKEN,), (TimestampInvalid, TimestampUntrusted)),
    Target("witness-request", _asked, (b"old 0\n\n" + NOTE, b"old 41\n" + b"A" * 43 + b"=\n\n" + NOTE), (Refusal,)),
)
