"""Ordinary events, checked and written in one go: for the hot path of an application's request.

Nearly every event is of the kind event, in ASCII and with short texts. For those one pass over the fields does what
:meth:`AuditEvent.check` and :mod:`sealstream.schemas.event_body` do in two, in a third of their time. Whatever is not
so is left to those two; a test holds both ways equal.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from sealstream.schemas.event import Actor, AuditEvent, Context, EventKind, Outcome, Target

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TENANT_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NOWHERE: Final = Context()
_PARTS_MAX: Final = 32  # of targets and of metadata keys: their number takes one byte
_TIMES: Final = range(2**48, 2**55)  # microseconds since 1970 that take eight bytes: from 1978 to 3111
_SALT_BYTES: Final = 16


def _length(size: int) -> str:
    """Return the length of a text as Avro's ``long``, each byte as the character of that number."""
    twice = size * 2
    return chr(twice) if twice < 0x80 else chr(twice & 0x7F | 0x80) + chr(twice >> 7)


# A text of another length is not to be found, and the event so left to the others.
_MAY_BE_EMPTY: Final = {size: _length(size) for size in range(1024)}
_LENGTHS: Final = {size: length for size, length in _MAY_BE_EMPTY.items() if size}
_PRESENT_LENGTHS: Final = {size: "\x02" + length for size, length in _MAY_BE_EMPTY.items()}
_OUTCOMES: Final = {
    outcome: "\x00" + chr(index * 2)
    for index, outcome in enumerate((Outcome.UNKNOWN, Outcome.SUCCESS, Outcome.FAILURE, Outcome.DENIED))
}
_NO_CONTEXT: Final = "\x00" * 6


def ordinary_head(event: AuditEvent) -> bytes | None:
    """Return an event's Avro body up to its producer's mark if it is valid and ordinary; behind the mark stands ``00``.

    Returns:
        ``None`` of an event that is not ordinary, valid or not: ask :meth:`AuditEvent.check`.
    """
    try:
        if not _is_ordinary(event):
            return None
        texts = _texts(event)
        begin = f"{_MAY_BE_EMPTY[len(event.id)]}{event.id}{_MAY_BE_EMPTY[len(event.tenant)]}{event.tenant}\x00"
    except (AttributeError, LookupError, TypeError):  # a field of another type, or a text of another length
        return None
    since = event.occurred_at - _EPOCH
    moment = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if texts is None or moment not in _TIMES:
        return None
    return b"".join((begin.encode("latin-1"), event.salt, _eight_bytes(moment * 2), texts, b"\x00\x00"))


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
        and len(event.targets) < _PARTS_MAX
        and type(event.metadata) is dict
        and len(event.metadata) < _PARTS_MAX  # pyright: ignore[reportUnknownArgumentType]  # a cast would cost a call
        and _ID_PATTERN.fullmatch(event.id) is not None
        and _TENANT_PATTERN.fullmatch(event.tenant) is not None
    )


def _texts(event: AuditEvent) -> bytes | None:
    """Return the fields from actor to metadata, or ``None`` if not all of it is ASCII.

    Raises:
        AttributeError, LookupError, TypeError: A text is empty that must not be, is too long for here, or is none.
    """
    actor, action, context, metadata = event.actor, event.action, event.context, event.metadata
    text = _party(actor) + _LENGTHS[len(action)] + action
    if event.targets:
        text += chr(len(event.targets) * 2)
        for target in event.targets:
            if type(target) is not Target:
                return None
            text += _party(target)
    text += _OUTCOMES[event.outcome]
    text += _NO_CONTEXT if context is _NOWHERE else _context(context)
    if metadata:
        parts = [chr(len(metadata) * 2)]
        for key, value in metadata.items():
            parts += (_LENGTHS[len(key)], key, _MAY_BE_EMPTY[len(value)], value)
        text += "".join(parts)
    # Lengths from 64 on take two characters, one of them beyond ASCII: then the texts have to be looked at.
    return text.encode("latin-1") if text.isascii() or _is_ascii(event) else None


def _party(party: Actor | Target) -> str:
    # join() takes nothing but text, which is the check of the types.
    name = party.name
    if name is None:
        return "".join((_LENGTHS[len(party.type)], party.type, _LENGTHS[len(party.id)], party.id, "\x00"))
    length = _PRESENT_LENGTHS[len(name)]
    return "".join((_LENGTHS[len(party.type)], party.type, _LENGTHS[len(party.id)], party.id, length, name))


def _context(context: Context) -> str:
    parts: list[str] = []
    for text in (context.ip, context.user_agent, context.location, context.session, context.request_id):
        if text is None:
            parts.append("\x00")
        else:
            parts += (_PRESENT_LENGTHS[len(text)], text)
    text = context.traceparent
    parts += ("\x00",) if text is None else (_PRESENT_LENGTHS[len(text)], text)
    return "".join(parts)


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
