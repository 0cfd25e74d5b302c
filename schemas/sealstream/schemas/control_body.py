"""The bodies of control events: what a statement of each action commits to. Text, with one form each.

They are read by whoever checks an import, or looks for the schema that old bytes were written with.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from sealstream.schemas.codec import fingerprint_of
from sealstream.schemas.errors import ControlInvalid, SchemaUnknown
from sealstream.schemas.writer_schema import parse_writer_schema

JOB_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9_.-]{0,49}"
"""The name of an import's job: short enough for the ids of its events."""
SOURCE_CHARACTERS_MAX: Final = 1_000

_JOB: Final = re.compile(JOB_PATTERN)
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f]")
_BEGIN: Final = re.compile(r"job ([^\n]*)\nsource ([^\n]*)\nmapping ([0-9a-f]{64})\n")
_END: Final = re.compile(
    r"job ([^\n]*)\nsource ([^\n]*)\ncount (0|[1-9][0-9]{0,18})\nroot ([0-9a-f]{64})\n"
    r"quarantined (0|[1-9][0-9]{0,18})\n"
)
_SCHEMA: Final = re.compile(r"fingerprint ([0-9a-f]{16})\nregistry_id (none|0|[1-9][0-9]{0,9})\n\n(.*)", re.DOTALL)
_NUMBER_MAX: Final = 2**63 - 1
_REGISTRY_ID_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ImportBegin:
    """The body of ``import.begin``: from here on, events of a job may stand in the chain.

    Arguments:
        job: The job's name; the ids of its events begin with ``import:<job>:``.
        source: Where the rows come from, in words; never with a password.
        mapping_digest: SHA-256 of the mapping's text, by which rows became events.

    Raises:
        ControlInvalid: A field has no such form.
    """

    job: str
    source: str
    mapping_digest: bytes

    def __post_init__(self) -> None:
        """Refuse what cannot be packed."""
        _check_job(self.job, self.source)
        _check_digest("mapping", self.mapping_digest)

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return f"job {self.job}\nsource {self.source}\nmapping {self.mapping_digest.hex()}\n".encode()

    @classmethod
    def parse(cls, body: bytes) -> ImportBegin:
        """Return the body that bytes are, the inverse of :meth:`pack`.

        Raises:
            ControlInvalid: The bytes are none.
        """
        job, source, mapping = _match(_BEGIN, body, "import.begin").groups()
        return cls(job, source, bytes.fromhex(mapping))


@dataclass(frozen=True, slots=True)
class ImportEnd:
    """The body of ``import.end``: all rows of this chain are in it.

    Arguments:
        job: The job's name.
        source: As in ``import.begin``.
        count: How many rows of the source became events of this chain.
        root: The Merkle root over these rows in the source's order (RFC 6962; ``SPEC.md`` has a row's bytes).
        quarantined: How many rows of the whole source became no event of any chain, because they have no valid one.

    Raises:
        ControlInvalid: A field has no such form.
    """

    job: str
    source: str
    count: int
    root: bytes
    quarantined: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be packed."""
        _check_job(self.job, self.source)
        _check_digest("root", self.root)
        for name, number in (("count", self.count), ("quarantined", self.quarantined)):
            if not 0 <= number <= _NUMBER_MAX:
                raise ControlInvalid(f"import.end has {name} {number}, outside 0 to {_NUMBER_MAX}")

    def pack(self) -> bytes:
        """Return the body's bytes."""
        return (
            f"job {self.job}\nsource {self.source}\ncount {self.count}\nroot {self.root.hex()}\n"
            f"quarantined {self.quarantined}\n"
        ).encode()

    @classmethod
    def parse(cls, body: bytes) -> ImportEnd:
        """Return the body that bytes are, the inverse of :meth:`pack`.

        Raises:
            ControlInvalid: The bytes are none.
        """
        job, source, count, root, quarantined = _match(_END, body, "import.end").groups()
        return cls(job, source, int(count), bytes.fromhex(root), int(quarantined))


@dataclass(frozen=True, slots=True)
class SchemaText:
    """The body of ``schema``: the full text of a schema that values of the chain are written with.

    Arguments:
        text: The schema, as its registry or file has it.
        registry_id: Its id in the registry, which such values begin with; ``None`` where there is no registry.

    Raises:
        ControlInvalid: The text is no schema that a value may be decoded with, or the id is none.
    """

    text: str
    registry_id: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no schema."""
        _fingerprint(self.text)
        if self.registry_id is not None and not 0 <= self.registry_id <= _REGISTRY_ID_MAX:
            raise ControlInvalid(f"schema has the registry id {self.registry_id}, outside 0 to {_REGISTRY_ID_MAX}")

    @property
    def fingerprint(self) -> bytes:
        """The schema's CRC-64-AVRO, as single-object encoding writes it."""
        return _fingerprint(self.text)

    def pack(self) -> bytes:
        """Return the body's bytes."""
        registry_id = "none" if self.registry_id is None else str(self.registry_id)
        return f"fingerprint {self.fingerprint.hex()}\nregistry_id {registry_id}\n\n{self.text}".encode()

    @classmethod
    def parse(cls, body: bytes) -> SchemaText:
        """Return the body that bytes are, the inverse of :meth:`pack`.

        Raises:
            ControlInvalid: The bytes are none, or the fingerprint is not that of the schema.
        """
        fingerprint, registry_id, text = _match(_SCHEMA, body, "schema").groups()
        found = cls(text, None if registry_id == "none" else int(registry_id))
        if found.fingerprint.hex() != fingerprint:
            raise ControlInvalid(
                f"schema has the fingerprint {found.fingerprint.hex()}, and is said to have {fingerprint}"
            )
        return found


def _match(pattern: re.Pattern[str], body: bytes, action: str) -> re.Match[str]:
    try:
        match = pattern.fullmatch(body.decode())
    except UnicodeDecodeError:
        match = None
    if match is None:
        raise ControlInvalid(f"body of {len(body)} bytes is none of {action}")
    return match


def _check_job(job: str, source: str) -> None:
    if _JOB.fullmatch(job) is None:
        raise ControlInvalid(f"job {job[:80]!r} is no name", hint="use 1 to 50 of A-Za-z0-9_.-")
    if not 0 < len(source) <= SOURCE_CHARACTERS_MAX or _CONTROLS.search(source) is not None:
        raise ControlInvalid(f"source of the job {job} is empty, too long, or has a control character")
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise ControlInvalid(f"source of the job {job} holds half of a surrogate pair, which is no text") from error


def _check_digest(name: str, digest: bytes) -> None:
    if len(digest) != 32:
        raise ControlInvalid(f"{name} has {len(digest)} bytes instead of 32")


def _fingerprint(text: str) -> bytes:
    try:
        text.encode()
        return fingerprint_of(parse_writer_schema(json.loads(text)))
    except (ValueError, RecursionError) as error:  # UnicodeEncodeError and JSONDecodeError are of the first kind
        raise ControlInvalid("schema's text is no JSON") from error
    except SchemaUnknown as error:
        raise ControlInvalid(f"schema is refused: {error.message}") from error
