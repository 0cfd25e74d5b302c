"""SPEC.md is right about control events: its vectors come out of a few lines of their own, and out of the code."""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealstream.schemas import merkle
from sealstream.schemas.control import Authority, Standing, make_control, verify_control
from sealstream.schemas.control_body import ImportBegin, ImportEnd, SchemaText
from sealstream.schemas.event import Control
from sealstream.schemas.note_key import KeyType, SignerKey, VerifierKey
from sealstream.schemas.source_row import row_hash, row_packer
from support import spec

INSTANCE, TENANT = "demo.example/audit", "acme"
NAMES = ("id", "who", "note")
ROWS: list[list[str | None]] = [["1", "ann", None], ["2", "bob", ""], ["3", "zoë", "left"]]
KEY = SignerKey("ops.example/ann", KeyType.ED25519, Ed25519PrivateKey.from_private_bytes(b"\x06" * 32))


def block(name: str) -> bytes:
    """Return the one block of a name."""
    (found,) = spec.blocks(name)
    return found.encode()


def given_rows() -> list[tuple[bytes, bytes]]:
    """Return the bytes and the hash of each row of the page."""
    words = block("source_rows").decode().split("=")
    parts = [part.split() for part in words]
    datas = ["".join(part if number == 0 else part[1:]) for number, part in enumerate(parts[:-1])]
    hashes = [part[0] for part in parts[1:]]
    return [(bytes.fromhex(data), bytes.fromhex(value)) for data, value in zip(datas, hashes, strict=True)]


def plain_row(names: tuple[str, ...], row: list[str | None]) -> bytes:
    """Pack a row as the page says it, in other words than the code's."""
    data = b"sealstream/row1\n" + struct.pack(">I", len(names))
    for name, text in zip(names, row, strict=True):
        data += struct.pack(">I", len(name.encode())) + name.encode()
        data += b"\x00" if text is None else b"\x01" + struct.pack(">I", len(text.encode())) + text.encode()
    return data


def test_rows() -> None:
    """The rows have the bytes and the hashes given, and their root is that of the end of their import."""
    pack = row_packer(NAMES)
    given = given_rows()

    assert [data for data, _ in given] == [pack(row) for row in ROWS] == [plain_row(NAMES, row) for row in ROWS]
    assert [value for _, value in given] == [row_hash(pack(row)) for row in ROWS]
    assert [value for _, value in given] == [hashlib.sha256(b"\x00" + data).digest() for data, _ in given]
    assert merkle.root(value for _, value in given) == ImportEnd.parse(block("control_import_end")).root


def test_bodies() -> None:
    """The bodies parse to what they say, and pack to themselves."""
    begin, end = ImportBegin.parse(block("control_import_begin")), ImportEnd.parse(block("control_import_end"))
    schema = SchemaText.parse(block("control_schema").removesuffix(b"\n"))

    assert begin == ImportBegin("users-1", "postgresql://db.example/app", bytes(range(32)))
    assert (end.job, end.source, end.count, end.quarantined) == (begin.job, begin.source, 3, 1)
    assert (schema.registry_id, schema.fingerprint.hex()) == (7, "59d3dc546165b670")
    assert begin.pack() == block("control_import_begin")
    assert end.pack() == block("control_import_end")
    assert schema.pack() == block("control_schema").removesuffix(b"\n")


@pytest.mark.parametrize("signed", [False, True], ids=["declared", "signed"])
def test_statements(*, signed: bool) -> None:
    """The declared and the signed control of the page are made of their bodies, and count where the page says it."""
    body = block("control_import_end" if signed else "control_import_begin")
    note = block("control_signed" if signed else "control_declared").decode()
    action = "import.end" if signed else "import.begin"
    authority = Authority([VerifierKey.parse(block("control_key").decode().strip())]) if signed else None

    made = make_control(INSTANCE, TENANT, action, body, serial=7 if signed else 0, signers=[KEY] if signed else [])
    verified = verify_control(Control(note, body), instance=INSTANCE, tenant=TENANT, authority=authority)

    assert made == Control(note, body)
    assert verified.standing is (Standing.SIGNED if signed else Standing.DECLARED)
    assert f"body {hashlib.sha256(body).hexdigest()}\n" in note
