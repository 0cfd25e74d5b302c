"""What a lying notary is watched by: Kafka as it is, a store, a verifier that has seen all of it, and the witness.

The chains are made once, by a real processor, sink and verifier; then only the witness runs. Each lie is published in
place of the one before, and must leave the witness where it was.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg

from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import Kind
from sealstream.schemas.policy import Log, Policy
from sealstream.worker.settings import PREFIX
from support.attacks.attack import Report
from support.attacks.witness import ask
from support.forging import abort_events, violations_of, wait_for_verified
from support.malicious.notary import LyingNotary, Truth
from support.processing import expire
from support.rounds import PlainRound, entries_of, last_ends, make_round
from support.stage import Answer, Stage
from support.witnessing import WitnessProcess
from support.workers import wait_for

PARTITIONS: Final = 2
TENANT: Final = "acme"
OTHERS: Final = ("globex", "initech", "umbrella")
ABORTED: Final = 3
CHAINED_SECONDS: Final = 90.0
ASK_SECONDS: Final = 90.0


class NotaryStage:
    """An instance whose notary can be anybody.

    Arguments:
        stage: Its servers and settings, with nothing in them yet.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.pipeline = stage.pipeline
        self.partition = partition_of(TENANT.encode(), PARTITIONS)
        cut = self._chain()
        topic_id = self.pipeline.topic_id(self.pipeline.topics.events)
        assert topic_id is not None
        entries = entries_of(self.pipeline)
        first = make_round(entries, cut, topic_id=topic_id, secret=stage.map_secret)
        self.truth = Truth(entries, topic_id, (first,), stage.map_secret)
        self.notary = LyingNotary(stage.log_key, stage.storage, stage.notary_url, stage.map_secret)
        self.kept = stage.directory / "kept"
        self.kept.write_bytes(self.notary.publish([first], entries))
        self.witness = self.open_witness(stage.directory / "witness")
        assert self.ask([first], 0) == []

    def _chain(self) -> dict[int, int]:
        """Let events be chained, stored and verified, some be lost, and more; return where the first half ends."""
        workers = self.stage.start("processor", "sink", "verifier")
        tenants = (TENANT, *OTHERS[:2])
        for tenant in tenants:
            self.stage.publish(tenant, *(f"a-{n}" for n in range(5)))
        self._wait_for(18)
        abort_events(self.pipeline, ABORTED)
        cut = last_ends(entries_of(self.pipeline))
        wait_for_verified(self.pipeline, TENANT, 5)
        assert workers["processor"].terminate() == 0
        assert workers["verifier"].terminate() == 0
        self._lose(3)
        self.stage.start("processor")
        for tenant in (TENANT, *OTHERS):
            self.stage.publish(tenant, *(f"b-{n}" for n in range(4)))
        self._wait_for(18 + 2 + 16 + 1)
        abort_events(self.pipeline, ABORTED)
        self.stage.publish(TENANT, "last")
        self._wait_for(18 + 2 + 16 + 1 + 1)
        self.stage.start("verifier")  # not before: it would find records gone, and nobody who has declared that
        for tenant, last in ((TENANT, 10), (OTHERS[0], 9), (OTHERS[1], 9), (OTHERS[2], 4)):
            wait_for_verified(self.pipeline, tenant, last)
        wait_for(self._is_stored, timeout_seconds=CHAINED_SECONDS, what="all entries in the store")
        for worker in self.pipeline.workers:
            if worker.process.poll() is None:
                assert worker.terminate() == 0
        return cut

    def _lose(self, count: int) -> None:
        """Let records of the tenant's partition expire before they are chained, and accept that."""
        begin = last_ends(entries_of(self.pipeline))[self.partition]
        self.stage.publish(TENANT, *(f"lost-{n}" for n in range(count)))
        end = begin + ABORTED + 1 + count  # with those of the transaction that was aborted, and its marker
        expire(self.pipeline, self.partition, end)
        place = ("--partition", str(self.partition), "--from", str(begin), "--to", str(end - 1))
        said = ("--by", "ada", "--why", "the disk was full", "--reason", "deleted", "--yes")
        accepted = self.stage.run("gap", "accept", *place, *said)
        assert accepted.exit_code == 0, accepted.errors + accepted.output

    def _wait_for(self, count: int) -> None:
        wait_for(
            lambda: sum(map(len, entries_of(self.pipeline).values())) >= count,
            timeout_seconds=CHAINED_SECONDS,
            what=f"{count} entries",
        )

    def _is_stored(self) -> bool:
        with psycopg.connect(self.pipeline.database_url) as connection:
            row = connection.execute("SELECT count(*) FROM sealstream.entries").fetchone()
        return row is not None and row[0] == sum(map(len, entries_of(self.pipeline).values()))

    def open_witness(self, directory: Path) -> WitnessProcess:
        """Start the verifier's witness; in a directory that has its file already it goes on from there."""
        is_new = not directory.exists()
        directory.mkdir(exist_ok=True)
        given: dict[str, Any] = {
            name.removeprefix(PREFIX).lower(): value for name, value in self.pipeline.environment.items()
        }
        for name in ("policy_file", "witness_key_file", "witness_path", "witness_port", "log_key_file"):
            del given[name]
        policy = Policy((Log(self.stage.log_key.verifier),), (), (), "none")
        options = ("--recompute", "--trust-first-use") if is_new else ("--recompute",)
        given["worker_id"] = directory.name
        opened = WitnessProcess(directory, *options, key=self.stage.witness_key, policy=policy, **given)
        self.pipeline.workers.append(opened)
        return opened

    # -- who looks -----------------------------------------------------------------------------------------------------

    def ask(
        self, rounds: Sequence[PlainRound], old_size: int, *, witness: WitnessProcess | None = None
    ) -> list[Report]:
        """Ask the witness until it is no longer behind, and return what it has reported and recorded."""
        asked = witness or self.witness
        known = {one.id for one in violations_of(self.pipeline)}
        answers: list[list[Report]] = []

        def decided() -> bool:
            answers.append(ask(asked, self.notary.request(rounds, old_size)))
            return [one.type for one in answers[-1]] != ["behind"]

        wait_for(decided, timeout_seconds=ASK_SECONDS, what="a witness that is no longer behind")
        new = [one for one in violations_of(self.pipeline) if one.id not in known]
        recorded = [Report("witness", one.type.value, one.tenant, one.seq) for one in new]
        refused = answers[-1]
        assert bool(recorded) == ([one.type for one in refused] == ["judge"]), (recorded, refused, asked.report())
        return recorded or refused

    def verify(self, *options: str) -> list[Report]:
        """Verify the store against what is published, and return what was found."""
        answer = self.verified(*options)
        shown = answer.json()
        found = [Report("verify", one["type"], one["tenant"], one["seq"]) for one in shown["violations"]]
        assert answer.exit_code == (1 if found else 0 if shown["failure"] is None else 2), answer.output
        return found or ([] if shown["failure"] is None else [Report("verify", shown["failure"]["type"])])

    def verified(self, *options: str) -> Answer:
        """Run `sealstream verify` with the settings of the instance."""
        return self.stage.run("verify", "--workers", "1", *options, "--json")

    def tell(self, lie: PlainRound, *, entries: dict[int, Any] | None = None) -> list[Report]:
        """Publish a lie as the next round, and let all look at it."""
        rounds = [*self.truth.before, lie]
        self.notary.publish(rounds, entries or self.truth.entries)
        return self.ask(rounds, self.truth.number) + self.verify()

    def check_truth(self) -> None:
        """Check that the true round is cosigned, and that the store holds against it, whatever was told before."""
        copy = self.stage.directory / "witness-copy"
        copy.mkdir()
        there, here = self.stage.directory / "witness" / "witness.sqlite", copy / "witness.sqlite"
        with closing(sqlite3.connect(there)) as source, closing(sqlite3.connect(here)) as target:
            source.backup(target)
        rounds = [*self.truth.before, self.truth.round()]
        self.notary.publish(rounds, self.truth.entries)
        with closing(self.open_witness(copy)) as witness:
            request = self.notary.request(rounds, self.truth.number)
            wait_for(lambda: witness.ask(request).status != 503, timeout_seconds=ASK_SECONDS, what="an answer")
            answer = witness.ask(self.notary.request(rounds, len(rounds)))
            assert answer.status == 200, answer
        self.notary.publish(rounds, self.truth.entries, cosignatures=answer.body)
        assert self.verify("--require", "witnessed", "--checkpoint", str(self.kept)) == []
        kinds = Counter(one.parsed.kind for records in self.truth.entries.values() for one in records)
        assert kinds[Kind.GAP] == 1
