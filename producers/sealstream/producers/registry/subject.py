"""One subject of a schema registry: its versions and its compatibility, with errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from sealstream.schemas.codec import fingerprint_of
from sealstream.schemas.errors import ConfigError, SchemaRefused, SchemaUnknown, Unreachable
from sealstream.schemas.writer_schema import parse_writer_schema

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

COMPATIBILITY: Final = "FULL_TRANSITIVE"
"""Each version reads, and is read by, all others: events stay for years, and their readers are many."""

_UNAUTHORIZED: Final = (401, 403)
_NOT_FOUND: Final = 404
_REFUSED: Final = (409, 422)
_VERSIONS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a subject.

    Arguments:
        version: Its number within the subject.
        schema_id: The id that values begin with.
        text: The schema, as the registry gives it.
    """

    version: int
    schema_id: int
    text: str


class Subject:
    """A subject, asked through Confluent's API.

    Arguments:
        client: The registry.
        name: The subject's name.
    """

    def __init__(self, client: SchemaRegistryClient, name: str) -> None:
        self._client = client
        self.name = name

    def versions(self) -> list[Version]:
        """Return all versions, the oldest first; none where there is no such subject.

        Raises:
            SchemaRefused: There are more than 1,000, or one is no Avro schema that stands by itself.
            ConfigError, Unreachable: The registry lets nobody in, or does not answer.
        """
        with _errors(self.name):
            found = self._numbers()
        if len(found) > _VERSIONS_MAX:
            raise SchemaRefused(f"subject {self.name} has {len(found)} versions, more than {_VERSIONS_MAX}")
        return [self._version(number) for number in sorted(found)]

    def compatibility(self) -> str | None:
        """Return the subject's own compatibility; ``None`` if it has none.

        Raises:
            ConfigError, Unreachable: As :meth:`versions`.
        """
        with _errors(self.name):
            try:
                return str(self._client.get_compatibility(self.name))
            except Exception as error:
                if _status(error) == _NOT_FOUND:
                    return None
                raise

    def set_compatibility(self) -> None:
        """Let the registry refuse whatever is not compatible to all versions, and look whether it does.

        Raises:
            SchemaRefused: The registry says that it took it, and shows another one.
            ConfigError, Unreachable: As :meth:`versions`.
        """
        with _errors(self.name):
            self._client.set_compatibility(self.name, COMPATIBILITY)
        shown = self.compatibility()
        if shown != COMPATIBILITY:
            raise SchemaRefused(f"subject {self.name} keeps the compatibility {shown} after {COMPATIBILITY} was set")

    def is_compatible(self, text: str) -> bool:
        """Return whether the registry would take a schema beside all versions, of which there must be one.

        Raises:
            SchemaRefused: The registry takes the text for no schema.
            ConfigError, Unreachable: As :meth:`versions`.
        """
        with _errors(self.name):
            return self._client.test_compatibility_all_versions(self.name, _avro(text))

    def register(self, text: str) -> int:
        """Register a schema, and return its id; one that is registered keeps its own.

        Raises:
            SchemaRefused: The registry refuses it, or gives another schema under that id.
            ConfigError, Unreachable: As :meth:`versions`.
        """
        with _errors(self.name):
            schema_id = self._client.register_schema(self.name, _avro(text))
            cast("Any", self._client).clear_caches()  # so that the registry's word is looked at, and not what was sent
            shown = self._client.get_schema(schema_id).schema_str or ""
        if _form(shown) != _form(text):
            raise SchemaRefused(f"the registry gives another schema under the id {schema_id} than was registered")
        return schema_id

    def find(self, text: str) -> int | None:
        """Return the id of a schema if it is a version of the subject.

        Raises:
            ConfigError, Unreachable: As :meth:`versions`.
        """
        with _errors(self.name):
            try:
                return self._client.lookup_schema(self.name, _avro(text)).schema_id
            except Exception as error:
                if _status(error) == _NOT_FOUND:
                    return None
                raise

    def _numbers(self) -> list[int]:
        try:
            return self._client.get_versions(self.name)
        except Exception as error:
            if _status(error) == _NOT_FOUND:
                return []
            raise

    def _version(self, number: int) -> Version:
        with _errors(self.name):
            found = self._client.get_version(self.name, number)
        schema_id, text = found.schema_id, found.schema.schema_str
        if (
            (found.schema.schema_type or "AVRO") != "AVRO"
            or found.schema.references
            or text is None
            or schema_id is None
        ):
            raise SchemaRefused(f"version {number} of {self.name} is no Avro schema that stands by itself")
        return Version(number, schema_id, text)


def subject_name(topic: str) -> str:
    """Return the subject of a topic's values, by Confluent's TopicNameStrategy."""
    return f"{topic}-value"


def _avro(text: str) -> Schema:
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415 - an extra of its own

    return Schema(text, "AVRO")


def _form(text: str) -> bytes | None:
    """Return what says which bytes a schema stands for: a registry may lay its text out anew."""
    try:
        return fingerprint_of(parse_writer_schema(json.loads(text)))
    except (ValueError, RecursionError, SchemaUnknown):
        return None


def _status(error: Exception) -> int | None:
    status: object = getattr(error, "http_status_code", None)
    return status if isinstance(status, int) else None


@contextmanager
def _errors(subject: str) -> Generator[None]:
    """Raise what the client raises as one of ours."""
    try:
        yield
    except Exception as error:
        # Not known to be narrower: the client passes on whatever its HTTP library and the answer's JSON raise.
        status = _status(error)
        if status in _REFUSED:
            reason = str(getattr(error, "error_message", ""))[:500]
            raise SchemaRefused(f"the registry refuses it for {subject}: {reason}") from error
        if status in _UNAUTHORIZED:
            raise ConfigError(
                f"the registry lets nobody in for {subject}: HTTP {status}",
                hint="check SEALSTREAM_REGISTRY_USERNAME and SEALSTREAM_REGISTRY_PASSWORD",
            ) from error
        what = type(error).__name__ if status is None else f"HTTP {status}"
        raise Unreachable(
            f"the schema registry does not answer as it should: {what}", hint="check SEALSTREAM_REGISTRY"
        ) from error
