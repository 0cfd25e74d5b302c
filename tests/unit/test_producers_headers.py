"""Headers of published records: CloudEvents in Kafka's binary mode, and trace context."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sealstream.producers.headers import is_traceparent, record_headers
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Context
from support.fake_transport import event

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOON = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def test_a_record_is_a_cloud_event_in_binary_mode() -> None:
    """The required attributes and the time stand in ``ce_`` headers, the media type in ``content-type``."""
    headers = record_headers(event(id="ev-1", occurred_at=NOON), "demo.example/audit")

    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"ev-1"),
        ("ce_type", b"document.updated"),
        ("ce_source", b"//demo.example/audit/acme"),
        ("ce_time", b"2026-03-01T12:00:00.250000+00:00"),
        ("content-type", b"application/avro"),
    ]


def test_the_time_is_in_utc_whatever_the_events_zone() -> None:
    """An offset with seconds, which RFC 3339 does not know, does not reach the header."""
    odd = timezone(timedelta(hours=1, minutes=2, seconds=3))

    headers = dict(record_headers(event(occurred_at=NOON.astimezone(odd)), "demo.example"))

    assert headers["ce_time"] == b"2026-03-01T12:00:00.250000+00:00"


def test_a_valid_traceparent_is_passed_on() -> None:
    """Who reads the topic can join the event to its trace."""
    headers = dict(record_headers(event(context=Context(traceparent=TRACEPARENT)), "demo.example"))

    assert headers["traceparent"] == TRACEPARENT.encode()


def test_an_invalid_traceparent_stays_in_the_event_only() -> None:
    """What is no trace context is no header: tracing tools may rely on its form."""
    headers = dict(record_headers(event(context=Context(traceparent="abc")), "demo.example"))

    assert "traceparent" not in headers


@pytest.mark.parametrize(
    "text",
    [
        TRACEPARENT.upper(),
        "ff" + TRACEPARENT[2:],
        TRACEPARENT.replace("b7ad6b7169203331", "0" * 16),
        TRACEPARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        TRACEPARENT + "-extra",
        TRACEPARENT + "\n",
    ],
)
def test_malformed_trace_context_is_told_apart(text: str) -> None:
    """Capitals, the forbidden version, zero ids and trailing text are refused, as the recommendation says."""
    assert not is_traceparent(text)


def test_an_action_with_a_control_character_is_refused() -> None:
    """CloudEvents allows none in ``type``; other scripts and spaces are no control characters."""
    with pytest.raises(EventInvalid) as caught:
        record_headers(event(action="document\n.updated"), "demo.example")

    assert caught.value.field == "action"
    assert dict(record_headers(event(action="文書\u3000更新"), "demo.example"))["ce_type"] == "文書\u3000更新".encode()


def test_a_time_that_utc_cannot_express_is_refused() -> None:
    """The year 1 in a zone east of Greenwich lies before the calendar that readers have."""
    early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))

    with pytest.raises(EventInvalid) as caught:
        record_headers(event(occurred_at=early), "demo.example")

    assert caught.value.field == "occurred_at"
