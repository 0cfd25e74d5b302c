"""The ordinary record, checked in one pass: an event of a known tenant, with a new id, chained behind the last one.

Nearly every record is one. So what must stand for it is made here without the objects that the whole rules need, and
compared with what stands on audit.chained, byte for byte. Whatever is not ordinary, for whatever reason, is left for
the whole rules in ``rules.py`` and ``partition.py``: this pass accepts, and never finds fault. A test holds what it
accepts, and the state that it leaves behind, equal to theirs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from typing import Final, TypeAlias

from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER
from sealstream.schemas.entry import LABEL, PAYLOAD_PREFIX, SUITE_SHA256, VALUE_BYTES_MAX, Kind
from sealstream.sinks.verifier.chains import Chains
from sealstream.sinks.verifier.records import LOG_APPEND_TIME, Chain, ChainedMessage, Header, Outcome, Source
from sealstream.sinks.verifier.rules import EVENT_ID_BYTES, Rules

SALT_BYTES: Final = 16
VALUE_BYTES_MIN: Final = 26
"""The least that an event's frame and first fields take: 5 of a frame, 5 with the lengths, 16 of salt."""
ID_BYTES_MAX: Final = 63
"""Longer ids have a length of two bytes in Avro; the whole rules read those."""
_SINGLE_OBJECT_ID: Final = 11
"""Where an event's id begins behind a frame of single-object encoding; the byte before it has the id's size."""
_CONFLUENT_ID: Final = 6
"""The same behind Confluent's frame."""

_Form: TypeAlias = tuple[bytes, int, bytes]
"""What an ordinary event of one tenant and kind has behind its id, how many bytes it has behind its id at least, and
what its entry begins with up to its seq."""
_Packers: TypeAlias = tuple[Callable[..., bytes], ...]
"""What packs entries, by the size of the id. It takes what the entry begins with, seq, prev, received, topic_id and
partition in one, offset, the id, length and payload; ref is 0."""


class _Tenant:
    """A tenant whose chain goes on as it should.

    Arguments:
        chain: Its chain.
    """

    __slots__ = ("chain", "event", "imported", "packers")

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.event = _form(Kind.EVENT, chain.name, 0)
        self.imported = _form(Kind.IMPORTED, chain.name, 1)
        self.packers = _packers(len(self.event[2]))


class OrdinaryPass:
    """Accepts the ordinary records of one partition.

    Arguments:
        rules: The partition's rules; their window is shared.
        source: The partition of audit.events.
        chains: The partition's chains.
    """

    def __init__(self, rules: Rules, source: Source, chains: Chains) -> None:
        self._rules = rules
        self._source = source
        self._chains = chains
        self._tenants: dict[bytes | None, _Tenant] = {}
        self._place = struct.pack(">16sI", rules.topic_id, rules.partition)

    def forget(self) -> None:
        """Look at each chain anew, because they were changed or rest."""
        self._tenants.clear()

    def accept(
        self, messages: Sequence[ChainedMessage], start: int, outcome: Outcome, *, latest: int
    ) -> tuple[int, int]:
        """Accept records from an index on, up to the first that is not ordinary.

        Arguments:
            messages: The records of audit.chained.
            start: The index of the first one to be looked at.
            outcome: What they come to is added to it.
            latest: The latest time received that is possible, in microseconds since the Unix epoch.

        Returns:
            The index of the first record that was not accepted, and the source offset behind the last that was; that
            is 0 if none was.
        """
        # A few microseconds a record: what the loop touches is bound to locals, and what is short is not called.
        place, tenants, remember = self._place, self._tenants, self._rules.window.remember
        publish, at_hand = outcome.published.append, self._source.messages()
        count = imported = size_bytes = 0
        for message, event in zip(messages[start:] if start else messages, at_hand, strict=False):
            key, value = event.key(), event.value()
            tenant = tenants.get(key) or self._enter(key, outcome)
            if tenant is None or value is None or not VALUE_BYTES_MIN <= (length := len(value)) <= VALUE_BYTES_MAX:
                break
            begin = _SINGLE_OBJECT_ID if value[0] else _CONFLUENT_ID
            size = value[begin - 1]  # zig-zag, and one byte: twice the id's
            if not size or size & 0x81 or (value[0] and (value[0] != 0xC3 or value[1] != 0x01)):
                break
            size >>= 1
            end = begin + size
            stem, rest, head = form = tenant.event
            if not value.startswith(stem, end):
                stem, rest, head = form = tenant.imported
                if not value.startswith(stem, end):
                    break
            event_id, (time_type, milliseconds) = value[begin:end], event.timestamp()
            received = milliseconds * 1000
            if length < end + rest or event_id.translate(None, EVENT_ID_BYTES):
                break
            if time_type != LOG_APPEND_TIME or not 0 <= received <= latest:
                break
            chain, offset, digest = tenant.chain, event.offset() or 0, sha256(PAYLOAD_PREFIX + value).digest()
            seq, prev = chain.seq, chain.prev
            entry = tenant.packers[size](head, seq, prev, received, place, offset, event_id, length, digest)
            seal = (SEAL_ENTRY_HEADER, entry)
            try:
                headers = message.headers()
            except (SystemError, UnicodeError):
                break
            more = () if headers == [seal] else _behind(seal, headers)
            if more is None or message.value() != value or message.key() != key:
                break
            if not remember(chain.name, event_id, offset, received, digest, seq):
                break
            # Accepted: from here on nothing may go wrong.
            chain.seq, chain.prev = seq + 1, (digest := sha256(b"\x00" + entry).digest())
            publish((chain.name, value, seal, seq, digest, prev, event_id, more))
            imported += form is tenant.imported
            size_bytes += length
            count += 1
        if count == 0:
            return start, 0
        outcome.records += count
        outcome.kinds[Kind.IMPORTED] += imported
        outcome.kinds[Kind.EVENT] += count - imported
        return start + count, self._source.take(count, size_bytes)

    def _enter(self, key: bytes | None, outcome: Outcome) -> _Tenant | None:
        """Return the tenant that a key names, if its chain goes on as it should."""
        if not key or key[0] == ord("!"):
            return None
        chain = self._chains.get(key)
        if chain is None or not chain.seq or not chain.is_sound:
            return None
        outcome.touched[key] = chain
        tenant = self._tenants[key] = _Tenant(chain)
        return tenant


def _form(kind: Kind, tenant: bytes, index: int) -> _Form:
    size = 2 * len(tenant)  # zig-zag
    length = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    stem = length + tenant + bytes((2 * index,))
    return stem, len(stem) + SALT_BYTES, LABEL + bytes((SUITE_SHA256, kind, 0, len(tenant))) + tenant


@cache  # a head has at most 80 bytes
def _packers(head_size: int) -> _Packers:
    # 20 bytes are topic_id and partition, the 8 that stay zero are ref, and "p" is a string behind its length.
    return tuple(
        struct.Struct(f">{head_size}sQ32sQ20sQ8x{id_size + 1}pI32s").pack for id_size in range(ID_BYTES_MAX + 1)
    )


def _behind(seal: Header, headers: list[Header] | None) -> tuple[Header, ...] | None:
    """Return what stands behind the seal among a message's headers if that is a traceparent or nothing, else ``None``.

    The message's list is its own: confluent-kafka makes it once, so it must not be changed.
    """
    if not headers or headers[0] != seal or len(headers) > 2 or headers[-1][0] != TRACEPARENT_HEADER:
        return None
    return () if headers[-1][1] is None else (headers[-1],)
