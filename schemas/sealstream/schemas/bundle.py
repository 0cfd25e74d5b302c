"""A bundle: a part of one chain, and what proves all of it at once under one root checkpoint.

It is a text of JSON lines, so that people look into it with whatever they have, and programs read and write it line by
line, however long it is. Each line has one form only: what parses and is written again gives the same bytes.
It holds data only. Whom to believe comes from its reader (:mod:`sealstream.schemas.bundle_check`). ``SPEC.md`` section
23 gives the format.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import VALUE_BYTES_MAX, ZERO_HASH, Kind, parse
from sealstream.schemas.errors import BundleInvalid, CheckpointInvalid, LeafInvalid, NoteInvalid
from sealstream.schemas.log_proof import HASHES_MAX
from sealstream.schemas.merkle import HASH_BYTES, SIZE_MAX, decompose
from sealstream.schemas.proof_file import SCHEMA_BYTES_MAX, TIMESTAMP_BYTES_MAX, TIMESTAMPS_MAX, RootedMap
from sealstream.schemas.proof_note import PROOF_NOTE_BYTES_MAX
from sealstream.schemas.tenant_name import is_chain

BUNDLE_FORMAT: Final = "sealstream/bundle1"
BUNDLE_SUFFIX: Final = ".sealbundle.jsonl"
LINE_BYTES_MAX: Final = 4 * 2**20
"""The longest line that is read: a payload of the most bytes takes some 1.4 MB, and the first line less than 1.5."""

FRAME_BYTES_MAX: Final = 10
_ENTRY_BYTES_MAX: Final = 1_024  # the longest has fewer; parsing it says so
_SUBTREES_MAX: Final = 2 * HASHES_MAX

Line: TypeAlias = Mapping[str, Any]

_BUNDLE_KEYS: Final = (
    "type",
    "format",
    "tenant",
    "first",
    "last",
    "size",
    "nonce",
    "before",
    "behind",
    "index",
    "round",
    "map_path",
    "previous",
    "length",
    "coverage",
    "chains",
    "root_path",
    "note",
    "timestamps",
)
_SCHEMA_KEYS: Final = ("type", "frame", "schema")
_ENTRY_KEYS: Final = ("type", "seq", "kind", "received", "event_id", "hash", "entry", "payload")
_END_KEYS: Final = ("type", "entries", "sha256")


@dataclass(frozen=True, slots=True)
class BundleHead:
    """The first line: which part of which chain it is, and what proves it.

    Arguments:
        tenant: The chain.
        first: The seq of the first entry.
        last: That of the last one.
        size: The number of entries of the chain in the round.
        nonce: The chain's nonce in the tenant map, 32 bytes.
        before: The hashes of the fewest perfect subtrees over the entries before the first one, from left to right.
        behind: Those over the entries behind the last one, up to ``size``.
        rooted: The way from the chain up to a root checkpoint.
    """

    tenant: str
    first: int
    last: int
    size: int
    nonce: bytes
    before: tuple[bytes, ...]
    behind: tuple[bytes, ...]
    rooted: RootedMap

    def pack(self) -> bytes:
        """Return the line.

        Raises:
            BundleInvalid: A field is out of range, or fields contradict each other.
        """
        self._check()
        rooted = self.rooted
        values: tuple[object, ...] = (
            "bundle",
            BUNDLE_FORMAT,
            self.tenant,
            self.first,
            self.last,
            self.size,
            self.nonce.hex(),
            _hexes(self.before),
            _hexes(self.behind),
            rooted.index,
            rooted.round,
            _hexes(rooted.map_path),
            rooted.previous.hex(),
            rooted.length,
            rooted.coverage.hex(),
            rooted.chains,
            _hexes(rooted.root_path),
            _decoded(rooted.note),
            [_base64(token) for token in rooted.timestamps],
        )
        return pack_line(dict(zip(_BUNDLE_KEYS, values, strict=True)))

    @classmethod
    def parse(cls, line: Line) -> BundleHead:
        """Return the head that a line is, the inverse of :meth:`pack`; nothing of it is verified.

        Raises:
            BundleInvalid: It is none.
        """
        if line.get("type") == "bundle" and line.get("format") != BUNDLE_FORMAT:
            raise BundleInvalid("the bundle is of another format", hint="read it with a newer version")
        _keys(line, _BUNDLE_KEYS, "bundle")
        timestamps = tuple(_bytes(one, "timestamp", TIMESTAMP_BYTES_MAX) for one in _list(line, "timestamps"))
        rooted = RootedMap(
            index=_number(line, "index"),
            map_path=_hashes(line, "map_path", HASHES_MAX),
            round=_number(line, "round"),
            previous=_hash(line["previous"], "previous"),
            length=_number(line, "length"),
            coverage=_hash(line["coverage"], "coverage"),
            chains=_number(line, "chains"),
            root_path=_hashes(line, "root_path", HASHES_MAX),
            note=_encoded(_text(line, "note")),
            timestamps=timestamps,
        )
        head = cls(
            tenant=_text(line, "tenant"),
            first=_number(line, "first"),
            last=_number(line, "last"),
            size=_number(line, "size"),
            nonce=_hash(line["nonce"], "nonce"),
            before=_hashes(line, "before", _SUBTREES_MAX),
            behind=_hashes(line, "behind", _SUBTREES_MAX),
            rooted=rooted,
        )
        head._check()
        return head

    def _check(self) -> None:
        """Refuse what no honest writer writes."""
        rooted = self.rooted
        if not is_chain(self.tenant):
            raise BundleInvalid(f"{self.tenant[:80]!r} is neither a tenant nor !partition-<n>")
        if not 0 <= self.first <= self.last < self.size <= SIZE_MAX:
            raise BundleInvalid(f"entries {self.first} to {self.last} of {self.size} are no part of a chain")
        for what, begin, end, hashes in (
            ("before", 0, self.first, self.before),
            ("behind", self.last + 1, self.size, self.behind),
        ):
            wanted = sum(1 for _ in decompose(begin, end))
            if len(hashes) != wanted:
                raise BundleInvalid(f"the bundle has {len(hashes)} hashes {what} its entries, and needs {wanted}")
        if not 0 <= rooted.index < rooted.chains:
            raise BundleInvalid(f"the bundle is of chain {rooted.index} in a map of {rooted.chains}")
        if len(rooted.timestamps) > TIMESTAMPS_MAX or not all(rooted.timestamps):
            raise BundleInvalid(f"the bundle has more than {TIMESTAMPS_MAX} timestamps, or an empty one")
        if len(rooted.note) > PROOF_NOTE_BYTES_MAX:
            raise BundleInvalid(f"the bundle has a note of {len(rooted.note)} bytes")
        _check_round(rooted)


@dataclass(frozen=True, slots=True)
class BundleSchema:
    """A line with a schema that payloads behind it were written with; nothing vouches for it.

    Arguments:
        frame: What such payloads begin with: the frame that names the schema.
        text: The schema, as JSON text in UTF-8.
    """

    frame: bytes
    text: bytes

    def pack(self) -> bytes:
        """Return the line."""
        return pack_line({"type": "schema", "frame": self.frame.hex(), "schema": _decoded(self.text)})

    @classmethod
    def parse(cls, line: Line) -> BundleSchema:
        """Return the schema that a line is, the inverse of :meth:`pack`.

        Raises:
            BundleInvalid: It is none.
        """
        _keys(line, _SCHEMA_KEYS, "schema")
        text = _encoded(_text(line, "schema"))
        frame = _hex(line["frame"], "frame")
        if not 0 < len(frame) <= FRAME_BYTES_MAX or not 0 < len(text) <= SCHEMA_BYTES_MAX:
            raise BundleInvalid(f"a schema of {len(text)} bytes for a frame of {len(frame)} is none")
        return cls(frame, text)


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """A line with an entry.

    ``seq``, ``kind``, ``received``, ``event_id`` and ``hash`` stand beside the entry's bytes for whoever looks at them.
    They are the entry's, or something was edited.

    Arguments:
        seq: The place in the chain, as the line says.
        kind: The name of the entry's kind in lower case.
        received: When the broker took the record, in microseconds since the Unix epoch.
        event_id: The event's id; empty for none.
        hash: The entry's hash.
        entry: The entry's bytes.
        payload: The bytes that it commits to; ``None`` where they are not in the bundle.
    """

    seq: int
    kind: str
    received: int
    event_id: str
    hash: bytes
    entry: bytes
    payload: bytes | None

    @classmethod
    def of(cls, entry: bytes, digest: bytes, payload: bytes | None) -> BundleEntry:
        """Return the line of an entry.

        Raises:
            EntryInvalid: The bytes are no entry.
        """
        fields = parse(entry)
        return cls(fields.seq, Kind(fields.kind).name.lower(), fields.received, fields.event_id, digest, entry, payload)

    def pack(self) -> bytes:
        """Return the line."""
        values = (
            "entry",
            self.seq,
            self.kind,
            self.received,
            self.event_id,
            self.hash.hex(),
            _base64(self.entry),
            None if self.payload is None else _base64(self.payload),
        )
        return pack_line(dict(zip(_ENTRY_KEYS, values, strict=True)))

    @classmethod
    def parse(cls, line: Line) -> BundleEntry:
        """Return what a line says of an entry, the inverse of :meth:`pack`; whether it is true is not looked at.

        Raises:
            BundleInvalid: It is no such line.
        """
        _keys(line, _ENTRY_KEYS, "entry")
        payload = line["payload"]
        return cls(
            seq=_number(line, "seq"),
            kind=_text(line, "kind"),
            received=_number(line, "received"),
            event_id=_text(line, "event_id"),
            hash=_hash(line["hash"], "hash"),
            entry=_bytes(line["entry"], "entry", _ENTRY_BYTES_MAX),
            payload=None if payload is None else _bytes(payload, "payload", VALUE_BYTES_MAX),
        )

    def says_of_itself(self) -> str:
        """Return what the line says that its entry does not, in words; empty if nothing.

        Raises:
            EntryInvalid: The bytes are no entry.
        """
        fields = parse(self.entry)
        said = (
            ("kind", self.kind, fields.kind.name.lower()),
            ("received", self.received, fields.received),
            ("event_id", self.event_id, fields.event_id),
        )
        wrong = [name for name, here, there in said if here != there]
        return f"the line has another {', '.join(wrong)} than its entry" if wrong else ""


@dataclass(frozen=True, slots=True)
class BundleEnd:
    """The last line, which tells a bundle that was cut or damaged from a whole one; it is no evidence.

    Arguments:
        entries: How many lines with entries there are.
        sha256: SHA-256 of all bytes before this line.
    """

    entries: int
    sha256: bytes

    def pack(self) -> bytes:
        """Return the line."""
        return pack_line({"type": "end", "entries": self.entries, "sha256": self.sha256.hex()})

    @classmethod
    def parse(cls, line: Line) -> BundleEnd:
        """Return the end that a line is, the inverse of :meth:`pack`.

        Raises:
            BundleInvalid: It is none.
        """
        _keys(line, _END_KEYS, "end")
        return cls(_number(line, "entries"), _hash(line["sha256"], "sha256"))


def pack_line(values: Mapping[str, object]) -> bytes:
    """Return an object as a line: without blanks, in ASCII, its keys in the order given."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def parse_line(data: bytes) -> Line:
    """Return the object that a line is.

    Raises:
        BundleInvalid: It is none, or not in the one form that :func:`pack_line` gives.
    """
    if len(data) > LINE_BYTES_MAX:
        raise BundleInvalid(f"the line has more than {LINE_BYTES_MAX} bytes")
    if not data.endswith(b"\n"):
        raise BundleInvalid("the line does not end: the bundle is cut", hint="get it again")
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleInvalid("the line is no JSON") from error
    if not isinstance(found, dict):
        raise BundleInvalid("the line is no JSON object")
    line = cast("dict[str, Any]", found)
    try:
        same = pack_line(line) == data
    except (ValueError, RecursionError) as error:
        raise BundleInvalid("the line is no JSON in its one form") from error
    if not same:
        raise BundleInvalid("the line is not in its one form", hint="it was edited, or another tool wrote it")
    return line


def _check_round(rooted: RootedMap) -> None:
    try:
        rooted.leaf(ZERO_HASH).pack()  # the ranges; the map's root is computed when it is verified
    except LeafInvalid as error:
        raise BundleInvalid(f"the bundle has no round: {error.message}", hint=error.hint) from error
    try:
        checkpoint: Checkpoint = rooted.checkpoint()
    except (NoteInvalid, CheckpointInvalid) as error:
        raise BundleInvalid(f"the bundle has no checkpoint: {error.message}", hint=error.hint) from error
    if rooted.round >= checkpoint.size:
        raise BundleInvalid(f"the bundle is of round {rooted.round} in a root log of {checkpoint.size}")


def _keys(line: Line, wanted: tuple[str, ...], kind: str) -> None:
    if tuple(line) != wanted or line["type"] != kind:
        raise BundleInvalid(f"the line is none of the type {kind}, or has other fields")


def _number(line: Line, name: str) -> int:
    value: object = line[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SIZE_MAX:
        raise BundleInvalid(f"{name} is no number of 0 to {SIZE_MAX}")
    return value


def _text(line: Line, name: str) -> str:
    value: object = line[name]
    if not isinstance(value, str):
        raise BundleInvalid(f"{name} is no text")
    return value


def _list(line: Line, name: str) -> list[object]:
    value: object = line[name]
    if not isinstance(value, list):
        raise BundleInvalid(f"{name} is no list")
    return cast("list[object]", value)


def _hashes(line: Line, name: str, count_max: int) -> tuple[bytes, ...]:
    found = _list(line, name)
    if len(found) > count_max:
        raise BundleInvalid(f"{name} has {len(found)} hashes; no tree needs so many")
    return tuple(_hash(one, name) for one in found)


def _hash(value: object, name: str) -> bytes:
    data = _hex(value, name)
    if len(data) != HASH_BYTES:
        raise BundleInvalid(f"{name} has a hash of {len(data)} bytes instead of {HASH_BYTES}")
    return data


def _hex(value: object, name: str) -> bytes:
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        data = None
    if data is None or data.hex() != value:
        raise BundleInvalid(f"{name} is not in lower-case hex")
    return data


def _bytes(value: object, name: str, bytes_max: int) -> bytes:
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError):
        data = None
    if data is None or _base64(data) != value:
        raise BundleInvalid(f"{name} is not in base64 in its one form")
    if len(data) > bytes_max:
        raise BundleInvalid(f"{name} has {len(data)} bytes; at most {bytes_max} are read")
    return data


def _hexes(hashes: tuple[bytes, ...]) -> list[str]:
    return [one.hex() for one in hashes]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BundleInvalid("a note or schema is no UTF-8") from error


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BundleInvalid("a note or schema is no UTF-8") from error
