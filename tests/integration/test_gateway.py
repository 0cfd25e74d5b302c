"""Publishing over HTTP to real Kafka: what arrives, what a retry is in the chain, and who may publish what."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sealstream.producers.gateway.cloud_events import event_id_of
from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import Kind, parse, payload_digest
from sealstream.schemas.event import Actor, AuditEvent
from support.gateway import GatewayProcess, event
from support.harness import LogRecord, read_log
from support.processing import committed, run_engine
from support.workers import Pipeline, wait_for

pytest_plugins = ("support.gateway_fixtures",)

CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "source": "//shop.example",
    "type": "order.refunded",
    "time": "2026-01-31T12:00:00Z",
    "data": {"actor": {"type": "user", "id": "42"}},
}


def new_id() -> str:
    """Return an id that no other test uses."""
    return f"ev-{uuid.uuid4().hex}"


def record_at(instance: Pipeline, receipt: dict[str, Any]) -> LogRecord:
    """Return the source record that a receipt names."""
    log = read_log(instance.connection, instance.topics.events, instance.genesis.partitions)[int(receipt["partition"])]
    (record,) = (record for record in log if record.offset == receipt["offset"])
    return record


def value_of(instance: Pipeline, receipt: dict[str, Any]) -> bytes:
    """Return the value of the record that a receipt names."""
    value = record_at(instance, receipt).value
    assert value is not None
    return value


class TestPublishing:
    """Events that are taken."""

    def test_an_event_arrives_and_its_receipt_is_true(self, gateway: GatewayProcess, instance: Pipeline) -> None:
        """202 says where the event stands, and the digest by which the chain will commit to it."""
        name = new_id()
        answer = gateway.post(event(id=name, metadata={"ключ": "значение"}))
        receipt = answer.document
        record = record_at(instance, receipt)
        found = EventReader().read(record.value or b"")

        assert answer.status == 202
        assert (receipt["instance"], receipt["tenant"], receipt["id"]) == (instance.genesis.instance, "acme", name)
        assert (receipt["state"], receipt["spooled"]) == ("published", False)
        assert receipt["digest"] == payload_digest(record.value or b"").hex()
        assert (record.key, record.header("ce_id")) == (b"acme", name.encode())
        assert found == AuditEvent(
            tenant="acme", id=name, salt=found.salt, occurred_at=found.occurred_at, actor=Actor("user", "42"),
            action="document.updated", metadata={"ключ": "значение"},
        )  # fmt: skip

    def test_a_batch_has_a_result_for_each_event(self, gateway: GatewayProcess, instance: Pipeline) -> None:
        """207 where some are refused: those that are good are published all the same, in their order."""
        names = [new_id() for _ in range(4)]
        batch = [event(id=name) for name in names]
        batch[1] |= {"action": ""}
        batch[2] |= {"tenant": "other"}

        answer = gateway.post(batch)
        results = answer.document["results"]

        assert answer.status == 207
        assert [result["status"] for result in results] == [202, 422, 403, 202]
        assert [result["problem"]["field"] for result in results[1:3]] == ["action", "tenant"]
        first, last = (results[number]["receipt"] for number in (0, 3))
        assert [first["id"], last["id"]] == [names[0], names[3]]
        assert last["offset"] == first["offset"] + 1
        assert EventReader().read(value_of(instance, last)).id == names[3]

    def test_a_thousand_events_at_once(self, gateway: GatewayProcess) -> None:
        """The largest batch is taken whole; one more event is refused, and none of them is published."""
        batch = [event(id=f"{name}-{n}") for name in [new_id()] for n in range(1_000)]
        answer = gateway.post(batch)
        offsets = [result["receipt"]["offset"] for result in answer.document["results"]]

        assert answer.status == 202
        assert offsets == list(range(offsets[0], offsets[0] + 1_000))
        assert gateway.post([*batch, event()]).problem == "batch-size"

    def test_cloud_events_in_every_form(self, gateway: GatewayProcess, instance: Pipeline) -> None:
        """Structured, in a batch and in binary mode the same CloudEvent is the same bytes, under the same id."""
        cloud = CLOUD | {"id": new_id(), "subject": "Bestellung Nº 7"}
        attributes = {
            f"ce-{name}": str(text).replace("º", "%C2%BA").replace(" ", "%20")
            for name, text in cloud.items()
            if name != "data"
        }
        answers = [
            gateway.post(cloud, content_type="application/cloudevents+json; charset=utf-8").document,
            gateway.post([cloud], content_type="application/cloudevents-batch+json").document["results"][0]["receipt"],
            gateway.post(cloud["data"], **attributes).document,
        ]
        found = EventReader().read(value_of(instance, answers[0]))

        assert len({answer["digest"] for answer in answers}) == 1
        assert {answer["id"] for answer in answers} == {event_id_of("//shop.example", cloud["id"])}
        assert (found.action, found.metadata["ce_subject"]) == ("order.refunded", "Bestellung Nº 7")

    def test_the_largest_event_arrives_and_one_more_byte_does_not(self, gateway: GatewayProcess) -> None:
        """An event of a million bytes is published; a larger one is 413, with the reason."""
        assert gateway.post(event(metadata={"a": "x" * 999_000})).status == 202
        answer = gateway.post(event(metadata={"a": "x" * 1_000_000}))

        assert (answer.status, answer.problem) == (413, "event-too-large")


class TestRetries:
    """A request that is sent again."""

    def test_a_retry_is_a_duplicate_and_another_event_a_conflict(
        self, gateway: GatewayProcess, instance: Pipeline
    ) -> None:
        """In the chain the first is an event, each retry a duplicate of it (kind 3), another body a conflict (5)."""
        key = uuid.uuid4().hex
        again = dict(reversed(event(metadata={"a": "1"}).items()))
        answers = [gateway.post(event(metadata={"a": "1"}), idempotency_key=key).document for _ in range(3)]
        answers.append(gateway.post(again, idempotency_key=key).document)
        other = gateway.post(event(metadata={"a": "2"}), idempotency_key=key)
        elsewhere = gateway.post(event(metadata={"a": "1"}), idempotency_key=f"{key}-2").document

        values = {value_of(instance, answer) for answer in answers}
        assert len(values) == 1
        assert len({(answer["id"], answer["digest"]) for answer in answers}) == 1
        assert (other.status, other.document["id"]) == (202, answers[0]["id"])
        assert elsewhere["id"] != answers[0]["id"]
        total = sum(
            len(log) for log in read_log(instance.connection, instance.topics.events, instance.genesis.partitions)
        )
        run_engine(instance, until=lambda: sum(committed(instance).values()) == total)
        chained = read_log(instance.connection, instance.topics.chained, instance.genesis.partitions)
        entries = [parse(record.header("seal-entry") or b"") for log in chained for record in log]
        kinds = [entry.kind for entry in entries if entry.event_id == answers[0]["id"]]
        assert kinds == [Kind.EVENT, Kind.DUPLICATE, Kind.DUPLICATE, Kind.DUPLICATE, Kind.CONFLICT]

    def test_each_event_of_a_batch_keeps_its_place(self, gateway: GatewayProcess) -> None:
        """Two equal events of one batch are two; a retry of the batch repeats each of them."""
        key = uuid.uuid4().hex
        first, second = (
            [
                result["receipt"]["digest"]
                for result in gateway.post([event()] * 2, idempotency_key=key).document["results"]
            ]
            for _ in range(2)
        )

        assert first == second
        assert len(set(first)) == 2

    def test_without_a_name_every_request_is_an_event_of_its_own(self, gateway: GatewayProcess) -> None:
        """With neither id nor Idempotency-Key, nothing tells a retry from a second event."""
        digests = {gateway.post(event()).document["digest"] for _ in range(2)}

        assert len(digests) == 2

    def test_two_credentials_do_not_meet(self, gateway: GatewayProcess) -> None:
        """The same Idempotency-Key of two clients names two events, and none can make the other's bytes."""
        other = gateway.new_key()
        name = new_id()
        wait_for(lambda: gateway.post(event(), token=other).status == 202, timeout_seconds=30, what="the new key")

        keyed = {gateway.post(event(), token=token, idempotency_key="k").document["id"] for token in (None, other)}
        named = {gateway.post(event(id=name), token=token).document["digest"] for token in (None, other)}

        assert (len(keyed), len(named)) == (2, 2)


class TestReach:
    """What a credential reaches."""

    def test_another_tenants_event_is_refused(self, gateway: GatewayProcess, instance: Pipeline) -> None:
        """The tenant is the credential's: naming it changes nothing, naming another one publishes nothing."""
        name = new_id()
        refused = gateway.post(event(id=name, tenant="other"))
        cloud = CLOUD | {"id": name, "data": CLOUD["data"] | {"tenant": "other"}}

        assert (refused.status, refused.problem) == (403, "forbidden")
        assert gateway.post(cloud, content_type="application/cloudevents+json").status == 403
        assert gateway.post(event(tenant="acme")).status == 202
        log = read_log(instance.connection, instance.topics.events, instance.genesis.partitions)
        assert {record.key for records in log for record in records} == {b"acme"}
        assert name not in {str(record.header("ce_id")) for records in log for record in records}

    def test_a_key_reaches_its_actions_and_its_rate(self, gateway: GatewayProcess) -> None:
        """Other actions than those that begin so are 403; more events than its rate are 429, with when to try again."""
        token = gateway.new_key(actions=("document.",), events_per_second=0.5)
        wait_for(lambda: gateway.post(event(), token=token).status == 202, timeout_seconds=30, what="the new key")

        assert gateway.post(event(action="user.deleted"), token=token).status == 403
        assert gateway.post([event(action="document.read")] * 1_000, token=token).status == 202
        answers = [gateway.post([event()] * 999, token=token) for _ in range(2)]
        assert (answers[1].status, answers[1].problem) == (429, "too-many-events")
        assert 1 <= int(answers[1].headers["retry-after"]) <= 2_000

    @pytest.mark.parametrize("token", ["", "sealstream_0000000000000000_AAAA", "x", "a.b.c"])
    def test_who_is_unknown_publishes_nothing(self, gateway: GatewayProcess, token: str) -> None:
        """Without a key, or with one that is none, the answer is 401, and says how to ask."""
        answer = gateway.post(event(), token=token)

        assert (answer.status, answer.problem) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_its_state_is_told_where_workers_tell_theirs(self, gateway: GatewayProcess) -> None:
        """The worker's web port has health, readiness and metrics; its log has neither tokens nor what events say."""
        gateway.post(event(metadata={"secret": "said-by-an-event"}))
        wait_for(lambda: gateway.worker.get("/readyz")[0] == 200, timeout_seconds=30, what="readiness")
        _, text = gateway.worker.get("/metrics")

        assert gateway.worker.get("/healthz") == (200, "ok\n")
        assert 'sealstream_gateway_events_total{status="published"}' in text
        assert 'sealstream_gateway_requests_total{status="202"}' in text
        assert gateway.token not in gateway.worker.log()
        assert "said-by-an-event" not in gateway.worker.log()
