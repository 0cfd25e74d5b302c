"""Kafka dies under a gateway at work: what was said of each event is true, and the gateway goes on by itself."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from sealstream.producers.gateway.publisher import RETRY_SECONDS
from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import payload_digest
from support.brokers import FaultBroker, fault_broker
from support.gateway import Answer, GatewayProcess, event, serve_gateway
from support.harness import LogRecord, read_log
from support.workers import Pipeline, wait_for

pytestmark = pytest.mark.slow

CLIENTS: Final = 4
PHASE_ANSWERS: Final = 12
"""So many answers of the kind that is waited for make a phase: three of each client, about."""
DELIVERY_SECONDS: Final = 2
SLACK_SECONDS: Final = 20
"""Beyond the bound itself: for a machine that has others to serve."""
WAIT_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.02
"""Between two requests of a client, so that they do not take the cores from Kafka's start."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what became of it.

    Arguments:
        name: The event's own name in its metadata, the same for all repeats.
        answer: The answer.
        seconds: How long it took.
    """

    name: str
    answer: Answer
    seconds: float


class Clients:
    """Some clients that publish one event after the other, each until it is taken and then again, as the page allows.

    Arguments:
        gateway: Whom they ask.
        name: Begins their events' names.
    """

    def __init__(self, gateway: GatewayProcess, name: str) -> None:
        self.asked: list[Asked] = []
        """What was answered, in the order of the answers; appending to a list needs no lock."""
        self._gateway = gateway
        self._name = name
        self._end = threading.Event()

    def begin(self, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Begin to publish."""
        return [pool.submit(self._publish, number) for number in range(CLIENTS)]

    def end(self) -> None:
        """Let each come to the end of its event."""
        self._end.set()

    def wait_for(self, since: int, fits: Callable[[Answer], bool], what: str) -> None:
        """Wait for a phase's number of such answers.

        Arguments:
            since: How many answers were there before the phase.
            fits: Whether an answer is one of them.
            what: What is waited for.
        """
        wait_for(
            lambda: sum(fits(asked.answer) for asked in self.asked[since:]) >= PHASE_ANSWERS,
            timeout_seconds=WAIT_SECONDS,
            what=f"{what} ({self._name})",
        )

    def _publish(self, client: int) -> None:
        number = 0
        while not self._end.is_set():
            name = f"{self._name}-{client}-{number}"
            number += 1
            # Every second one leaves its id to the gateway.
            headers = {"idempotency_key": name} if number % 2 else {}
            body = event(metadata={"name": name}) | ({} if number % 2 else {"id": name})
            deadline = time.monotonic() + WAIT_SECONDS
            while not self._is_taken(name, body, headers):
                assert time.monotonic() < deadline, f"{name} was refused again and again"
            self._is_taken(name, body, headers)  # once more, as who has not heard the answer
            self._end.wait(PAUSE_SECONDS)

    def _is_taken(self, name: str, body: dict[str, Any], headers: dict[str, str]) -> bool:
        begin = time.monotonic()
        answer = self._gateway.post(body, **headers)
        self.asked.append(Asked(name, answer, time.monotonic() - begin))
        assert answer.status in (202, 503), answer.body
        return answer.status == 202


@contextmanager
def publishing(gateways: dict[str, GatewayProcess]) -> Generator[dict[str, Clients]]:
    """Let clients publish at each gateway; at the end every event of theirs is taken."""
    clients = {name: Clients(gateway, name) for name, gateway in gateways.items()}
    with ThreadPoolExecutor(CLIENTS * len(clients)) as pool:
        begun = [future for one in clients.values() for future in one.begin(pool)]
        try:
            yield clients
        finally:
            for one in clients.values():
                one.end()
        for future in begun:
            future.result(WAIT_SECONDS)


def is_published(answer: Answer) -> bool:
    """Return whether an event is said to be in Kafka."""
    return answer.status == 202 and answer.document["state"] == "published"


def is_spooled(answer: Answer) -> bool:
    """Return whether an event is said to be on the disk alone."""
    return answer.status == 202 and answer.document["state"] == "spooled"


def test_a_broker_that_dies_makes_no_answer_false(tmp_path: Path) -> None:
    """503 in time or spooled while Kafka is away, 202 once it is back, each event there once that was said to be."""
    with fault_broker() as broker:
        instance = Pipeline(broker.address, f"t-{uuid.uuid4().hex[:8]}", tmp_path)
        instance.create_topics()
        (tmp_path / "closed").mkdir()
        (tmp_path / "spool").mkdir()
        settings = {"gateway_delivery_seconds": DELIVERY_SECONDS}
        with (
            serve_gateway(instance, tmp_path / "closed", **settings) as closed,
            serve_gateway(
                instance, tmp_path / "spool", gateway_spool=tmp_path / "spool" / "events", **settings
            ) as spooling,
        ):
            asked = _live_through(broker, {"closed": closed, "spool": spooling})
            wanted = {digest for one in asked.values() for digest in _digests(one)}
            wait_for(
                lambda: wanted <= {payload_digest(record.value or b"").hex() for record in _records(instance)},
                timeout_seconds=WAIT_SECONDS,
                what="everything that was said to be taken",
            )
        records = _records(instance)

    for name, one in asked.items():
        _check(one, [record for record in records if _name_of(record).startswith(f"{name}-")])
    assert {is_spooled(each.answer) for each in asked["closed"]} == {False}
    assert {each.answer.status for each in asked["spool"]} == {202}
    assert {_name_of(record).partition("-")[0] for record in records} == set(asked), "and nothing else is there"


def _live_through(broker: FaultBroker, gateways: dict[str, GatewayProcess]) -> dict[str, list[Asked]]:
    """Kill the broker under requests and start it again; return what was answered at each gateway."""
    closed, spooling = gateways["closed"], gateways["spool"]
    with publishing(gateways) as clients:
        for one in clients.values():
            one.wait_for(0, is_published, "events before")
        for gateway in gateways.values():
            _await_ready(gateway, 200)

        broker.kill()
        since = {name: len(one.asked) for name, one in clients.items()}
        clients["closed"].wait_for(since["closed"], lambda answer: answer.status == 503, "refusals")
        clients["spool"].wait_for(since["spool"], is_spooled, "events on disk")
        _await_ready(closed, 503)
        assert spooling.worker.get("/readyz")[0] == 200, "it takes events"
        assert [gateway.worker.get("/healthz")[0] for gateway in gateways.values()] == [200, 200]

        broker.start()
        since = {name: len(one.asked) for name, one in clients.items()}
        for name, one in clients.items():
            one.wait_for(since[name], is_published, "events afterwards")
        for gateway in gateways.values():
            _await_ready(gateway, 200)
            assert gateway.worker.process.poll() is None, "it is the same process"
    return {name: one.asked for name, one in clients.items()}


def _await_ready(gateway: GatewayProcess, status: int) -> None:
    wait_for(
        lambda: gateway.worker.get("/readyz")[0] == status, timeout_seconds=WAIT_SECONDS, what=f"readiness {status}"
    )


def _check(asked: list[Asked], records: list[LogRecord]) -> None:
    """Check a gateway's answers against what the topic holds of its clients."""
    digests: dict[str, set[str]] = {}
    for record in records:
        digests.setdefault(_name_of(record), set()).add(payload_digest(record.value or b"").hex())
    places = {(record.partition, record.offset): payload_digest(record.value or b"").hex() for record in records}
    for each in asked:
        assert each.seconds < DELIVERY_SECONDS + SLACK_SECONDS
        if each.answer.status == 503:
            assert each.answer.problem == "not-published"
            assert each.answer.headers["retry-after"] == str(RETRY_SECONDS)
            continue
        receipt = each.answer.document
        assert digests[each.name] == {receipt["digest"]}, "one event, however often it was asked for"
        if receipt["state"] == "published":
            assert places[receipt["partition"], receipt["offset"]] == receipt["digest"]
    ids = {EventReader().read(record.value or b"").id for record in records}
    assert len(ids) == len(digests) == len({each.name for each in asked}), "no two events have one id"


def _digests(asked: list[Asked]) -> set[str]:
    return {each.answer.document["digest"] for each in asked if each.answer.status == 202}


def _name_of(record: LogRecord) -> str:
    return str(EventReader().read(record.value or b"").metadata["name"])


def _records(instance: Pipeline) -> list[LogRecord]:
    logs = read_log(instance.connection, instance.topics.events, instance.genesis.partitions)
    return [record for log in logs for record in log]
