"""The verifier's memory, audit.verifier: how far each partition is verified, and where each of its chains ends.

It is written in the transaction that carries what was verified, so the two cannot disagree. Two kinds of records, both
JSON, in the partition of the source partition that they speak of, all of one transaction's chains first:

- key ``<n>/<chain>``: ``seq`` and ``prev`` of the chain's next entry, ``other`` (the same, where the log may go on
  otherwise behind something at fault), ``missing``, ``open`` (ids of its open violations), ``unreported``;
  ``previous_topic`` (UUID) of one that was carried over from another epoch and has no entry in this one.
- key ``<n>``: ``version``, ``chained`` and ``source`` (the offsets to go on from), ``verified`` (the source offset
  behind the last verified record), the UUIDs of both topics, the ``genesis`` payload, ``delayed`` (hashes of entries
  behind their place), ``stopped`` (ids of violations that stop the whole partition).

``chained`` equals the group's committed offset, so a reader knows from their equality that it has all of a transaction.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from sealstream.schemas.errors import FormatError, HeadsDiffer
from sealstream.sinks.verifier.chains import Chains
from sealstream.sinks.verifier.records import OPEN_VIOLATIONS_MAX, Chain, Head

VERSION: Final = 1
_SOUND: Final = b'{"seq":%d,"prev":"%b","other":null,"missing":false,"open":[],"unreported":0}'
_SOUND_PATTERN: Final = re.compile(
    rb'\{"seq":([0-9]{1,19}),"prev":"([0-9a-f]{64})","other":null,"missing":false,"open":\[\],"unreported":0\}'
)
_HASH: Final = re.compile("[0-9a-f]{64}")
_UUID: Final = re.compile("[0-9a-f]{32}")
_VIOLATION_ID: Final = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far one partition is verified.

    Arguments:
        chained: The offset on audit.chained to go on from.
        source: The offset on audit.events to go on from.
        verified: The offset behind the last record of it that was verified; what lies between is no record.
        chained_topic_id: UUID of audit.chained, 16 bytes.
        source_topic_id: UUID of audit.events, 16 bytes.
        genesis: The payload that the partition's geneses have.
        delayed: Hashes of entries that were reported to stand behind their place and have not come yet.
        stopped: Ids of the violations that stop the whole partition.
    """

    chained: int
    source: int
    verified: int
    chained_topic_id: bytes
    source_topic_id: bytes
    genesis: bytes
    delayed: tuple[bytes, ...] = ()
    stopped: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """Return the value of the partition's record."""
        return _json(
            {
                "version": VERSION,
                "chained": self.chained,
                "source": self.source,
                "verified": self.verified,
                "chained_topic_id": self.chained_topic_id.hex(),
                "source_topic_id": self.source_topic_id.hex(),
                "genesis": self.genesis.decode(),
                "delayed": [digest.hex() for digest in self.delayed],
                "stopped": list(self.stopped),
            }
        )

    @classmethod
    def parse(cls, value: bytes) -> Position:
        """Return the position that a record holds, the inverse of :meth:`pack`.

        Raises:
            FormatError: The value is none, or of another version.
        """
        fields = _object(value)
        if fields.get("version") != VERSION:
            raise FormatError(f"the verifier's state is of version {fields.get('version')}", hint="run a newer version")
        return cls(
            chained=_number(fields, "chained"),
            source=_number(fields, "source"),
            verified=_number(fields, "verified"),
            chained_topic_id=bytes.fromhex(_text(fields, "chained_topic_id", _UUID)),
            source_topic_id=bytes.fromhex(_text(fields, "source_topic_id", _UUID)),
            genesis=_text(fields, "genesis").encode(),
            delayed=tuple(bytes.fromhex(digest) for digest in _texts(fields, "delayed", _HASH)),
            stopped=tuple(_texts(fields, "stopped", _VIOLATION_ID)),
        )


def pack_chain(chain: Chain) -> bytes:
    """Return the value of a chain's record."""
    if chain.is_sound:  # as nearly all are: several times as fast, and a test holds it equal
        return _SOUND % (chain.seq, chain.prev.hex().encode())
    other = None if chain.other is None else [chain.other.seq, chain.other.prev.hex()]
    fields: dict[str, object] = {
        "seq": chain.seq,
        "prev": chain.prev.hex(),
        "other": other,
        "missing": chain.missing,
        "open": chain.open,
        "unreported": chain.unreported,
    }
    if chain.previous_topic:
        fields["previous_topic"] = chain.previous_topic.hex()
    return _json(fields)


def parse_chain(name: bytes, value: bytes) -> Chain:
    """Return the chain that a record holds, the inverse of :func:`pack_chain`.

    Raises:
        FormatError: The value is none.
    """
    sound = _SOUND_PATTERN.fullmatch(value)
    if sound is not None:  # as nearly all are, of which there may be a million to be read
        return Chain(name, int(sound[1]), bytes.fromhex(sound[2].decode()))
    fields = _object(value)
    other = fields.get("other")
    if other is not None:
        if not (isinstance(other, list) and len(other) == 2):  # pyright: ignore[reportUnknownArgumentType]
            raise FormatError("the verifier's state has an 'other' that is no head")
        pair: dict[str, Any] = {"seq": other[0], "prev": other[1]}
        other = Head(_number(pair, "seq"), bytes.fromhex(_text(pair, "prev", _HASH)))
    return Chain(
        name,
        _number(fields, "seq"),
        bytes.fromhex(_text(fields, "prev", _HASH)),
        other=other,
        missing=fields.get("missing") is True,
        open=_texts(fields, "open", _VIOLATION_ID)[:OPEN_VIOLATIONS_MAX],
        unreported=_number(fields, "unreported"),
        previous_topic=bytes.fromhex(_text(fields, "previous_topic", _UUID)) if "previous_topic" in fields else b"",
    )


def partition_key(partition: int) -> bytes:
    """Return the key of a partition's record."""
    return b"%d" % partition


def chain_key(partition: int, name: bytes) -> bytes:
    """Return the key of a chain's record."""
    return b"%d/%b" % (partition, name)


@dataclass
class StateReader:
    """Takes in the records of one partition of audit.verifier, in their order.

    Arguments:
        partition: The partition.
    """

    partition: int
    position: Position | None = None
    chains: Chains = field(default_factory=Chains)

    def feed(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record.

        Raises:
            HeadsDiffer: The record is not one that a verifier writes there.
        """
        try:
            self._take_in(key, value)
        except FormatError as error:
            raise HeadsDiffer(
                f"audit.verifier, partition {self.partition}: {error.message}",
                hint="only verifiers may write audit.verifier: see who did, and begin again with an empty one",
            ) from error

    def _take_in(self, key: bytes | None, value: bytes | None) -> None:
        prefix = chain_key(self.partition, b"")
        if key is not None and value is not None and key.startswith(prefix):
            name = key[len(prefix) :]
            self.chains.put(parse_chain(name, value))
        elif key == partition_key(self.partition) and value is not None:
            self.position = Position.parse(value)
        else:
            raise FormatError("a record's key is neither the partition nor a chain of it")


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _object(value: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise FormatError("the verifier's state is no JSON") from error
    if not isinstance(fields, dict):
        raise FormatError("the verifier's state is no JSON object")
    return fields  # pyright: ignore[reportUnknownVariableType]  # JSON's keys are strings


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FormatError(f"the verifier's state has no number {name!r}")
    return value


def _text(fields: dict[str, Any], name: str, pattern: re.Pattern[str] | None = None) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or (pattern is not None and pattern.fullmatch(value) is None):
        raise FormatError(f"the verifier's state has no {name!r}")
    return value


def _texts(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> list[str]:
    values = fields.get(name)
    if not isinstance(values, list):
        raise FormatError(f"the verifier's state has no list {name!r}")
    return [_text({name: value}, name, pattern) for value in values]  # pyright: ignore[reportUnknownVariableType]
