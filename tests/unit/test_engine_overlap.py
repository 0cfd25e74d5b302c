"""What the processor does while a transaction ends beside it: chain what follows, and never more than that."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from sealstream.kafka.patience import call_beside
from sealstream.processors.engine import Engine
from sealstream.processors.status import Status
from sealstream.worker.failpoints import FailpointReached
from sealstream.worker.settings import load_settings
from support.batches import RECORDS, RULES, TENANT, make_batch
from support.memory_log import TOPICS, MemoryLog
from support.workers import wait_for

FIRST, SECOND = RECORDS[:3], RECORDS[3:]
SECONDS = 10.0
PARTITION = 0


class HeldLog(MemoryLog):
    """A log on which no commit comes to its end before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def commit_transaction(self, seconds: float) -> None:
        """As confluent-kafka's producer."""
        assert self.let_go.wait(SECONDS), "nobody let the commit go"
        super().commit_transaction(seconds)

    @property
    def begun(self) -> int:
        """How many transactions were begun."""
        return self.calls.count("begin")


@pytest.fixture
def log() -> Generator[HeldLog]:
    """An empty log."""
    made = HeldLog()
    yield made
    made.let_go.set()


@pytest.fixture
def engine(log: HeldLog) -> Engine:
    """An engine that owns a partition of the log and has put a first batch into a transaction, which is held."""
    made = Engine(load_settings({"SEALSTREAM_KAFKA": "127.0.0.1:1", "SEALSTREAM_WORKER_ID": "one"}), Status("t"))
    made._producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    made._cycle = log.cycle(RULES)
    made._states = {PARTITION: log.restore(PARTITION, RULES)}
    made._status.on_owned([PARTITION])
    made._status.on_states(made._states)
    first = make_batch(made._states, FIRST)
    first.generation = made._source.generation
    made.process(first)
    return made


def _process_second(engine: Engine) -> Future[None]:
    """Let the engine process the second batch, in a thread of its own, as the log's thread does."""
    second = make_batch(engine._states, SECOND)
    second.generation = engine._source.generation
    return call_beside(lambda: engine.process(second), name="process")


def _refused() -> BaseException:
    return KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "provoked", False, False, True))


def test_the_next_batch_is_chained_while_a_transaction_ends_and_produced_after_it(engine: Engine, log: HeldLog) -> None:
    """The brokers' time is used to chain; but one producer has one transaction, and one begins where one ended."""
    state = engine._states[PARTITION]
    processed = _process_second(engine)
    wait_for(lambda: state.position == len(RECORDS), timeout_seconds=SECONDS, what="the second batch to be chained")

    assert (log.begun, log.offsets, processed.done()) == (1, {}, False)
    log.let_go.set()
    processed.result(SECONDS)
    assert engine.settle()
    assert [call for call in log.calls if call not in ("produce", "heads")] == ["begin", "send_offsets", "commit"] * 2
    assert log.offsets[PARTITION][0] == len(RECORDS)
    assert len(log.records(TOPICS.chained, PARTITION)) == 1 + len(RECORDS)
    assert log.restore(PARTITION, RULES).heads.get(TENANT.encode()) == state.heads.get(TENANT.encode())


def test_what_follows_an_aborted_transaction_is_thrown_away(engine: Engine, log: HeldLog) -> None:
    """A batch that was chained onto one that was not committed never leaves the process; both are read again."""
    log.fail_at, log.failure = "commit", _refused
    log.let_go.set()
    _process_second(engine).result(SECONDS)

    assert (log.begun, log.calls[-1]) == (1, "abort")
    assert (engine._states, log.offsets, log.records(TOPICS.chained, PARTITION)) == ({}, {}, [])
    assert not engine._status.ready()[0]


@pytest.mark.parametrize("lost", [False, True])
def test_the_group_waits_for_the_transaction(engine: Engine, log: HeldLog, lost: bool) -> None:
    """Partitions are given back when what was produced for them is committed or not: nobody finds it half done."""
    revoked = call_beside(lambda: engine._on_revoked(lost=lost), name="revoke")
    with pytest.raises(TimeoutError):
        revoked.result(0.2)
    log.let_go.set()
    revoked.result(SECONDS)

    assert log.offsets[PARTITION][0] == len(FIRST)
    assert engine._kept[PARTITION].position == len(FIRST)
    assert engine.settle()


def test_an_unexpected_error_beside_ends_the_worker(engine: Engine, log: HeldLog) -> None:
    """What nobody foresaw is not lost in another thread: the next step raises it."""
    log.fail_at, log.failure = "commit", lambda: FailpointReached("unforeseen")
    log.let_go.set()
    _wait_until(lambda: not engine._busy())
    with pytest.raises(FailpointReached):
        engine.step()


def test_a_stop_waits_for_the_transaction(engine: Engine, log: HeldLog) -> None:
    """The last batch is committed before the worker leaves, if the brokers let it."""
    engine.stop()
    settled = call_beside(engine.settle, name="stop")
    log.let_go.set()

    assert settled.result(SECONDS)
    assert log.offsets[PARTITION][0] == len(FIRST)


def test_a_transaction_in_a_hurry_for_nothing_waits_for_the_markers(engine: Engine, log: HeldLog) -> None:
    """A batch that is not full gathers until a transaction could begin at once: first the commit, then a pause."""
    assert engine._busy()
    log.let_go.set()
    assert engine.settle()
    assert engine._begin_at > 0
    _wait_until(lambda: not engine._busy())
    assert engine._status.transaction_since is None


def _wait_until(condition: Callable[[], bool]) -> None:
    wait_for(condition, timeout_seconds=SECONDS, what="the transaction's end")
