"""An event from loose fields, as ``log()`` takes them: shorter to write where an event is logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Required, TypeAlias, TypedDict, TypeVar, cast

from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Actor, AuditEvent, Context, Outcome, Sealed, Target

Party: TypeAlias = Mapping[str, str] | str
"""An actor or target in short: ``{"type": "user", "id": "42"}`` or ``"user:42"``."""
OutcomeName: TypeAlias = Literal["unknown", "success", "failure", "denied"]

_P = TypeVar("_P", Actor, Target)
_REQUIRED: Final = ("tenant", "actor", "action")
_CONTEXT_NAMES: Final = frozenset(Context.__slots__)


class EventFields(TypedDict, total=False):
    """The fields of an event, as keyword arguments of ``log()``; :class:`AuditEvent` says what each is."""

    tenant: Required[str]
    actor: Required[Actor | Party]
    action: Required[str]
    target: Target | Party
    """One target; the same as ``targets=[target]``."""
    targets: Sequence[Target | Party]
    outcome: Outcome | OutcomeName
    context: Context | Mapping[str, str]
    """Keys that :class:`Context` does not know are kept in ``metadata``."""
    metadata: Mapping[str, str]
    occurred_at: datetime
    id: str
    personal: Sealed


def event_from_fields(fields: Mapping[str, Any]) -> AuditEvent:
    """Return the event that keyword arguments describe; it is not checked yet.

    Raises:
        EventInvalid: A field is missing or unknown, or does not have one of the forms it may have.
    """
    known = EventFields.__annotations__
    for name in fields:
        if name not in known:
            raise EventInvalid(name, "is not a field of an event", hint=f"the fields are {', '.join(known)}")
    for name in _REQUIRED:
        if name not in fields:
            raise EventInvalid(name, "is missing")
    plain = {name: fields[name] for name in ("tenant", "action", "occurred_at", "id", "personal") if name in fields}
    context, metadata = _context(fields.get("context", Context()), fields.get("metadata", {}))
    return AuditEvent(
        **plain,
        actor=_party("actor", fields["actor"], Actor),
        targets=_targets(fields),
        outcome=_outcome(fields.get("outcome", Outcome.UNKNOWN)),
        context=context,
        metadata=metadata,
    )


def _targets(fields: Mapping[str, Any]) -> tuple[Target, ...]:
    if "target" in fields:
        if "targets" in fields:
            raise EventInvalid("target", "is given beside targets", hint="give one of the two")
        return (_party("target", fields["target"], Target),)
    targets = fields.get("targets", ())
    if not _is_sequence(targets):
        raise EventInvalid("targets", f"is a {type(targets).__name__}", hint="give a list, or one as target")
    return tuple(_party(f"targets.{number}", target, Target) for number, target in enumerate(targets))


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _party(where: str, given: Any, kind: type[_P]) -> _P:
    """Return an actor or target from any of its forms."""
    if isinstance(given, kind):
        return given
    if isinstance(given, str):
        party_type, colon, party_id = given.partition(":")
        if not colon:
            raise EventInvalid(where, "has no type", hint=f'give "type:id" or a {kind.__name__}')
        return kind(party_type, party_id)
    if isinstance(given, Mapping):
        return _party_from_mapping(where, cast("Mapping[str, Any]", given), kind)
    raise EventInvalid(where, f"is a {type(given).__name__}", hint=f'give a {kind.__name__}, a mapping or "type:id"')


def _party_from_mapping(where: str, given: Mapping[str, Any], kind: type[_P]) -> _P:
    if not {"type", "id"} <= given.keys() <= {"type", "id", "name"}:
        raise EventInvalid(where, "has other keys than type, id and name", hint="type and id are required")
    return kind(given["type"], given["id"], given.get("name"))


def _outcome(given: Any) -> Outcome:
    try:
        return Outcome(given)
    except ValueError:
        raise EventInvalid("outcome", "is unknown", hint=f"use one of {', '.join(Outcome)}") from None


def _context(context: Any, metadata: Any) -> tuple[Context, Mapping[str, str]]:
    """Return the context and the metadata; of a free mapping, what is no context goes to the metadata."""
    if not isinstance(metadata, Mapping):
        raise EventInvalid("metadata", f"is a {type(metadata).__name__}", hint="give a mapping")
    kept = cast("Mapping[str, str]", metadata)
    if isinstance(context, Context):
        return context, kept
    if not isinstance(context, Mapping):
        raise EventInvalid("context", f"is a {type(context).__name__}", hint="give a Context or a mapping")
    given = cast("Mapping[str, str]", context)
    free = {key: value for key, value in given.items() if key not in _CONTEXT_NAMES}
    for key in free.keys() & kept.keys():
        raise EventInvalid(f"context.{key}", "stands in metadata too, where it would be kept", hint="rename one")
    return Context(**{key: value for key, value in given.items() if key in _CONTEXT_NAMES}), {**kept, **free}
