"""The whole way: processor, verifier, store, notary, and a recomputing witness without whom nothing becomes public."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.errors import ObjectMissing
from sealstream.schemas.keys import pack_key
from sealstream.schemas.log_layout import ROOT_CHECKPOINT
from sealstream.schemas.note import verify_note
from sealstream.schemas.note_key import SignerKey
from sealstream.schemas.policy import Log, Policy, Witness
from sealstream.sinks.notary.migrate import migrate
from sealstream.sinks.witness.recomputing.memory import JudgeMemory
from sealstream.worker.objects import Objects, open_objects
from sealstream.worker.settings import PREFIX
from support.forging import abort_events
from support.notes import signer
from support.processing import load
from support.rounds import SECRET, entries_of
from support.witnessing import WITNESS, WitnessProcess
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]


def _public_size(objects: Objects, key: SignerKey) -> int:
    """Return the size of the root log that is public; 0 if nothing is."""
    try:
        note = objects.get(ROOT_CHECKPOINT)
    except ObjectMissing:
        return 0
    return Checkpoint.parse(verify_note(note, [key.verifier]).text).size


def _recomputed(path: Path, instance: str) -> int:
    """Return how many entries the witness remembers."""
    memory = JudgeMemory(path, instance=instance, secret=SECRET)
    try:
        return sum(size for _, size, _ in memory.chains())
    finally:
        memory.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_round_is_public_once_it_was_recomputed(
    make_pipeline: MakePipeline, database_url: str, tmp_path: Path
) -> None:
    """What the notary makes of the store equals what the witness makes of Kafka, round by round, aborted and repeated
    records included, over a kill of the witness: so all of it becomes public.
    """
    pipeline = make_pipeline(partitions=2)
    migrate(database_url)
    published = tmp_path / "published"
    published.mkdir()
    objects = open_objects(str(published))
    key = signer(pipeline.genesis.instance)
    log = Policy((Log(key.verifier),), (), (), "none")
    given: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in pipeline.environment.items()}
    given |= {"log_storage": str(published), "map_secret": SECRET.hex(), "worker_id": "witness"}
    witness = WitnessProcess(tmp_path, "--recompute", "--trust-first-use", policy=log, **given)
    pipeline.workers.append(witness)
    for role in ("processor", "verifier", "sink"):
        pipeline.start(role)

    def policy(port: int) -> str:
        cosigner = Witness("W", WITNESS.verifier, f"http://127.0.0.1:{port}")
        return Policy((Log(key.verifier),), (cosigner,), (), "W").pack().decode()

    notary: dict[str, Any] = {
        "notary_database": database_url,
        "log_storage": published,
        "log_key": pack_key(key).decode(),
        "map_secret": SECRET.hex(),
        "round_seconds": 0.5,
    }
    first = pipeline.start("notary", policy=policy(witness.port), **notary)

    def wait_until_all_is_public() -> None:
        def is_public() -> bool:
            return _recomputed(tmp_path / "witness.sqlite", pipeline.genesis.instance) == sum(
                map(len, entries_of(pipeline).values())
            )

        wait_for(is_public, timeout_seconds=120, what="all entries to be recomputed")
        size = _public_size(objects, key)
        wait_for(lambda: _public_size(objects, key) > size + 1, timeout_seconds=60, what="a public round behind them")

    load(pipeline, "a", 60)
    abort_events(pipeline, 3)
    load(pipeline, "a", 30)
    load(pipeline, "b", 30)
    wait_for(lambda: sum(map(len, entries_of(pipeline).values())) >= 130, timeout_seconds=90, what="entries")
    wait_until_all_is_public()
    witness.kill()
    load(pipeline, "c", 30)
    again = WitnessProcess(tmp_path, "--recompute", policy=log, **given)
    pipeline.workers.append(again)
    assert first.terminate(timeout_seconds=20) == 0
    pipeline.start("notary", policy=policy(again.port), **notary)
    wait_for(lambda: sum(map(len, entries_of(pipeline).values())) >= 160, timeout_seconds=90, what="entries")
    wait_until_all_is_public()

    assert "checkpoint refused" not in again.log() + witness.log()
    assert again.terminate() == 0
