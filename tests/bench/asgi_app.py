"""The applications that ``sealstream bench asgi`` compares, served by one uvicorn: no two processes are equally fast.

Started with the port, and with Kafka's address, the instance and the topics' prefix for the one that logs.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from sealstream.kafka.topics import TopicNames
from sealstream.producers import AuditLog, Context
from sealstream.producers.adapters.asgi import AuditMiddleware
from sealstream.producers.adapters.context import current_context

_KEEP_ALIVE_SECONDS: Final = 3_600
"""While one application is asked, the others' connections are idle."""


async def document(request: Request) -> JSONResponse:
    """Answer as a small application does."""
    return JSONResponse({"id": request.path_params["number"], "title": "Quarterly report", "size": 4711})


async def used(_request: Request) -> PlainTextResponse:
    """Say how much CPU time this process has taken: its own clock is finer than the kernel's books."""
    return PlainTextResponse(str(time.process_time()))


def logging_route(kafka: str, instance: str, prefix: str) -> Any:
    """Return a route that logs an event for each request."""
    audit = AuditLog(kafka=kafka, instance=instance, topics=TopicNames(prefix=prefix), linger_seconds=0.05)

    async def log_and_answer(request: Request) -> JSONResponse:
        target = f"document:{request.path_params['number']}"
        audit.log(
            tenant="acme",
            actor="user:42",
            action="document.read",
            target=target,
            context=current_context() or Context(),
        )
        return await document(request)

    return log_and_answer


def application(*routes: Route) -> Starlette:
    """Return an application with these routes, and a few more as applications have them."""
    return Starlette(routes=[*routes, Route("/used", used)])


def main(port: str, kafka: str, instance: str, prefix: str) -> None:
    """Serve the applications, each below its name."""
    trusted = ["10.0.0.0/8"]
    plain = application(Route("/documents/{number}", document))
    logging = application(Route("/documents/{number}", logging_route(kafka, instance, prefix)))
    applications: dict[str, Any] = {
        "plain": plain,
        "plain_again": plain,
        "ours": AuditMiddleware(plain, trusted_proxies=trusted),
        "logging": AuditMiddleware(logging, trusted_proxies=trusted),
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            _, name, rest = scope["path"].split("/", 2)
            scope["path"] = f"/{rest}"
            await applications[name](scope, receive, send)

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
