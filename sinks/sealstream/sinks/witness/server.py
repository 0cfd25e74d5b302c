"""A witness over HTTP: ``POST /add-checkpoint`` of C2SP tlog-witness, and what it cosigned last, to be read.

It speaks plain HTTP: TLS, and limits by client, are the task of the proxy in front of it. Everything else is bounded
here: connections, the time that a request may take to arrive, its size, and the number of judgments under way.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, cast

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from sealstream.kafka.patience import call_beside
from sealstream.schemas.errors import SealstreamError
from sealstream.sinks.witness.cosigning import Cosigner
from sealstream.sinks.witness.protocol import BODY_BYTES_MAX, AddCheckpoint, Reason, Refusal
from sealstream.worker import metrics
from sealstream.worker.http_server import HttpServer, TimedProtocol
from sealstream.worker.logs import logger

T = TypeVar("T")

CONNECTIONS_MAX: Final = 128
HEADER_BYTES_MAX: Final = 16_384
REQUEST_SECONDS_MAX: Final = 10.0
"""How long the header of a request may take to arrive, and then its body."""
IDLE_SECONDS_MAX: Final = 75
"""How long a connection may rest between two requests: longer than a round, so that a log keeps its own."""
JUDGE_SECONDS_MAX: Final = 20.0
"""How long a judge is waited for; after that the log is told to ask again, and he goes on."""
JUDGMENTS_MAX: Final = 8
GRACE_SECONDS: Final = 5
"""How long requests that are under way may take after a stop."""

_RETRY_SECONDS: Final = 10
_QUICK_THREADS: Final = 4  # they wait for the disk, one after the other
_DISCARDED_BYTES_MAX: Final = 32 * BODY_BYTES_MAX
"""So much of a body that is too large is read to its end: a client that still sends would not hear the answer."""
_TEXT: Final = "text/plain; charset=utf-8"
_SIZE: Final = "text/x.tlog.size"  # without a charset: clients compare it as a whole
_NOT_SAID: Final = frozenset(
    {
        Reason.MALFORMED,
        Reason.UNKNOWN_LOG,
        Reason.UNSIGNED,
        Reason.OLD_SIZE,
        Reason.BUSY,
        Reason.TOO_LARGE,
        Reason.TOO_SLOW,
    }
)
"""Refusals of what anybody can send, and how a log learns the size: they are counted, and not logged."""


class WitnessServer:
    """Serves a cosigner.

    Arguments:
        cosigner: Who decides.
        host: The address to bind to.
        port: The port; 0 takes a free one.
        on_failure: Told, from another thread, when the cosigner cannot go on.

    Raises:
        ConfigError: The port cannot be opened.
    """

    def __init__(
        self, cosigner: Cosigner, host: str, port: int, *, on_failure: Callable[[SealstreamError], None]
    ) -> None:
        self._cosigner = cosigner
        self._on_failure = on_failure
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, thread_name_prefix="witness")
        self._judgments = 0
        self._http = HttpServer(
            "witness",
            self._application(),
            _BoundedProtocol,
            host,
            port,
            backlog=CONNECTIONS_MAX,
            idle_seconds=IDLE_SECONDS_MAX,
            grace_seconds=GRACE_SECONDS,
            requests_max=CONNECTIONS_MAX,
            header_bytes_max=HEADER_BYTES_MAX,
        )
        self.port = self._http.port
        self._thread = threading.Thread(target=lambda: asyncio.run(self._http.serve()), name="witness", daemon=True)

    def start(self) -> None:
        """Serve from a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way, within :data:`GRACE_SECONDS`, and close the port."""
        self._http.stop()
        if self._thread.is_alive():
            self._thread.join(GRACE_SECONDS + 1)
        self._http.close()
        self._quick.shutdown(wait=False, cancel_futures=True)

    def alive(self) -> bool:
        """Return whether it has not ended."""
        return self._thread.is_alive()

    def healthy(self) -> bool:
        """Return whether its loop turns."""
        return self.alive() and self._http.healthy()

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._index, methods=["GET"]),
                Route("/add-checkpoint", self._add_checkpoint, methods=["POST"]),
                Route("/{digest}/checkpoint", self._latest, methods=["GET"]),
            ]
        )

    async def _index(self, request: Request) -> Response:
        del request
        return _text(200, f"witness {self._cosigner.key.verifier}\n")

    async def _latest(self, request: Request) -> Response:
        try:
            note = await self._call(lambda: self._cosigner.latest(request.path_params["digest"]))
        except SealstreamError as error:
            return self._failed(error)
        return _text(404, "nothing of this log was cosigned\n") if note is None else _text(200, note)

    async def _add_checkpoint(self, request: Request) -> Response:
        began = time.perf_counter()
        try:
            lines = await self._cosign(await _body(request))
            return _text(200, lines)
        except Refusal as refusal:
            return _refused(refusal)
        except SealstreamError as error:
            return self._failed(error)
        except ClientDisconnect:
            return _text(400, "")  # nobody reads it
        finally:
            metrics.WITNESS_SECONDS.observe(time.perf_counter() - began)

    async def _cosign(self, body: bytes) -> bytes:
        admitted = await self._call(lambda: self._cosigner.admit(body))
        await self._judged(admitted)
        return (await self._call(lambda: self._cosigner.cosign(admitted))).lines

    async def _judged(self, admitted: AddCheckpoint) -> None:
        """Ask the judge in a thread, and wait for him for a time.

        Raises:
            Refusal: What he said; or there are too many questions before this one, or he does not answer in time.
        """
        if self._judgments >= JUDGMENTS_MAX:
            raise Refusal(Reason.BUSY, "the judge of this witness is busy", retry_after_seconds=_RETRY_SECONDS)
        self._judgments += 1
        # In a thread that ends with the process: a judge who hangs must not keep the witness from ending.
        judgment = asyncio.wrap_future(call_beside(lambda: self._cosigner.judge(admitted), name="judge"))
        judgment.add_done_callback(self._judgment_done)
        done, _ = await asyncio.wait({judgment}, timeout=JUDGE_SECONDS_MAX)
        if not done:
            raise Refusal(Reason.BEHIND, "the judge of this witness is still at it", retry_after_seconds=_RETRY_SECONDS)
        await judgment

    def _judgment_done(self, judgment: asyncio.Future[None]) -> None:
        self._judgments -= 1
        if not judgment.cancelled():
            judgment.exception()  # heard here if nobody waits for it any more

    async def _call(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._quick, call)

    def _failed(self, error: SealstreamError) -> Response:
        """Answer that the witness cannot go on, and let it end: its file is read again at the next start."""
        metrics.WITNESS_REFUSED.labels(Reason.FAILED).inc()
        self._on_failure(error)
        return _text(500, "this witness failed\n")


class _BoundedProtocol(TimedProtocol, H11Protocol):
    """HTTP/1.1 that ends a connection whose next request does not arrive in time, however slowly it trickles in."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        super().connection_made(transport)
        # asyncio does so only for sockets that name their protocol, which those of a given listening socket do not: an
        # answer's body would wait 40 ms for the client to confirm its header.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.arm(REQUEST_SECONDS_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        self.disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Between two requests only the idle time counts, until the first byte of the next one.
        if not self.is_timed and not self._is_answering():
            self.arm(REQUEST_SECONDS_MAX)
        super().data_received(data)
        if self._is_answering():
            self.disarm()  # the header is there; how long the body may take is the application's to say

    def on_response_complete(self) -> None:
        self.disarm()
        super().on_response_complete()

    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # the base class says that there always is one
        return cycle is not None and not cycle.response_complete


async def _body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        Refusal: It is too large, or does not arrive in time.
        ClientDisconnect: The client has gone.
    """
    body = bytearray()
    size_bytes = 0
    try:
        async with asyncio.timeout(REQUEST_SECONDS_MAX):
            async for chunk in request.stream():
                size_bytes += len(chunk)
                if size_bytes > _DISCARDED_BYTES_MAX:
                    break
                if size_bytes <= BODY_BYTES_MAX:
                    body += chunk
    except TimeoutError:
        raise Refusal(Reason.TOO_SLOW, f"request did not arrive within {REQUEST_SECONDS_MAX:.0f} s") from None
    if size_bytes > BODY_BYTES_MAX:
        raise Refusal(Reason.TOO_LARGE, f"request has more than {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _refused(refusal: Refusal) -> Response:
    metrics.WITNESS_REFUSED.labels(refusal.reason).inc()
    if refusal.reason not in _NOT_SAID:
        logger().warning("refused", reason=str(refusal.reason), detail=refusal.words)
    if refusal.reason is Reason.OLD_SIZE:
        return Response(f"{refusal.size}\n", refusal.status, headers={"content-type": _SIZE})
    headers = {"content-type": _TEXT}
    if refusal.retry_after_seconds is not None:
        headers["retry-after"] = str(refusal.retry_after_seconds)
    if refusal.reason in (Reason.TOO_LARGE, Reason.TOO_SLOW):
        headers["connection"] = "close"  # the rest of the body is not waited for
    return Response(f"{refusal.words}\n", refusal.status, headers=headers)


def _text(status: int, content: str | bytes) -> Response:
    return Response(content, status, headers={"content-type": _TEXT})
