"""The ordinary row of the store, checked in one pass: an event of a tenant with a new id, chained behind the last one.

Nearly every row is one. So what must stand there is made from the row before, the payload, and the two numbers that
only the row itself tells (offset and time), and is compared with the row, byte for byte, columns and entry and all.
Whatever is not ordinary, for whatever reason, is left for the whole rules in ``stored_chain.py``: this pass accepts,
and never finds fault. A test holds what it accepts, and the state that it leaves behind, equal to theirs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from sealstream.schemas.entry import LABEL, PAYLOAD_PREFIX, SUITE_SHA256, Kind, parse
from sealstream.schemas.errors import EntryInvalid
from sealstream.sinks.verifier.ordinary import ID_BYTES_MAX, SALT_BYTES, VALUE_BYTES_MIN
from sealstream.sinks.verifier.rules import EVENT_ID_BYTES
from sealstream.sinks.verifier.stored_chain import StoredChain
from sealstream.sinks.verifier.stored_copy import COLUMNS, CopyRow

_SINGLE_OBJECT_ID: Final = 11
_CONFLUENT_ID: Final = 6
"""Where an event's id begins in either framing, behind its size."""
_MIDDLE: Final = struct.Struct(
    ">iiihi16si"
)  # partition, kind and topic_id, each behind its size, and the offset's size
_TIMES: Final = struct.Struct(">q4xq")  # offset and received, with the size between them
_FIXED_BYTES: Final = 8 + 4 + 8 + 4 + 32  # offset, received and hash with the sizes between them
_ENTRY_BYTES: Final = 121
"""An entry's fields from its seq on, but for the id."""
_ENTRY_FIELDS: Final = struct.Struct(">q32xq16xiqqB")
"""What the duplicate window needs of an entry, from its seq on, up to the size of its id: with ref and partition."""
_DIGEST_BYTES: Final = 32
_ONE_COLUMN_BYTES: Final = 6
"""In front of the only column of a row: the number of columns, and its size."""
_KINDS: Final = (Kind.EVENT, Kind.IMPORTED)

_Packer: TypeAlias = Callable[..., bytes]


class _Form(NamedTuple):
    """What does not change from row to row of one chain and kind.

    Arguments:
        stem: What stands in the payload behind the id: the tenant, with its length, and the kind.
        middle: The row's columns between seq and offset.
        head: What the entry begins with, up to its seq.
    """

    stem: bytes
    middle: bytes
    head: bytes


class OrdinaryRows:
    """Accepts the ordinary rows of one chain.

    Arguments:
        chain: The chain; what is accepted moves it on.
    """

    def __init__(self, chain: StoredChain) -> None:
        self._chain = chain
        self._tenant = tenant = chain.tenant.encode()
        # The number of columns, the tenant behind its size, and the size of seq.
        self._front = struct.pack(f">hi{len(tenant)}si", len(COLUMNS), len(tenant), tenant, 8)
        self._source: tuple[bytes, int] | None = None
        self._forms: list[_Form] = []

    def accept(self, rows: Sequence[CopyRow], start: int, leaves: list[bytes]) -> int:
        """Accept rows from an index on, up to the first that is not ordinary, and return that one's index.

        The last of the rows is never accepted: what follows it could stand at the same place.

        Arguments:
            rows: The rows.
            start: The index of the first.
            leaves: Takes the hashes of the entries that are accepted.
        """
        standing = self._chain.standing
        if standing is None:
            return start
        seq, prev, last_offset, topic_id, partition, window = standing
        form, other = self._forms_of(topic_id, partition)
        # A few microseconds a row: what the loop touches is bound to locals.
        front, tenant, remember = self._front, self._tenant, window.remember
        times_of, packers = _TIMES.unpack_from, _packers(len(self._front), len(form.head))
        times_at = len(front) + 8 + len(form.middle)
        id_size_at = times_at + _FIXED_BYTES + 3  # the last byte of four
        entry_at, rest_bytes = id_size_at + 1 + 4, len(form.head) + _ENTRY_BYTES
        value_at, index, last = entry_at + rest_bytes + 4, start, None
        seq_at = slice(len(front), len(front) + 8)
        for row, following in pairwise(rows[start:]):
            if len(row) < value_at + VALUE_BYTES_MIN or following[seq_at] == row[seq_at]:
                break
            size = row[id_size_at]
            value = row[value_at + 2 * size :]
            id_at = _CONFLUENT_ID if value[:1] == b"\0" else _SINGLE_OBJECT_ID if value[:2] == b"\xc3\x01" else 0
            length, stem_at = len(value), id_at + size
            if not id_at or not 0 < size <= ID_BYTES_MAX or length < stem_at + len(form.stem) + SALT_BYTES:
                break
            stem, middle, head = form if value.startswith(form.stem, stem_at) else other
            event_id, entry = value[id_at:stem_at], row[entry_at + size : value_at + 2 * size - 4]
            offset, received = times_of(row, times_at)
            if value[id_at - 1] != 2 * size or not value.startswith(stem, stem_at) or offset <= last_offset:
                break
            if received < 0 or event_id.translate(None, EVENT_ID_BYTES):
                break
            digest, leaf = sha256(PAYLOAD_PREFIX + value).digest(), sha256(b"\0" + entry).digest()
            expected = packers[size](
                front, seq + 1, middle, offset, 8, received, 32, leaf, size, event_id, rest_bytes + size,
                head, seq + 1, prev, received, topic_id, partition, offset, 0, size, event_id, length, digest,
                length,
            )  # fmt: skip
            if not row.startswith(expected) or not remember(tenant, event_id, offset, received, digest, seq + 1):
                break
            # Accepted: from here on nothing may go wrong.
            seq, prev, last_offset, last = seq + 1, leaf, offset, entry
            leaves.append(leaf)
            index += 1
        if last is not None:
            self._chain.go_on(index - start, prev, last)
        return index

    def remember(self, rows: Iterable[CopyRow]) -> None:
        """Take in entries from before the first row, a column each, for the duplicate window only."""
        window, chain, tenant = self._chain.window, self._chain, self._tenant
        heads = tuple(_head(kind, tenant) for kind in _KINDS)
        fields_at, id_at = len(heads[0]), len(heads[0]) + _ENTRY_FIELDS.size
        for row in rows:
            entry = row[_ONE_COLUMN_BYTES:]
            if window is not None and entry.startswith(heads) and len(entry) >= id_at + _DIGEST_BYTES:
                seq, received, partition, offset, ref, size = _ENTRY_FIELDS.unpack_from(entry, fields_at)
                event_id = entry[id_at : id_at + size]
                if (
                    0 < size <= ID_BYTES_MAX
                    and len(entry) == fields_at + _ENTRY_BYTES + size
                    and min(seq - 1, received, partition, offset, 127 - entry[-_DIGEST_BYTES - 4]) >= 0
                    and not ref
                    and not event_id.translate(None, EVENT_ID_BYTES)
                    and window.remember(tenant, event_id, offset, received, entry[-_DIGEST_BYTES:], seq)
                ):
                    continue
            try:
                chain.remember(parse(entry))
            except EntryInvalid:
                continue  # not in the range to be checked
            window = chain.window  # an epoch begins another one

    def _forms_of(self, topic_id: bytes, partition: int) -> list[_Form]:
        """Return the forms of events and of imported events, which are others behind an epoch."""
        if self._source != (topic_id, partition):
            self._source = (topic_id, partition)
            self._forms = [_form(kind, index, self._tenant, topic_id, partition) for index, kind in enumerate(_KINDS)]
        return self._forms


def _form(kind: Kind, index: int, tenant: bytes, topic_id: bytes, partition: int) -> _Form:
    size = 2 * len(tenant)  # zig-zag
    length = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    return _Form(
        stem=length + tenant + bytes((2 * index,)),
        middle=_MIDDLE.pack(4, partition, 2, kind, 16, topic_id, 8),
        head=_head(kind, tenant),
    )


def _head(kind: Kind, tenant: bytes) -> bytes:
    return LABEL + bytes((SUITE_SHA256, kind, 0, len(tenant))) + tenant


@cache  # a tenant has at most 64 bytes
def _packers(front: int, head: int) -> tuple[_Packer, ...]:
    """Return, by the size of the id, what packs a row up to its payload: the columns, and the entry again as one."""
    return tuple(
        struct.Struct(
            f">{front}sQ{_MIDDLE.size}sQiQi32si{size}si"  # columns, each with the size of the next
            f"{head}sQ32sQ16sIQQB{size}sI32s"  # the entry
            "i"  # size of the payload
        ).pack
        for size in range(ID_BYTES_MAX + 1)
    )
