"""Topics that the controller has made, and that the broker which is asked has not heard of yet."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import pytest

from sealstream.kafka.admin import TopicAdmin, TopicState
from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicSpec
from sealstream.schemas.errors import Unreachable

NAME = "audit.events.e2"


class _Cluster:
    """A cluster whose broker shows a topic only after it was asked so often."""

    def __init__(self, shown_after: float) -> None:
        self.shown_after = shown_after
        self.asked = 0

    def create_topics(self, topics: list[Any], **_: object) -> dict[str, Future[None]]:
        done: Future[None] = Future()
        done.set_result(None)
        return {topic.topic: done for topic in topics}

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        self.asked += 1
        return {name: TopicState(name, bytes(16), 1, 1) for name in names if self.asked > self.shown_after}


def _admin(monkeypatch: pytest.MonkeyPatch, cluster: _Cluster, timeout_seconds: float) -> TopicAdmin:
    admin = TopicAdmin(KafkaConnection("127.0.0.1:1"), timeout_seconds=timeout_seconds)
    monkeypatch.setattr(admin, "_client", cluster)
    monkeypatch.setattr(admin, "describe", cluster.describe)
    return admin


def test_a_created_topic_is_there_when_create_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever checks or uses topics right after they were created finds them."""
    admin = _admin(monkeypatch, _Cluster(shown_after=3), timeout_seconds=60)

    assert admin.create([TopicSpec(NAME, 1, {}, {})], replication=1) == [NAME]

    assert NAME in admin.describe([NAME])


def test_a_topic_that_never_shows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that does not show what it created is named, with the topic, and not waited for for ever."""
    admin = _admin(monkeypatch, _Cluster(shown_after=float("inf")), timeout_seconds=0.2)

    with pytest.raises(Unreachable, match=rf"does not show {NAME}"):
        admin.create([TopicSpec(NAME, 1, {}, {})], replication=1)
