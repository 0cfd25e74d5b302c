"""The schema registry that the settings name, as workers use it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sealstream.kafka.registry import SchemaResolver, registry_client
from sealstream.worker.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

_HTTP_LOG: Final = "httpx"  # the client's HTTP library


def configured_registry(settings: Settings, *, retries_max: int = 0) -> SchemaRegistryClient:
    """Return a client of the registry that the settings name.

    Arguments:
        settings: Where it is, and who to log in as.
        retries_max: How often it is asked again.

    Raises:
        ConfigError: The registry's client is not installed, or the URL cannot be used.
    """
    logging.getLogger(_HTTP_LOG).setLevel(logging.WARNING)  # a line for each question, with its URL
    password = settings.registry_password.get_secret_value()
    return registry_client(
        settings.registry, username=settings.registry_username, password=password, retries_max=retries_max
    )


def connect_registry(settings: Settings) -> SchemaResolver:
    """Return what finds schemas in the registry that the settings name.

    Raises:
        ConfigError: As :func:`configured_registry`.
    """
    return SchemaResolver(configured_registry(settings))
