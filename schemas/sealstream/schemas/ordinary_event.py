"""Ordinary events, checked and written in one go: for the hot path of an application's request.

Nearly every event is of the kind event, in ASCII and with short texts. For those one pass over the fields does what
:meth:`AuditEvent.check` and :mod:`sealstream.schemas.event_body` do in two, in a quarter of their time. Whatever is not
so is left to those two; a test holds both ways equal.

A caller mostly sleeps between two events, so that nothing of this is left in the processor's caches. Then every call,
table and intermediate text costs three times what a loop would show: hence few of them, and one ``join()``, which takes
nothing but text and so is the check of the types.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from sealstream.schemas.event import Actor, AuditEvent, Context, EventKind, Outcome, Target

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_is_id: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
_is_tenant: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}").fullmatch
_NOWHERE: Final = Context()
_TIME_MIN: Final = 2**48  # microseconds since 1970 that take eight bytes: from 1978
_TIME_END: Final = 2**55  # to 3111
_SALT_BYTES: Final = 16


def _length(size: int) -> str:
    """Return the length of a text as Avro's ``long``, each byte as the character of that number."""
    twice = size * 2
    return chr(twice) if twice < 0x80 else chr(twice & 0x7F | 0x80) + chr(twice >> 7)


# A text of another length is not to be found, and the event so left to the others.
_MAY_BE_EMPTY: Final = tuple(_length(size) for size in range(1024))
_LENGTHS: Final = {size: length for size, length in enumerate(_MAY_BE_EMPTY) if size}
_PRESENT_LENGTHS: Final = tuple("\x02" + length for length in _MAY_BE_EMPTY)
_COUNTS: Final = tuple(chr(count * 2) for count in range(32))  # of targets and of metadata keys: one byte each
_OUTCOMES: Final = {
    outcome: "\x00" + chr(index * 2)
    for index, outcome in enumerate((Outcome.UNKNOWN, Outcome.SUCCESS, Outcome.FAILURE, Outcome.DENIED))
}
_NO_CONTEXT: Final = "\x00" * 6


def ordinary_head(event: AuditEvent, frame: bytes = b"") -> bytes | None:
    """Return an event's Avro body up to its producer's mark if it is valid and ordinary; behind the mark stands ``00``.

    Arguments:
        event: The event.
        frame: What is to stand before the body.

    Returns:
        ``None`` of an event that is not ordinary, valid or not: ask :meth:`AuditEvent.check`.
    """
    try:
        if not _is_ordinary(event):
            return None
        event_id, tenant = event.id, event.tenant
        begin = f"{_MAY_BE_EMPTY[len(event_id)]}{event_id}{_MAY_BE_EMPTY[len(tenant)]}{tenant}\x00"
        texts = _texts(event)
    except (AttributeError, LookupError, TypeError):  # a field of another type, or a text of another length
        return None
    since = event.occurred_at - _EPOCH
    moment = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if texts is None or not _TIME_MIN <= moment < _TIME_END:
        return None
    return b"".join((frame, begin.encode("latin-1"), event.salt, _eight_bytes(moment * 2), texts))


def _is_ordinary(event: AuditEvent) -> bool:
    """Return whether every field but the texts behind the salt is valid, and as it mostly is."""
    return (
        event.kind is EventKind.EVENT
        and event.personal is None
        and event.producer is None
        and event.control is None
        and type(event.salt) is bytes
        and len(event.salt) == _SALT_BYTES
        and type(event.outcome) is Outcome
        and type(event.actor) is Actor
        and type(event.context) is Context
        and type(event.occurred_at) is datetime
        and event.occurred_at.tzinfo is UTC
        and type(event.targets) is tuple
        and type(event.metadata) is dict
        and _is_id(event.id) is not None
        and _is_tenant(event.tenant) is not None
    )


def _texts(event: AuditEvent) -> bytes | None:
    """Return the fields from actor to the one before the mark, or ``None`` if not all of it is ASCII.

    Raises:
        AttributeError, LookupError, TypeError: A text is empty that must not be, is too long for here, or is none.
    """
    actor, action, targets, metadata = event.actor, event.action, event.targets, event.metadata
    kind, name, party_id = actor.type, actor.name, actor.id
    present = "\x00" if name is None else _PRESENT_LENGTHS[len(name)] + name
    parts = [_LENGTHS[len(kind)], kind, _LENGTHS[len(party_id)], party_id, present, _LENGTHS[len(action)], action]
    if targets:
        parts.append(_COUNTS[len(targets)])
        for target in targets:
            if type(target) is not Target:
                return None
            kind, name, party_id = target.type, target.name, target.id
            present = "\x00" if name is None else _PRESENT_LENGTHS[len(name)] + name
            parts += (_LENGTHS[len(kind)], kind, _LENGTHS[len(party_id)], party_id, present)
    parts += (_OUTCOMES[event.outcome], _context(event.context))
    if metadata:
        parts.append(_COUNTS[len(metadata)])
        for key, value in metadata.items():
            parts += (_LENGTHS[len(key)], key, _MAY_BE_EMPTY[len(value)], value)
    parts.append("\x00\x00")
    text = "".join(parts)
    # Lengths from 64 on take two characters, one of them beyond ASCII: then the texts have to be looked at.
    return text.encode("latin-1") if text.isascii() or _is_ascii(event) else None


def _context(context: Context) -> str:
    if context is _NOWHERE:
        return _NO_CONTEXT
    ip, agent, location = context.ip, context.user_agent, context.location
    session, request_id, trace = context.session, context.request_id, context.traceparent
    return "".join(
        (
            "\x00" if ip is None else _PRESENT_LENGTHS[len(ip)] + ip,
            "\x00" if agent is None else _PRESENT_LENGTHS[len(agent)] + agent,
            "\x00" if location is None else _PRESENT_LENGTHS[len(location)] + location,
            "\x00" if session is None else _PRESENT_LENGTHS[len(session)] + session,
            "\x00" if request_id is None else _PRESENT_LENGTHS[len(request_id)] + request_id,
            "\x00" if trace is None else _PRESENT_LENGTHS[len(trace)] + trace,
        )
    )


def _is_ascii(event: AuditEvent) -> bool:
    """Return whether all texts from actor to metadata are ASCII."""
    context = event.context
    texts = [event.action, *event.metadata.keys(), *event.metadata.values()]
    parties: tuple[Actor | Target, ...] = (event.actor, *event.targets)
    for party in parties:
        texts += (party.type, party.id, party.name or "")
    for text in (context.ip, context.user_agent, context.location, context.session, context.request_id):
        texts.append(text or "")
    texts.append(context.traceparent or "")
    return "".join(texts).isascii()


def _eight_bytes(number: int) -> bytes:
    """Return a number of 50 to 56 bits as a variable-length integer."""
    return bytes(
        (
            number & 0x7F | 0x80,
            number >> 7 & 0x7F | 0x80,
            number >> 14 & 0x7F | 0x80,
            number >> 21 & 0x7F | 0x80,
            number >> 28 & 0x7F | 0x80,
            number >> 35 & 0x7F | 0x80,
            number >> 42 & 0x7F | 0x80,
            number >> 49,
        )
    )
