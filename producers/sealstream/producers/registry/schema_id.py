"""The id of the schema that this release writes, asked of a registry once, when an application starts."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit

from sealstream.kafka.registry import RETRIES_MAX, TIMEOUT_SECONDS, registry_client
from sealstream.kafka.topics import TopicNames
from sealstream.producers.registry.registering import inspect
from sealstream.producers.registry.subject import Subject, subject_name
from sealstream.schemas.codec import schema_text
from sealstream.schemas.errors import SchemaRefused, Unreachable


def schema_id_from_registry(
    registry: str,
    *,
    topics: TopicNames | None = None,
    username: str = "",
    password: str = "",
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> int:
    """Return the id of the shipped AuditEvent schema, for the option ``schema_id`` of audit logs and outboxes.

    Call it once at start, and keep the id: an id never changes its schema. It needs ``sealstream[registry]``.

    Arguments:
        registry: The URL of a registry with Confluent's API.
        topics: The topics' names; the subject is that of the events' topic. ``audit.events`` by default.
        username: Who to log in to the registry as; empty for nobody.
        password: Its password.
        timeout_seconds: How long to wait for each answer; it is asked three times at most.

    Raises:
        SchemaRefused: The schema is not registered.
        ConfigError: The registry lets nobody in, its URL cannot be used, or its client is not installed.
        Unreachable: The registry does not answer; ask again, or go on with an id that was kept.
    """
    client = registry_client(
        registry, username=username, password=password, timeout_seconds=timeout_seconds, retries_max=RETRIES_MAX
    )
    with closing(client):
        try:
            return shipped_schema_id(Subject(client, subject_name((topics or TopicNames()).events)))
        except Unreachable as error:
            place = urlsplit(registry).netloc.rpartition("@")[2]  # a URL may hold a password
            raise Unreachable(
                f"{error.message}, at {place}", hint="is it there? Or go on with an id that was kept: it never changes"
            ) from error


def shipped_schema_id(subject: Subject) -> int:
    """Return the id of the shipped schema in a subject.

    Raises:
        SchemaRefused: It is not registered there.
        ConfigError, Unreachable: The registry lets nobody in, or does not answer.
    """
    found = subject.find(schema_text("AuditEvent"))
    if found is None:  # one that differs in its documentation alone does as well: the bytes are the same
        found = inspect(subject).shipped_id
    if found is None:
        raise SchemaRefused(
            f"the schema that this release writes is not registered as {subject.name}",
            hint="sealstream schemas register",
        )
    return found
