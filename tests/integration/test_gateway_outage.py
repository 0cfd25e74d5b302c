"""A gateway without Kafka says so, one with a spool keeps what it takes, and one that is stopped answers first."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3

from sealstream.schemas.codec import EventReader
from sealstream.schemas.entry import payload_digest
from support.gateway import START_SECONDS, GatewayProcess, event, serve_gateway
from support.harness import LogRecord, read_log
from support.workers import Pipeline, wait_for

pytest_plugins = ("support.gateway_fixtures",)

pytestmark = pytest.mark.slow

NOWHERE = "127.0.0.1:1"  # a port that nothing listens on
WAIT_SECONDS = 60.0


def records(instance: Pipeline) -> list[LogRecord]:
    """Return all records of the source."""
    logs = read_log(instance.connection, instance.topics.events, instance.genesis.partitions)
    return [record for log in logs for record in log]


def test_without_kafka_nothing_is_taken(instance: Pipeline, tmp_path: Path) -> None:
    """Each event is 503 with when to try again, alone and in a batch; what is wrong with an event is still said."""
    with serve_gateway(instance, tmp_path, kafka=NOWHERE, gateway_delivery_seconds=1) as gateway:
        answer = gateway.post(event(id="away-1"))
        batch = gateway.post([event(), event()])
        mixed = gateway.post([event(), event(action="")])
        wait_for(lambda: gateway.worker.get("/readyz")[0] == 503, timeout_seconds=WAIT_SECONDS, what="not to be ready")
        wait_for(
            lambda: "not asked yet" not in gateway.worker.get("/readyz")[1],
            timeout_seconds=WAIT_SECONDS,
            what="the reason",
        )

        assert (answer.status, answer.problem, answer.headers["retry-after"]) == (503, "not-published", "5")
        assert (batch.status, batch.problem) == (503, "not-published")
        assert [result["status"] for result in mixed.document["results"]] == [503, 422]
        assert gateway.worker.get("/healthz")[0] == 200, "it is the wrong one to restart"


def test_with_a_spool_events_are_taken_and_published_later(instance: Pipeline, tmp_path: Path) -> None:
    """202 says spooled while Kafka is away; the bytes of the receipt are published when a gateway finds it again."""
    spool = tmp_path / "spool"
    with serve_gateway(instance, tmp_path, kafka=NOWHERE, gateway_spool=spool, gateway_delivery_seconds=2) as gateway:
        answers = [gateway.post(event(id=f"spooled-{number}")) for number in range(2)]
        answers.append(gateway.post(event(id="spooled-1")))
        ready = gateway.worker.get("/readyz")
        assert gateway.worker.terminate(timeout_seconds=WAIT_SECONDS) == 0

    receipts = [answer.document for answer in answers]
    assert [answer.status for answer in answers] == [202] * 3
    assert {(receipt["state"], receipt["spooled"], receipt["offset"]) for receipt in receipts} == {
        ("spooled", True, None)
    }
    assert receipts[1]["digest"] == receipts[2]["digest"], "a retry is the same bytes, with a spool too"
    assert ready[0] == 200
    with serve_gateway(instance, tmp_path, gateway_spool=spool) as gateway:
        assert gateway.port > 0
        digests = [receipt["digest"] for receipt in receipts]
        wait_for(
            lambda: [payload_digest(record.value or b"").hex() for record in records(instance)][-3:] == digests,
            timeout_seconds=WAIT_SECONDS,
            what="the spool to be published",
        )
        assert gateway.post(event()).document["state"] == "published"


class TestDrain:
    """A gateway that is told to stop."""

    def test_what_is_under_way_is_answered(self, instance: Pipeline, tmp_path: Path) -> None:
        """Under load each answer is whole, and each 202 true; from the stop on nobody is let in; it ends with 0."""
        with serve_gateway(instance, tmp_path) as gateway, ThreadPoolExecutor(8) as pool:
            begun = threading.Semaphore(0)
            threads = [pool.submit(publish_until_refused, gateway, worker, begun) for worker in range(8)]
            for _ in range(80):
                assert begun.acquire(timeout=WAIT_SECONDS)
            code = gateway.worker.terminate(timeout_seconds=WAIT_SECONDS)
            answered = [name for thread in threads for name in thread.result(WAIT_SECONDS)]

            assert code == 0
            with pytest.raises(OSError, match="refused"):
                gateway.connect()
        published = {EventReader().read(record.value or b"").id for record in records(instance)}
        assert set(answered) <= published
        assert len(answered) >= 80

    def test_without_kafka_the_end_is_bounded(self, instance: Pipeline, tmp_path: Path) -> None:
        """Who waits for a Kafka that is away is answered by 503 within seconds of the stop, and not cut off."""
        with serve_gateway(instance, tmp_path, kafka=NOWHERE, gateway_delivery_seconds=100) as gateway:
            gateway.connect().close()
            with ThreadPoolExecutor(3) as pool:
                waiting = [pool.submit(gateway.post, event()) for _ in range(3)]
                wait_for(lambda: open_connections(gateway) >= 3, timeout_seconds=WAIT_SECONDS, what="the requests")
                code = gateway.worker.terminate(timeout_seconds=WAIT_SECONDS)
                statuses = [future.result(WAIT_SECONDS).status for future in waiting]

        assert (code, statuses) == (0, [503, 503, 503])

    def test_a_client_that_sends_nothing_does_not_hold_it_up(self, instance: Pipeline, tmp_path: Path) -> None:
        """Connections that rest, or are in the middle of a header, are closed at the stop."""
        with serve_gateway(instance, tmp_path) as gateway:
            resting, trickling = gateway.connect(), gateway.connect()
            trickling.sendall(b"POST /v1/eve")
            begin = time.monotonic()
            code = gateway.worker.terminate(timeout_seconds=WAIT_SECONDS)
            took = time.monotonic() - begin

            assert code == 0
            assert [closed(connection) for connection in (resting, trickling)] == [True, True]
            assert took < START_SECONDS


def publish_until_refused(gateway: GatewayProcess, worker: int, begun: threading.Semaphore) -> list[str]:
    """Publish one event after the other until the gateway takes no more, and return the ids that it said 202 of."""
    pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=WAIT_SECONDS)
    headers = {"authorization": f"Bearer {gateway.token}"}
    address = f"{gateway.address}/v1/events"
    accepted: list[str] = []
    for number in range(1_000_000):
        name = f"drain-{worker}-{number}"
        body: dict[str, Any] = event(id=name)
        try:
            answer = pool.request("POST", address, json=body, headers=headers)
        except urllib3.exceptions.HTTPError:
            break  # the connection is closed, or a new one refused: nothing was said of this event
        assert answer.status in (202, 503), answer.data
        if answer.status == 202:
            accepted.append(name)
        begun.release()
    pool.clear()
    return accepted


def open_connections(gateway: GatewayProcess) -> float:
    """Return how many connections the gateway has."""
    _, text = gateway.worker.get("/metrics")
    (line,) = (line for line in text.splitlines() if line.startswith("sealstream_gateway_connections "))
    return float(line.split(" ")[1])


def closed(connection: socket.socket) -> bool:
    """Return whether the other end has closed a connection."""
    with connection:
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True
