"""The gateway's web server without the gateway: reads a body, answers as many bytes as a receipt has, and no more."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any, Final

import uvicorn

_ANSWER: Final = b"x" * 230
_HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


async def application(_scope: Any, receive: Any, send: Any) -> None:
    """Answer 202."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    sys.stderr.write(f"{json.dumps({'event': 'gateway listening', 'port': listener.getsockname()[1]})}\n")
    sys.stderr.flush()
    config = uvicorn.Config(application, http="httptools", loop="uvloop", ws="none", lifespan="off", log_config=None)
    uvicorn.Server(config).run(sockets=[listener])
