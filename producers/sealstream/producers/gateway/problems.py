"""What the gateway answers where it cannot do what was asked: problem details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from sealstream.schemas.errors import EventInvalid

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:sealstream:problem:"
_BEARER: Final = "Bearer"


class Problem(Exception):
    """A request, or an event in one, cannot be taken.

    Arguments:
        status: The HTTP status.
        name: What kind of problem it is, in the words of its ``type``: ``event-invalid``.
        detail: What is wrong with this request; never a token, and nothing of what an event says.
        hint: What to do about it.
        field: The event's field at fault.
        retry_after_seconds: When to try again.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        name: str,
        detail: str,
        *,
        hint: str = "",
        field: str = "",
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.hint = hint
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self._headers = headers or {}

    def document(self) -> dict[str, Any]:
        """Return the members of the problem."""
        members = {
            "type": f"{TYPE_PREFIX}{self.name}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        optional = {"field": self.field, "hint": self.hint}
        return members | {name: text for name, text in optional.items() if text}

    def headers(self) -> dict[str, str]:
        """Return the headers of an answer that says it."""
        headers = {"content-type": CONTENT_TYPE, **self._headers}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(self.retry_after_seconds)
        return headers


def event_invalid(error: EventInvalid) -> Problem:
    """Return the problem that an event breaks the model."""
    too_large = error.field == "event"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY
    name = "event-too-large" if too_large else "event-invalid"
    return Problem(status, name, error.message, hint=error.hint, field=error.field)


def malformed(detail: str, *, hint: str = "") -> Problem:
    """Return the problem that a request cannot be read."""
    return Problem(HTTPStatus.BAD_REQUEST, "malformed", detail, hint=hint)


def unauthorized(detail: str, *, error: str = "invalid_token") -> Problem:
    """Return the problem that it is not known who asks (RFC 6750 section 3)."""
    challenge = f'{_BEARER} error="{error}"' if error else _BEARER
    return Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers={"www-authenticate": challenge})


def forbidden(detail: str, *, field: str = "", hint: str = "") -> Problem:
    """Return the problem that a credential does not reach as far as this."""
    return Problem(HTTPStatus.FORBIDDEN, "forbidden", detail, field=field, hint=hint)


def unsupported(detail: str, *, hint: str = "", headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem that a body is of a kind that is not read."""
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported", detail, hint=hint, headers=headers)


def body_too_large(bytes_max: int) -> Problem:
    """Return the problem that a body has more bytes than are read."""
    detail = f"the body has more than {bytes_max} bytes"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", detail, hint="send fewer events at once")


def too_many(detail: str, retry_after_seconds: int) -> Problem:
    """Return the problem that a credential sends more than it may."""
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "too-many-events", detail, retry_after_seconds=retry_after_seconds)


def unavailable(name: str, detail: str, retry_after_seconds: int, *, hint: str = "") -> Problem:
    """Return the problem that the gateway cannot do it now."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, name, detail, hint=hint, retry_after_seconds=retry_after_seconds)
