"""Fixtures of the integration tests: an instance of its own on the shared servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sealstream.sinks.store.migrate import migrate
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]


@pytest.fixture
def make_pipeline(
    kafka_bootstrap: str, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[MakePipeline]:
    """Make an instance with topics of its own and a migrated store; its workers are ended with the test."""
    made: list[Pipeline] = []

    def make(*, topics: dict[str, dict[str, str]] | None = None, store: bool = True, **settings: Any) -> Pipeline:
        name = f"t-{uuid.uuid4().hex[:8]}"
        url = database_url if store else ""
        pipeline = Pipeline(kafka_bootstrap, name, tmp_path, database_url=url, **settings)
        pipeline.create_topics(**topics or {})
        if store:
            migrate(url, partitions=pipeline.genesis.partitions)
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.close()
        report = pipeline.logs()
        if report:
            request.node.add_report_section("teardown", "workers", report)
