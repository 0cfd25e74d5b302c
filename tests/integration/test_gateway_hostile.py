"""Clients that are slow, large, broken or forged: each gets a bounded answer, and the others are served."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from support.gateway import GatewayProcess, event, serve_gateway
from support.issuer import AUDIENCE, ISSUER, Issuer, serve_keys
from support.workers import Pipeline, wait_for

pytest_plugins = ("support.gateway_fixtures",)

BODY_BYTES_MAX = 2_000_000  # as the fixture sets it
WAIT_SECONDS = 60.0


def head(gateway: GatewayProcess, *lines: str) -> bytes:
    """Return the header of a request to publish."""
    fixed = ("Host: localhost", f"Authorization: Bearer {gateway.token}", "Content-Type: application/json")
    return "\r\n".join(("POST /v1/events HTTP/1.1", *fixed, *lines, "", "")).encode()


def answer_to(connection: socket.socket) -> bytes:
    """Return all that comes until the gateway closes the connection."""
    received = bytearray()
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass  # it closed while we were still sending
    return bytes(received)


def status_of(received: bytes) -> int:
    """Return the status of the answer that was received."""
    return int(received.split(b" ", 2)[1])


class TestSlowClients:
    """Whoever sends or reads slowly holds a connection for a bounded time, and nothing else."""

    @pytest.mark.parametrize("sent", [b"", b"POST /v1/events HTTP/1.1\r\nHost: loc"])
    def test_a_header_that_does_not_end(self, gateway: GatewayProcess, sent: bytes) -> None:
        """A connection on which no whole header arrives in time is closed."""
        with gateway.connect() as connection:
            connection.sendall(sent)
            assert answer_to(connection) == b""
            assert gateway.post(event()).status == 202

    def test_a_header_that_trickles(self, gateway: GatewayProcess) -> None:
        """A byte now and then does not buy more time."""
        with gateway.connect() as connection:
            ended = threading.Event()

            def trickle() -> None:
                for byte in head(gateway):
                    try:
                        connection.sendall(bytes((byte,)))
                    except OSError:
                        return
                    if ended.wait(0.1):
                        return

            thread = threading.Thread(target=trickle)
            thread.start()
            try:
                assert answer_to(connection) == b""
            finally:
                ended.set()
                thread.join()

    @pytest.mark.parametrize("lines", [("Content-Length: 100",), ("Transfer-Encoding: chunked",)])
    def test_a_body_that_does_not_end(self, gateway: GatewayProcess, lines: tuple[str, ...]) -> None:
        """A body of which a part stays away is answered by 408, and the connection closed."""
        with gateway.connect() as connection:
            connection.sendall(head(gateway, *lines) + (b"5\r\n{'a':" if "chunked" in lines[0] else b"{"))
            received = answer_to(connection)

        assert status_of(received) == 408
        assert b"urn:sealstream:problem:too-slow" in received
        assert b"connection: close" in received

    def test_many_slow_ones_leave_room_for_others(self, gateway: GatewayProcess) -> None:
        """A hundred connections that send nothing hold up nobody."""
        held = [gateway.connect() for _ in range(100)]
        try:
            assert gateway.post(event()).status == 202
        finally:
            for connection in held:
                connection.close()

    def test_connections_have_a_bound(self, instance: Pipeline, tmp_path: Path) -> None:
        """One connection more than there may be is closed at once; when one ends, there is room again."""
        with serve_gateway(instance, tmp_path, gateway_connections_max=10) as gateway:
            held = [gateway.connect() for _ in range(10)]
            with gateway.connect() as one_more:
                assert answer_to(one_more) == b""
            for connection in held:
                connection.close()
            wait_for(lambda: accepted(gateway), timeout_seconds=WAIT_SECONDS, what="room")
            _, text = gateway.worker.get("/metrics")

        assert 'sealstream_gateway_closed_total{reason="full"}' in text


def accepted(gateway: GatewayProcess) -> bool:
    """Return whether an event is taken, over a connection of its own."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=WAIT_SECONDS)
    headers = {"authorization": f"Bearer {gateway.token}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/events", json.dumps(event()), headers)
        return connection.getresponse().status == 202
    except OSError:
        return False
    finally:
        connection.close()


class TestLargeRequests:
    """What is too large is refused before it is held."""

    def test_a_body_that_says_it_is_too_large(self, gateway: GatewayProcess) -> None:
        """413 comes before the body is read: nothing of it was sent."""
        with gateway.connect() as connection:
            connection.sendall(head(gateway, f"Content-Length: {BODY_BYTES_MAX + 1}"))
            received = connection.recv(65_536)

        assert status_of(received) == 413
        assert b"urn:sealstream:problem:body-too-large" in received

    def test_a_body_that_is_sent_all_the_same(self, gateway: GatewayProcess) -> None:
        """A client that sends all of a body that is too large hears the answer, and may ask again after it."""
        answer = gateway.post(b" " * (BODY_BYTES_MAX + 1))

        assert (answer.status, answer.problem) == (413, "body-too-large")
        assert gateway.post(event()).status == 202

    def test_a_body_that_says_nothing_of_its_size(self, gateway: GatewayProcess) -> None:
        """A body in chunks is refused as soon as it is too large, however much would follow."""
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        with gateway.connect() as connection:
            connection.sendall(head(gateway, "Transfer-Encoding: chunked"))
            for _ in range(BODY_BYTES_MAX // 65_536 + 1):
                connection.sendall(chunk)
            received = connection.recv(65_536)

        assert status_of(received) == 413

    def test_a_body_in_chunks_is_read(self, gateway: GatewayProcess) -> None:
        """Chunks are no reason to refuse an event."""
        body = json.dumps(event()).encode()
        pieces = b"".join(
            b"%x\r\n%s\r\n" % (len(body[at : at + 10]), body[at : at + 10]) for at in range(0, len(body), 10)
        )
        with gateway.connect() as connection:
            connection.sendall(head(gateway, "Transfer-Encoding: chunked") + pieces + b"0\r\n\r\n")
            assert status_of(connection.recv(65_536)) == 202

    def test_a_header_that_is_too_large(self, gateway: GatewayProcess) -> None:
        """A header that goes on and on is 431, and the connection closed."""
        with gateway.connect() as connection:
            connection.sendall(b"POST /v1/events HTTP/1.1\r\n" + b"X-Filler: " + b"x" * 300_000)
            received = answer_to(connection)

        assert status_of(received) == 431

    def test_a_body_is_not_read_before_it_is_known_who_asks(self, gateway: GatewayProcess) -> None:
        """Without a key the answer comes before the body does."""
        with gateway.connect() as connection:
            connection.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            assert status_of(connection.recv(65_536)) == 401


class TestBrokenRequests:
    """What is no request, or holds no event."""

    @pytest.mark.parametrize(
        ("body", "status", "problem"),
        [
            (b'{"action": "\xff\xfe"}', 400, "malformed"),
            (b'{"action": "\\ud800"}', 400, "malformed"),
            (b"[" * 1_000_000, 400, "malformed"),
            (b'{"a":' * 200_000, 400, "malformed"),
            (b"\x00", 400, "malformed"),
            (b"[" + b"{}," * 100_000 + b"{}]", 422, "batch-size"),
            (b'{"metadata": {"a": {"b": {"c": {}}}}}', 422, "event-invalid"),
        ],
        ids=["utf-8", "surrogate", "deep list", "deep object", "nul", "many", "nested"],
    )
    def test_bad_bodies(self, gateway: GatewayProcess, body: bytes, status: int, problem: str) -> None:
        """Bad UTF-8, deep nesting, too many events: an answer that says what is wrong, and no harm done."""
        answer = gateway.post(body)

        assert (answer.status, answer.problem) == (status, problem)

    @pytest.mark.parametrize(
        "sent",
        [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"POST /\xff HTTP/1.1\r\n\r\n"],
    )
    def test_what_is_no_http(self, gateway: GatewayProcess, sent: bytes) -> None:
        """TLS on the wrong port, half a line or another protocol is 400, in the words of every problem."""
        with gateway.connect() as connection:
            connection.sendall(sent)
            received = answer_to(connection)

        assert status_of(received) == 400
        assert b"application/problem+json" in received

    def test_a_client_that_asks_before_it_sends(self, gateway: GatewayProcess) -> None:
        """Who waits to be told to go on, as clients do with large bodies, is told at once."""
        body = json.dumps(event()).encode()
        with gateway.connect() as connection:
            connection.sendall(head(gateway, "Expect: 100-continue", f"Content-Length: {len(body)}"))
            assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert status_of(connection.recv(65_536)) == 202

    def test_an_answer_without_a_body(self, gateway: GatewayProcess) -> None:
        """A HEAD is answered by the head alone, and the connection goes on."""
        with gateway.connect() as connection:
            for _ in range(2):
                connection.sendall(b"HEAD /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                received = connection.recv(65_536)
                assert status_of(received) == 405
                assert received.endswith(b"\r\n\r\n")

    def test_another_protocol(self, gateway: GatewayProcess) -> None:
        """A request that wants to go on in HTTP/2 or as a WebSocket is told that it cannot, before its body is lost."""
        for protocol in ("h2c", "websocket"):
            with gateway.connect() as connection:
                connection.sendall(
                    head(gateway, "Connection: Upgrade", f"Upgrade: {protocol}", "Content-Length: 2") + b"{}"
                )
                received = answer_to(connection)

            assert status_of(received) == 400
            assert b"asks for another protocol" in received

    def test_two_bodies_in_one(self, gateway: GatewayProcess) -> None:
        """A request that gives its length in two ways, which two servers would read differently, is refused."""
        with gateway.connect() as connection:
            connection.sendall(head(gateway, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\nPOST ")
            received = answer_to(connection)

        assert status_of(received) == 400

    def test_requests_behind_one_another(self, gateway: GatewayProcess) -> None:
        """Requests that are sent before the answer to the first has come are answered in their order."""
        body = json.dumps(event()).encode()
        good, bad = head(gateway, f"Content-Length: {len(body)}") + body, head(gateway, "Content-Length: 1") + b"x"
        with gateway.connect() as connection:
            connection.sendall(good + bad + good)
            received = b""
            while received.count(b"HTTP/1.1 ") < 3 or not received.endswith(b"}"):
                received += connection.recv(65_536)

        assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [202, 400, 202]


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """An issuer of tokens."""
    return Issuer()


@pytest.fixture(scope="module")
def believer(instance: Pipeline, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that takes its tokens."""
    with serve_keys(issuer) as url:
        settings: dict[str, Any] = {
            "gateway_issuer": ISSUER, "gateway_audience": AUDIENCE, "gateway_jwks_url": url
        }  # fmt: skip
        with serve_gateway(instance, tmp_path_factory.mktemp("believer"), **settings) as gateway:
            yield gateway


class TestTokens:
    """Tokens of an issuer, against a gateway that believes it."""

    def test_a_token_publishes_as_its_tenant(self, believer: GatewayProcess, issuer: Issuer) -> None:
        """The tenant comes from the claim; a retry under a fresh token is the same bytes; API keys count as well."""
        first, second = (
            believer.post(event(), token=issuer.token(jti=name), idempotency_key="jwt-1").document for name in "ab"
        )

        assert (first["tenant"], first["digest"]) == ("acme", second["digest"])
        assert believer.post(event(tenant="other"), token=issuer.token()).status == 403
        assert believer.post(event(), token=issuer.token(tenant="other")).document["tenant"] == "other"
        assert believer.post(event()).status == 202

    @pytest.mark.parametrize(
        "what", ["none", "confused", "expired", "early", "audience", "issuer", "forged", "unknown key"]
    )
    def test_forged_and_stale_tokens(self, believer: GatewayProcess, issuer: Issuer, what: str) -> None:
        """Each is 401, and stands in no log line."""
        token = forged(issuer)[what]
        answer = believer.post(event(), token=token)

        assert (answer.status, answer.problem) == (401, "unauthorized")
        assert token not in believer.worker.log()


def forged(issuer: Issuer) -> dict[str, str]:
    """Return tokens that do not count, by what is wrong with them."""
    now = int(time.time())
    return {
        "none": issuer.unsigned(),
        "confused": issuer.signed_with_the_public_key(),
        "expired": issuer.token(exp=now - 60),
        "early": issuer.token(nbf=now + 600),
        "audience": issuer.token(aud="elsewhere"),
        "issuer": issuer.token(iss="https://other.example"),
        "forged": Issuer().token(),
        "unknown key": Issuer().token(header={"kid": "never-seen"}),
    }
