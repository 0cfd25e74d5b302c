"""The event as JSON: what a request may say. These models check it, and make the OpenAPI document, so the two agree.

They are the event model (:class:`sealstream.schemas.event.AuditEvent`) without what the gateway decides: the kind is
``event``, the salt is derived, and there is no producer's mark, because its count would differ from retry to retry.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema

from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import (
    METADATA_KEYS_MAX,
    TARGETS_MAX,
    TEXT_CHARACTERS_MAX,
    Actor,
    AuditEvent,
    Context,
    Outcome,
    Sealed,
    Target,
)

# What JSON Schema means by a date-time (RFC 3339 section 5.6); Python's own reader takes more forms.
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_INT_MAX: Final = 2**31 - 1
_PART_CHARACTERS_MAX: Final = 64
_MEMBERS_MAX: Final = 100
"""The most members that an object or a list of an event may have, which are those of targets and metadata."""
_WIDE: Final = frozenset({dict, list})
_DEPTH: Final = 2
"""How many names lead to the deepest object of an event: ``targets.0``."""
_NO_CONTROLS: Final = r"^[^\u0000-\u001f\u007f-\u009f]+$"
_EVENT_ID: Final = r"^[A-Za-z0-9._:-]{1,128}$"
_TENANT: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


def _moment(value: object) -> datetime:
    """Return the time that a text says."""
    if not isinstance(value, str) or _DATE_TIME.fullmatch(value) is None:
        raise ValueError("is no date-time of RFC 3339, such as 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError("is no time that exists") from None


def _bytes(value: object) -> bytes:
    """Return the bytes that a text says in base64."""
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None


def _outcome(value: object) -> Outcome:
    try:
        return Outcome(value)  # type: ignore[arg-type]  # what is no text is no outcome either
    except ValueError:
        raise ValueError(f"is none of {', '.join(Outcome)}") from None


def _base64_of(size: int | None) -> WithJsonSchema:
    """Say in JSON Schema that so many bytes stand in base64."""
    pattern = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
    if size is not None:
        tail = ("", "[A-Za-z0-9+/]{2}==", "[A-Za-z0-9+/]{3}=")[size % 3]
        pattern = f"^[A-Za-z0-9+/]{{{size // 3 * 4}}}{tail}$"
    return WithJsonSchema({"type": "string", "contentEncoding": "base64", "pattern": pattern})


Text = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
MayBeEmpty = Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS_MAX)]
Action = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARACTERS_MAX, pattern=_NO_CONTROLS)]
EventId = Annotated[str, StringConstraints(pattern=_EVENT_ID)]
Tenant = Annotated[str, StringConstraints(pattern=_TENANT)]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
OutcomeName = Annotated[
    Outcome, BeforeValidator(_outcome), WithJsonSchema({"type": "string", "enum": [str(each) for each in Outcome]})
]
Bytes32 = Annotated[bytes, BeforeValidator(_bytes), _base64_of(32)]
Bytes12 = Annotated[bytes, BeforeValidator(_bytes), _base64_of(12)]
AnyBytes = Annotated[bytes, BeforeValidator(_bytes), _base64_of(None)]
Metadata = Annotated[dict[Text, str], Field(max_length=METADATA_KEYS_MAX)]


class Model(BaseModel):
    """A part of a request: no other members than those named, and no value is bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Party(Model):
    """An actor or a target."""

    type: Text = Field(description="The kind: user, service, document.")
    id: Text = Field(description="Its identifier within that kind.")
    name: MayBeEmpty | None = Field(default=None, description="A name for people, as it was at that time.")


class EventContext(Model):
    """Where it came from. The gateway adds nothing of its own: a retry must say the same."""

    ip: MayBeEmpty | None = Field(default=None, description="The caller's address.")
    user_agent: MayBeEmpty | None = Field(default=None, description="The caller's program.")
    location: MayBeEmpty | None = Field(default=None, description="The caller's place, in words.")
    session: MayBeEmpty | None = Field(default=None, description="The session's identifier.")
    request_id: MayBeEmpty | None = Field(default=None, description="The request's identifier.")
    traceparent: MayBeEmpty | None = Field(default=None, description="W3C trace context.")


class SealedFields(Model):
    """Personal fields, sealed by the sender under a key per data subject; the gateway cannot read them."""

    v: int = Field(ge=0, le=_INT_MAX, description="Version of the sealing.")
    subject_key_id: Text = Field(description="Which subject's key opens it.")
    salt: Bytes32 = Field(description="32 random bytes.")
    commitment: Bytes32 = Field(description="32 bytes that commit to the clear fields.")
    nonce: Bytes12 = Field(description="12 bytes.")
    ciphertext: AnyBytes = Field(description="The sealed fields.")


class EventBody(Model):
    """What an event says beside its id, its time and its action: the ``data`` of a CloudEvent."""

    tenant: Tenant | None = Field(
        default=None, description="The credential's own tenant, or left out: another one is refused."
    )
    actor: Party = Field(description="Who did it.")
    targets: Annotated[list[Party], Field(max_length=TARGETS_MAX)] = Field(
        default_factory=list[Party], description="What it was done to."
    )
    outcome: OutcomeName = Field(default=Outcome.UNKNOWN, description="How the action ended.")
    context: EventContext = Field(default_factory=EventContext, description="Where it came from.")
    metadata: Metadata = Field(default_factory=dict[str, str], description="Free text by key.")
    personal: SealedFields | None = Field(default=None, description="Sealed personal fields.")


class Event(EventBody):
    """One thing that happened and that someone may have to prove later."""

    id: EventId | None = Field(
        default=None,
        description="Unique within the tenant, never personal data. Without it the gateway makes one: of the "
        "Idempotency-Key, or else at random.",
    )
    occurred_at: Moment = Field(
        description="When it happened, with a time zone. The sender says it, so that a retry says the same."
    )
    action: Action = Field(description="What was done, as object.verb: document.updated.")

    def event(self, *, tenant: str, event_id: str, salt: bytes) -> AuditEvent:
        """Return it as an event of the log; it is not checked yet."""
        context, personal = self.context, self.personal
        return AuditEvent(
            tenant=tenant,
            id=event_id,
            salt=salt,
            occurred_at=self.occurred_at,
            action=self.action,
            actor=Actor(self.actor.type, self.actor.id, self.actor.name),
            targets=tuple([Target(target.type, target.id, target.name) for target in self.targets]),
            outcome=self.outcome,
            context=Context(
                context.ip,
                context.user_agent,
                context.location,
                context.session,
                context.request_id,
                context.traceparent,
            ),
            metadata=self.metadata,
            personal=None if personal is None else Sealed(**dict(personal)),
        )


_M = TypeVar("_M", bound=Model)


def read_model(kind: type[_M], value: object, *, within: str = "") -> _M:
    """Return what a value of JSON says.

    Arguments:
        kind: What it must be.
        value: The value.
        within: Where it stands in the request, if that is not its top: ``data``.

    Raises:
        EventInvalid: It is none; names the first field at fault, and shows nothing of its value.
    """
    _check_width(value)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # A key of metadata may be anything, and so may the name of a member that does not exist: at most a word of it.
        path = ".".join(str(part)[:_PART_CHARACTERS_MAX] for part in (within, *first["loc"]) if part != "")
        raise EventInvalid(path or "the value", _words(first)) from None


def _check_width(value: object, path: tuple[str, ...] = ()) -> None:
    """Refuse what is too wide before anything else: its validation would list one error for each of its members.

    Raises:
        EventInvalid: An object or a list has more than 100 members.
    """
    if type(value) not in _WIDE:
        return
    members = cast("Mapping[str, object] | Sequence[object]", value)
    if len(members) > _MEMBERS_MAX:
        raise EventInvalid(".".join(path) or "the value", f"has {len(members)} members, more than {_MEMBERS_MAX}")
    if len(path) == _DEPTH:
        return  # nothing of an event is deeper, so all that is, is one error
    named = members.items() if isinstance(members, Mapping) else enumerate(members)
    for name, part in named:
        if type(part) in _WIDE:  # asked here too: most parts are texts, and need no path
            _check_width(part, (*path, str(name)[:_PART_CHARACTERS_MAX]))


def _words(error: Mapping[str, Any]) -> str:
    """Say what is wrong as a sentence goes on: ``targets: is not a list``."""
    kind, text = str(error["type"]), str(error["msg"])
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a member of an event"
    if kind == "string_pattern_mismatch":
        return "holds characters that may not stand there, or is too long"
    return f"{text[:1].lower()}{text[1:]}"
