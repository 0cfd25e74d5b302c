"""Rows into records, ready to be sent: the short way where a row is ordinary, else the long one, to the same bytes."""

from __future__ import annotations

from sealstream.producers.headers import record_headers
from sealstream.producers.importer.events import EventMaker, JobKey, final_bytes
from sealstream.producers.importer.mapping import Mapping
from sealstream.producers.importer.ordinary_row import RowRecord, ordinary_rows
from sealstream.producers.importer.rows import Source, SourceRow
from sealstream.producers.record import Record
from sealstream.schemas.event import AuditEvent


class RecordMaker:
    """Makes the records of a job: of its source's rows, and of its marks.

    Arguments:
        mapping: How rows become events.
        source: Whose columns the mapping names.
        key: The job's.
        instance: The instance that is imported into.
        schema_id: The schema's id in a registry, for Confluent's framing.

    Raises:
        ConfigError: The mapping names a column that the source does not have.
    """

    def __init__(
        self, mapping: Mapping, source: Source, key: JobKey, *, instance: str, schema_id: int | None = None
    ) -> None:
        self.key = key
        self.instance = instance
        self._schema_id = schema_id
        self._maker = EventMaker(mapping, source, key)
        self._ordinary = ordinary_rows(mapping, source, key, instance=instance, schema_id=schema_id)

    def make(self, row: SourceRow) -> RowRecord:
        """Return the record of a row.

        Raises:
            EventInvalid: The row gives no valid event; names the field.
        """
        made = self._ordinary(row)
        if made is not None:
            return made
        event, digest = self._maker.make(row)
        return RowRecord(self.record_of(event), digest)

    def record_of(self, event: AuditEvent) -> Record:
        """Return the record of an event.

        Raises:
            EventInvalid: It is no valid event, or takes more than 1,000,000 bytes.
        """
        value = final_bytes(event, self.instance, self._schema_id)
        return Record(event.tenant, event.id, value, None, record_headers(event, self.instance))
