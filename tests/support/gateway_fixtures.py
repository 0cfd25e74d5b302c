"""A gateway that the tests of one file share, on topics of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway import GatewayProcess, serve_gateway
from support.workers import Pipeline


@pytest.fixture(scope="module")
def instance(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """An instance with its topics."""
    pipeline = Pipeline(kafka_bootstrap, f"t-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("instance"))
    pipeline.create_topics()
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def gateway(instance: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway of it that gives clients a second and bodies 100,000 bytes."""
    directory: Path = tmp_path_factory.mktemp("gateway")
    with serve_gateway(instance, directory, gateway_request_seconds=1, gateway_body_bytes_max=2_000_000) as served:
        yield served
