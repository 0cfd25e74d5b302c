"""SQLAlchemy's sessions: what commits is logged, and nothing else."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sealstream.producers.adapters.sqlalchemy import SessionAudit
from sealstream.schemas.errors import EventInvalid, QueueFull
from sealstream.schemas.event import AuditEvent
from support.taken import Taken


class Base(DeclarativeBase):
    """The mapped classes."""


class Document(Base):
    """A class that is audited."""

    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Draft(Base):
    """A class that is not."""

    __tablename__ = "draft"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine() -> Generator[Engine]:
    """A database in memory, whose driver leaves transactions to SQLAlchemy."""
    made = create_engine("sqlite://")

    @event.listens_for(made, "connect")
    def no_own_transactions(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(made, "begin")
    def begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]

    Base.metadata.create_all(made)
    yield made
    made.dispose()


def sessions_of(engine: Engine, taken: Taken, *, tenant: str = "acme") -> sessionmaker[Session]:
    """Return sessions that are listened to."""
    sessions = sessionmaker(engine, class_=Session)
    SessionAudit(taken, Document, tenant=tenant, actor="user:42").listen(sessions)
    return sessions


class TestSessionAudit:
    """The session event."""

    def test_changes_are_logged_when_they_commit(self, engine: Engine) -> None:
        """Each object that was inserted, changed or deleted is an event, after the commit; others are not."""
        taken = Taken()
        with sessions_of(engine, taken)() as session:
            session.add_all([Document(id=1, title="a"), Document(id=2, title="b"), Draft(id=1)])
            session.flush()
            assert taken.events == []
            session.commit()
            found = session.get_one(Document, 1)
            found.title = "c"
            session.get_one(Document, 2).title = "b"  # which it is
            session.commit()
            session.delete(found)
            session.commit()

        assert taken.actions() == [
            "document.created document:1",
            "document.created document:2",
            "document.updated document:1",
            "document.deleted document:1",
        ]

    def test_what_is_rolled_back_is_not_logged(self, engine: Engine) -> None:
        """Neither a whole transaction nor what went back to a savepoint; what stays of it is."""
        taken = Taken()
        with sessions_of(engine, taken)() as session:
            session.add(Document(id=1, title="a"))
            session.flush()
            session.rollback()
            session.add(Document(id=2, title="b"))
            with session.begin_nested():
                session.add(Document(id=3, title="c"))
            assert taken.events == []
            with session.begin_nested() as savepoint:
                session.add(Document(id=4, title="d"))
                session.flush()
                savepoint.rollback()
            session.commit()
            with session.begin_nested():
                session.add(Document(id=5, title="e"))
            session.rollback()
            session.commit()

        assert taken.actions() == ["document.created document:2", "document.created document:3"]

    def test_an_event_that_cannot_be_made_lets_the_change_fail(self, engine: Engine) -> None:
        """What would leave no trace does not commit."""
        taken = Taken()
        with sessions_of(engine, taken, tenant="no tenant")() as session:
            session.add(Document(id=1, title="a"))
            with pytest.raises(EventInvalid):
                session.commit()
            session.rollback()
            assert session.get(Document, 1) is None

    def test_what_the_log_raises_reaches_whoever_commits(self, engine: Engine) -> None:
        """One event that finds no room does not take the others with it, and is named."""

        class Full(Taken):
            def log(self, event: AuditEvent, /) -> None:
                if event.targets[0].id == "1":
                    raise QueueFull("full")
                super().log(event)

        taken = Full()
        with sessions_of(engine, taken)() as session:
            session.add_all([Document(id=1, title="a"), Document(id=2, title="b")])
            with pytest.raises(QueueFull) as raised:
                session.commit()

        assert "event acme/" in raised.value.__notes__[0]
        assert taken.actions() == ["document.created document:2"]
