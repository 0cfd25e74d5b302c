"""The event model: what an application says happened.

The field names follow what audit products converged on (actor, action, targets, context, metadata). Events are
immutable; :meth:`AuditEvent.check` says in one place what a valid one is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from sealstream.schemas.entry import is_event_id, is_tenant
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.random_bytes import random_bytes

TEXT_CHARACTERS_MAX: Final = 8_192
TARGETS_MAX: Final = 100
METADATA_KEYS_MAX: Final = 100
_ID_HINT: Final = "1 to 128 of A-Za-z0-9._:-, and no personal data"
_TENANT_HINT: Final = "1 to 64 of A-Za-z0-9_.-, beginning with a letter or digit, and no personal data"


class EventKind(StrEnum):
    """What an event is: something that happened, something brought in from an older trail, or an operator's word."""

    EVENT = "event"
    IMPORTED = "imported"
    CONTROL = "control"


class Outcome(StrEnum):
    """How the action ended."""

    UNKNOWN = "unknown"
    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it.

    Arguments:
        type: The kind of actor: ``user``, ``service``, ``api_key``.
        id: Its identifier within that kind.
        name: A name for people, as it was at that time.
    """

    type: str
    id: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What it was done to.

    Arguments:
        type: The kind of object: ``document``, ``account``.
        id: Its identifier within that kind.
        name: A name for people, as it was at that time.
    """

    type: str
    id: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """Where it came from; every field may be absent.

    Arguments:
        ip: The caller's address.
        user_agent: The caller's program.
        location: The caller's place, in words.
        session: The session's identifier.
        request_id: The request's identifier.
        traceparent: W3C trace context.
    """

    ip: str | None = None
    user_agent: str | None = None
    location: str | None = None
    session: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """Personal fields, sealed under a key per data subject (AES-256-GCM); the layout is fixed, the sealing is not here.

    Arguments:
        v: Version of the sealing.
        subject_key_id: Which subject's key opens it.
        salt: 32 random bytes.
        commitment: 32 bytes that commit to the clear fields.
        nonce: 12 bytes.
        ciphertext: The sealed fields.
    """

    v: int
    subject_key_id: str
    salt: bytes
    commitment: bytes
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class ProducerMark:
    """Who sent the event, and as which of its events for that tenant: a hole in ``n`` is an event that never arrived.

    Arguments:
        id: The producer's name.
        epoch: Grows with every start that forgot its count.
        n: The count within id, epoch and tenant, from 0.
    """

    id: str
    epoch: int
    n: int


@dataclass(frozen=True, slots=True)
class Control:
    """An operators' statement.

    Arguments:
        note: The signed note: instance, tenant, action, serial and the body's digest.
        body: What the note's digest commits to.
    """

    note: str
    body: bytes


_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_event_id() -> str:
    """Return a new id: a UUID of version 7 (RFC 9562 section 5.7), which sorts by the time it was made."""
    # uuid.UUID would cost five times as much, on every event
    digits = ((time.time_ns() // 1_000_000).to_bytes(6, "big") + random_bytes()).hex()
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def new_salt() -> bytes:
    """Return 16 random bytes for :attr:`AuditEvent.salt`."""
    return random_bytes()


def now() -> datetime:
    """Return the present, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that happened and that someone may have to prove later.

    Arguments:
        tenant: Whose trail it belongs to. Chosen by you, never personal data.
        actor: Who did it.
        action: What was done, as ``object.verb``: ``document.updated``.
        targets: What it was done to; up to 100.
        outcome: How it ended.
        context: Where it came from.
        metadata: Free text by key, up to 100 keys.
        occurred_at: When it happened, with a time zone; now by default.
        id: Unique within the tenant; a UUIDv7 by default. The same id again with the same bytes is a re-send.
        kind: ``event`` unless you import or operate.
        salt: 16 random bytes, made for you.
        personal: Sealed personal fields.
        producer: Filled in by the SDK.
        control: For events of kind ``control``.
    """

    tenant: str
    actor: Actor
    action: str
    targets: tuple[Target, ...] = ()
    outcome: Outcome = Outcome.UNKNOWN
    context: Context = Context()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    occurred_at: datetime = field(default_factory=now)
    id: str = field(default_factory=new_event_id)
    kind: EventKind = EventKind.EVENT
    salt: bytes = field(default_factory=new_salt)
    personal: Sealed | None = None
    producer: ProducerMark | None = None
    control: Control | None = None

    def check(self) -> None:
        """Check every field.

        Raises:
            EventInvalid: A field breaks the model; the error names the first one.
        """
        self._check_types()
        if not is_event_id(self.id):
            raise EventInvalid("id", "is not a valid event id", hint=_ID_HINT)
        if not is_tenant(self.tenant):
            raise EventInvalid("tenant", "is not a valid tenant", hint=_TENANT_HINT)
        if len(self.salt) != 16:
            raise EventInvalid("salt", f"has {len(self.salt)} bytes instead of 16")
        _check_moment("occurred_at", self.occurred_at)
        if len(self.targets) > TARGETS_MAX:
            raise EventInvalid("targets", f"has {len(self.targets)} targets, more than {TARGETS_MAX}")
        if not _is_plain(self.action):
            _check_text("action", self.action)
        _check_party("actor", self.actor)
        for number, target in enumerate(self.targets):
            _check_party(f"targets.{number}", target)
        _check_context(self.context)
        _check_metadata(self.metadata)
        if (self.kind is EventKind.CONTROL) != (self.control is not None):
            raise EventInvalid("control", "stands in events of kind control, and only there")
        if self.personal is not None:
            _check_sealed(self.personal)
        if self.producer is not None:
            _check_mark(self.producer)
        if self.control is not None:
            _check_control(self.control)

    def _check_types(self) -> None:
        """Refuse fields of a wrong type: an application without a type checker meets this first."""
        for name, kind in _FIELD_TYPES:
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise EventInvalid(name, f"is a {type(value).__name__}", hint=f"give a {_type_names(kind)}")


def _check_moment(where: str, moment: datetime) -> None:
    if moment.utcoffset() is None:
        raise EventInvalid(where, "has no time zone", hint="use datetime.now(UTC)")
    if 1 < moment.year < 9999:
        return
    try:
        moment.astimezone(UTC)  # which is what a reader of the event makes of it
    except OverflowError:
        raise EventInvalid(where, "lies beyond the calendar in UTC") from None


def _check_context(context: Context) -> None:
    for name in Context.__slots__:
        text = getattr(context, name)
        if text is not None and not _is_plain(text):
            _check_text(f"context.{name}", text, may_be_empty=True)


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > METADATA_KEYS_MAX:
        raise EventInvalid("metadata", f"has {len(metadata)} keys, more than {METADATA_KEYS_MAX}")
    for key, value in metadata.items():
        if not _is_plain(key):
            _check_text("metadata key", key)
        if not _is_plain(value):
            _check_text(f"metadata.{key}", value, may_be_empty=True, characters_max=None)


def _check_sealed(sealed: Sealed) -> None:
    _check_number("personal.v", sealed.v, _INT_MAX)
    _check_text("personal.subject_key_id", sealed.subject_key_id)
    for name, size in (("salt", 32), ("commitment", 32), ("nonce", 12)):
        _check_bytes(f"personal.{name}", getattr(sealed, name), size)
    _check_bytes("personal.ciphertext", sealed.ciphertext)


def _check_mark(mark: ProducerMark) -> None:
    _check_text("producer.id", mark.id)
    _check_number("producer.epoch", mark.epoch, _LONG_MAX)
    _check_number("producer.n", mark.n, _LONG_MAX)


def _check_control(control: Control) -> None:
    _check_text("control.note", control.note, characters_max=None)
    _check_bytes("control.body", control.body)


def _check_number(where: str, number: object, limit: int) -> None:
    if not isinstance(number, int) or not 0 <= number <= limit:
        raise EventInvalid(where, f"is no number from 0 to {limit}")


def _check_bytes(where: str, data: object, size: int | None = None) -> None:
    """Refuse what is not bytes or, where the format fixes a size, has another one."""
    if not isinstance(data, bytes):
        raise EventInvalid(where, f"is a {type(data).__name__}", hint="give bytes")
    if size is not None and len(data) != size:
        raise EventInvalid(where, f"has {len(data)} bytes instead of {size}")


def _check_party(where: str, party: object) -> None:
    if not isinstance(party, _PARTY_TYPES):
        raise EventInvalid(where, f"is a {type(party).__name__}", hint="give an Actor or a Target")
    if not _is_plain(party.type):
        _check_text(f"{where}.type", party.type)
    if not _is_plain(party.id):
        _check_text(f"{where}.id", party.id)
    if party.name is not None and not _is_plain(party.name):
        _check_text(f"{where}.name", party.name, may_be_empty=True)


def _is_plain(text: object) -> bool:
    """Return whether a value is text that no rule can refuse, which nearly all are; the others get a closer look."""
    return isinstance(text, str) and 0 < len(text) <= TEXT_CHARACTERS_MAX and text.isascii()


def _check_text(
    where: str, text: object, *, may_be_empty: bool = False, characters_max: int | None = TEXT_CHARACTERS_MAX
) -> None:
    """Refuse what is not text, is empty where it must not be, is too long, or does not encode to UTF-8."""
    if not isinstance(text, str):
        raise EventInvalid(where, f"is a {type(text).__name__}", hint="give a str")
    if not text and not may_be_empty:
        raise EventInvalid(where, "is empty")
    if characters_max is not None and len(text) > characters_max:
        raise EventInvalid(where, f"has {len(text)} characters, more than {characters_max}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EventInvalid(where, "holds half of a surrogate pair, which is no text") from error


_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1
_NoneType: Final = type(None)
_PARTY_TYPES: Final = (Actor, Target)
_FIELD_TYPES: Final[tuple[tuple[str, type | tuple[type, ...]], ...]] = (
    ("id", str),
    ("tenant", str),
    ("kind", EventKind),
    ("salt", bytes),
    ("occurred_at", datetime),
    ("actor", Actor),
    ("targets", tuple),
    ("outcome", Outcome),
    ("context", Context),
    ("metadata", (dict, Mapping)),  # dict first: the check against the abstract class is slower
    ("personal", (Sealed, _NoneType)),
    ("producer", (ProducerMark, _NoneType)),
    ("control", (Control, _NoneType)),
)


def _type_names(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("None" if kind is _NoneType else kind.__name__ for kind in kinds)
