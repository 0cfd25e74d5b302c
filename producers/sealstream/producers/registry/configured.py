"""The registry that a worker's settings name, as those use it who publish."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from sealstream.kafka.registry import RETRIES_MAX
from sealstream.producers.registry.schema_id import shipped_schema_id
from sealstream.producers.registry.subject import Subject, subject_name
from sealstream.worker.registry import configured_registry
from sealstream.worker.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient


def configured_subject(settings: Settings, client: SchemaRegistryClient) -> Subject:
    """Return the subject of the events' topic that the settings name."""
    return Subject(client, subject_name(settings.topics().events))


def configured_schema_id(settings: Settings) -> int | None:
    """Return the id that values are written with; ``None`` where the settings name no registry.

    Raises:
        SchemaRefused: The schema that this release writes is not registered.
        ConfigError, Unreachable: The registry lets nobody in, or does not answer.
    """
    if not settings.registry:
        return None
    with closing(configured_registry(settings, retries_max=RETRIES_MAX)) as client:
        return shipped_schema_id(configured_subject(settings, client))
