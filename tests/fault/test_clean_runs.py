"""No false alarm: nothing that happens to an honest instance, however much breaks, is called an attack by anybody.

Run one again by its seed: ``pytest -m fault tests/fault/test_clean_runs.py -k seed-017``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.brokers import FaultBroker
from support.clean_checks import check_clean
from support.clean_runs import CleanRun, steps_of
from support.providers import fresh_database
from support.stage import Stage
from support.workers import Pipeline

SEEDS = 100
TELLING = frozenset({3, 8})
"""A notary that dies behind its witnesses' answers, and a broker that is killed."""
PARTITIONS = 2
ROUND_SECONDS = 0.5

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900)]


def _runs() -> list[object]:
    return [
        pytest.param(seed, id=f"seed-{seed:03}", marks=[pytest.mark.telling] if seed in TELLING else [])
        for seed in range(SEEDS)
    ]


@pytest.fixture
def stage(
    make_pipeline: Callable[..., Pipeline], database_server: str, database_url: str, tmp_path: Path
) -> Iterator[Stage]:
    """An instance with nothing in it, on servers that others use as well."""
    with fresh_database(database_server) as notary_url:
        pipeline = make_pipeline(database_url=database_url, partitions=PARTITIONS)
        stage = Stage(pipeline, notary_url, tmp_path)
        pipeline.environment["SEALSTREAM_ROUND_SECONDS"] = str(ROUND_SECONDS)
        yield stage
        pipeline.close()  # before its databases are dropped


@pytest.mark.parametrize("seed", _runs())
def test_a_clean_run_ends_without_an_alarm(stage: Stage, broker: FaultBroker, seed: int) -> None:
    """Whatever crashes, all that was published is witnessed and provable in the end, and nobody reports anything."""
    run = CleanRun(stage, broker, seed)
    try:
        run.disturb()
        check_clean(run)
    except Exception as error:
        error.add_note(f"seed {seed}: " + "; ".join(map(str, steps_of(seed))))
        raise
