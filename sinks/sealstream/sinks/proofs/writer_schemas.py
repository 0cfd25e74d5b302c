"""The schema that a payload was written with, as text, so that it can be read when no registry is left."""

from __future__ import annotations

import json
from functools import cache

from sealstream.schemas.codec import (
    CONFLUENT_MAGIC,
    SINGLE_OBJECT_MAGIC,
    SchemaById,
    body_start,
    schema_fingerprint,
    schema_text,
)
from sealstream.schemas.entry import WINDOW_KINDS, Kind
from sealstream.schemas.errors import FrameInvalid, SchemaUnknown


class WriterSchemas:
    """Finds writers' schemas: the shipped one by its fingerprint, others in a registry by their ids.

    Arguments:
        schema_by_id: Finds a schema in a registry as plain JSON values; ``None`` without a registry.
    """

    def __init__(self, schema_by_id: SchemaById | None = None) -> None:
        self._schema_by_id = schema_by_id
        self._by_id: dict[int, bytes] = {}  # an id never changes its schema; bounded by what the registry holds

    def text(self, kind: Kind, payload: bytes | None) -> bytes | None:
        """Return the schema of a payload as JSON without blanks; ``None`` where there is none, or it is not known.

        Raises:
            Unreachable: The registry does not answer.
        """
        if payload is None or kind not in WINDOW_KINDS:
            return None
        if payload.startswith(SINGLE_OBJECT_MAGIC + schema_fingerprint("AuditEvent")):
            return _shipped()
        if payload[:1] != bytes((CONFLUENT_MAGIC,)) or self._schema_by_id is None or len(payload) < body_start(payload):
            return None
        schema_id = int.from_bytes(payload[1:5], "big")
        if schema_id not in self._by_id:
            try:
                self._by_id[schema_id] = _compact(self._schema_by_id(schema_id))
            except SchemaUnknown:
                return None  # the bytes are proven all the same; whoever reads the proof is told that it is not there
        return self._by_id[schema_id]


def frame_of(payload: bytes) -> bytes | None:
    """Return the bytes by which a payload names its writer's schema; ``None`` if it has no known frame."""
    try:
        return payload[: body_start(payload)]
    except FrameInvalid:
        return None


@cache
def _shipped() -> bytes:
    return _compact(json.loads(schema_text("AuditEvent")))


def _compact(schema: object) -> bytes:
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=True).encode()
