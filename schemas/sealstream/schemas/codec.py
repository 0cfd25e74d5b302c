"""Events to bytes and back: Avro with either of its two framings, and the prefix that is read without a schema.

- Confluent framing: ``00``, the schema's id in a registry as 4 bytes big-endian, the Avro body.
- Single-object encoding (Avro 1.12 specification): ``c3 01``, the schema's CRC-64-AVRO fingerprint as 8 bytes
  little-endian, the Avro body.

Every reader takes both. A writer uses the first where a registry is configured, else the second.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias, cast

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from sealstream.schemas.entry import EVENT_ID_BYTES, VALUE_BYTES_MAX
from sealstream.schemas.errors import FrameInvalid, SchemaUnknown
from sealstream.schemas.event import (
    Actor,
    AuditEvent,
    Context,
    Control,
    EventKind,
    Outcome,
    ProducerMark,
    Sealed,
    Target,
)
from sealstream.schemas.event_body import event_body
from sealstream.schemas.writer_schema import Schema, parse_writer_schema

Datum: TypeAlias = dict[str, Any]  # what fastavro writes and reads: untyped by nature

CONFLUENT_MAGIC: Final = 0x00
SINGLE_OBJECT_MAGIC: Final = b"\xc3\x01"
SALT_BYTES: Final = 16
EVENT_KINDS: Final = (EventKind.EVENT, EventKind.IMPORTED, EventKind.CONTROL)
"""The symbols of the enum ``kind``, by their index on the wire."""

_CONFLUENT: Final = struct.Struct(">BI")
_VARINT_BYTES_MAX: Final = 5  # lengths are below 2**31, and the format says no longer form


@cache
def schema_text(name: str) -> str:
    """Return the text of one of the schemas that ship with Sealstream, such as ``AuditEvent``."""
    return files("sealstream.schemas").joinpath("avro", f"{name}.avsc").read_text(encoding="utf-8")


@cache
def schema(name: str) -> Schema:
    """Return one of the shipped schemas, parsed."""
    return parse_schema(json.loads(schema_text(name)))


@cache
def schema_fingerprint(name: str) -> bytes:
    """Return the 8 bytes that name a shipped schema in single-object encoding (CRC-64-AVRO, little-endian)."""
    return fingerprint_of(schema(name))


def fingerprint_of(parsed: Schema) -> bytes:
    """Return a schema's CRC-64-AVRO fingerprint as single-object encoding writes it: 8 bytes, little-endian."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO"))


def frame_single_object(name: str, body: bytes) -> bytes:
    """Return an Avro body in single-object encoding, under a shipped schema's fingerprint."""
    return SINGLE_OBJECT_MAGIC + schema_fingerprint(name) + body


def frame_confluent(schema_id: int, body: bytes) -> bytes:
    """Return an Avro body in Confluent's framing, under a schema's id in the registry."""
    return _CONFLUENT.pack(CONFLUENT_MAGIC, schema_id) + body


def frame_bytes(name: str, schema_id: int | None) -> bytes:
    """Return what stands before a body: Confluent's framing with a schema's id, single-object encoding without."""
    return frame_single_object(name, b"") if schema_id is None else frame_confluent(schema_id, b"")


def encode_body(name: str, datum: Datum) -> bytes:
    """Return the bare Avro encoding of a datum under a shipped schema."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema(name), datum)  # pyright: ignore[reportUnknownMemberType]
    return buffer.getvalue()


def encode_event(event: AuditEvent, *, schema_id: int | None = None, producer: ProducerMark | None = None) -> bytes:
    """Return an event as the value of a Kafka record.

    Arguments:
        event: A valid event (see :meth:`AuditEvent.check`; it is not checked again).
        schema_id: The schema's id in the registry for Confluent framing; without one, single-object encoding.
        producer: Stands in place of the event's own mark, if given.
    """
    body = event_body(event, producer=producer)
    return frame_single_object("AuditEvent", body) if schema_id is None else frame_confluent(schema_id, body)


SchemaById: TypeAlias = Callable[[int], Schema]


class EventReader:
    """Decodes events in either framing.

    Values and registries are not trusted: whatever the bytes say, decoding takes time and memory in proportion to their
    number (at most about 100 bytes of memory a byte), and raises nothing but what stands below.

    Arguments:
        schema_by_id: Finds a writer's schema in a registry by its id, parsed; raises :class:`SchemaUnknown` if there is
            none. Without it, values in Confluent framing cannot be decoded: their bytes alone do not say how.
        others: Parsed schemas besides the shipped one that single-object encoded values may be written with.

    Raises:
        SchemaUnknown: One of the others is a schema that :func:`parse_writer_schema` refuses.
    """

    def __init__(self, *, schema_by_id: SchemaById | None = None, others: tuple[Schema, ...] = ()) -> None:
        self._schema_by_id = schema_by_id
        safe = [parse_writer_schema(other) for other in others]
        self._by_fingerprint = {schema_fingerprint("AuditEvent"): schema("AuditEvent")}
        self._by_fingerprint |= {fingerprint_of(parsed): parsed for parsed in safe}
        self._shipped_frame = SINGLE_OBJECT_MAGIC + schema_fingerprint("AuditEvent")
        # An id never changes its schema, so both are for ever, and bounded by what the registry holds.
        self._by_id: dict[int, Schema] = {}
        self._shipped_ids: set[int] = set()
        self._refused: dict[int, str] = {}

    def read(self, value: bytes) -> AuditEvent:
        """Return the event that a record's value holds.

        Raises:
            FrameInvalid: The value has no known frame, its prefix is malformed (:func:`read_prefix`), its body does not
                decode, or its writer's schema puts something else in the prefix's place.
            SchemaUnknown: The writer's schema cannot be found, or is refused (:func:`parse_writer_schema`).
        """
        return event_from_datum(self.read_datum(value))

    def read_datum(self, value: bytes) -> Datum:
        """Return the event that a record's value holds as the dictionary of the shipped schema: a third cheaper.

        Raises:
            FrameInvalid, SchemaUnknown: As :meth:`read`.
        """
        event_id, tenant, kind = read_prefix(value)
        writer, start = self._writer_schema(value)
        datum = _decode_body(writer, schema("AuditEvent"), value, start)
        if (datum["id"].encode(), datum["tenant"].encode(), datum["kind"]) != (event_id, tenant, EVENT_KINDS[kind]):
            raise FrameInvalid("value's schema does not begin with id, tenant, kind and salt")
        return datum

    def shipped_body(self, value: bytes) -> int | None:
        """Return where the body begins of a value that was written with the shipped schema.

        Such a body can be read by whoever knows the schema by heart. ``None`` if it was written with another one, if
        the registry's id was not met by :meth:`read_datum` yet, or if there is no frame.
        """
        if value.startswith(self._shipped_frame):
            return len(self._shipped_frame)
        framed = value[:1] == b"\x00" and len(value) >= _CONFLUENT.size
        return _CONFLUENT.size if framed and _CONFLUENT.unpack_from(value)[1] in self._shipped_ids else None

    def _writer_schema(self, value: bytes) -> tuple[Schema, int]:
        start = body_start(value)
        if value[0] != CONFLUENT_MAGIC:
            return _by_fingerprint(self._by_fingerprint, value), start
        schema_id = _CONFLUENT.unpack_from(value)[1]
        if self._schema_by_id is None:
            raise SchemaUnknown(
                f"value names schema {schema_id} of a registry, and none is configured", hint="set SEALSTREAM_REGISTRY"
            )
        if schema_id not in self._by_id:
            found = self._by_id[schema_id] = self._find(self._schema_by_id, schema_id)
            if to_parsing_canonical_form(found) == to_parsing_canonical_form(schema("AuditEvent")):
                self._shipped_ids.add(schema_id)
        return self._by_id[schema_id], start

    def _find(self, schema_by_id: SchemaById, schema_id: int) -> Schema:
        if schema_id not in self._refused:
            found = schema_by_id(schema_id)
            try:
                return parse_writer_schema(found)
            except SchemaUnknown as error:
                self._refused[schema_id] = error.message
        raise SchemaUnknown(f"schema {schema_id} of the registry is refused: {self._refused[schema_id]}")


def decode(name: str, value: bytes) -> Datum:
    """Return what a value in single-object encoding holds, written with the shipped schema of that name.

    Raises:
        FrameInvalid: The value has another frame, or its body does not decode.
        SchemaUnknown: The value was written with another schema.
    """
    start = body_start(value)
    if value[0] == CONFLUENT_MAGIC:
        raise FrameInvalid(f"value is a {name} in Confluent framing, and those are in single-object encoding only")
    writer = _by_fingerprint({schema_fingerprint(name): schema(name)}, value)
    return _decode_body(writer, schema(name), value, start)


def _by_fingerprint(known: Mapping[bytes, Schema], value: bytes) -> Schema:
    try:
        return known[value[2:10]]
    except KeyError:
        raise SchemaUnknown(
            f"no schema has the fingerprint {value[2:10].hex()}", hint="read it with a newer version"
        ) from None


_DECODE_ERRORS: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    SchemaResolutionError,
    TypeError,
    ValueError,
)
"""What fastavro raises where bytes are not what their schema says, or a schema cannot be read as another one."""


def _decode_body(writer: Schema, reader: Schema, value: bytes, start: int) -> Datum:
    """Return what the body of a value holds.

    Raises:
        FrameInvalid: The body does not decode, or bytes stand behind it.
    """
    buffer = io.BytesIO(value)
    buffer.seek(start)
    try:
        datum = fastavro.schemaless_reader(buffer, writer, reader)  # pyright: ignore[reportUnknownMemberType]
    except _DECODE_ERRORS as error:
        raise FrameInvalid(f"value does not decode: {type(error).__name__}") from error
    if buffer.tell() != len(value):
        raise FrameInvalid(f"value has {len(value) - buffer.tell()} bytes behind its end")
    return cast("Datum", datum)  # a record decodes to a dict


def body_start(value: bytes) -> int:
    """Return where the Avro body begins behind the frame.

    Raises:
        FrameInvalid: The value does not begin with a whole frame of either kind.
    """
    if value[:1] == b"\x00" and len(value) >= 5:
        return 5
    if value[:2] == SINGLE_OBJECT_MAGIC and len(value) >= 10:
        return 10
    raise FrameInvalid("value begins with neither 00 and a schema id nor c3 01 and a fingerprint")


def read_prefix(value: bytes) -> tuple[bytes, bytes, int]:
    """Read what begins every version of AuditEvent, by hand: no registry, no schema, no header.

    Returns:
        The id and the tenant as bytes (not checked against their patterns) and the index of the kind.

    Raises:
        FrameInvalid: The frame or the prefix is malformed: cut short, a length that is negative or not in its
            shortest form, or a kind that does not exist.
    """
    start = body_start(value)
    try:
        size = value[start]
        if size & 0x81:  # more than one byte, or negative
            size, start = _read_length(value, start)
        else:
            size >>= 1
            start += 1
        end = start + size
        event_id = value[start:end]
        size = value[end]
        if size & 0x81:
            size, start = _read_length(value, end)
        else:
            size >>= 1
            start = end + 1
        end = start + size
        tenant = value[start:end]
        kind = value[end]
    except IndexError:
        raise FrameInvalid("value is cut short within its first fields") from None
    if kind > 4 or kind & 1:
        raise FrameInvalid("value has a kind that does not exist")
    if len(value) < end + 1 + SALT_BYTES:
        raise FrameInvalid("value is cut short within its salt")
    return event_id, tenant, kind >> 1


def ordinary_mark(tenant: bytes) -> bytes:
    """Return what stands behind the id in every value of this tenant whose kind is event: the tenant and the kind."""
    size = len(tenant) * 2
    return (bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))) + tenant + b"\x00"


def ordinary_event_id(value: bytes, mark: bytes) -> bytes:
    """Return the id of an ordinary event, or empty bytes if the value may be something else: for the hot path.

    An ordinary event has a valid id of less than 64 bytes and is of the kind event. What this says of a value,
    :func:`read_prefix` says as well; of what it says nothing, :func:`read_prefix` has to be asked.

    Arguments:
        value: The value.
        mark: The :func:`ordinary_mark` of the tenant that it must name.
    """
    start = 11 if value[:2] == SINGLE_OBJECT_MAGIC else 6 if value[:1] == b"\x00" else 0
    size = len(value)
    if not start or not start < size <= VALUE_BYTES_MAX:
        return b""
    twice = value[start - 1]
    if twice & 0x81:  # more than one byte, or negative
        return b""
    end = start + (twice >> 1)
    stop = end + len(mark)
    if value[end:stop] != mark or size < stop + SALT_BYTES:
        return b""
    event_id = value[start:end]
    # Most ids are letters and digits, which is the cheaper question.
    return event_id if event_id.isalnum() or not event_id.translate(None, EVENT_ID_BYTES) else b""


def _read_length(value: bytes, start: int) -> tuple[int, int]:
    """Return a length (zig-zag varint, shortest form, at most five bytes) and where what it counts begins."""
    number = 0
    for index in range(_VARINT_BYTES_MAX):
        byte = value[start + index]
        number |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            if number & 1 or (index and not byte):
                break
            return number >> 1, start + index + 1
    raise FrameInvalid("value has a length that is negative, too large, or not in its shortest form")


def event_to_datum(event: AuditEvent) -> Datum:
    """Return an event as the dictionary that the schema's writer takes."""
    context, personal, producer, control = event.context, event.personal, event.producer, event.control
    return {
        "id": event.id,
        "tenant": event.tenant,
        "kind": event.kind.value,
        "salt": event.salt,
        "occurred_at": event.occurred_at,
        "actor": {"type": event.actor.type, "id": event.actor.id, "name": event.actor.name},
        "action": event.action,
        "targets": [{"type": target.type, "id": target.id, "name": target.name} for target in event.targets],
        "outcome": event.outcome.value,
        "context": {
            "ip": context.ip,
            "user_agent": context.user_agent,
            "location": context.location,
            "session": context.session,
            "request_id": context.request_id,
            "traceparent": context.traceparent,
        },
        "metadata": dict(event.metadata),
        "personal": None if personal is None else {name: getattr(personal, name) for name in Sealed.__slots__},
        "producer": None if producer is None else {"id": producer.id, "epoch": producer.epoch, "n": producer.n},
        "control": None if control is None else {"note": control.note, "body": control.body},
    }


def event_from_datum(datum: Datum) -> AuditEvent:
    """Return the event that a dictionary stands for, which was decoded with the shipped schema as the reader's."""
    return AuditEvent(
        id=datum["id"],
        tenant=datum["tenant"],
        kind=EventKind(datum["kind"]),
        salt=datum["salt"],
        occurred_at=datum["occurred_at"],
        actor=Actor(**datum["actor"]),
        action=datum["action"],
        targets=tuple(Target(**target) for target in datum["targets"]),
        outcome=Outcome(datum["outcome"]),
        context=Context(**datum["context"]),
        metadata=datum["metadata"],
        personal=None if datum["personal"] is None else Sealed(**datum["personal"]),
        producer=None if datum["producer"] is None else ProducerMark(**datum["producer"]),
        control=None if datum["control"] is None else Control(**datum["control"]),
    )
