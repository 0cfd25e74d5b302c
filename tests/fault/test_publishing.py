"""Nothing is lost between ``log()`` and the chain: publishers with a spool, and everything around them breaking.

Run one again by its seed: ``pytest -m fault tests/fault/test_publishing.py -k seed-07``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sealstream.kafka.topics import SEAL_ENTRY_HEADER
from sealstream.producers import SyncAuditLog
from sealstream.schemas.codec import encode_event
from sealstream.schemas.entry import Kind, parse
from sealstream.schemas.event import Actor, AuditEvent
from support.brokers import FaultBroker
from support.harness import read_log
from support.processing import committed, run_engine
from support.torture import Outcome, Torture, small_disk
from support.workers import Pipeline

SEEDS = 20
TELLING = 3
TELLING_SECONDS = 6.0
SECONDS = 40.0
RETRIES = 1000

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system that can be filled."""
    with small_disk(tmp_path) as place:
        yield place


def torture(
    pipeline: Pipeline,
    broker: FaultBroker,
    directory: Path,
    disk: Path,
    seed: int,
    seconds: float,
    note: Callable[[str, object], None],
) -> None:
    """Run once, write down what came of it, and judge it."""
    outcome = Torture(pipeline, broker, directory, disk, seed).run(seconds)
    note("torture", outcome.row())
    print(f"\n{Outcome.heading()}\n{outcome.row()}")  # noqa: T201 - the table is what this run is for

    assert outcome.missing == []
    assert outcome.doubled == []
    assert outcome.kinds[Kind.CONFLICT] == outcome.kinds[Kind.QUARANTINED] == 0
    assert outcome.spooled > 0


@pytest.mark.telling
def test_a_short_run_loses_nothing(
    make_pipeline: Callable[..., Pipeline],
    broker: FaultBroker,
    tmp_path: Path,
    disk: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each kind of fault once or more: whatever was spooled is in the chain as one event."""
    torture(make_pipeline(), broker, tmp_path, disk, TELLING, TELLING_SECONDS, record_property)


@pytest.mark.parametrize("seed", [pytest.param(seed, id=f"seed-{seed:02}") for seed in range(SEEDS)])
def test_whatever_breaks_what_was_spooled_is_one_event_in_the_chain(
    make_pipeline: Callable[..., Pipeline],
    broker: FaultBroker,
    tmp_path: Path,
    disk: Path,
    seed: int,
    record_property: Callable[[str, object], None],
) -> None:
    """Four publishers, killed at random, a broker that restarts and stalls, a full disk: none is missing or doubled."""
    torture(make_pipeline(), broker, tmp_path, disk, seed, SECONDS, record_property)


@pytest.mark.telling
def test_a_thousand_retries_of_one_event_are_one_event(make_pipeline: Callable[..., Pipeline], tmp_path: Path) -> None:
    """However often the same bytes are sent, the chain has one event, and knows the others for what they are."""
    pipeline = make_pipeline()
    value = encode_event(AuditEvent(tenant="acme", actor=Actor("user", "u-1"), action="order.paid", id="order-1"))
    with SyncAuditLog(
        kafka=pipeline.bootstrap,
        instance=pipeline.genesis.instance,
        topics=pipeline.topics,
        spool=tmp_path / "spool",
    ) as audit:
        for _ in range(RETRIES):
            audit.log_value(value)
    run_engine(pipeline, until=lambda: sum(committed(pipeline).values()) == RETRIES)

    chained = read_log(pipeline.connection, pipeline.topics.chained, pipeline.genesis.partitions)
    kinds = [parse(record.header(SEAL_ENTRY_HEADER) or b"").kind for records in chained for record in records]
    assert kinds.count(Kind.EVENT) == 1
    assert kinds.count(Kind.DUPLICATE) == RETRIES - 1
    assert len(kinds) == RETRIES + 1
