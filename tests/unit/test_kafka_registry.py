"""Schemas from a registry: found once, and never a way to hold up the sink."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sealstream.kafka.registry import FORGET_SECONDS, LOOKUPS_PER_SECOND_MAX, SchemaResolver
from sealstream.schemas.errors import ConfigError, SchemaUnknown, Unreachable
from sealstream.worker.registry import connect_registry
from sealstream.worker.settings import load_settings


class _NotFoundError(Exception):
    http_status_code = 404


class _Registry:
    """A registry that has one schema, counts its questions and can be away."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.away = False

    def get_schema(self, schema_id: int) -> Any:
        self.asked.append(schema_id)
        if self.away:
            raise ConnectionError("away")
        if schema_id == 1:
            return SimpleNamespace(schema_type="AVRO", schema_str='{"type":"string"}', references=[])
        if schema_id == 2:
            return SimpleNamespace(schema_type="JSON", schema_str="{}", references=[])
        raise _NotFoundError


class _Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_schema_is_found_by_its_id() -> None:
    """The schema comes as plain JSON values."""
    assert SchemaResolver(_Registry())(1) == {"type": "string"}


@pytest.mark.parametrize("schema_id", [2, 3])
def test_what_is_no_avro_schema_is_unknown_and_not_asked_for_again_at_once(schema_id: int) -> None:
    """An id that leads nowhere costs one question in half a minute, however many records name it."""
    source, clock = _Registry(), _Clock()
    resolve = SchemaResolver(source, clock=clock)
    for _ in range(5):
        with pytest.raises(SchemaUnknown, match=str(schema_id)):
            resolve(schema_id)
    assert source.asked == [schema_id]

    clock.now += FORGET_SECONDS + 1
    with pytest.raises(SchemaUnknown):
        resolve(schema_id)
    assert source.asked == [schema_id, schema_id]


def test_a_registry_that_is_away_is_not_waited_for_again_and_again() -> None:
    """One timeout, then the sink goes on without it for a while; then it is asked again."""
    source, clock = _Registry(), _Clock()
    source.away = True
    resolve = SchemaResolver(source, clock=clock)
    for schema_id in range(10, 20):
        with pytest.raises(Unreachable):
            resolve(schema_id)
    assert source.asked == [10]

    source.away = False
    clock.now += FORGET_SECONDS + 1
    assert resolve(1) == {"type": "string"}


def test_many_unknown_ids_do_not_hold_up_the_sink() -> None:
    """Whoever publishes chooses the ids; only so many are looked up within a second."""
    source, clock = _Registry(), _Clock()
    resolve = SchemaResolver(source, clock=clock)
    for schema_id in range(100, 100 + LOOKUPS_PER_SECOND_MAX):
        with pytest.raises(SchemaUnknown):
            resolve(schema_id)
    with pytest.raises(Unreachable):
        resolve(999)
    assert len(source.asked) == LOOKUPS_PER_SECOND_MAX

    clock.now += 1
    assert resolve(1) == {"type": "string"}


def test_a_url_that_is_none_is_a_setting_at_fault() -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match="SEALSTREAM_REGISTRY"):
        connect_registry(load_settings({}, registry="nonsense"))
