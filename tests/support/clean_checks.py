"""What must hold behind a clean run: nothing is lost, everything is proven, and nobody has raised an alarm."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.entry import CARRIED_KINDS, Kind, parse
from sealstream.schemas.evidence import ProofLevel, verify_proof
from sealstream.schemas.log_layout import ROOT_CHECKPOINT, ROOT_PREFIX, chain_prefix, coverage_path
from sealstream.schemas.note import verify_note
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import ProofFile
from sealstream.schemas.tile_tree import verify_tiles
from sealstream.schemas.tiles import Bundle, Tile
from sealstream.schemas.trust import Reader, verify_checkpoint
from sealstream.sinks.proofs.opening import open_prover
from sealstream.worker.objects import Objects, open_objects
from sealstream.worker.settings import load_settings
from support.clean_load import TENANTS
from support.clean_runs import WAIT_SECONDS, CleanRun
from support.harness import CheckResult, read_log
from support.notarised import PlainRounds, check_rounds
from support.stage import ROLES, Stage
from support.workers import Worker, wait_for

LINES_MAX: Final = 2000
"""Of one worker's log: it says something of each round, and once of what it waits for."""
BUNDLE_ENTRIES: Final = 256
_ALARMS: Final = frozenset({"error", "critical"})
_CLIENTS_WORDS: Final = re.compile(r"[A-Z]+ \[.*#(consumer|producer)-[0-9]+\] ")
"""What librdkafka says of a broker that it does not reach, or that answers a stopped process too late: no alarm."""


def check_clean(run: CleanRun) -> None:
    """Check all of it, and end the workers.

    Raises:
        AssertionError: Something does not hold; says what.
    """
    stage, crew = run.stage, run.crew
    result = stage.pipeline.harness().check("stored", "verified", timeout_seconds=WAIT_SECONDS)
    assert set(Kind) - {Kind.GAP, Kind.EPOCH} <= result.kinds.keys(), "the load had not every kind"
    sizes = chain_sizes(result)
    wait_covered(stage, sizes)
    verified = stage.run("verify", "--require", "witnessed", "--json")
    assert verified.exit_code == 0, verified.errors + verified.output
    assert verified.json()["level"] == "witnessed"
    check_proofs(stage, result, run.random)
    crew.check()
    crew.terminate(*ROLES)
    check_published(stage, result)
    assert read_log(stage.pipeline.connection, stage.pipeline.topics.violations, 1) == [[]]
    for worker in stage.pipeline.workers:
        check_log(stage, worker)


def chain_sizes(result: CheckResult) -> dict[str, int]:
    """Return how many entries each chain must have."""
    sizes: dict[str, int] = {}
    for entry in (parse(record.entry) for records in result.expected for record in records):
        sizes[entry.tenant] = max(sizes.get(entry.tenant, 0), entry.seq + 1)
    return sizes


def wait_covered(stage: Stage, sizes: dict[str, int]) -> None:
    """Wait until a witnessed round covers so many entries of each chain, and no more."""
    for chain, size in sizes.items():
        what = f"a witnessed round with {size} entries of {chain}"
        wait_for(_reaches(stage, chain, size), timeout_seconds=WAIT_SECONDS, what=what)
        assert stage.chain_size(chain) == size


def _reaches(stage: Stage, chain: str, size: int) -> Callable[[], bool]:
    return lambda: stage.chain_size(chain) >= size


def check_proofs(stage: Stage, result: CheckResult, random: Random) -> None:
    """Check that the proof of an event of each tenant holds for somebody who has the policy and nothing else."""
    reader = _reader(stage)
    entries = [parse(record.entry) for records in result.expected for record in records]
    with open_prover(load_settings(stage.pipeline.environment)) as provers:
        for tenant in TENANTS:
            one = random.choice([entry for entry in entries if entry.tenant == tenant and entry.kind in CARRIED_KINDS])
            data = provers.prover.get_record_proof(tenant, one.seq).proof.pack()
            evidence = verify_proof(ProofFile.parse(data), reader, tenant=tenant)
            assert (evidence.level, evidence.entry) == (ProofLevel.WITNESSED, one)


def check_published(stage: Stage, result: CheckResult) -> PlainRounds:
    """Check all that is published: each round, each tile of the root log and of each chain, and their roots."""
    objects, instance = open_objects(str(stage.storage)), stage.pipeline.genesis.instance
    root = verify_checkpoint(objects.get(ROOT_CHECKPOINT), _reader(stage), origin=instance).checkpoint
    _check_tiles(objects, ROOT_PREFIX, root)
    rounds = [(leaf, objects.get(coverage_path(n))) for n, leaf in enumerate(_leaves(objects, root.size))]
    entries = [record.entry for records in result.expected for record in records]
    plain = check_rounds(rounds, entries, secret=stage.map_secret)
    assert plain.roots[-1] == root.root
    assert plain.sizes == chain_sizes(result)
    for chain, size in plain.sizes.items():
        origin = chain_origin(instance, chain)
        key = replace(stage.log_key.verifier, name=origin)
        note = verify_note(objects.get(f"{chain_prefix(chain)}checkpoint"), [key])
        found = Checkpoint.parse(note.text)
        assert (found.origin, found.size) == (origin, size)
        _check_tiles(objects, chain_prefix(chain), found)
    return plain


def check_log(stage: Stage, worker: Worker) -> None:
    """Check that a worker's log has no alarm, no traceback, no secret, and no flood."""
    text = worker.log()
    assert "Traceback" not in text, worker.report()
    errors = [event for event in worker.events() if event.get("level") in _ALARMS]
    alarms = [event for event in errors if not _CLIENTS_WORDS.match(str(event.get("event")))]
    assert not alarms, f"{worker.log_path.name}: {json.dumps(alarms[:5], indent=1)}"
    secrets = [stage.map_secret.hex(), *_key_texts(stage)]
    assert not [one for one in secrets if one in text], f"{worker.log_path.name} has a secret"
    assert text.count("\n") <= LINES_MAX, f"{worker.log_path.name} has {text.count(chr(10))} lines"


def _key_texts(stage: Stage) -> Sequence[str]:
    files = (stage.directory / "log.key", stage.directory / "witness.key")
    return [file.read_text().strip().rpartition("+")[2] for file in files]


def _reader(stage: Stage) -> Reader:
    return Reader(Policy.parse(stage.policy().encode()), int(time.time()))


def _check_tiles(objects: Objects, prefix: str, checkpoint: Checkpoint) -> None:
    def read(file: Tile | Bundle) -> bytes:
        return objects.get(f"{prefix}{file.path()}")

    verify_tiles(checkpoint.size, checkpoint.root, read, read)


def _leaves(objects: Objects, size: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < size:
        bundle = Bundle(len(found) // BUNDLE_ENTRIES, min(BUNDLE_ENTRIES, size - len(found)))
        found += bundle.entries(objects.get(f"{ROOT_PREFIX}{bundle.path()}"))
    return found
