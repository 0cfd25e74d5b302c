"""The attack table: what everybody can do who is not trusted with everything, and who must say so.

Each row is performed on the real stack. Everybody who could notice looks, and what they report must be exactly what the
row says: the type, the chain, the place in it, and nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from support.attacks import database, kafka, keys, notary, processor, servers, storage
from support.attacks.attack import Attack, StageT
from support.attacks.audited_log import PARTITIONS, AuditedLog
from support.attacks.notary_stage import NotaryStage
from support.attacks.recorded import Copies
from support.providers import fresh_database
from support.stage import Stage
from support.workers import Pipeline

pytestmark = pytest.mark.fault


def _rows(rows: tuple[Attack[StageT], ...], *telling: str) -> list[ParameterSet]:
    """Return rows as parameters; those named are the telling ones."""
    assert {row.name for row in rows} >= set(telling)
    marks = dict.fromkeys(telling, (pytest.mark.telling,))
    return [pytest.param(row, id=row.name, marks=marks.get(row.name, ())) for row in rows]


def _check(attack: Attack[StageT], stage: StageT) -> None:
    """Perform an attack, and compare all that was reported with what must be."""
    assert sorted(attack.perform(stage), key=repr) == sorted(attack.reports, key=repr)


@pytest.fixture(scope="module")
def thief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[keys.ThiefStage]:
    """An auditor and a witness, whom a thief of one key tries to convince."""
    stage = keys.ThiefStage(tmp_path_factory.mktemp("thief"))
    yield stage
    stage.close()


@pytest.mark.parametrize(
    "attack",
    _rows(
        keys.ROWS,
        "log key signs a fork",
        "log key and one witness key, rotated to count twice",
        "old log key names a follower of its own",
        "log key and old witness keys, backdated",
    ),
)
def test_thief_of_a_key(attack: Attack[keys.ThiefStage], thief: keys.ThiefStage) -> None:
    """What a stolen key signs is believed by nobody who has a quorum, and refused by who has seen the true log."""
    _check(attack, thief)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "attack",
    _rows(
        database.ROWS,
        "nothing",
        "edits and chains anew",
        "restores an older store",
        "edits before a round covers it, and chains anew",
    ),
)
def test_owner_of_a_database(attack: Attack[Copies], copies: Copies) -> None:
    """What somebody changes in the databases, whose every row he can write, is named with its type, chain and place."""
    _check(attack, copies)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.DeskStage]:
    """An auditor, and servers that give him what they like."""
    stage = servers.DeskStage(tmp_path_factory.mktemp("desk"))
    yield stage
    stage.close()


@pytest.mark.parametrize(
    "attack",
    _rows(
        servers.ROWS,
        "proof of another tenant",
        "timestamp of another checkpoint",
        "store hides one of two records of an id",
        "two histories race at a witness",
    ),
)
def test_lying_server(attack: Attack[servers.DeskStage], desk: servers.DeskStage) -> None:
    """What a server gives out is judged by what it proves, and by nothing that the server says."""
    _check(attack, desk)


@pytest.fixture(scope="module")
def notary_stage(
    kafka_bootstrap: str, database_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotaryStage]:
    """An instance with everything in it but a notary."""
    directory = tmp_path_factory.mktemp("notary")
    with fresh_database(database_server) as store_url, fresh_database(database_server) as notary_url:
        name = f"a-{uuid.uuid4().hex[:8]}"
        pipeline = Pipeline(kafka_bootstrap, name, directory, database_url=store_url, partitions=2)
        pipeline.create_topics()
        try:
            yield NotaryStage(Stage(pipeline, notary_url, directory))
        finally:
            pipeline.close()


@pytest.fixture(scope="module")
def storage_stage(database_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[storage.StorageStage]:
    """A store that is verified, and one of which proofs are made, with a storage each."""
    with storage.storage_stage(database_server, tmp_path_factory.mktemp("storage")) as stage:
        yield stage


@pytest.mark.parametrize("attack", _rows(storage.ROWS))
def test_lying_storage(attack: Attack[storage.StorageStage], storage_stage: storage.StorageStage) -> None:
    """What a storage shows counts only where it leads to what was signed, and accuses nobody else."""
    _check(attack, storage_stage)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("attack", _rows(notary.ROWS))
def test_lying_notary(attack: Attack[NotaryStage], notary_stage: NotaryStage) -> None:
    """No round that says otherwise than Kafka becomes evidence, and both who look name what it lies about."""
    _check(attack, notary_stage)


@pytest.mark.timeout(400)
def test_the_truth_is_witnessed_after_all_lies(notary_stage: NotaryStage) -> None:
    """Whatever the witness has refused, it is not stuck: the true round is cosigned, and the store holds against it."""
    notary_stage.check_truth()


@pytest.fixture
def audited(kafka_bootstrap: str, tmp_path: Path) -> Iterator[AuditedLog]:
    """An instance whose log is watched by the verifier and by its witness."""
    pipeline = Pipeline(kafka_bootstrap, f"a-{uuid.uuid4().hex[:8]}", tmp_path, partitions=PARTITIONS)
    pipeline.create_topics()
    log = AuditedLog(pipeline, tmp_path)
    yield log
    log.close()
    pipeline.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "attack",
    _rows(kafka.ROWS, "appends a second entry for a seq", "makes audit.chained anew"),
)
def test_administrator_of_kafka(attack: Attack[AuditedLog], audited: AuditedLog) -> None:
    """What is done to the topics stops the feed of whom it is about, and of nobody else, and is cosigned by nobody."""
    _check(attack, audited)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "attack",
    _rows(processor.ROWS, "alters a payload before it is hashed", "chains an event for a neighbour"),
)
def test_broken_processor(attack: Attack[AuditedLog], audited: AuditedLog) -> None:
    """What a processor makes of an event that the rules do not is named by the verifier, and cosigned by nobody."""
    _check(attack, audited)
