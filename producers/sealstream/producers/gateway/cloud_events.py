"""CloudEvents 1.0.2 as events of the log: the structured and the binary mode of the HTTP protocol binding.

``type`` is the action, ``time`` (which the gateway demands) when it occurred, ``data`` the rest of the event as JSON.
``source`` and ``id`` name a CloudEvent together, so both make the id. ``source``, ``subject``, ``dataschema`` and
extensions are kept in the metadata as ``ce_<name>``, but for the extension ``traceparent``, which has its place in the
context. The same event gives the same bytes in both modes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

from sealstream.schemas.entry import EVENT_ID_BYTES_MAX, is_event_id
from sealstream.schemas.errors import EventInvalid

STRUCTURED: Final = b"application/cloudevents+json"
BATCH: Final = b"application/cloudevents-batch+json"
HEADER_PREFIX: Final = b"ce-"
SPECVERSION_HEADER: Final = b"ce-specversion"
SPECVERSION: Final = "1.0"
ATTRIBUTE_CHARACTERS_MAX: Final = 4_096
ATTRIBUTES_MAX: Final = 100
_METADATA_PREFIX: Final = "ce_"
NAME_PATTERN: Final = "^[a-z0-9]{1,64}$"
_NAME: Final = re.compile("[a-z0-9]{1,64}")
_TEXTS: Final = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype", "traceparent"}
)
"""Attributes that are text; an extension may be a number or a truth value as well."""
_REQUIRED: Final = ("specversion", "id", "source", "type", "time")
_NOT_KEPT: Final = frozenset({*_REQUIRED, "data", "datacontenttype", "traceparent"}) - {"source"}
_JSON_TYPE: Final = re.compile(r"application/([a-z0-9.+-]+\+)?json *(;.*)?", re.ASCII | re.IGNORECASE | re.DOTALL)
_SOURCE_DIGITS: Final = 16
_WHOLE_DIGITS: Final = 64


def event_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a CloudEvent as the event that it stands for, in the gateway's own JSON.

    Arguments:
        attributes: The members of the structured form, ``data`` among them.

    Raises:
        EventInvalid: It is no CloudEvent 1.0, or none that can be an audit event.
    """
    if len(attributes) > ATTRIBUTES_MAX:
        raise EventInvalid("the value", f"has {len(attributes)} attributes, more than {ATTRIBUTES_MAX}")
    texts = {name: _text(name, value) for name, value in attributes.items() if name != "data" and value is not None}
    for name in _REQUIRED:
        if not texts.get(name):
            raise EventInvalid(name, "is missing", hint="CloudEvents 1.0; time is needed, so that a retry is the same")
    if texts["specversion"] != SPECVERSION:
        raise EventInvalid("specversion", "is not 1.0")
    data = attributes.get("data")
    if not isinstance(data, dict):
        raise EventInvalid("data", "is no object of JSON", hint="put actor, targets and so on there")
    if not _JSON_TYPE.fullmatch(texts.get("datacontenttype", "application/json")):
        raise EventInvalid("datacontenttype", "is not JSON")
    return _event(texts, cast("dict[str, Any]", data))


def attributes_of(headers: Iterable[tuple[bytes, bytes]], data: Any) -> dict[str, Any]:
    """Return the attributes of a CloudEvent in the binary mode, in the structured form.

    Arguments:
        headers: The request's headers; names in lower case.
        data: Its body, which is JSON.

    Raises:
        EventInvalid: A header does not decode, or stands there twice.
    """
    attributes: dict[str, Any] = {"data": data}
    for name, value in headers:
        if name.startswith(HEADER_PREFIX):
            attribute = name[len(HEADER_PREFIX) :].decode("ascii", "replace")
            if attribute in attributes:
                raise EventInvalid(attribute, "is given twice")
            attributes[attribute] = _decoded(attribute, value)
    return attributes


def event_id_of(source: str, identifier: str) -> str:
    """Return the id of an event that came as a CloudEvent: anybody can compute it, and two sources share none.

    ``ce:<16 hexadecimal digits of SHA-256(source)>:<id>`` where that can be an id; else ``ce:`` and the 64 digits of
    SHA-256 over source, a zero byte and id.
    """
    digits = hashlib.sha256(source.encode()).hexdigest()[:_SOURCE_DIGITS]
    event_id = f"ce:{digits}:{identifier}"
    if len(event_id) <= EVENT_ID_BYTES_MAX and is_event_id(event_id):
        return event_id
    return f"ce:{hashlib.sha256(source.encode() + bytes(1) + identifier.encode()).hexdigest()}"


def _event(texts: Mapping[str, str], data: dict[str, Any]) -> dict[str, Any]:
    for name in ("id", "occurred_at", "action"):
        if name in data:
            raise EventInvalid(f"data.{name}", "stands in the event's attributes", hint="leave it out of data")
    metadata, context = _object(data, "metadata"), _object(data, "context")
    kept = {f"{_METADATA_PREFIX}{name}": text for name, text in texts.items() if name not in _NOT_KEPT}
    for name in kept.keys() & metadata.keys():
        raise EventInvalid(f"data.metadata.{name}", "is the name under which an attribute is kept", hint="rename it")
    event: dict[str, Any] = {
        **data,
        "id": event_id_of(texts["source"], texts["id"]),
        "occurred_at": texts["time"],
        "action": texts["type"],
        "metadata": {**metadata, **kept},
    }
    if "traceparent" in texts:
        event["context"] = {"traceparent": texts["traceparent"], **context}
    return event


def _object(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name, {})
    if not isinstance(value, dict):
        raise EventInvalid(f"data.{name}", "is no object")
    return cast("dict[str, Any]", value)


def _text(name: str, value: object) -> str:
    """Return an attribute as text (CloudEvents, type system): what a number or a truth value is in a header."""
    if _NAME.fullmatch(name) is None:
        raise EventInvalid("attribute", "has a name that is none", hint="a-z and 0-9, at most 64; data is JSON")
    if name in _TEXTS and not isinstance(value, str):
        raise EventInvalid(name, "is no text")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int):
        raise EventInvalid(name, "is no text, number or truth value")
    text = str(value)
    if len(text) > ATTRIBUTE_CHARACTERS_MAX:
        raise EventInvalid(name, f"has more than {ATTRIBUTE_CHARACTERS_MAX} characters")
    return text


def _decoded(name: str, value: bytes) -> str:
    """Return a header's value as text (HTTP protocol binding, section 3.1.3.2: percent-encoded UTF-8)."""
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise EventInvalid(name, "is not UTF-8") from None
