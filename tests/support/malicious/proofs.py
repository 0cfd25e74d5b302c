"""A proof server and an exporter that lie: what they give out instead of what they were asked for."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

from sealstream.schemas.entry import pack, parse, payload_digest
from sealstream.schemas.note import Note
from sealstream.schemas.proof_file import ProofFile
from support.publish import event_value
from support.sealproofs import rechecked

SUITE_AT = 12
"""Where the suite stands in an entry."""


def with_suite(proof: ProofFile, suite: int) -> bytes:
    """Return a proof whose entry says that it is hashed in another way."""
    data = bytearray(proof.entry)
    data[SUITE_AT] = suite
    packed = proof.pack()
    assert packed.count(proof.entry) == 1
    return rechecked(packed.replace(proof.entry, bytes(data)))


def with_payload(proof: ProofFile, note: str) -> ProofFile:
    """Return a proof of which the payload says something else, in as many bytes as it takes."""
    entry = proof.parsed_entry()
    return replace(proof, payload=event_value(entry.tenant, entry.event_id, note=note))


def with_commitment(proof: ProofFile) -> ProofFile:
    """Return a proof whose entry commits to the payload that it has now."""
    payload = proof.payload or b""
    entry = replace(parse(proof.entry), length=len(payload), payload=payload_digest(payload))
    return replace(proof, entry=pack(entry))


def without_witnesses(note: bytes) -> bytes:
    """Return a checkpoint with its log's signature only."""
    parsed = Note.parse(note)
    return Note(parsed.text, parsed.signatures[:1]).pack()


# -- bundles -----------------------------------------------------------------------------------------------------------


def lines_of(bundle: bytes) -> list[dict[str, Any]]:
    """Return the lines of a bundle but the last one."""
    return [json.loads(line) for line in bundle.splitlines()[:-1]]


def sealed(lines: list[dict[str, Any]]) -> bytes:
    """Return a bundle of these lines, with a last one that fits."""
    body = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    entries = sum(line["type"] == "entry" for line in lines)
    end = {"type": "end", "entries": entries, "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end, separators=(",", ":")).encode() + b"\n"


def index_of(lines: list[dict[str, Any]], seq: int) -> int:
    """Return where the line of an entry stands."""
    return next(index for index, line in enumerate(lines) if line["type"] == "entry" and line["seq"] == seq)


def other_payload(line: dict[str, Any], tenant: str) -> dict[str, Any]:
    """Return an entry's line with another payload of the same event."""
    value = event_value(tenant, line["event_id"], note="another")
    return line | {"payload": base64.b64encode(value).decode()}
