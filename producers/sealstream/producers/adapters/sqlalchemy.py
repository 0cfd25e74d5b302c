"""For SQLAlchemy: events for what a session does to objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import inspect
from sqlalchemy.orm import Session, SessionTransaction, UOWTransaction

from sealstream.producers.adapters.logs import Logs, make_event
from sealstream.producers.event_fields import Party
from sealstream.producers.outbox.sqlalchemy import SessionOutbox
from sealstream.schemas.errors import SealstreamError
from sealstream.schemas.event import Actor, AuditEvent, Target

FromObject: TypeAlias = Callable[[Any], Any]
"""Takes the mapped object and returns a field's value."""

_WAITING: Final = "sealstream_events"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event whose transaction is still open, with the transactions that it is in, the inmost first."""

    event: AuditEvent
    transactions: tuple[SessionTransaction, ...]


class SessionAudit:
    """Logs an event whenever an object of a class is inserted, updated or deleted by a session.

    The action is ``<class>.created``, ``.updated`` or ``.deleted``, with the class's name in small letters; the target
    is ``<class>:<primary key>``, its parts joined by commas. An event is made, and checked, with the flush: one that
    breaks the model lets the flush fail. With a :class:`SessionOutbox` it joins the transaction. With an audit log it
    is logged when the transaction has committed, and what the log then raises reaches whoever committed; what is
    rolled back, to a savepoint too, is not logged. Statements that go past the session's objects (``update()``,
    ``delete()``) are not seen.

    Arguments:
        audit: The audit log, or the outbox.
        classes: The mapped classes.
        tenant: Whose trail the events belong to; that of the request at hand by default.
        actor: Who acts; that of the request at hand by default.
        metadata: Free text by key.

    The last three are values, or functions of the object.
    """

    def __init__(
        self,
        audit: Logs | SessionOutbox,
        *classes: type,
        tenant: str | FromObject | None = None,
        actor: Actor | Party | FromObject | None = None,
        metadata: Mapping[str, str] | FromObject | None = None,
    ) -> None:
        self._audit = audit
        self._classes = classes
        self._given = {"tenant": tenant, "actor": actor, "metadata": metadata}

    def listen(self, sessions: Any) -> None:
        """Listen to sessions: a session, a ``sessionmaker``, or a subclass of ``Session``."""
        sqlalchemy_event.listen(sessions, "after_flush", self._flushed)
        if not isinstance(self._audit, SessionOutbox):
            sqlalchemy_event.listen(sessions, "after_commit", self._committed)
            sqlalchemy_event.listen(sessions, "after_soft_rollback", self._rolled_back)

    def _flushed(self, session: Session, flush: UOWTransaction) -> None:
        del flush
        for changed, verb in _changes(session):
            if not isinstance(changed, self._classes):
                continue
            made = self._event(changed, verb)
            if isinstance(self._audit, SessionOutbox):
                self._audit.log(session, made)
            else:
                waiting: list[_Waiting] = session.info.setdefault(_WAITING, [])
                waiting.append(_Waiting(made, tuple(_open_transactions(session))))

    def _committed(self, session: Session) -> None:
        if session.in_nested_transaction():
            return  # a savepoint: the transaction around it may still be rolled back
        assert not isinstance(self._audit, SessionOutbox)
        waiting: list[_Waiting] = session.info.pop(_WAITING, [])
        errors: list[SealstreamError] = []
        for one in waiting:
            try:
                self._audit.log(one.event)
            except SealstreamError as error:  # the others must not be lost with it
                error.add_note(f"event {one.event.tenant}/{one.event.id}")
                errors.append(error)
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"besides: {other} {' '.join(other.__notes__)}")
            raise errors[0]

    def _rolled_back(self, session: Session, previous: SessionTransaction) -> None:
        waiting: list[_Waiting] = session.info.get(_WAITING, [])
        waiting[:] = [one for one in waiting if all(held is not previous for held in one.transactions)]

    def _event(self, changed: Any, verb: str) -> AuditEvent:
        name = type(changed).__name__.lower()
        key = ",".join(str(part) for part in inspect(changed).mapper.primary_key_from_instance(changed))
        fields = {field: value(changed) if callable(value) else value for field, value in self._given.items()}
        return make_event(
            {"action": f"{name}.{verb}", "target": Target(name, key), "outcome": "success"}
            | {field: value for field, value in fields.items() if value is not None}
        )


def _changes(session: Session) -> Iterator[tuple[Any, str]]:
    for added in session.new:
        yield added, "created"
    for changed in session.dirty:
        if session.is_modified(changed):
            yield changed, "updated"
    for deleted in session.deleted:
        yield deleted, "deleted"


def _open_transactions(session: Session) -> Iterator[SessionTransaction]:
    found = session.get_nested_transaction() or session.get_transaction()
    while found is not None:
        yield found
        found = found.parent
