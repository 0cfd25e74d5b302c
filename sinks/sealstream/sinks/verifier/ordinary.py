"""The ordinary record, checked in one pass: an event of a known tenant, with a new id, chained behind the last one.

Nearly every record is one. So what must stand for it is made here without the objects that the whole rules need, and
compared with what stands on audit.chained, byte for byte. Whatever is not ordinary, for whatever reason, is left for
the whole rules in ``rules.py`` and ``partition.py``: this pass accepts, and never finds fault. A test holds what it
accepts, and the state that it leaves behind, equal to theirs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple, cast

from sealstream.kafka.topics import SEAL_ENTRY_HEADER, TRACEPARENT_HEADER
from sealstream.schemas.entry import LABEL, PAYLOAD_PREFIX, SUITE_SHA256, VALUE_BYTES_MAX, Kind
from sealstream.sinks.verifier.chains import Chains
from sealstream.sinks.verifier.records import LOG_APPEND_TIME, Chain, ChainedMessage, Outcome, Source
from sealstream.sinks.verifier.rules import EVENT_ID_BYTES, Rules

SALT_BYTES: Final = 16
VALUE_BYTES_MIN: Final = 26
"""The least that an event's frame and first fields take: 5 of a frame, 5 with the lengths, 16 of salt."""
ID_BYTES_MAX: Final = 63
"""Longer ids have a length of two bytes in Avro; the whole rules read those."""
_SINGLE_OBJECT_BODY: Final = 10
_CONFLUENT_BODY: Final = 5


class _Form(NamedTuple):
    """What an ordinary event of one tenant and kind begins with, and its entry.

    Arguments:
        kind: The entry's kind.
        stem: What stands in the event behind its id: the tenant, with its length, and the kind.
        head: What the entry begins with up to its seq, behind the byte that a leaf's hash begins with.
    """

    kind: Kind
    stem: bytes
    head: bytes


class _Tenant(NamedTuple):
    """A tenant whose chain goes on as it should.

    Arguments:
        chain: Its chain.
        event: The form of its events.
        imported: The form of its imported events.
    """

    chain: Chain
    event: _Form
    imported: _Form


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
        self._pack = tuple(_packer(size) for size in range(ID_BYTES_MAX + 1))

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
        # A few microseconds a record: what the loop touches is bound to locals.
        topic_id, partition, remember = self._rules.topic_id, self._rules.partition, self._rules.window.remember
        tenants, pack, publish = self._tenants, self._pack, outcome.published.append
        at_hand = self._source.messages()
        imported = size_bytes = 0
        index, last = start, None
        for message in messages[start:] if start else messages:
            if not at_hand:
                break
            event = at_hand[0]
            key, value = event.key(), event.value()
            tenant = tenants.get(key) or self._enter(key, outcome)
            if tenant is None or value is None or not VALUE_BYTES_MIN <= (length := len(value)) <= VALUE_BYTES_MAX:
                break
            chain, form, other = tenant
            event_id = _id_of(value, form.stem)
            if not event_id:
                form, event_id = other, _id_of(value, other.stem)
            time_type, milliseconds = event.timestamp()
            received = milliseconds * 1000
            if not event_id or time_type != LOG_APPEND_TIME or not 0 <= received <= latest:
                break
            offset, size, seq, prev = event.offset() or 0, len(event_id), chain.seq, chain.prev
            digest = sha256(PAYLOAD_PREFIX + value).digest()
            leaf = form.head + pack[size](
                seq, prev, received, topic_id, partition, offset, 0, size, event_id, length, digest
            )
            headers = _headers(message, leaf)
            if headers is None or message.value() != value or message.key() != key:
                break
            if not remember(chain.name, event_id, offset, received, digest, seq):
                break
            # Accepted: from here on nothing may go wrong.
            last = at_hand.popleft()
            chain.seq = seq + 1
            chain.prev = digest = sha256(leaf).digest()
            traceparent = headers[1][1] if len(headers) > 1 else None
            publish((chain.name, value, headers[0][1], seq, digest, prev, event_id, traceparent))
            imported += form is other
            size_bytes += length
            index += 1
        if last is None:
            return start, 0
        outcome.records += index - start
        outcome.kinds[Kind.IMPORTED] += imported
        outcome.kinds[Kind.EVENT] += index - start - imported
        self._source.taken(last, size_bytes)
        return index, (last.offset() or 0) + 1

    def _enter(self, key: bytes | None, outcome: Outcome) -> _Tenant | None:
        """Return the tenant that a key names, if its chain goes on as it should."""
        if not key or key[0] == ord("!"):
            return None
        chain = self._chains.get(key)
        if chain is None or not chain.seq or not chain.is_sound:
            return None
        forms = (_form(kind, key, index) for index, kind in enumerate((Kind.EVENT, Kind.IMPORTED)))
        tenant = self._tenants[key] = _Tenant(chain, *forms)
        outcome.touched[key] = chain
        return tenant


def _form(kind: Kind, tenant: bytes, index: int) -> _Form:
    size = 2 * len(tenant)  # zig-zag
    length = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    head = b"\x00" + LABEL + bytes((SUITE_SHA256, kind, 0, len(tenant))) + tenant
    return _Form(kind, length + tenant + bytes((2 * index,)), head)


def _packer(id_size: int) -> Callable[..., bytes]:
    """Return what packs the rest of an entry, from its seq on, with an id of a size."""
    pack: Callable[..., Any] = struct.Struct(f">Q32sQ16sIQQB{id_size}sI32s").pack
    return pack


def _id_of(value: bytes, stem: bytes) -> bytes | None:
    """Return the id of an event whose first fields go on with a stem; ``None`` or empty if they do not."""
    if value[0] == 0xC3 and value[1] == 0x01:
        start = _SINGLE_OBJECT_BODY
    elif value[0] == 0x00:
        start = _CONFLUENT_BODY
    else:
        return None
    size = value[start]  # zig-zag, and one byte: twice the id's size
    if size & 0x81:
        return None
    end = start + 1 + (size >> 1)
    if not value.startswith(stem, end) or len(value) < end + len(stem) + SALT_BYTES:
        return None
    event_id = value[start + 1 : end]
    return None if event_id.translate(None, EVENT_ID_BYTES) else event_id


def _headers(message: ChainedMessage, leaf: bytes) -> list[tuple[str, bytes]] | None:
    """Return a message's headers if they are the entry that a leaf's hash is made of, and a traceparent or nothing.

    They are the message's own: confluent-kafka makes them once, so they must not be changed.
    """
    try:
        headers = cast("list[tuple[str, bytes]] | None", message.headers())
    except (SystemError, UnicodeError):
        return None
    if not headers or headers[0][0] != SEAL_ENTRY_HEADER or headers[0][1] != leaf[1:]:
        return None
    if len(headers) == 1 or (len(headers) == 2 and headers[1][0] == TRACEPARENT_HEADER):
        return headers
    return None
