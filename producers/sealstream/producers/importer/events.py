"""Rows into events: the same row of the same job gives the same bytes, however often and in whatever process.

So a row that is sent again after a crash is a duplicate for the chain, and ``import verify`` can make every event anew.
Pure: the job's secret comes from its file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2s
from typing import Final, NamedTuple, TypeAlias

from sealstream.producers.headers import record_headers
from sealstream.producers.importer.mapping import Mapping, Moment, Party
from sealstream.producers.importer.rows import Source, SourceRow
from sealstream.producers.importer.template import Field, Names, Value, Values, json_text, load_json, value_reader
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import VALUE_BYTES_MAX
from sealstream.schemas.errors import EventInvalid
from sealstream.schemas.event import Actor, AuditEvent, Context, EventKind, Outcome, Target
from sealstream.schemas.source_row import row_hash, row_packer

ROW_METADATA: Final = "import.row"
"""The key under which an event has the hash of its row."""
KEY_METADATA: Final = "import.key"
"""The key under which an event has the key of its row, as it stands in the source."""
SALT_BYTES: Final = 16

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEY_HASH_BYTES: Final = 16
_PLAIN_KEY: Final = re.compile("[0-9]{1,20}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Keys that stand in an event's id as they are: what is no number and no UUID may be personal."""
_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}

_MakeParty: TypeAlias = Callable[[Values], tuple[str, str, str | None] | None]


class Made(NamedTuple):
    """An event that was made of a row.

    Arguments:
        event: The event.
        row_hash: The hash of its row, a leaf of the import's tree.
    """

    event: AuditEvent
    row_hash: bytes


class JobKey:
    """What makes the ids and salts of a job's events: its name and its secret.

    Arguments:
        job: The job's name.
        secret: At most 32 bytes, random, and in the job's file alone: whoever has it can guess purged events from their
            digests. It is the key of BLAKE2s (RFC 7693), a keyed hash of its own.
    """

    def __init__(self, job: str, secret: bytes) -> None:
        self.job = job
        self.prefix = f"import:{job}:"
        self._secret = secret

    def event_id(self, key: str) -> str:
        """Return the id of the event of a row."""
        if _PLAIN_KEY.fullmatch(key) is not None:
            return f"{self.prefix}{key}"
        data = key.encode(errors="surrogatepass")
        return f"{self.prefix}:{blake2s(data, key=self._secret, digest_size=_KEY_HASH_BYTES, person=b'id').hexdigest()}"

    def salt(self, tenant: str, event_id: str) -> bytes:
        """Return the salt of an event."""
        data = f"{tenant}\n{event_id}".encode()
        return blake2s(data, key=self._secret, digest_size=SALT_BYTES, person=b"salt").digest()


class EventMaker:
    """Makes the events of a source's rows.

    Arguments:
        mapping: How.
        source: Whose columns the mapping names.
        key: The job's.

    Raises:
        ConfigError: The mapping names a column that the source does not have.
    """

    def __init__(self, mapping: Mapping, source: Source, key: JobKey) -> None:
        names = Names()
        self._key = key
        self._pack = row_packer(source.columns)
        self._tenant = _field("tenant", mapping.tenant, names)
        self._action = _field("action", mapping.action, names)
        self._outcome = None if mapping.outcome is None else _field("outcome", mapping.outcome, names)
        self._actor = _party("actor", mapping.actor, names)
        self._targets = [_party(f"targets.{number}", one, names) for number, one in enumerate(mapping.targets)]
        self._context = [
            _field(f"context.{name}", mapping.context[name], names) if name in mapping.context else _null
            for name in Context.__slots__
        ]
        self._has_context = bool(mapping.context)
        self._metadata = [(name, _field(f"metadata.{name}", one, names)) for name, one in mapping.metadata.items()]
        self._occurred_at = moment_reader(mapping.occurred_at, names)
        self._read = value_reader(source.columns, names, whole=source.whole)
        self._rest = rest_columns(mapping, source, names)
        self._rest_of_whole = _used(names) if source.whole and mapping.rest else None

    def make(self, row: SourceRow) -> Made:
        """Return the event of a row; whether it is a valid one is for whoever sends it to check.

        Raises:
            EventInvalid: No event can be made of it; names the field.
        """
        if row.problem:
            raise EventInvalid("row", row.problem)
        texts = row.texts
        try:
            digest = row_hash(self._pack(texts))
        except UnicodeEncodeError:
            raise EventInvalid("row", "holds bytes that are no UTF-8") from None
        values = self._read(texts)
        tenant, event_id = _present("tenant", self._tenant(values)), self._key.event_id(row.key)
        actor = self._actor(values)
        if actor is None:
            raise EventInvalid("actor.id", "is null", hint='give an alternative: id = ["{user_id}", "unknown"]')
        event = AuditEvent(
            tenant=tenant,
            actor=Actor(*actor),
            action=_present("action", self._action(values)),
            targets=tuple([Target(*one) for make in self._targets if (one := make(values)) is not None]),
            outcome=self._outcome_of(values),
            context=Context(*[make(values) for make in self._context]) if self._has_context else _NO_CONTEXT,
            metadata=self._metadata_of(row, values, digest),
            occurred_at=self._occurred_at(values),
            id=event_id,
            kind=EventKind.IMPORTED,
            salt=self._key.salt(tenant, event_id),
        )
        return Made(event, digest)

    def _outcome_of(self, values: Values) -> Outcome:
        text = None if self._outcome is None else self._outcome(values)
        if text is None:
            return Outcome.UNKNOWN
        try:
            return _OUTCOMES[text]
        except KeyError:
            raise EventInvalid("outcome", "is unknown", hint=f"map it to one of {', '.join(_OUTCOMES)}") from None

    def _metadata_of(self, row: SourceRow, values: Values, digest: bytes) -> dict[str, str]:
        metadata = {KEY_METADATA: row.key, ROW_METADATA: digest.hex()}
        for name, make in self._metadata:
            text = make(values)
            if text is not None:
                metadata[name] = text
        texts = row.texts
        for place, name in self._rest:
            rest = texts[place]
            if rest is not None:
                metadata.setdefault(name, rest)
        if self._rest_of_whole is not None:
            self._add_rest_of_whole(metadata, texts[0] or "")
        return metadata

    def _add_rest_of_whole(self, metadata: dict[str, str], line: str) -> None:
        assert self._rest_of_whole is not None
        for name, value in load_json("line", line).items():
            text = None if name in self._rest_of_whole else json_text(value)
            if text is not None:
                metadata.setdefault(name, text)


def final_bytes(event: AuditEvent, instance: str, schema_id: int | None = None) -> bytes:
    """Return the bytes that an audit log makes of an event, checked as it checks them.

    Arguments:
        event: The event.
        instance: The instance's name.
        schema_id: The schema's id in a registry, for Confluent's framing.

    Raises:
        EventInvalid: It is no valid event, or takes more than 1,000,000 bytes.
    """
    event.check()
    record_headers(event, instance)
    value = encode_event(event, schema_id=schema_id)
    if len(value) > VALUE_BYTES_MAX:
        raise EventInvalid("event", f"takes {len(value)} bytes, more than {VALUE_BYTES_MAX}")
    return value


def moment_reader(moment: Moment, names: Names) -> Callable[[Values], datetime]:
    """Return the function that makes an event's time, which has a zone.

    Raises:
        EventInvalid: From the function: there is no time, or none of the form, or one without a zone.
    """
    text_of, parse, zone = moment.field.compile("occurred_at", names), _parser(moment.form), moment.zone

    def make(values: Values) -> datetime:
        text = _present("occurred_at", text_of(values))
        try:
            found = parse(text)
        except (ValueError, OverflowError, OSError):
            raise EventInvalid("occurred_at", f"is no time of the form {moment.form}") from None
        if found.tzinfo is None:
            if zone is None:
                raise EventInvalid("occurred_at", "has no time zone", hint="give occurred_at.timezone in the mapping")
            found = found.replace(tzinfo=zone).astimezone(UTC)
        return found

    return make


def rest_columns(mapping: Mapping, source: Source, names: Names) -> list[tuple[int, str]]:
    """Return place and name of the columns that no field uses, if they go to the metadata.

    A column of which a field uses a part alone does, as a whole.

    Arguments:
        mapping: The mapping.
        source: The source.
        names: The names that all fields of the mapping use.
    """
    if not mapping.rest or source.whole:
        return []
    used = _used(names)
    return [(place, column) for place, column in enumerate(source.columns) if column not in used]


def _used(names: Names) -> set[str]:
    return {name.removesuffix("?") for name in names.names}


def _field(where: str, field: Field, names: Names) -> Value:
    return field.compile(where, names)


def _null(_values: Values) -> None:
    return None


def _present(where: str, text: str | None) -> str:
    if text is None:
        raise EventInvalid(where, "is null")
    return text


def _party(where: str, party: Party, names: Names) -> _MakeParty:
    party_type, party_id = party.type.compile(f"{where}.type", names), party.id.compile(f"{where}.id", names)
    party_name = None if party.name is None else party.name.compile(f"{where}.name", names)

    def make(values: Values) -> tuple[str, str, str | None] | None:
        found = party_id(values)
        if found is None:
            return None
        name = None if party_name is None else party_name(values)
        return _present(f"{where}.type", party_type(values)), found, name

    return make


def _parser(form: str) -> Callable[[str], datetime]:
    if form == "iso":
        return datetime.fromisoformat
    if form in ("unix", "unix_ms"):
        unit = timedelta(seconds=1) if form == "unix" else timedelta(milliseconds=1)
        return lambda text: _EPOCH + unit * float(text)
    return lambda text: datetime.strptime(text, form)  # noqa: DTZ007  # the zone is looked at behind it


_NO_CONTEXT: Final = Context()
