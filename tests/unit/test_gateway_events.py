"""What a request says becomes the event that was meant, or a problem that names the field and shows no value."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sealstream.producers.gateway.cloud_events import BATCH, STRUCTURED, attributes_of, event_id_of, event_of
from sealstream.producers.gateway.models import Event, read_model
from sealstream.producers.gateway.problems import Problem
from sealstream.producers.gateway.requests import (
    EVENTS_MAX,
    Publication,
    check_form,
    read_publication,
    single_headers,
)
from sealstream.schemas.entry import is_event_id
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Actor, AuditEvent, Context, Outcome, Sealed, Target
from support.gateway import event

JSON = b"application/json"
SECRET_TEXT = "4111-1111-1111-1111"  # stands for what an event says and no answer may repeat
CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "order-7",
    "source": "https://shop.example/orders",
    "type": "order.refunded",
    "time": "2026-01-31T12:00:00.5+01:00",
    "subject": "order 7",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "attempt": 2,
    "data": {"actor": {"type": "user", "id": "42"}, "metadata": {"reason": "late"}},
}


def read(member: Any) -> AuditEvent:
    """Return a member of a request as an event."""
    return read_model(Event, member).event(tenant="acme", event_id="e", salt=bytes(16))


class TestModel:
    """The event in JSON."""

    def test_every_field_arrives(self) -> None:
        """What the model knows can be said in JSON, bytes in base64."""
        thirty_two = "A" * 42 + "E="
        said = event(
            id="ev-1",
            tenant="acme",
            occurred_at="2026-01-31t12:00:00.25-02:00",
            actor={"type": "user", "id": "42", "name": "Ännchen"},
            targets=[{"type": "document", "id": "7"}, {"type": "folder", "id": "8", "name": None}],
            outcome="denied",
            context={"ip": "192.0.2.1", "session": ""},
            metadata={"ключ": ""},
            personal={
                "v": 1, "subject_key_id": "k", "salt": thirty_two, "commitment": thirty_two,
                "nonce": "A" * 16, "ciphertext": "YWJj",
            },
        )  # fmt: skip
        found = read(said)
        found.check()

        assert found.actor == Actor("user", "42", "Ännchen")
        assert found.targets == (Target("document", "7"), Target("folder", "8"))
        assert found.occurred_at == datetime(2026, 1, 31, 14, 0, 0, 250_000, tzinfo=UTC)
        assert (found.outcome, found.context) == (Outcome.DENIED, Context(ip="192.0.2.1", session=""))
        assert found.metadata == {"ключ": ""}
        assert found.personal == Sealed(1, "k", bytes(31) + b"\x01", bytes(31) + b"\x01", bytes(12), b"abc")

    @pytest.mark.parametrize(
        ("member", "field"),
        [
            (5, "the value"),
            ([], "the value"),
            ({}, "actor"),
            (event(actor="user:42"), "actor"),
            (event(actor={"type": "user"}), "actor.id"),
            (event(actor={"type": "user", "id": ""}), "actor.id"),
            (event(actor={"type": "user", "id": 42}), "actor.id"),
            (event(actor={"type": "user", "id": "x" * 8_193}), "actor.id"),
            (event(action="a\nb"), "action"),
            (event(action=""), "action"),
            (event(occurred_at="2026-01-31"), "occurred_at"),
            (event(occurred_at="2026-01-31T12:00:00"), "occurred_at"),
            (event(occurred_at="2026-02-30T12:00:00Z"), "occurred_at"),
            (event(occurred_at=1_769_860_800), "occurred_at"),
            (event(occurred_at=None), "occurred_at"),
            (event(id="a b"), "id"),
            (event(id="x" * 129), "id"),
            (event(tenant="!"), "tenant"),
            (event(outcome="won"), "outcome"),
            (event(outcome=["success"]), "outcome"),
            (event(targets=[{"type": "t", "id": "1"}] * 101), "targets"),
            (event(targets=[{"type": "t", "id": "1"}, 5]), "targets.1"),
            (event(metadata={"a": 5}), "metadata.a"),
            (event(metadata={str(n): "" for n in range(101)}), "metadata"),
            (event(context={"host": "x"}), "context.host"),
            (event(kind="control"), "kind"),
            (event(producer={"id": "x", "epoch": 0, "n": 0}), "producer"),
            (event(salt="AAAA"), "salt"),
            (event(personal={"v": 1}), "personal.subject_key_id"),
        ],
    )
    def test_what_is_no_event_is_named(self, member: Any, field: str) -> None:
        """The first field at fault is named; kind, salt and producer are not a client's to say."""
        with pytest.raises(EventInvalid) as caught:
            read(member)

        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("member", "field"),
        [
            (dict.fromkeys(map(str, range(200_000)), 0), "the value"),
            (event(metadata=dict.fromkeys(map(str, range(200_000)), 0)), "metadata"),
            (event(targets=[0] * 200_000), "targets"),
            (event(targets=[dict.fromkeys(map(str, range(101)), 0)]), "targets.0"),
            (event(context={"ip": {"a": [0] * 200_000}}), "context.ip"),
        ],
    )
    def test_what_is_wide_costs_little(self, member: Any, field: str) -> None:
        """An event with a hundred thousand wrong members is refused at the first look, not once for each of them."""
        with pytest.raises(EventInvalid) as caught:
            read(member)

        assert caught.value.field == field

    def test_no_value_is_shown(self) -> None:
        """What an event says stands in no error, wherever it breaks the model."""
        for member in (
            event(actor={"type": SECRET_TEXT, "id": 5}),
            event(action=f"{SECRET_TEXT}\n"),
            event(outcome=SECRET_TEXT),
            event(occurred_at=SECRET_TEXT),
            event(id=f"{SECRET_TEXT} "),
            event(personal={"v": SECRET_TEXT}),
        ):
            with pytest.raises(EventInvalid) as caught:
                read(member)
            assert SECRET_TEXT not in str(caught.value)


class TestCloudEvents:
    """CloudEvents."""

    def test_a_cloud_event_becomes_an_audit_event(self) -> None:
        """Type is the action, time when it occurred; what has no place of its own is kept in the metadata."""
        found = read_model(Event, event_of(CLOUD))

        assert (found.action, found.occurred_at.isoformat()) == ("order.refunded", "2026-01-31T12:00:00.500000+01:00")
        assert found.id == event_id_of("https://shop.example/orders", "order-7")
        assert found.context.traceparent == CLOUD["traceparent"]
        assert found.metadata == {
            "reason": "late",
            "ce_source": "https://shop.example/orders",
            "ce_subject": "order 7",
            "ce_attempt": "2",
        }

    def test_both_modes_say_the_same(self) -> None:
        """The binary mode, percent-encoded as its headers are, gives the same event as the structured one."""
        texts = {name: str(value) for name, value in CLOUD.items() if name != "data"}
        headers = [(f"ce-{name}".encode(), text.replace(" ", "%20").encode()) for name, text in texts.items()]

        assert event_of(attributes_of(headers, CLOUD["data"])) == event_of(CLOUD)

    def test_ids_of_two_sources_differ(self) -> None:
        """Source and id name an event together; whatever they are, the id made of them is one."""
        assert event_id_of("a", "1") == "ce:ca978112ca1bbdca:1"
        assert event_id_of("a", "1") != event_id_of("b", "1")
        for identifier in ("with space", "ü", "x" * 4_000, "x" * 108, "x" * 109):
            assert is_event_id(event_id_of("a", identifier))

    @pytest.mark.parametrize(
        ("changed", "field"),
        [
            ({"specversion": "0.3"}, "specversion"),
            ({"specversion": None}, "specversion"),
            ({"time": None}, "time"),
            ({"id": ""}, "id"),
            ({"id": 7}, "id"),
            ({"source": {}}, "source"),
            ({"subject": "x" * 5_000}, "subject"),
            ({"attempt": 1.5}, "attempt"),
            ({"Attempt": "x"}, "attribute"),
            ({"data_base64": "AAAA"}, "attribute"),
            ({"datacontenttype": "text/plain"}, "datacontenttype"),
            (dict.fromkeys((f"x{number}" for number in range(200)), ""), "the value"),
            ({"data": None}, "data"),
            ({"data": "text"}, "data"),
            ({"data": {"id": "x"}}, "data.id"),
            ({"data": {"metadata": []}}, "data.metadata"),
            ({"data": {"metadata": {"ce_source": "x"}}}, "data.metadata.ce_source"),
        ],
    )
    def test_what_is_no_cloud_event_is_named(self, changed: dict[str, Any], field: str) -> None:
        """The attribute at fault is named."""
        with pytest.raises(EventInvalid) as caught:
            event_of(CLOUD | changed)

        assert caught.value.field == field

    @pytest.mark.parametrize("headers", [[(b"ce-id", b"a"), (b"ce-id", b"b")], [(b"ce-id", b"%ff")]])
    def test_headers_that_say_nothing_clear_are_refused(self, headers: list[tuple[bytes, bytes]]) -> None:
        """An attribute that is given twice, or is not UTF-8, is not guessed at."""
        with pytest.raises(EventInvalid):
            attributes_of(headers, {})


class TestRequests:
    """One event or several, and in which form."""

    def read(self, media_type: bytes, body: bytes, **headers: bytes) -> Publication:
        """Return what a request says."""
        return read_publication(media_type, {name.encode(): value for name, value in headers.items()}, body)

    def test_one_or_several(self) -> None:
        """An object is one event, a list as many as it has members."""
        assert not self.read(JSON, b"{}").is_batch
        assert len(self.read(JSON, json.dumps([{}] * EVENTS_MAX).encode()).members) == EVENTS_MAX
        assert not self.read(STRUCTURED, b"[]").is_batch
        assert self.read(BATCH, b"[{}]").is_batch

    @pytest.mark.parametrize(
        ("media_type", "body", "problem"),
        [
            (JSON, b"", "malformed"),
            (JSON, b'{"a": NaN}', "malformed"),
            (JSON, b'{"action": "\xff"}', "malformed"),
            (JSON, b'{"action": "\\ud800"}', "malformed"),
            (JSON, b"[" * 100_000, "malformed"),
            (JSON, b'{"a":' * 2_000 + b"1" + b"}" * 2_000, "malformed"),
            (JSON, b"[]", "batch-size"),
            (JSON, json.dumps([{}] * (EVENTS_MAX + 1)).encode(), "batch-size"),
            (BATCH, b"{}", "batch-size"),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, media_type: bytes, body: bytes, problem: str) -> None:
        """No JSON, bad UTF-8, half a surrogate pair, deep nesting, no event or too many."""
        with pytest.raises(Problem) as caught:
            self.read(media_type, body)

        assert caught.value.name == problem

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {b"content-type": b"text/plain"},
            {b"content-type": b"application/x-www-form-urlencoded"},
            {b"content-type": b"application/json; charset=latin1"},
            {b"content-type": b"application/json", b"content-encoding": b"gzip"},
        ],
    )
    def test_other_forms_are_not_read(self, headers: dict[bytes, bytes]) -> None:
        """A body of another type, in another character set or compressed is 415."""
        with pytest.raises(Problem) as caught:
            check_form(headers)

        assert caught.value.status == 415
        assert check_form({b"content-type": b'Application/JSON ; Charset="UTF-8"'}) == JSON

    @pytest.mark.parametrize("key", [b"", b"x" * 256, "ü".encode()])
    def test_a_key_of_idempotency_is_bounded(self, key: bytes) -> None:
        """One that is empty, too long or no ASCII is refused and not cut."""
        with pytest.raises(Problem, match="Idempotency-Key"):
            check_form({b"content-type": JSON, b"idempotency-key": key})

    @pytest.mark.parametrize("name", [b"authorization", b"idempotency-key", b"content-type"])
    def test_headers_that_decide_stand_once(self, name: bytes) -> None:
        """Of two different ones a proxy might have looked at the other."""
        with pytest.raises(Problem, match="twice"):
            single_headers([(name, b"a"), (b"x-other", b""), (name, b"b")])
        assert single_headers([(b"x-other", b"a"), (b"x-other", b"b")]) == {b"x-other": b"b"}
