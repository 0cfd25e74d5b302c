"""Registering versions of AuditEvent, and looking whether what is registered is sound."""

from __future__ import annotations

from dataclasses import dataclass

from sealstream.producers.registry.rules import check_version
from sealstream.producers.registry.subject import COMPATIBILITY, Subject, Version
from sealstream.schemas.codec import fingerprint_of, schema_fingerprint, schema_text
from sealstream.schemas.errors import SchemaRefused


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering has come to.

    Arguments:
        subject: The subject.
        schema_id: The schema's id, which values begin with.
        fingerprint: Its CRC-64-AVRO as single-object encoding writes it, in hex.
        is_new: Whether it was not registered before.
    """

    subject: str
    schema_id: int
    fingerprint: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version as it stands in the registry.

    Arguments:
        version: Its number.
        schema_id: Its id.
        fingerprint: Its CRC-64-AVRO in hex; ``None`` if it may not be a version.
        is_shipped: Whether it is the schema that this release writes.
        problem: Why it may not be a version; empty if it may.
        text: The schema, as the registry gives it.
    """

    version: int
    schema_id: int
    fingerprint: str | None
    is_shipped: bool
    problem: str
    text: str


@dataclass(frozen=True, slots=True)
class SubjectState:
    """A subject as it stands in the registry.

    Arguments:
        subject: Its name.
        compatibility: Its own compatibility; ``None`` if it has none.
        versions: Its versions, the oldest first.
    """

    subject: str
    compatibility: str | None
    versions: tuple[VersionState, ...]

    @property
    def shipped_id(self) -> int | None:
        """The id of the schema that this release writes, the newest if it has several; ``None`` if it has none."""
        return next((one.schema_id for one in reversed(self.versions) if one.is_shipped), None)

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words."""
        found = [f"version {one.version} (id {one.schema_id}): {one.problem}" for one in self.versions if one.problem]
        if self.compatibility != COMPATIBILITY:
            found.insert(0, f"the compatibility of {self.subject} is {self.compatibility}, and not {COMPATIBILITY}")
        if self.shipped_id is None:
            found.append(f"the schema that this release writes is not registered as {self.subject}")
        return found


def register(subject: Subject, text: str) -> Registered:
    """Register a schema, and the shipped one before it, so that each version is compatible to what readers know.

    Running it again changes nothing.

    Arguments:
        subject: Where.
        text: The schema's JSON.

    Raises:
        SchemaRefused: It may not be a version (:func:`check_version`), or is not compatible to one that is registered.
        ConfigError, Unreachable: The registry lets nobody in, or does not answer.
    """
    check_version(text)
    # First of all: whoever registers at the same time is held to it, too. If we die here, nothing is registered.
    subject.set_compatibility()
    first = None
    if inspect(subject).shipped_id is None:
        first = _register(subject, schema_text("AuditEvent"))
        # If we die here, the shipped schema is registered, which is where the next run begins.
    last = _register(subject, text)
    return first if first is not None and first.schema_id == last.schema_id else last


def inspect(subject: Subject) -> SubjectState:
    """Return how a subject stands, each version held against the rules.

    Raises:
        ConfigError, Unreachable: The registry lets nobody in, or does not answer.
        SchemaRefused: A version is no Avro schema that stands by itself.
    """
    versions = tuple(_state(version) for version in subject.versions())
    return SubjectState(subject.name, subject.compatibility(), versions)


def fingerprint_of_text(text: str) -> str:
    """Return a valid version's CRC-64-AVRO in hex.

    Raises:
        SchemaRefused: It may not be a version.
    """
    return fingerprint_of(check_version(text)).hex()


def _register(subject: Subject, text: str) -> Registered:
    fingerprint = fingerprint_of_text(text)
    known = subject.find(text)
    if known is not None:
        return Registered(subject.name, known, fingerprint, is_new=False)
    # The registry refuses it as well; asked first, it refuses before anything is changed.
    if subject.versions() and not subject.is_compatible(text):
        raise SchemaRefused(
            f"the schema is not compatible to every version of {subject.name}",
            hint="add fields at the end, each with a default; sealstream schemas show lists the versions",
        )
    return Registered(subject.name, subject.register(text), fingerprint, is_new=True)


def _state(version: Version) -> VersionState:
    fingerprint, problem = None, ""
    try:
        fingerprint = fingerprint_of_text(version.text)
    except SchemaRefused as error:
        problem = error.message
    shipped = schema_fingerprint("AuditEvent").hex()
    return VersionState(version.version, version.schema_id, fingerprint, fingerprint == shipped, problem, version.text)
