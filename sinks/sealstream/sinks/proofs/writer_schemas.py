"""The schema that a payload was written with, as text, so that it can be read when no registry is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

from sealstream.schemas.codec import (
    CONFLUENT_MAGIC,
    SINGLE_OBJECT_MAGIC,
    SchemaById,
    body_start,
    schema_fingerprint,
    schema_text,
)
from sealstream.schemas.entry import WINDOW_KINDS, Kind
from sealstream.schemas.errors import FrameInvalid, SchemaUnknown, Unreachable
from sealstream.sinks.store.results import EventProof

Declared: TypeAlias = Callable[[str, int, bytes], str | None]
"""Takes a chain, a place in it, and a payload's frame."""


class WriterSchemas:
    """Finds writers' schemas: the shipped one by its fingerprint, others in a registry by their ids, or in the chain.

    Arguments:
        schema_by_id: Finds a schema in a registry as plain JSON values; ``None`` without a registry.
        declared: Finds a schema's text in a chain, before a place, by a payload's frame.
    """

    def __init__(self, schema_by_id: SchemaById | None = None, *, declared: Declared | None = None) -> None:
        self._schema_by_id = schema_by_id
        self._declared = declared
        self._by_id: dict[int, bytes] = {}  # an id never changes its schema; bounded by what the registry holds

    def text_of(self, record: EventProof) -> bytes | None:
        """Return the schema of a record's payload as :meth:`text`, or as it stands in the record's chain.

        Raises:
            Unreachable: The registry does not answer, and the chain has no text.
            StoreError: The store cannot be read.
        """
        away: Unreachable | None = None
        try:
            found = self.text(record.kind, record.payload)
        except Unreachable as error:
            found, away = None, error
        frame = None if record.payload is None or record.kind not in WINDOW_KINDS else frame_of(record.payload)
        if found is None and frame is not None and self._declared is not None:
            said = self._declared(record.tenant, record.seq, frame)
            found = None if said is None else _compact(json.loads(said))
        if found is None and away is not None:
            raise away
        return found

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
