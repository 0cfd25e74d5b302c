"""A schema registry with Confluent's API: how it is reached, and writers' schemas by their ids."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from sealstream.schemas.errors import ConfigError, SchemaUnknown, Unreachable

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

TIMEOUT_SECONDS: Final = 5.0
FORGET_SECONDS: Final = 30.0
"""What was not found is looked for again after so long, and a registry that was away is asked again."""
LOOKUPS_PER_SECOND_MAX: Final = 20
"""Whoever may publish chooses the ids that are looked up, so that many of them must not hold up the worker."""
RETRIES_MAX: Final = 2
"""How often a command, or an application's start, asks again: a registry under load lets a question go unanswered."""
_RETRY_MILLISECONDS: Final = 200
_FAILURES_MAX: Final = 10_000
_NOT_FOUND: Final = 404


class _Registry(Protocol):
    def get_schema(self, schema_id: int) -> Any: ...


def registry_client(
    url: str,
    *,
    username: str = "",
    password: str = "",
    timeout_seconds: float = TIMEOUT_SECONDS,
    retries_max: int = 0,
) -> SchemaRegistryClient:
    """Return a client of a registry; nothing is sent yet.

    Arguments:
        url: Where it is.
        username: Who to log in as; empty for nobody.
        password: Its password.
        timeout_seconds: How long to wait for an answer.
        retries_max: How often it is asked again; for those who cannot go on without it.

    Raises:
        ConfigError: The registry's client is not installed, or the URL cannot be used.
    """
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise ConfigError(
            "a schema registry is configured, and the registry's client is not installed",
            hint="install sealstream[registry]",
        ) from error
    config: dict[str, Any] = {"url": url, "timeout": timeout_seconds, "max.retries": retries_max}
    config["retries.wait.ms"] = _RETRY_MILLISECONDS
    if username:
        config["basic.auth.user.info"] = f"{username}:{password}"
    try:
        return SchemaRegistryClient(config)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the schema registry's URL cannot be used: {type(error).__name__}", hint="check SEALSTREAM_REGISTRY"
        ) from None


class SchemaResolver:
    """Finds a writer's schema by its id, for :class:`~sealstream.schemas.codec.EventReader`, which remembers it.

    Arguments:
        registry: The client.
        clock: Gives seconds that only grow.
    """

    def __init__(self, registry: _Registry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._unknown: dict[int, float] = {}  # id -> when it may be asked for again
        self._away_until = 0.0
        self._second, self._lookups = 0, 0

    def __call__(self, schema_id: int) -> Any:
        """Return the schema of that id as plain JSON values.

        Raises:
            SchemaUnknown: The registry has no such schema, or it is not Avro.
            Unreachable: The registry does not answer, or was asked too much within a second.
        """
        now = self._clock()
        if now < self._unknown.get(schema_id, 0.0):
            self._refuse(schema_id)
        if now < self._away_until:
            raise Unreachable("the schema registry did not answer a moment ago")
        self._count(int(now))
        return self._fetch(schema_id)

    def _count(self, second: int) -> None:
        if second != self._second:
            self._second, self._lookups = second, 0
        self._lookups += 1
        if self._lookups > LOOKUPS_PER_SECOND_MAX:
            raise Unreachable(f"more than {LOOKUPS_PER_SECOND_MAX} unknown schemas within a second")

    def _fetch(self, schema_id: int) -> Any:
        try:
            found = self._registry.get_schema(schema_id)
        except Exception as error:
            # Not known to be narrower: the client passes on whatever its HTTP library and the answer's JSON raise.
            if getattr(error, "http_status_code", None) == _NOT_FOUND:
                self._remember(schema_id)
            self._away_until = self._clock() + FORGET_SECONDS
            raise Unreachable(
                f"the schema registry does not answer: {type(error).__name__}", hint="check SEALSTREAM_REGISTRY"
            ) from error
        if (found.schema_type or "AVRO") != "AVRO" or found.references:
            self._remember(schema_id)
        try:
            return json.loads(found.schema_str)
        except ValueError:
            self._remember(schema_id)

    def _remember(self, schema_id: int) -> NoReturn:
        if len(self._unknown) >= _FAILURES_MAX:
            self._unknown.clear()
        self._unknown[schema_id] = self._clock() + FORGET_SECONDS
        self._refuse(schema_id)

    @staticmethod
    def _refuse(schema_id: int) -> NoReturn:
        raise SchemaUnknown(f"the registry has no Avro schema {schema_id} that stands by itself")
