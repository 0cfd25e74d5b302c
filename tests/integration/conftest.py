"""Fixtures of the integration tests: an instance of its own on the shared servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sealstream.sinks.store.migrate import migrate
from support.processing import committed, load, run_engine
from support.workers import Pipeline

MakePipeline = Callable[..., Pipeline]
CHAINED_EVENTS = 50


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


@pytest.fixture
def chained(make_pipeline: MakePipeline) -> Pipeline:
    """An instance of which 50 events of ten tenants are chained, with no worker running."""
    pipeline = make_pipeline(store=False)
    load(pipeline, "e", CHAINED_EVENTS)
    run_engine(pipeline, until=lambda: sum(committed(pipeline).values()) == CHAINED_EVENTS)
    return pipeline
