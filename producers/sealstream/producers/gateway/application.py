"""The gateway's web application: where events go in, and the OpenAPI document that says how."""

from __future__ import annotations

import json
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sealstream.producers.gateway import documents
from sealstream.producers.gateway.bodies import Receive
from sealstream.producers.gateway.endpoint import PATH, Publishing, Scope, Send
from sealstream.producers.gateway.problems import CONTENT_TYPE, Problem

OPENAPI_PATH: Final = "/openapi.json"


class Gateway:
    """The application: requests to publish take the short way, all others that of the framework.

    Arguments:
        publishing: Takes events.
    """

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing
        self.framework = _framework(publishing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            await self._publishing(scope, receive, send)
        else:
            await self.framework(scope, receive, send)  # type: ignore[arg-type]  # its own names for the same types


def openapi(framework: FastAPI) -> dict[str, Any]:
    """Return the document, made by the framework out of its routes, and completed by the schemas of bodies."""
    document = FastAPI.openapi(framework)
    components = document.setdefault("components", {})
    components["schemas"] = documents.schemas()
    components["securitySchemes"] = {
        documents.SECURITY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or a token (JWT) of the issuer that the gateway believes.",
        }
    }
    return document


def _framework(publishing: Publishing) -> FastAPI:
    framework = FastAPI(
        title="Sealstream gateway",
        version=version("sealstream"),
        description=documents.DESCRIPTION,
        openapi_url=None,  # served below, made once
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    framework.add_exception_handler(HTTPException, _refused)

    class Handed(Response):
        """Hands a request on to where it is answered."""

        def __init__(self, request: Request) -> None:
            super().__init__()
            self._request = request

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await publishing(scope, receive, send)

    async def publish(request: Request) -> Response:
        """Take one event, or up to 1,000."""
        return Handed(request)

    framework.add_api_route(
        PATH,
        publish,
        methods=["POST"],
        status_code=HTTPStatus.ACCEPTED,
        operation_id="publish",
        summary="Publish events",
        response_model=None,
        responses=documents.RESPONSES,
        openapi_extra={
            "requestBody": documents.request_body(),
            "parameters": [documents.IDEMPOTENCY_KEY],
            "security": [{documents.SECURITY_SCHEME: []}],
        },
    )
    page = json.dumps(openapi(framework), ensure_ascii=False).encode()

    async def document(_request: Request) -> Response:
        """Return the document."""
        return Response(page, media_type="application/json")

    framework.add_route(OPENAPI_PATH, document, methods=["GET"], include_in_schema=False)
    return framework


async def _refused(_request: Request, error: Exception) -> Response:
    """Answer a request to a place or by a method that does not exist."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    name = "not-found" if status is HTTPStatus.NOT_FOUND else "method-not-allowed"
    problem = Problem(status, name, "there is no such place here", hint=f"POST {PATH}", headers=error.headers)
    return Response(json.dumps(problem.document()), status, headers=problem.headers(), media_type=CONTENT_TYPE)
