"""A gateway as production runs it: a process of its own, its keys in a file, and a client for it."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import urllib3

from sealstream.producers.gateway.api_keys import new_key
from sealstream.producers.gateway.endpoint import PATH
from sealstream.producers.gateway.key_file import edit_keys
from sealstream.worker.settings import PREFIX
from support.workers import Pipeline, Worker, wait_for

SECRET: Final = "5a" * 32
TENANT: Final = "acme"
OCCURRED: Final = "2026-01-31T12:00:00Z"
START_SECONDS: Final = 90.0
_ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gateway answered.

    Arguments:
        status: The HTTP status.
        headers: Its headers; names in lower case.
        body: Its body as text.
    """

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def document(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """What kind of problem it says; fails if it says none, or not in the form of RFC 9457."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        document = self.document
        assert document["status"] == self.status, self.body
        return str(document["type"]).removeprefix("urn:sealstream:problem:")


def event(**members: Any) -> dict[str, Any]:
    """Return a small event in JSON, with some members of one's own."""
    plain = {"occurred_at": OCCURRED, "actor": {"type": "user", "id": "42"}, "action": "document.updated"}
    return plain | members


class GatewayProcess:
    """A gateway, and a client that has a key of the tenant ``acme``.

    Arguments:
        worker: The process.
        keys: Its file of API keys.
        token: The key.
    """

    def __init__(self, worker: Worker, keys: Path, token: str) -> None:
        self.worker = worker
        self.keys = keys
        self.token = token
        self._pool = urllib3.PoolManager(maxsize=4, retries=False, timeout=_ANSWER_SECONDS)

    @property
    def port(self) -> int:
        """The port that it takes events at; it logs which."""
        return int(str(self._listening()[0]["port"]))

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def post(
        self,
        body: object,
        *,
        token: str | None = None,
        content_type: str = "application/json",
        path: str = PATH,
        **headers: str,
    ) -> Answer:
        """Send a request to publish, and return its answer.

        Arguments:
            body: Bytes as they are; anything else as JSON.
            token: Another token; none at all if it is empty.
            content_type: What the body is said to be; nothing is said if it is empty.
            path: Where to.
            headers: More headers, with underscores for hyphens.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        bearer = self.token if token is None else token
        sent |= {"content-type": content_type} if content_type else {}
        sent |= {"authorization": f"Bearer {bearer}"} if bearer else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._pool.request("POST", f"{self.address}{path}", body=data, headers=sent)
        return Answer(
            answer.status, {name.lower(): text for name, text in answer.headers.items()}, answer.data.decode()
        )

    def get(self, path: str) -> Answer:
        """Ask for a page."""
        answer = self._pool.request("GET", f"{self.address}{path}")
        return Answer(
            answer.status, {name.lower(): text for name, text in answer.headers.items()}, answer.data.decode()
        )

    def new_key(
        self, *, tenant: str = TENANT, actions: tuple[str, ...] = (), events_per_second: float | None = None
    ) -> str:
        """Make another key and return it; the gateway has it a second later."""
        key, token = new_key(name="", tenant=tenant, actions=actions, events_per_second=events_per_second)
        edit_keys(self.keys, lambda keys: keys.added(key))
        return token

    def connect(self) -> socket.socket:
        """Return a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=_ANSWER_SECONDS)

    def close(self) -> None:
        """End client and process."""
        self._pool.clear()
        self.worker.close()

    def _listening(self) -> list[dict[str, object]]:
        def lines() -> list[dict[str, object]]:
            return [line for line in self.worker.events() if line.get("event") == "gateway listening"]

        wait_for(
            lambda: bool(lines()) or self.worker.process.poll() is not None,
            timeout_seconds=START_SECONDS,
            what="the gateway to listen",
        )
        assert lines(), self.worker.log()
        return lines()


@contextmanager
def serve_gateway(pipeline: Pipeline, directory: Path, **settings: object) -> Generator[GatewayProcess]:
    """Run a gateway of an instance.

    Arguments:
        pipeline: The instance.
        directory: Where its keys go.
        settings: Its settings by their names in lower case, beside those of the instance.
    """
    keys = directory / "gateway-keys.json"
    key, token = new_key(name="tests", tenant=TENANT)
    edit_keys(keys, lambda found: found.added(key))
    own = {"gateway_keys": keys, "gateway_secret": SECRET, "gateway_events_per_second": 100_000}
    environment = {f"{PREFIX}{name.upper()}": str(value) for name, value in (own | settings).items() if value != ""}
    log = directory / f"gateway-{len(list(directory.glob('gateway-*.log')))}.log"
    gateway = GatewayProcess(Worker("gateway", pipeline.environment | environment, log), keys, token)
    try:
        yield gateway
    finally:
        gateway.close()
