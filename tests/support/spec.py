"""Reads the tables and the test vectors out of SPEC.md, so that the document itself is what is tested."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sealstream.schemas
from sealstream.schemas.entry import Entry, Kind
from support.model import SourceRecord

_PATH: Final = Path(sealstream.schemas.__file__).parent / "SPEC.md"
_BLOCK: Final = re.compile(r"^```(?:text|json) (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REPEATED: Final = re.compile(r"([0-9]+) \* ([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class SpecifiedEntry:
    """An entry as a block of the page gives it: its fields, the payload, the bytes and the hash."""

    entry: Entry
    value: bytes
    data: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class SpecifiedLink:
    """A line of the list of entries that a source partition becomes."""

    offset: int
    chain: str
    seq: int
    kind: int
    reason: int
    ref: int
    event_id: str
    received: int
    hash: bytes


def text() -> str:
    """Return the page."""
    return _PATH.read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    """Return the contents of all blocks of a name, in order."""
    return [content for found, content in _BLOCK.findall(text()) if found == name]


def block_names() -> set[str]:
    """Return the names of all blocks."""
    return {name for name, _ in _BLOCK.findall(text())}


def rows(name: str) -> list[list[str]]:
    """Return the lines of the one block of a name, split at blanks."""
    (block,) = blocks(name)
    return [line.split() for line in block.splitlines()]


def table(heading: str, number: int = 0) -> list[list[str]]:
    """Return the cells of a table below a heading, its own first line left out; ``number`` counts the tables there."""
    section = re.split(r"^#+ ", text().split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    lines = tables[number].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def unhex(word: str) -> bytes:
    """Return the bytes that a word of hex stands for; ``-`` and ``""`` are none."""
    return b"" if word in ("-", '""') else bytes.fromhex(word)


def values() -> dict[str, bytes]:
    """Return the values of the source partition by their names."""
    (block,) = blocks("values")
    found: dict[str, bytes] = {}
    for line in block.splitlines():
        name, _, content = line.partition(" ")
        found[name] = _content(content.strip())
    return found


def source_records() -> list[SourceRecord]:
    """Return the records of the source partition."""
    by_name = values() | {'""': b""}
    return [
        SourceRecord(
            partition=0,
            offset=int(offset),
            key=None if key == "-" else b"" if key == '""' else key.encode(),
            value=None if value == "-" else by_name[value],
            timestamp_ms=int(milliseconds) if kind == "A" else None,
        )
        for offset, kind, milliseconds, key, value in rows("records")
    ]


def links() -> list[SpecifiedLink]:
    """Return the entries that the source partition becomes."""
    return [
        SpecifiedLink(
            int(offset),
            chain,
            int(seq),
            int(kind),
            int(reason),
            int(ref),
            "" if event_id == "-" else event_id,
            int(received),
            bytes.fromhex(digest),
        )
        for offset, chain, seq, kind, reason, ref, event_id, received, digest in rows("entries")
    ]


def entries() -> list[SpecifiedEntry]:
    """Return the entries that are given field by field."""
    return [_entry(block) for block in blocks("entry")]


def _entry(block: str) -> SpecifiedEntry:
    fields: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if not line.startswith(" "):
            name, _, content = line.partition(" ")
            fields[name] = content.strip()
        else:  # long hex goes on
            fields[name] += line.strip()
    value = _content(fields["value"])
    entry = Entry(
        kind=Kind(int(fields["kind"])),
        tenant=fields["tenant"],
        seq=int(fields["seq"]),
        prev=bytes.fromhex(fields["prev"]),
        received=int(fields["received"]),
        topic_id=bytes.fromhex(fields["topic_id"]),
        partition=int(fields["partition"]),
        offset=int(fields["offset"]),
        event_id="" if fields["event_id"] == "-" else fields["event_id"],
        length=int(fields["length"]),
        payload=bytes.fromhex(fields["payload"]),
        reason=int(fields["reason"]),
        ref=int(fields["ref"]),
    )
    return SpecifiedEntry(entry, value, bytes.fromhex(fields["bytes"]), bytes.fromhex(fields["hash"]))


def _content(words: str) -> bytes:
    repeated = _REPEATED.fullmatch(words)
    return bytes.fromhex(repeated[2]) * int(repeated[1]) if repeated else unhex(words)
