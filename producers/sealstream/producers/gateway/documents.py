"""What the OpenAPI document says: the forms of requests and answers beside the event itself."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.config import JsonDict

from sealstream.producers.gateway import cloud_events, problems
from sealstream.producers.gateway.models import Action, Event, EventBody, Moment
from sealstream.producers.gateway.publisher import State
from sealstream.producers.gateway.requests import EVENTS_MAX, IDEMPOTENCY_KEY_BYTES_MAX, JSON

SECURITY_SCHEME: Final = "bearer"
_SCHEMAS: Final = "#/components/schemas/"

DESCRIPTION: Final = """Audit events into a log that cannot be changed unnoticed, for whoever has no Kafka client.

An event is answered by 202 when Kafka has it with all of its replicas (acks=all), or when it is on the gateway's disk
where that is set (state spooled). Any other answer means that it may not have been taken: repeat the request as it is.
With an id or an Idempotency-Key a retry is the same bytes, and counts once.

Besides JSON, CloudEvents 1.0 are taken: structured, in batches, and in binary mode (headers ce-specversion, ce-id,
ce-source, ce-type, ce-time; the body is the data, application/json)."""


class ReceiptDocument(BaseModel):
    """What became of an event; worth keeping: with it anybody can look for the event in the chain."""

    instance: str = Field(description="The log's name.")
    tenant: str = Field(description="Whose event it is.")
    id: str = Field(description="Its id.")
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="The digest by which the chain commits to its bytes.")
    state: State = Field(description="published: Kafka has it. spooled: it is on the gateway's disk.")
    spooled: bool = Field(description="Whether it is on the gateway's disk.")
    partition: int | None = Field(description="Where it stands in the source topic, if it is published.")
    offset: int | None = Field(description="As partition.")


class ProblemDocument(BaseModel):
    """A problem (RFC 9457)."""

    type: str = Field(description=f"{problems.TYPE_PREFIX} and the kind of problem.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request.")
    field: str = Field(default="", description="The event's field at fault.")
    hint: str = Field(default="", description="What to do about it.")


class AcceptedResult(BaseModel):
    """An event of a batch that was taken."""

    status: Literal[202]
    receipt: ReceiptDocument


class FailedResult(BaseModel):
    """An event of a batch that was not taken."""

    status: int = Field(ge=400, le=599)
    problem: ProblemDocument


class AcceptedBatch(BaseModel):
    """All events of a batch were taken; one result for each, in their order."""

    results: list[AcceptedResult]


class MixedBatch(BaseModel):
    """Some events of a batch were not taken; one result for each, in their order."""

    results: list[AcceptedResult | FailedResult]


Attribute = Annotated[str, Field(max_length=cloud_events.ATTRIBUTE_CHARACTERS_MAX)]
NeededAttribute = Annotated[str, Field(min_length=1, max_length=cloud_events.ATTRIBUTE_CHARACTERS_MAX)]
_EXTENSION: Final[JsonDict] = {
    "type": ["string", "integer", "boolean", "null"],
    "maxLength": cloud_events.ATTRIBUTE_CHARACTERS_MAX,
}


class CloudEvent(BaseModel):
    """A CloudEvent 1.0 in the structured form. Source, subject and extensions are kept in the metadata as ce_<name>."""

    model_config = ConfigDict(
        json_schema_extra={
            "additionalProperties": _EXTENSION,
            "propertyNames": {"pattern": cloud_events.NAME_PATTERN},
        }
    )

    specversion: Literal["1.0"]
    id: NeededAttribute = Field(description="Unique within its source; both make the event's id.")
    source: NeededAttribute
    type: Annotated[Action, Field(max_length=cloud_events.ATTRIBUTE_CHARACTERS_MAX)] = Field(
        description="The event's action."
    )
    time: Moment = Field(description="When it occurred; needed here, so that a retry says the same.")
    subject: Attribute | None = None
    dataschema: Attribute | None = None
    datacontenttype: Literal["application/json"] | None = Field(default=None, description="Or another kind of JSON.")
    traceparent: Attribute | None = Field(default=None, description="W3C trace context; kept in the event's context.")
    data: EventBody


_HEADERS: Final[dict[str, Any]] = {
    "retry-after": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}
}


def _problem(description: str, *, retry: bool = False) -> dict[str, Any]:
    content = {problems.CONTENT_TYPE: {"schema": {"$ref": f"{_SCHEMAS}ProblemDocument"}}}
    return {"description": description, "content": content} | ({"headers": _HEADERS} if retry else {})


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "202": {
        "description": "Every event was taken.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [{"$ref": f"{_SCHEMAS}{name}"} for name in ("ReceiptDocument", "AcceptedBatch")]}
            }
        },
    },
    "207": {
        "description": "Some events of a batch were not taken: each result says which, and why.",
        "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}MixedBatch"}}},
    },
    "400": _problem("The request cannot be read."),
    "401": _problem("It is not known who asks."),
    "403": _problem("The credential is of another tenant, or does not reach as far as the action."),
    "408": _problem("The body took too long to arrive."),
    "413": _problem("The body, or the event in it, is too large."),
    "415": _problem("The body is of a type that is not read."),
    "422": _problem("The event is not as it must be."),
    "429": _problem("The credential sends more than it may.", retry=True),
    "500": _problem("A defect of the gateway."),
    "503": _problem("Kafka has not confirmed the event, or the gateway is busy. It may have arrived.", retry=True),
}


def request_body() -> dict[str, Any]:
    """Return what the document says of a request's body."""

    def one(name: str) -> dict[str, Any]:
        return {"$ref": f"{_SCHEMAS}{name}"}

    def several(name: str) -> dict[str, Any]:
        return {"type": "array", "minItems": 1, "maxItems": EVENTS_MAX, "items": one(name)}

    return {
        "required": True,
        "content": {
            JSON.decode(): {"schema": {"anyOf": [one("Event"), several("Event")]}, "example": EXAMPLE},
            cloud_events.STRUCTURED.decode(): {"schema": one("CloudEvent")},
            cloud_events.BATCH.decode(): {"schema": several("CloudEvent")},
        },
    }


EXAMPLE: Final = {
    "occurred_at": "2026-01-31T12:00:00Z",
    "actor": {"type": "user", "id": "42"},
    "action": "document.updated",
    "targets": [{"type": "document", "id": "7"}],
}
IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same for every retry of a request: events without an id get theirs from it.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": IDEMPOTENCY_KEY_BYTES_MAX,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}


def schemas() -> dict[str, Any]:
    """Return the schemas that the document refers to, by their names."""
    kinds: list[Any] = [Event, CloudEvent, ReceiptDocument, AcceptedBatch, MixedBatch]
    found: dict[str, Any] = {}
    for kind, mode in ((kind, "validation") for kind in kinds):
        schema = TypeAdapter(kind).json_schema(mode=mode, ref_template=f"{_SCHEMAS}{{model}}")  # type: ignore[arg-type]
        found |= schema.pop("$defs", {})
        found[kind.__name__] = schema
    return dict(sorted(found.items()))
