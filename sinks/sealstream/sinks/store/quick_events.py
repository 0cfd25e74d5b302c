"""The quick way from a payload to its packed row of ``events``: for events under the shipped schema, which most are.

It knows the fields of ``AuditEvent.avsc`` by heart, reads only what is searched, and makes the row's bytes without the
objects in between. What it does not know at a glance (other schemas, long forms of numbers, sealed control events, a
NUL) it leaves to :class:`~sealstream.sinks.store.derive.Deriver`, which also knows what is malformed; tests hold both
equal. Encodings: Avro 1.12 specification, binary encoding. Pure.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Final

from sealstream.schemas.codec import SALT_BYTES
from sealstream.sinks.store.binary import EPOCH_MICROSECONDS, JSONB_VERSION, NULL
from sealstream.sinks.store.derive import Stored
from sealstream.sinks.store.rows import EVENT_COLUMNS, SEARCHED_KINDS, TIME_MAX_MICROSECONDS, TIME_MIN_MICROSECONDS

_OUTCOMES: Final = {0: b"unknown", 2: b"success", 4: b"failure", 6: b"denied"}  # by their index, zig-zag
_ESCAPED: Final = re.compile(rb'[\x00-\x1f"\\]')  # what JSON does not take as it is
_KINDS: Final = frozenset(map(int, SEARCHED_KINDS))
_SEALED_FIXED_BYTES: Final = 32 + 32 + 12  # salt, commitment, nonce
_VARINT_BYTES_MAX: Final = 9  # ten are needed only by what no search row holds
_BEGIN: Final = struct.Struct(">hi")  # columns; size of the tenant
_SEQ: Final = struct.Struct(">iqi")  # seq; size of the class
_KIND: Final = struct.Struct(">ihi")  # kind; size of the event's id
_TIMES: Final = struct.Struct(">iqiq")  # received_at, occurred_at
_SIZE: Final = struct.Struct(">i")
_SIZES: Final = tuple(_SIZE.pack(size) for size in range(1024))  # nearly every text is shorter

Quote = Callable[[bytes], bytes]


class _NotQuickError(Exception):
    """The payload is not of the kind that is read quickly, or not sound."""


def quick_row(stored: Stored, start: int) -> bytes | None:
    """Return the packed row of ``events``, or ``None`` if it is to be made the plain way.

    Arguments:
        stored: An entry with a payload under the shipped schema.
        start: Where the payload's Avro body begins.
    """
    payload = stored.payload
    if payload is None or stored.kind not in _KINDS:
        return None
    try:
        return _row(stored, payload, start)
    except (_NotQuickError, IndexError, UnicodeDecodeError):
        return None


def _row(stored: Stored, value: bytes, at: int) -> bytes:
    event_id, at = _text(value, at)
    tenant, at = _text(value, at)
    if value[at] > 4 or value[at] & 1:
        raise _NotQuickError
    occurred, at = _long(value, at + 1 + SALT_BYTES)
    if not TIME_MIN_MICROSECONDS <= occurred <= TIME_MAX_MICROSECONDS:
        raise _NotQuickError
    actor_type, at = _text(value, at)
    actor_id, at = _text(value, at)
    actor_name, at = _optional(value, at)
    action, at = _text(value, at)
    targets: list[bytes | None] = []
    at = _targets(value, at, targets)
    outcome = _OUTCOMES.get(value[at])
    ip, at = _optional(value, at + 1)
    agent, at = _optional(value, at)
    location, at = _optional(value, at)
    session, at = _optional(value, at)
    request_id, at = _optional(value, at)
    traceparent, at = _optional(value, at)
    metadata: list[bytes] = []
    at = _map(value, at, metadata)
    if outcome is None or _rest(value, at) != len(value):
        raise _NotQuickError
    texts = [event_id, tenant, actor_type, actor_id, action, *metadata]
    optional = (actor_name, ip, agent, location, session, request_id, traceparent, *targets)
    texts.extend([text for text in optional if text is not None])
    quote = _quote_for(texts)
    context = (b"user_agent", agent), (b"location", location), (b"session", session), (b"traceparent", traceparent)
    received = min(stored.received, TIME_MAX_MICROSECONDS) - EPOCH_MICROSECONDS
    name, retention_class, own_id = stored.tenant.encode(), stored.retention_class.encode(), stored.event_id.encode()
    parts = [
        _BEGIN.pack(len(EVENT_COLUMNS), len(name)) + name,
        _SEQ.pack(8, stored.seq, len(retention_class)) + retention_class,
        _KIND.pack(2, stored.kind, len(own_id)) + own_id,
        _TIMES.pack(8, received, 8, occurred - EPOCH_MICROSECONDS),
    ]
    for text in (
        actor_type,
        actor_id,
        actor_name,
        action,
        outcome,
        _json_targets(targets, quote),
        ip,
        request_id,
        JSONB_VERSION + b"{" + b",".join([b'"%b":%b' % (k, quote(v)) for k, v in context if v is not None]) + b"}",
        _json_map(metadata, quote),
    ):
        if text is None:
            parts.append(NULL)
        else:
            size = len(text)
            parts.append(_SIZES[size] if size < 1024 else _SIZE.pack(size))
            parts.append(text)
    parts.append(NULL)  # undecoded
    return b"".join(parts)


def _text(value: bytes, at: int) -> tuple[bytes, int]:
    size = value[at]
    if size & 0x81:  # more than one byte, or negative
        size, at = _size(value, at)
    else:
        size >>= 1
        at += 1
    end = at + size
    return value[at:end], end


def _optional(value: bytes, at: int) -> tuple[bytes | None, int]:
    branch = value[at]
    if branch == 0:
        return None, at + 1
    if branch != 2:
        raise _NotQuickError
    return _text(value, at + 1)


def _size(value: bytes, at: int) -> tuple[int, int]:
    byte = value[at]
    if not byte & 0x81:
        return byte >> 1, at + 1
    number, at = _long(value, at)
    if number < 0:
        raise _NotQuickError
    return number, at


def _long(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    for place in range(at, at + _VARINT_BYTES_MAX):
        byte = value[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte and shift:
                break  # not in its shortest form
            return (number >> 1) ^ -(number & 1), place + 1
        shift += 7
    raise _NotQuickError


def _targets(value: bytes, at: int, found: list[bytes | None]) -> int:
    """Add type, id and name of each target, and return where the next field begins."""
    count, at = _size(value, at)
    while count:
        for _ in range(count):
            kind, at = _text(value, at)
            identity, at = _text(value, at)
            name, at = _optional(value, at)
            found += (kind, identity, name)
        count, at = _size(value, at)
    return at


def _map(value: bytes, at: int, found: list[bytes]) -> int:
    """Add keys and values, and return where the next field begins."""
    count, at = _size(value, at)
    while count:
        for _ in range(count):
            key, at = _text(value, at)
            text, at = _text(value, at)
            found += (key, text)
        count, at = _size(value, at)
    return at


def _rest(value: bytes, at: int) -> int:
    """Return where what stands behind the searched fields ends: sealed personal fields, the producer's mark."""
    if value[at] == 2:
        _, at = _long(value, at + 1)
        identity, at = _text(value, at)
        size, at = _size(value, at + _SEALED_FIXED_BYTES)
        at += size
        identity.decode()
    else:
        at = _null(value, at)
    if value[at] == 2:
        identity, at = _text(value, at + 1)
        _, at = _long(value, at)
        _, at = _long(value, at)
        identity.decode()
    else:
        at = _null(value, at)
    return _null(value, at)  # a control event is read the plain way


def _null(value: bytes, at: int) -> int:
    if value[at]:
        raise _NotQuickError
    return at + 1


def _quote_for(texts: list[bytes]) -> Quote:
    """Return what makes JSON of these texts.

    Raises:
        UnicodeDecodeError: One is not UTF-8.
        _NotQuickError: One holds a NUL.
    """
    together = b" ".join(texts)  # a space ends every sequence of UTF-8 that is not whole
    together.decode()
    if _ESCAPED.search(together) is None:
        return _quote_plain
    if b"\x00" in together:
        raise _NotQuickError
    return _quote_escaped


def _quote_plain(text: bytes) -> bytes:
    return b'"%b"' % text


def _quote_escaped(text: bytes) -> bytes:
    return encode_basestring_ascii(text.decode()).encode()


def _json_targets(targets: list[bytes | None], quote: Quote) -> bytes:
    items: list[bytes] = []
    for place in range(0, len(targets), 3):
        kind, identity, name = targets[place : place + 3]
        item = b'{"type":%b,"id":%b' % (quote(kind or b""), quote(identity or b""))
        items.append(item + b"}" if name is None else b'%b,"name":%b}' % (item, quote(name)))
    return JSONB_VERSION + b"[" + b",".join(items) + b"]"


def _json_map(texts: list[bytes], quote: Quote) -> bytes:
    items = [b"%b:%b" % (quote(texts[place]), quote(texts[place + 1])) for place in range(0, len(texts), 2)]
    return JSONB_VERSION + b"{" + b",".join(items) + b"}"
