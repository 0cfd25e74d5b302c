"""Ordinary rows, made into an event's final bytes in one go: for the speed of an import.

Nearly every row of an older trail makes a valid event with texts of usual length. For those one pass over the row
writes what :class:`~sealstream.producers.importer.events.EventMaker` and
:func:`~sealstream.producers.importer.events.final_bytes` make in several, in a third of their time: no event is built,
and what a mapping says of every row alike is written beforehand. Whatever is not so is left to those two, with its
errors; a test holds both ways equal. The order of fields is that of ``AuditEvent.avsc``: change both together.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from sealstream.producers.importer.body_parts import LENGTHS, BodyParts, Write
from sealstream.producers.importer.events import KEY_METADATA, ROW_METADATA, JobKey, moment_reader, rest_columns
from sealstream.producers.importer.mapping import Mapping
from sealstream.producers.importer.rows import Source, SourceRow
from sealstream.producers.importer.template import Names, Values, value_reader
from sealstream.producers.record import Record
from sealstream.schemas.codec import frame_bytes
from sealstream.schemas.entry import VALUE_BYTES_MAX, is_event_id, is_tenant
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Context
from sealstream.schemas.event_body import long
from sealstream.schemas.merkle import HASH_BYTES
from sealstream.schemas.source_row import row_hash, row_packer

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS: Final = range(2, 9999)
"""Where every zone's time has one in UTC."""
_PARTS: Final = 64
"""Targets and metadata keys from here on are not ordinary: their number takes more than a byte."""
_SHORT_BYTES: Final = 256
_TENANTS_KEPT: Final = 100_000
_KEY_BYTES: Final = 36  # the longest that stands behind the prefix in an event's id: a UUID
_IMPORTED: Final = b"\x02"
_BEHIND_METADATA: Final = b"\x00" * 4  # its end, nothing personal, no producer's mark, no control
_NOT_ORDINARY: Final = (EventInvalid, LookupError, UnicodeEncodeError)
"""What comes of a row that is not ordinary: the way in several passes says what it is."""


class RowRecord(NamedTuple):
    """What a row became.

    Arguments:
        record: The record with its event.
        row_hash: The hash of the row, a leaf of the import's tree.
    """

    record: Record
    row_hash: bytes


MakeRecord: TypeAlias = Callable[[SourceRow], RowRecord | None]
"""Returns the record of an ordinary row; ``None`` of another one, valid or not."""


def ordinary_rows(mapping: Mapping, source: Source, key: JobKey, *, instance: str, schema_id: int | None) -> MakeRecord:
    """Return the function that makes the records of ordinary rows.

    Arguments:
        mapping: How rows become events.
        source: Whose columns the mapping names.
        key: The job's.
        instance: The instance's name.
        schema_id: The schema's id in a registry, for Confluent's framing.

    Raises:
        ConfigError: The mapping names a column that the source does not have.
    """
    try:
        return _OrdinaryRows(mapping, source, key, instance, schema_id).record
    except _NOT_ORDINARY:  # what every row has alike is not, so none is
        return lambda _: None


class _OrdinaryRows:
    """Makes the records of ordinary rows.

    Raises:
        EventInvalid, LookupError, UnicodeEncodeError: No row is ordinary.
    """

    def __init__(self, mapping: Mapping, source: Source, key: JobKey, instance: str, schema_id: int | None) -> None:
        names = Names()
        self._key = key
        self._instance = instance
        self._frame = frame_bytes("AuditEvent", schema_id)
        self._pack = row_packer(source.columns)
        self._tenant = mapping.tenant.compile("tenant", names)
        self._tenants: dict[str, bytes] = {}
        self._occurred_at = moment_reader(mapping.occurred_at, names)
        self._action = mapping.action.compile("action", names)
        traceparent = mapping.context.get("traceparent")
        self._traceparent = _null if traceparent is None else traceparent.compile("context.traceparent", names)
        self._writes = _writes(mapping, names)
        self._row_key, self._row_head = _Key(KEY_METADATA), _Key(ROW_METADATA).begin(2 * HASH_BYTES)
        self._metadata = [(_Key(name), field.compile(name, names)) for name, field in mapping.metadata.items()]
        self._read = value_reader(source.columns, names, whole=source.whole)
        rest = rest_columns(mapping, source, names)
        self._rest = [(_Key(name), place) for place, name in rest]
        keys = [KEY_METADATA, ROW_METADATA, *mapping.metadata, *[name for _, name in rest]]
        if len(set(keys)) != len(keys) or max(len(keys), len(mapping.targets)) >= _PARTS:
            raise LookupError("which of two values counts, and how many there are, each row decides")
        if source.whole and mapping.rest:
            raise LookupError("the names are each row's own")
        if not is_event_id(f"{key.prefix}{'0' * _KEY_BYTES}"):
            raise LookupError("no id of the job is one")

    def record(self, row: SourceRow) -> RowRecord | None:
        """Return the record of an ordinary row."""
        if row.problem:
            return None
        try:
            digest = row_hash(self._pack(row.texts))
            values = self._read(row.texts)
            tenant, event_id, moment = self._tenant(values) or "", self._key.event_id(row.key), self._moment(values)
            parts = [
                self._frame,
                LENGTHS[len(event_id)],
                event_id.encode(),
                self._tenants.get(tenant) or self._new_tenant(tenant),
                self._key.salt(tenant, event_id),
                long(_microseconds(moment)),
            ]
            parts += [write(values) for write in self._writes]
            self._add_metadata(parts, row, values, digest)
            action, traceparent = self._action(values) or "", self._traceparent(values)
        except _NOT_ORDINARY:
            return None
        value = b"".join(parts)
        if len(value) > VALUE_BYTES_MAX or not action.isprintable():  # so that nothing can be wrong with its headers
            return None
        origin = (event_id, tenant, action, moment, traceparent, self._instance)
        return RowRecord(Record(tenant, event_id, value, None, origin), digest)

    def _new_tenant(self, tenant: str) -> bytes:
        """Return what stands in the body for a tenant, and for the kind behind it."""
        if not is_tenant(tenant):
            raise LookupError(tenant)
        head = LENGTHS[len(tenant)] + tenant.encode() + _IMPORTED
        if len(self._tenants) < _TENANTS_KEPT:
            self._tenants[tenant] = head
        return head

    def _moment(self, values: Values) -> datetime:
        moment = self._occurred_at(values)
        if moment.year not in _YEARS:
            raise LookupError(moment.year)
        return moment

    def _add_metadata(self, parts: list[bytes], row: SourceRow, values: Values, digest: bytes) -> None:
        place, count = len(parts), 2
        data = row.key.encode()
        parts += (b"", self._row_key.begin(len(data)), data, self._row_head, digest.hex().encode())
        for key, text_of in self._metadata:
            text = text_of(values)
            if text is not None:
                data = text.encode()
                parts += (key.begin(len(data)), data)
                count += 1
        for key, column in self._rest:
            text = row.texts[column]
            if text is not None:
                data = text.encode()
                parts += (key.begin(len(data)), data)
                count += 1
        parts[place] = LENGTHS[count]
        parts.append(_BEHIND_METADATA)


class _Key:
    """What stands in the metadata before a value of a size.

    Arguments:
        name: The value's key.

    Raises:
        LookupError, UnicodeEncodeError: It is none.
    """

    def __init__(self, name: str) -> None:
        data = name.encode()
        if not data:
            raise LookupError("empty")
        self._name = LENGTHS[len(data)] + data
        self._short = [self._name + length for length in LENGTHS[:_SHORT_BYTES]]

    def begin(self, size: int) -> bytes:
        """Return the key, and the length of a value of so many bytes."""
        return self._short[size] if size < _SHORT_BYTES else self._name + long(size)


def _writes(mapping: Mapping, names: Names) -> list[Write]:
    """Return what writes a body from the actor to the context."""
    parts = BodyParts(names)
    parts.add_party(mapping.actor)
    parts.add_text(mapping.action)
    parts.add_targets(mapping.targets)
    parts.add_outcome(mapping.outcome)
    for name in Context.__slots__:
        parts.add_optional(mapping.context.get(name))
    return parts.writes()


def _microseconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _null(_values: Values) -> None:
    return None
