"""The producers' core: what an event becomes, and the books about what is outstanding."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from sealstream.producers.core import Core, Stats
from sealstream.producers.options import ProducerOptions
from sealstream.schemas.codec import CONFLUENT_MAGIC, EventReader, encode_event, schema
from sealstream.schemas.entry import VALUE_BYTES_MAX, payload_digest
from sealstream.schemas.errors import ConfigError, EventInvalid
from sealstream.schemas.event import ProducerMark
from support.fake_transport import event, options, timed_out

EPOCH = 1_700_000_000_000


def core(**changes: Any) -> Core:
    """Return a core whose marks have the epoch above."""
    return Core(options(**changes), epoch=EPOCH)


class TestRecord:
    """An event's bytes are made once, and say everything."""

    def test_the_value_reads_back_as_the_event(self) -> None:
        """What is sent decodes to the event that was logged, and the digest is that of its bytes."""
        logged = event(id="ev-1", metadata={"note": "Grüße, 世界 🌍"})

        record = core().record_of(logged)

        assert (record.tenant, record.event_id) == ("acme", "ev-1")
        assert EventReader().read(record.value) == logged
        assert record.digest == payload_digest(record.value)

    def test_a_schema_id_puts_the_value_into_confluents_framing(self) -> None:
        """With a registry's schema id, the value is what every Confluent deserializer reads."""
        record = core(schema_id=4711).record_of(event(id="ev-1"))

        assert record.value[:5] == bytes((CONFLUENT_MAGIC, 0, 0, 0x12, 0x67))
        assert EventReader(schema_by_id=lambda _: schema("AuditEvent")).read(record.value).id == "ev-1"

    @pytest.mark.parametrize("schema_id", [None, 4711])
    def test_a_record_is_made_again_from_its_value(self, schema_id: int | None) -> None:
        """Key, headers and digest follow from the value, so keeping the value is enough to send an event again."""
        books = core(schema_id=schema_id)
        first = books.record_of(
            event(occurred_at=datetime(2026, 1, 1, 1, 0, 0, 7, tzinfo=timezone(timedelta(hours=5))))
        )

        again = books.record_of_value(first.value)
        for name in ("tenant", "event_id", "value", "digest", "headers"):
            assert getattr(again, name) == getattr(first, name)

    @pytest.mark.parametrize(
        ("value", "where"),
        [
            (b"", "value"),
            (b"\xc3\x01" + bytes(40), "value"),
            (encode_event(event())[:-1], "value"),
            (encode_event(event()) + b"\x00", "value"),
            (encode_event(event(id="no id")), "id"),
            (encode_event(event(tenant="!partition-0")), "tenant"),
            (encode_event(event(action="a\nb")), "action"),
            (encode_event(event(metadata={"a": "x" * VALUE_BYTES_MAX})), "event"),
            (bytearray(encode_event(event())), "value"),
        ],
        ids=("empty", "unknown schema", "cut", "followed", "id", "tenant", "action", "too large", "no bytes"),
    )
    def test_bytes_that_are_no_valid_event_are_refused(self, value: Any, where: str) -> None:
        """Final bytes are as little trusted as fields: what the chain would quarantine is refused, and says where."""
        with pytest.raises(EventInvalid) as caught:
            core().record_of_value(value)

        assert caught.value.field == where

    def test_the_largest_event_is_taken_and_one_byte_more_is_not(self) -> None:
        """The limit is on the value as it stands: how well it would compress does not matter."""
        small = len(core().record_of(event(id="ev-1", metadata={"a": "x" * 900_000})).value)
        fits = {"a": "x" * (900_000 + VALUE_BYTES_MAX - small)}
        over = {"a": "x" * (900_001 + VALUE_BYTES_MAX - small)}

        assert len(core().record_of(event(id="ev-1", metadata=fits)).value) == VALUE_BYTES_MAX
        with pytest.raises(EventInvalid, match="takes 1000001 bytes") as caught:
            core().record_of(event(id="ev-1", metadata=over))
        assert caught.value.hint


class TestMark:
    """With a producer id, each event carries a count that shows a hole where one is missing."""

    def test_counts_run_from_zero_for_each_tenant(self) -> None:
        """The marks of one tenant are 0, 1, 2 and so on, whatever other tenants do."""
        books = core(producer_id="api-1")

        marks = [read_mark(books.record_of(event(tenant=tenant)).value) for tenant in ("a", "b", "a", "a", "b")]

        expected = [("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1)]
        assert marks == [ProducerMark("api-1", EPOCH, n) for _, n in expected]

    def test_no_mark_without_a_producer_id(self) -> None:
        """Marks are optional: an event of a log without a producer id has none."""
        assert read_mark(core().record_of(event()).value) is None

    def test_an_event_that_is_refused_leaves_no_hole(self) -> None:
        """An event too large to be sent takes no number."""
        books = core(producer_id="api-1")

        with pytest.raises(EventInvalid):
            books.record_of(event(metadata={"a": "x" * 1_100_000}))

        assert read_mark(books.record_of(event()).value) == ProducerMark("api-1", EPOCH, 0)

    def test_a_withdrawn_record_gives_its_number_to_the_next(self) -> None:
        """An event that found no room takes no number."""
        books = core(producer_id="api-1")

        books.withdraw(books.record_of(event()))

        assert books.record_of(event()).n == 0

    def test_a_number_is_never_given_twice(self) -> None:
        """A record withdrawn after others went past it leaves a hole; two events with one number would hide one."""
        books = core(producer_id="api-1")
        early, late = books.record_of(event()), books.record_of(event())

        books.withdraw(early)

        assert books.record_of(event()).n == (late.n or 0) + 1

    def test_a_mark_of_the_callers_own_is_refused(self) -> None:
        """Either the log counts or the caller does."""
        with pytest.raises(EventInvalid) as caught:
            core(producer_id="api-1").record_of(event(producer=ProducerMark("other", 1, 1)))

        assert caught.value.field == "producer"


def read_mark(value: bytes) -> ProducerMark | None:
    """Return the mark that stands in a value."""
    return EventReader().read(value).producer


class TestBooks:
    """Every event is in the books exactly once."""

    def test_room_ends_with_the_number_of_events(self) -> None:
        """No more events may be outstanding than the option says."""
        books = core(queue_events_max=2)
        record = books.record_of(event())

        books.take(record.size_bytes)
        assert books.has_room(record)
        books.take(record.size_bytes)
        assert not books.has_room(record)
        books.settle(record.size_bytes, None)
        assert books.has_room(record)

    def test_room_ends_with_the_bytes_of_events(self) -> None:
        """No more bytes may be outstanding than the option says."""
        books = core(queue_bytes_max=2_097_152)
        record = books.record_of(event(metadata={"a": "x" * 999_000}))

        books.take(record.size_bytes)
        assert books.has_room(record)
        books.take(record.size_bytes)
        assert not books.has_room(record)

    def test_the_sums_agree(self) -> None:
        """Accepted events are published, failed or outstanding; dropped ones stand apart."""
        books = core()
        for _ in range(5):
            books.take(100)
        books.settle(100, None)
        books.settle(100, timed_out())
        books.drop(timed_out())

        assert books.stats() == Stats(
            accepted=5, published=1, failed=1, dropped=1, outstanding_events=3, outstanding_bytes=300
        )

    def test_failures_are_reported_once_and_together(self) -> None:
        """One error says how many events failed since the last report, and why the first one did."""
        books = core()
        for number in range(3):
            books.take(100)
            books.settle(100, timed_out(f"ev-{number}"))

        error = books.unreported()

        assert error is not None
        assert "3 events were not published; the first: event acme/ev-0: timed out" in str(error)
        assert (error.code, error.hint) == ("_MSG_TIMED_OUT", "wait")
        assert books.unreported() is None

    def test_a_later_failure_is_reported_by_itself(self) -> None:
        """What was reported before does not count again."""
        books = core()
        books.drop(timed_out("ev-0"))
        books.unreported()
        books.drop(timed_out("ev-1"))

        error = books.unreported()

        assert error is not None
        assert error.message == "event acme/ev-1: timed out"


@pytest.mark.parametrize(
    "changes",
    [
        {"instance": "Not A Name"},
        {"producer_id": "with space"},
        {"when_full": "spill"},
        {"compression": "gzip"},
        {"schema_id": -1},
        {"queue_events_max": 0},
        {"queue_bytes_max": 1_000_000},
        {"linger_seconds": -0.1},
        {"delivery_timeout_seconds": 0.0},
        {"delivery_timeout_seconds": float("nan")},
        {"timeout_seconds": float("inf")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_option_out_of_range_is_named(changes: dict[str, Any]) -> None:
    """A wrong option is met when the log is made, by its name and with what would be right."""
    with pytest.raises(ConfigError, match=next(iter(changes))) as caught:
        options(**changes)

    assert caught.value.hint


def test_an_address_is_needed() -> None:
    """A log without bootstrap servers is refused at once."""
    kafka = options().kafka

    with pytest.raises(ConfigError, match="kafka is empty"):
        options(kafka=type(kafka)(" "))


def test_options_are_complete() -> None:
    """The defaults of the tests are valid options."""
    assert isinstance(options(), ProducerOptions)
