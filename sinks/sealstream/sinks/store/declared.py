"""Schemas' texts that stand in a chain, for whoever meets bytes that no registry explains any more. Read-only."""

from __future__ import annotations

import time
from typing import Any, Final, Self

from psycopg import sql

from sealstream.schemas.codec import CONFLUENT_MAGIC, EventReader
from sealstream.schemas.control import SCHEMA, read_statement, verify_control
from sealstream.schemas.control_body import SchemaText
from sealstream.schemas.entry import Kind, parse, payload_digest
from sealstream.schemas.errors import FormatError, Untrusted
from sealstream.sinks.store.database import translated
from sealstream.sinks.store.session import open_reading

_APPLICATION: Final = "sealstream-declared"
_STATEMENT_SECONDS: Final = 10.0
_TEXTS_MAX: Final = 100
"""How many control events of a chain are looked at: whoever may publish may put many there."""
_KEPT_SECONDS: Final = 30.0
_KEPT_MAX: Final = 1_000

# By the ids that `sealstream schemas register` gives.
_DECLARED: Final = sql.SQL(
    "SELECT e.seq, e.entry, p.bytes FROM sealstream.entries AS e JOIN sealstream.payloads AS p"
    " ON p.tenant = e.tenant AND p.seq = e.seq AND p.received = e.received"
    " WHERE e.event_id > 'schema:' COLLATE \"C\" AND e.event_id < 'schema;' COLLATE \"C\""
    " AND e.tenant = %(tenant)s AND e.kind = %(kind)s ORDER BY e.seq LIMIT %(limit)s"
)


class DeclaredSchemas:
    """Finds the texts of writers' schemas in the chains. It may be used by several threads.

    Arguments:
        database_url: The store, as a login that sees the tenants in question.
        timeout_seconds: How long to wait for the server.

    Raises:
        ConfigError: The URL cannot be understood.
        StoreError: The store is not migrated, or refuses.
        Unreachable: PostgreSQL does not answer.
    """

    def __init__(self, database_url: str, *, timeout_seconds: float = 10.0) -> None:
        self._reader = EventReader()
        self._kept: dict[str, tuple[float, list[tuple[int, SchemaText]]]] = {}  # by chain: until when, seqs and texts
        self._connection = open_reading(
            database_url,
            application=_APPLICATION,
            timeout_seconds=timeout_seconds,
            statement_seconds=_STATEMENT_SECONDS,
        )

    def __call__(self, tenant: str, seq: int, frame: bytes) -> str | None:
        """Return the text of the schema that a payload's frame names, if it stands in the chain before the payload.

        It is somebody's word, as ``SPEC.md`` 24 says whose; where two texts contradict each other there is none.

        Arguments:
            tenant: The chain.
            seq: The payload's place in it.
            frame: What the payload begins with.

        Raises:
            StoreError, Unreachable: The store cannot be read.
        """
        said = self._texts(tenant)
        named = {text.text for place, text in said if place < seq and _frame(text, frame) == frame}
        return named.pop() if len(named) == 1 else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _texts(self, tenant: str) -> list[tuple[int, SchemaText]]:
        """Return what stands in a chain; looked for once in a while, because each record of an export asks."""
        until, texts = self._kept.get(tenant, (0.0, []))
        if time.monotonic() < until:
            return texts
        arguments: dict[str, Any] = {"tenant": tenant, "kind": int(Kind.CONTROL), "limit": _TEXTS_MAX}
        with translated():
            rows = self._connection.execute(_DECLARED, arguments, binary=True).fetchall()
        found = [(seq, self._said(tenant, entry, payload)) for seq, entry, payload in rows]
        texts = [(seq, text) for seq, text in found if text is not None]
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[tenant] = time.monotonic() + _KEPT_SECONDS, texts
        return texts

    def _said(self, tenant: str, entry: bytes, payload: bytes) -> SchemaText | None:
        """Return the text that a control event declares; ``None`` if it is none, or does not hold together."""
        try:
            control = self._reader.read(payload).control
            if payload_digest(payload) != parse(entry).payload or control is None:
                return None
            instance = read_statement(control).instance
            found = verify_control(control, instance=instance, tenant=tenant, authority=None)
            return SchemaText.parse(found.body) if found.statement.action == SCHEMA else None
        except (FormatError, Untrusted):
            return None  # it has no effect, as the specification says


def _frame(text: SchemaText, like: bytes) -> bytes | None:
    """Return what values of a schema begin with, in the same framing as others."""
    if like[0] != CONFLUENT_MAGIC:
        return like[:2] + text.fingerprint
    return None if text.registry_id is None else like[:1] + text.registry_id.to_bytes(4, "big")
