"""The notary as production runs it: a process, a real Kafka, two databases, a directory; killed and cut off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from sealstream.schemas.keys import pack_key
from sealstream.sinks.notary.checkpoint_topic import CheckpointTopic
from sealstream.sinks.notary.finishing import POINTS
from support.chained import INSTANCE
from support.notarised import SECRET
from support.notarising import KEY, POLICY, Log, open_log
from support.workers import Pipeline, Worker, wait_for

WAIT_SECONDS: Final = 90.0


class Notaries:
    """Starts notaries of one log."""

    def __init__(self, pipeline: Pipeline, log: Log) -> None:
        self.pipeline = pipeline
        self.log = log
        log.topic = CheckpointTopic(pipeline.connection, topic=pipeline.topics.checkpoints, client_id="test")

    def start(self, **settings: Any) -> Worker:
        """Start one."""
        given: dict[str, Any] = {
            "instance": INSTANCE,
            "database": self.log.reader_url,
            "notary_database": self.log.notary_url,
            "log_storage": self.log.directory,
            "log_key": pack_key(KEY).decode(),
            "map_secret": SECRET.hex(),
            "policy": POLICY,
            "round_seconds": 0.3,
        }
        return self.pipeline.start("notary", **(given | settings))

    def rounds(self) -> int:
        """Return how many rounds are public."""
        rows = self.log.test_store.query(
            "SELECT coalesce(max(round) + 1, 0) FROM sealstream_notary.rounds WHERE published_at IS NOT NULL"
        )
        return int(str(rows[0][0]))

    def wait_until_all_is_public(self, worker: Worker) -> None:
        """Wait until each entry of the store is covered by what is public."""

        def is_public() -> bool:
            assert worker.process.poll() is None, worker.report()
            rows = self.log.test_store.query(
                "SELECT coalesce(sum(size), 0) FROM sealstream_notary.chains WHERE grown_in <="
                " (SELECT max(round) FROM sealstream_notary.rounds WHERE published_at IS NOT NULL)"
            )
            return int(str(rows[0][0])) == len(self.log.entries)

        wait_for(is_public, timeout_seconds=WAIT_SECONDS, what="all entries to be public")


@pytest.fixture
def notaries(make_pipeline: Callable[..., Pipeline], database_url: str, tmp_path: Path) -> Iterator[Notaries]:
    """A store with something in it, topics, and an empty database of the notary's."""
    pipeline = make_pipeline(store=False)
    with open_log(database_url, tmp_path) as log:
        log.feed(log.chains.events(3, 12))
        yield Notaries(pipeline, log)
        pipeline.close()


def test_rounds_come_by_themselves(notaries: Notaries) -> None:
    """What is stored becomes public without anybody's doing, readiness says so, and a stop is obeyed at once."""
    worker = notaries.start()
    notaries.wait_until_all_is_public(worker)
    notaries.log.feed(notaries.log.chains.events(4, 12))
    notaries.wait_until_all_is_public(worker)
    wait_for(lambda: worker.get("/readyz")[0] == 200, timeout_seconds=WAIT_SECONDS, what="readiness")

    assert worker.get("/healthz")[0] == 200
    assert "sealstream_notary_unwitnessed_seconds" in worker.get("/metrics")[1]
    before = notaries.rounds()
    wait_for(lambda: notaries.rounds() > before, timeout_seconds=WAIT_SECONDS, what="an idle round")
    assert worker.terminate() == 0
    notaries.log.check()


@pytest.mark.parametrize("what", ["kafka", "database", "notary_database"])
def test_waits_for_what_is_away(notaries: Notaries, what: str) -> None:
    """With a server away at the start it stays up, is not ready, says which, and still obeys a stop in time."""
    away = "127.0.0.1:1" if what == "kafka" else "postgresql://nobody@127.0.0.1:1/nothing"
    worker = notaries.start(**{what: away, "request_timeout_seconds": 3})
    word = "checkpoints" if what == "kafka" else f"SEALSTREAM_{what.upper()}"
    wait_for(lambda: word in worker.get("/readyz")[1], timeout_seconds=WAIT_SECONDS, what="the reason")

    assert worker.get("/readyz")[0] == 503
    assert worker.get("/healthz")[0] == 200
    assert worker.terminate() == 0
    assert notaries.rounds() == 0


def test_goes_on_when_a_database_is_back(notaries: Notaries) -> None:
    """A database that goes away under a running notary is waited for, and rounds go on without a restart."""
    worker = notaries.start()
    notaries.wait_until_all_is_public(worker)
    for url in (notaries.log.reader_url, notaries.log.notary_url):
        user = sql.Identifier(str(urlsplit(url).username))
        with psycopg.connect(notaries.log.test_store.url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(user))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (urlsplit(url).username,)
            )
            wait_for(lambda: worker.get("/readyz")[0] == 503, timeout_seconds=WAIT_SECONDS, what="the loss to show")
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(user))
        notaries.log.feed(notaries.log.chains.events(4, 6))
        notaries.wait_until_all_is_public(worker)
        wait_for(lambda: worker.get("/readyz")[0] == 200, timeout_seconds=WAIT_SECONDS, what="readiness")

    assert worker.terminate() == 0
    notaries.log.check()


def test_goes_on_when_the_storage_is_back(notaries: Notaries) -> None:
    """A disk that is unmounted under a running notary is waited for, and nothing is written in its place meanwhile."""
    worker = notaries.start()
    notaries.wait_until_all_is_public(worker)
    directory = notaries.log.directory
    away = directory.rename(directory.with_name("away"))
    wait_for(lambda: "the storage" in worker.get("/readyz")[1], timeout_seconds=WAIT_SECONDS, what="the reason")

    assert worker.get("/readyz")[0] == 503
    assert not directory.exists()
    away.rename(directory)
    notaries.log.feed(notaries.log.chains.events(4, 6))
    notaries.wait_until_all_is_public(worker)
    wait_for(lambda: worker.get("/readyz")[0] == 200, timeout_seconds=WAIT_SECONDS, what="readiness")
    assert worker.terminate() == 0
    notaries.log.check()


NOBODY = (
    f"log {KEY.verifier}\nwitness nobody.example/w "  # one that nobody runs
    "w1.example/witness+02869c2c+BO1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfR http://127.0.0.1:1\n"
    "quorum nobody.example/w\n"
)


def test_an_entry_that_waits_too_long_is_an_alarm(notaries: Notaries) -> None:
    """Entries that no witness has seen for too long make the notary not ready, and an error in its log, once."""
    worker = notaries.start(policy=NOBODY, round_age_seconds_max=1)
    wait_for(lambda: "has waited" in worker.get("/readyz")[1], timeout_seconds=WAIT_SECONDS, what="the alarm")
    wait_for(lambda: _rounds_made(notaries) > 3, timeout_seconds=WAIT_SECONDS, what="more rounds")

    alarms = [one for one in worker.events() if "for too long" in str(one.get("event"))]
    assert [one["level"] for one in alarms] == ["error"]
    assert notaries.rounds() == 0
    assert worker.terminate() == 0


def test_a_silence_that_nobody_witnesses_is_an_alarm(
    make_pipeline: Callable[..., Pipeline], database_url: str, tmp_path: Path
) -> None:
    """That nothing happened is witnessed, too: without a quorum an idle notary is not ready either, and says so."""
    pipeline = make_pipeline(store=False)
    with open_log(database_url, tmp_path) as log:
        worker = Notaries(pipeline, log).start(policy=NOBODY, round_age_seconds_max=1)
        wait_for(lambda: "no round has" in worker.get("/readyz")[1], timeout_seconds=WAIT_SECONDS, what="the alarm")

        assert worker.get("/readyz")[0] == 503
        wait_for(lambda: "for too long" in worker.log(), timeout_seconds=WAIT_SECONDS, what="the line in the log")
        assert worker.terminate() == 0
        pipeline.close()


def _rounds_made(notaries: Notaries) -> int:
    return int(str(notaries.log.test_store.query("SELECT count(*) FROM sealstream_notary.rounds")[0][0]))


def test_a_published_log_without_its_database_is_not_begun_anew(notaries: Notaries) -> None:
    """A notary whose database was lost while Kafka knows its log ends with an error that says what to do."""
    worker = notaries.start()
    notaries.wait_until_all_is_public(worker)
    assert worker.terminate() == 0
    notaries.log.test_store.query(
        "WITH a AS (DELETE FROM sealstream_notary.log), b AS (DELETE FROM sealstream_notary.root_log),"
        " c AS (DELETE FROM sealstream_notary.chains), d AS (DELETE FROM sealstream_notary.positions),"
        " e AS (DELETE FROM sealstream_notary.rounds) SELECT 1"
    )
    empty = notaries.log.directory.parent / "empty"
    empty.mkdir()

    worker = notaries.start(log_storage=empty)
    assert worker.wait(timeout_seconds=WAIT_SECONDS) == 1
    assert ("RolledBack", "!root", 0) in [
        (one.get("error"), one.get("tenant"), one.get("seq")) for one in worker.events()
    ]


def test_settings_at_fault_end_it(notaries: Notaries) -> None:
    """Without a policy it does not start: whom readers are to believe is never a default."""
    worker = notaries.start(policy="")
    assert worker.wait(timeout_seconds=WAIT_SECONDS) == 2
    errors = [one for one in worker.events() if one.get("level") == "error"]
    assert "SEALSTREAM_POLICY" in json.dumps(errors)


@pytest.mark.slow
def test_killed_at_every_step(notaries: Notaries) -> None:
    """Killed behind each step of a round, whoever starts next makes the same round public and goes on."""
    for point in POINTS:
        notaries.log.feed(notaries.log.chains.events(4, 5))
        worker = notaries.start(failpoints=f"{point}=kill")
        assert worker.wait(timeout_seconds=WAIT_SECONDS) < 0, point
    worker = notaries.start()
    notaries.wait_until_all_is_public(worker)
    assert worker.terminate() == 0
    notaries.log.check()
