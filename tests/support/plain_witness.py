"""A witness on the loopback in the fewest lines that keep to C2SP tlog-witness, or one that does as a test says."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import ProofInvalid, SealstreamError
from sealstream.schemas.notation import decode_hash
from sealstream.schemas.note import sign_note, verify_note
from sealstream.schemas.note_key import SignerKey, VerifierKey
from sealstream.schemas.proofs import verify_consistency

Reply = tuple[int, dict[str, str], bytes]
Answering = Callable[[bytes], Reply]


class PlainWitness:
    """A witness of one log.

    Arguments:
        key: What it cosigns with.
        log: Whose checkpoints it takes.
    """

    def __init__(self, key: SignerKey, log: VerifierKey) -> None:
        self.key = key
        self.url = ""
        self.size = 0
        self.root = b""
        self.requests: list[bytes] = []
        self.answering: Answering = self.honest
        self.shown = b""
        """The latest checkpoint that it shows to whoever asks for it; nothing for 404."""
        self._log = log

    def honest(self, body: bytes) -> Reply:
        """Answer as C2SP tlog-witness says."""
        head, _, note = body.partition(b"\n\n")
        old, *lines = head.split(b"\n")
        try:
            checkpoint = Checkpoint.parse(verify_note(note, [self._log]).text)
        except SealstreamError as error:
            return 403, {}, str(error).encode()
        if int(old.removeprefix(b"old ")) != self.size:
            return 409, {"Content-Type": "text/x.tlog.size"}, b"%d\n" % self.size
        try:
            if self.size:
                verify_consistency(
                    [decode_hash(line) for line in lines],
                    first_size=self.size,
                    first_root=self.root,
                    second_size=checkpoint.size,
                    second_root=checkpoint.root,
                )
        except ProofInvalid as error:
            return 422, {}, str(error).encode()
        self.size, self.root = checkpoint.size, checkpoint.root
        return 200, {}, self.lines(checkpoint)

    def lines(self, checkpoint: Checkpoint, *, time_seconds: int | None = None) -> bytes:
        """Return its signature lines below a checkpoint."""
        text = checkpoint.pack()
        now = int(time.time()) if time_seconds is None else time_seconds
        return sign_note(text, [self.key], time_seconds=now)[len(text) + 1 :]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has heard enough."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served_witness(witness: PlainWitness) -> Generator[PlainWitness]:
    """Let a witness answer at its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            witness.requests.append(body)
            status, headers, answer = witness.answering(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.send_response(200 if witness.shown else 404)
            self.send_header("Content-Length", str(len(witness.shown)))
            self.end_headers()
            self.wfile.write(witness.shown)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Say nothing: the tests look at answers."""

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False  # some of them never answer
    witness.url = f"http://127.0.0.1:{server.server_port}/some/prefix"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield witness
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
