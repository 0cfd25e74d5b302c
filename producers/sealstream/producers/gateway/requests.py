"""What a request to publish holds: one event or several, in which form, and under which key of idempotency."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias, cast

import orjson

from sealstream.producers.gateway.cloud_events import BATCH, SPECVERSION_HEADER, STRUCTURED, attributes_of, event_of
from sealstream.producers.gateway.problems import Problem, event_invalid, malformed, unsupported
from sealstream.schemas.errors import EventInvalid

EVENTS_MAX: Final = 1_000
IDEMPOTENCY_KEY_BYTES_MAX: Final = 255
DEPTH_MAX: Final = 1_024
"""How deep JSON may be nested; that bound is orjson's own."""
JSON: Final = b"application/json"
_ACCEPTED: Final = b", ".join((JSON, STRUCTURED, BATCH)).decode()
_ONCE: Final = (b"authorization", b"content-length", b"content-type", b"content-encoding", b"idempotency-key")
_UTF8: Final = re.compile(rb'charset *= *"?utf-?8"?', re.IGNORECASE)

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Publication:
    """What a client asks to publish.

    Arguments:
        members: The events as they came in, not looked at yet; in the gateway's own JSON, or CloudEvents.
        is_batch: Whether they came as a list, and are answered one by one.
        is_cloud: Whether they are CloudEvents in the structured form.
        idempotency_key: The request's ``Idempotency-Key``, if it has one.
    """

    members: Sequence[Any]
    is_batch: bool
    is_cloud: bool
    idempotency_key: bytes | None

    def member(self, index: int) -> Any:
        """Return an event in the gateway's own JSON; it is not checked yet.

        Raises:
            EventInvalid: It is no CloudEvent that can be one.
        """
        found = self.members[index]
        if not self.is_cloud:
            return found
        if not isinstance(found, dict):
            raise EventInvalid("the value", "is no CloudEvent")
        return event_of(cast("dict[str, Any]", found))


def single_headers(headers: Headers) -> dict[bytes, bytes]:
    """Return a request's headers by their names.

    Raises:
        Problem: One that says who asks, or what for, stands there twice.
    """
    found = dict(headers)
    if len(found) != len(headers):
        names = [name for name, _ in headers]
        for name in _ONCE:
            if names.count(name) > 1:
                raise malformed(f"the header {name.decode()} is given twice")
    return found


def check_form(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the media type of a body that can be read.

    Raises:
        Problem: It is of another type, in another character set, or compressed; or the key of idempotency is none.
    """
    media_type, _, parameters = headers.get(b"content-type", b"").partition(b";")
    media_type = media_type.strip().lower()
    if media_type not in (JSON, STRUCTURED, BATCH):
        raise unsupported("the body is of a type that is not read", hint=f"send {_ACCEPTED}")
    if b"charset" in parameters.lower() and not _UTF8.search(parameters):
        raise unsupported("the body is in another character set", hint="send UTF-8")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise unsupported("the body is compressed", hint="send it as it is", headers={"accept-encoding": "identity"})
    key = headers.get(b"idempotency-key")
    if key is not None and not (0 < len(key) <= IDEMPOTENCY_KEY_BYTES_MAX and key.isascii()):
        raise malformed(f"Idempotency-Key is not 1 to {IDEMPOTENCY_KEY_BYTES_MAX} characters of ASCII")
    return media_type


def read_publication(media_type: bytes, headers: Mapping[bytes, bytes], body: bytes) -> Publication:
    """Return what a request's body says.

    Arguments:
        media_type: As :func:`check_form` returns it.
        headers: The request's headers.
        body: Its body.

    Raises:
        Problem: It is no JSON, or no list of 1 to 1,000 events where it must be one.
    """
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise malformed(f"the body is no JSON: {_words(error)}") from None
    key = headers.get(b"idempotency-key")
    if media_type == JSON and SPECVERSION_HEADER in headers:
        return Publication([_binary(headers.items(), value)], is_batch=False, is_cloud=True, idempotency_key=key)
    is_cloud = media_type != JSON
    is_batch = media_type == BATCH or (media_type == JSON and isinstance(value, list))
    if not is_batch:
        return Publication([value], is_batch=False, is_cloud=is_cloud, idempotency_key=key)
    members = cast("Sequence[Any]", value) if isinstance(value, list) else ()
    if not 0 < len(members) <= EVENTS_MAX:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "batch-size", f"the body is no list of 1 to {EVENTS_MAX} events")
    return Publication(members, is_batch=True, is_cloud=is_cloud, idempotency_key=key)


def _binary(headers: Iterable[tuple[bytes, bytes]], data: Any) -> dict[str, Any]:
    try:
        return attributes_of(headers, data)
    except EventInvalid as error:
        raise event_invalid(error) from None


def _words(error: orjson.JSONDecodeError) -> str:
    """Say what is wrong with a body, and where, but nothing of what stands there."""
    return f"{error.msg.partition(':')[0]} at byte {error.pos}" if error.pos else error.msg.partition(":")[0]
