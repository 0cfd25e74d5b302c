"""An instance whose log is watched: the real verifier, and the judge of its witness, on real Kafka.

A chainer of the tests' own stands where the processor stands, so that a row can have it lie. Of each partition a tenant
is left alone: once its verified feed has come to what was published last, everything before it was checked, so all
violations are there.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from sealstream.schemas.checkpoint import Checkpoint
from sealstream.schemas.entry import Kind, entry_hash, parse
from sealstream.schemas.errors import LeafInvalid, SealstreamError
from sealstream.sinks.verifier.service import Verifier
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.recomputing.judge import RecomputingJudge, open_judge
from sealstream.worker.objects import open_objects
from sealstream.worker.settings import PREFIX, load_settings
from sealstream.worker.stop import StopSignal
from support.attacks.attack import Report
from support.forging import Chainer, Log, verified_seqs, violations_of, with_entry
from support.rounds import (
    SECRET,
    PlainRound,
    Sealed,
    entries_of,
    last_ends,
    make_round,
    publish_rounds,
    root_checkpoint,
)
from support.workers import Pipeline, wait_for

PARTITIONS: Final = 2
ACME: Final = "acme"
"""The tenant that is attacked, in partition 0."""
NEIGHBOUR: Final = "initech"
"""Another tenant of partition 0, who may be drawn in."""
STRANGER: Final = "globex"
"""A tenant of partition 1, who may be drawn in."""
OTHERS: Final = {0: "umbrella", 1: "hooli"}
"""A tenant of each partition whom nobody attacks."""
TENANTS: Final = (ACME, NEIGHBOUR, STRANGER, *OTHERS.values())
BEFORE: Final = 6
"""How many events each tenant has before an attack: seq 1 to 6."""
ATTACKED: Final = 6
"""How many events each tenant has in the transaction that is attacked: seq 7 to 12."""
SEQ: Final = 9
"""Where a row attacks."""
WAIT_SECONDS: Final = 90.0
REFUSED: Final = "CheckpointRefused"
"""How the witness refuses a round that covers what an open violation names."""
UNSOUND: Final = "SealInvalid"
"""How it refuses what cannot be accounted for at all: two entries for one source record, or entries out of order."""

Forge = Callable[[Log, int], Log]
"""Alters a partition's log where the attacked entry stands in it."""


class VerifierThread:
    """The verifier worker without a process of its own.

    Arguments:
        pipeline: The instance.
        settings: More settings, by their names in lower case.
    """

    def __init__(self, pipeline: Pipeline, **settings: object) -> None:
        more = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
        environment = pipeline.environment | {f"{PREFIX}WORKER_ID": "v"} | more
        self.failure: Exception | None = None
        self._stop = StopSignal()
        self._verifier = Verifier(load_settings(environment), self._stop)
        self._thread = threading.Thread(target=self._run, name="verifier", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._verifier.run()
        except Exception as error:  # noqa: BLE001  # whoever waits for it raises it, or says that it refuses
            self.failure = error

    def wait_refused(self) -> Report:
        """Wait until it refuses to go on, and return what it says."""
        self._thread.join(WAIT_SECONDS)
        assert self.failure is not None, f"the verifier goes on: {self._verifier.ready()}"
        assert isinstance(self.failure, SealstreamError), self.failure
        return Report("verifier", type(self.failure).__name__)

    def close(self) -> None:
        """Stop it as SIGTERM does."""
        self._stop.set()
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()


class AuditedLog:
    """An instance, what chains it, and who watches that.

    Arguments:
        pipeline: Its topics, in two partitions.
        directory: Where the witness's files go.
    """

    def __init__(self, pipeline: Pipeline, directory: Path) -> None:
        self.pipeline = pipeline
        events = pipeline.topics.events
        wait_for(lambda: pipeline.topic_id(events) is not None, timeout_seconds=WAIT_SECONDS, what=events)
        self.chainer = Chainer(pipeline)
        self.rounds: list[PlainRound] = []
        self._published: Counter[str] = Counter()
        self._open = contextlib.ExitStack()
        self._verifier: VerifierThread | None = None
        self._judge: RecomputingJudge | None = None
        self._path = directory / f"{pipeline.topics.prefix}witness.sqlite"
        storage = directory / f"{pipeline.topics.prefix}published"
        storage.mkdir()
        self._objects = open_objects(str(storage))
        self._storage = storage

    def close(self) -> None:
        """Stop who watches."""
        self._open.close()

    # -- what happens --------------------------------------------------------------------------------------------------

    def publish(self, *tenants: str, count: int = 1) -> None:
        """Publish new events of tenants, of all if none is named."""
        events: list[tuple[str, str]] = []
        for _ in range(count):
            events += [(tenant, f"e-{self._published[tenant]}") for tenant in tenants or TENANTS]
            self._published.update(tenants or TENANTS)
        self.chainer.publish(*events)

    def begin(self) -> None:
        """Chain the first events as it should be done, and have them verified and cosigned."""
        self.publish(count=BEFORE)
        self.chainer.chain()
        self.watch()
        self.wait_checked(ACME)
        assert self.witness() == [], "the witness refuses what is right"

    def chain_forged(
        self,
        forge: Forge,
        at: int = SEQ,
        *,
        tenant: str = ACME,
        relinked: bool = True,
        followed: bool = True,
        of: tuple[str, ...] = TENANTS,
    ) -> None:
        """Publish more events, and chain them with a lie in it.

        Arguments:
            forge: What becomes of the partition's records.
            at: The attacked entry's place in its chain.
            tenant: The chain that is attacked.
            relinked: Whether the records behind the lie follow it, so that every chain holds by itself. Otherwise each
                other record is what it should be, or what the lie made of it.
            followed: Whether later records follow it as well.
            of: Whose events are published.
        """
        self.publish(*of, count=ATTACKED)
        logs = self.chainer.expected()
        forged = [_forged(log, forge, tenant, at, relinked=relinked) for log in logs]
        if followed:
            self.chainer.follow(forged)
        self.chainer.write(forged)

    # -- who watches ---------------------------------------------------------------------------------------------------

    def watch(self, **settings: object) -> VerifierThread:
        """Start the verifier."""
        self._verifier = VerifierThread(self.pipeline, **settings)
        self._open.callback(self._verifier.close)
        return self._verifier

    def rest(self) -> None:
        """Stop the verifier, as for an upgrade."""
        assert self._verifier is not None
        self._verifier.close()

    def wait_checked(self, *more: str, partitions: Iterable[int] = OTHERS) -> None:
        """Wait until all that is chained is verified in partitions, by the feeds of tenants that nobody attacks."""
        wanted = [*more, *(OTHERS[number] for number in partitions)]

        def all_there() -> bool:
            if self._verifier is not None and self._verifier.failure is not None:
                raise self._verifier.failure
            feeds = verified_seqs(self.pipeline)
            return all(len(feeds.get(tenant, ())) == self._published[tenant] for tenant in wanted)

        wait_for(all_there, timeout_seconds=WAIT_SECONDS, what=f"all events of {wanted} on audit.verified")

    def look(
        self, *, partitions: Iterable[int] = OTHERS, attacked: Iterable[str] = (ACME,), witnessed: bool = True
    ) -> list[Report]:
        """Let everybody look, and return what they report.

        Arguments:
            partitions: Those that go on.
            attacked: The tenants whose feed must have stopped; what is published of them now must not be verified.
            witnessed: Whether a round can be made of what is chained.
        """
        if partitions:
            self.publish()
            self.chainer.chain()
            self.wait_checked(partitions=partitions)
        feeds, ends = verified_seqs(self.pipeline), self.chainer.ends()
        for tenant, seqs in feeds.items():
            assert seqs == sorted(set(seqs)), (tenant, seqs)
        for tenant in attacked:
            assert ends[tenant] not in feeds.get(tenant, ()), f"the feed of {tenant} goes on"
        return self.verdicts() if witnessed else self.findings()

    def findings(self) -> list[Report]:
        """Return what the verifier has reported."""
        found = violations_of(self.pipeline)
        return [Report("verifier", one.type.value, one.tenant, one.seq) for one in found]

    def verdicts(self) -> list[Report]:
        """Return what the verifier has reported, and what the witness says to a round that covers all of it."""
        return [*self.findings(), *self.witness()]

    def witness(self) -> list[Report]:
        """Ask the witness for a cosignature on a round that says what audit.chained says, and return why it refuses.

        What it records itself is its report; where it names violations that stand already, these are.
        """
        entries, known = entries_of(self.pipeline), {one.id for one in violations_of(self.pipeline)}
        topic_id = self.pipeline.topic_id(self.pipeline.topics.events)
        assert topic_id is not None
        rounds = [*self.rounds, self._round(entries, topic_id)]
        publish_rounds(self._objects, rounds)
        refused = self._ask(root_checkpoint(self.pipeline.genesis.instance, rounds))
        if refused is None:
            self.rounds = rounds
            return []
        words = f"{refused.message} {refused.hint}"
        violations = violations_of(self.pipeline)
        of_its_own = [one for one in violations if one.id not in known]
        named = of_its_own or [one for one in violations if one.id in words]
        reason = type(refused).__name__
        if not named:
            return [Report("witness", reason)]
        return [Report("witness", one.type.value if of_its_own else reason, one.tenant, one.seq) for one in named]

    def _round(self, entries: dict[int, list[Sealed]], topic_id: bytes) -> PlainRound:
        """Return the next round; where two entries claim one offset, nothing accounts for the second."""
        ends = last_ends(entries)
        try:
            return make_round(entries, ends, topic_id=topic_id, before=self.rounds)
        except LeafInvalid:
            fewer = {number: _first_of_each_offset(records) for number, records in entries.items()}
            return make_round(fewer, ends, topic_id=topic_id, before=self.rounds)

    def _ask(self, checkpoint: Checkpoint) -> SealstreamError | None:
        judge = self._judge
        if judge is None:
            environment = self.pipeline.environment | {
                f"{PREFIX}LOG_STORAGE": str(self._storage),
                f"{PREFIX}MAP_SECRET": SECRET.hex(),
                f"{PREFIX}WORKER_ID": "w",
            }
            judge = self._judge = open_judge(load_settings(environment), self._path)
            self._open.callback(judge.close)
        answer: list[SealstreamError | None] = []

        def decided() -> bool:
            try:
                judge.judge(checkpoint)
            except Behind:
                return False
            except SealstreamError as error:
                answer.append(error)
            else:
                answer.append(None)
            return True

        wait_for(decided, timeout_seconds=WAIT_SECONDS, what="a witness that is no longer behind")
        if answer[0] is None:
            with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                judge.witnessed(checkpoint, connection)
                connection.execute("COMMIT")
        return answer[0]


def _first_of_each_offset(records: list[Sealed]) -> list[Sealed]:
    found: dict[tuple[int, bool], Sealed] = {}
    for one in records:
        found.setdefault((one.parsed.offset, one.parsed.kind is Kind.GENESIS), one)
    return list(found.values())


def _forged(log: Log, forge: Forge, tenant: str, at: int, *, relinked: bool) -> Log:
    """Return a partition's log with a lie in it, if it has the place."""
    for index, record in enumerate(log):
        entry = parse(record.entry)
        if (entry.tenant, entry.seq) == (tenant, at):
            return relink(forge(log, index), heads_before(log)) if relinked else forge(log, index)
    return log


def heads_before(log: Log) -> dict[str, tuple[int, bytes]]:
    """Return seq and prev of each chain's first entry in a log."""
    heads: dict[str, tuple[int, bytes]] = {}
    for record in log:
        entry = parse(record.entry)
        heads.setdefault(entry.tenant, (entry.seq, entry.prev))
    return heads


def relink(log: Log, heads: Mapping[str, tuple[int, bytes]]) -> Log:
    """Return a log whose entries follow each other in their chains, whatever they say."""
    heads = dict(heads)
    linked: Log = []
    for record in log:
        entry = parse(record.entry)
        seq, prev = heads.get(entry.tenant, (entry.seq, entry.prev))
        one = with_entry(record, seq=seq, prev=prev)
        heads[entry.tenant] = (seq + 1, entry_hash(one.entry))
        linked.append(one)
    return linked
