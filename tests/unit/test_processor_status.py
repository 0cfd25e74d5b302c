"""What a processor's pages say: which partition is where, which one is stuck, and what the worker waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sealstream.processors.chaining import Link, PartitionState, Rules
from sealstream.processors.cycle import Outcome
from sealstream.processors.heads import PackedHeads, PartitionHead
from sealstream.processors.status import SLOW_SECONDS, STUCK_SECONDS, THREAD_SECONDS, PartitionStatus, Status
from sealstream.schemas.entry import Genesis, Kind
from sealstream.worker import metrics

RULES = Rules(Genesis("test.example/status", 4), bytes(16))
UP = json.dumps({"brokers": {"one": {"state": "DOWN"}, "two": {"state": "UP"}}})


class Clock:
    """The monotonic clock of the status, which only the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only the test moves."""
    made = Clock()
    monkeypatch.setattr("sealstream.processors.status._now", made)
    return made


def state_of(partition: int, position: int, chains: int = 2) -> PartitionState:
    """Return the state of a partition."""
    heads = PackedHeads()
    for number in range(chains):
        heads.put(Link(b"tenant-%d" % number, 1))
    return PartitionState(partition, heads, RULES.window(), position)


def committed(partition: int, position: int, chains: int = 2) -> Outcome:
    """Return what a transaction was that brought a partition to a position."""
    head = PartitionHead.of(state_of(partition, position, chains), RULES)
    return Outcome([0] * len(Kind), 0, 0.0, 0, {partition: head})


@pytest.fixture
def status(clock: Clock) -> Status:
    """A worker that chains partitions 0 and 1 from offset 10 on, of which no end is known yet."""
    del clock
    made = Status("audit.events")
    made.step()
    made.on_statistics(UP)
    made.on_owned([0, 1])
    made.on_states({0: state_of(0, 10), 1: state_of(1, 10)})
    made.waiting = ""
    return made


def tell(status: Status, clock: Clock, seconds: float, **ends: int) -> None:
    """Let time pass, in which the log's thread steps and each end is told every two seconds."""
    for _ in range(int(seconds / 2)):
        clock.now += 2
        status.step()
        for name, end in ends.items():
            status.partitions[int(name[1:])].on_end(end)


def test_a_worker_is_ready_while_it_is_up_to_date(status: Status, clock: Clock) -> None:
    """With nothing to chain, a worker is ready for ever, and names its partitions."""
    tell(status, clock, 600, p0=10, p1=10)

    assert status.ready() == (True, "chaining partitions [0, 1]")


def test_a_stuck_partition_turns_readiness_red_within_half_a_minute(status: Status, clock: Clock) -> None:
    """A partition that is behind, and of which nothing is committed, is named with its lag, while others go on."""
    tell(status, clock, 4, p0=10, p1=10)
    since = clock.now
    while status.ready()[0]:
        tell(status, clock, 2, p0=10, p1=25)
        assert clock.now - since <= 30

    words = status.ready()[1]
    assert "partition 1: its records: 15 offsets behind" in words
    assert "partition 0" not in words
    assert status.describe()["partitions"]["1"]["state"] == "stuck"
    assert status.describe()["partitions"]["0"]["state"] == "chaining"


def test_a_long_backlog_is_not_stuck(status: Status, clock: Clock) -> None:
    """However far behind, a partition whose position moves is no reason for alarm; it stops, it is."""
    for position in range(11, 60):
        tell(status, clock, 4, p0=10, p1=1_000_000)
        status.on_commit(committed(1, position))
        assert status.ready()[0]
    tell(status, clock, STUCK_SECONDS + 4, p0=10, p1=1_000_000)

    assert not status.ready()[0]


def test_a_commit_of_a_partition_that_was_taken_back_meanwhile_shows_nothing(status: Status) -> None:
    """A transaction may end while its partitions go to others, or come back: they are shown as they are restored."""
    status.on_owned([0])
    status.on_commit(committed(0, 11))
    status.on_commit(committed(1, 11))

    partitions = status.describe()["partitions"]
    assert (list(partitions), partitions["0"]["state"], partitions["0"]["position"]) == (["0"], "restoring", None)


def test_a_commit_of_others_does_not_hide_a_stuck_partition(status: Status, clock: Clock) -> None:
    """What counts is the partition's own position."""
    for position in range(11, 30):
        tell(status, clock, 2, p0=10_000, p1=11)
        status.on_commit(committed(0, position))

    assert "partition 1" in status.ready()[1]
    assert "partition 0" not in status.ready()[1]


def test_a_leader_that_is_silent_is_noticed(status: Status, clock: Clock) -> None:
    """Where nobody can say whether there is something to chain, the worker is not ready, and says so."""
    tell(status, clock, 4, p0=10, p1=10)
    tell(status, clock, STUCK_SECONDS + 4, p0=10)

    ready, words = status.ready()
    assert not ready
    assert "partition 1: its leader" in words


def test_partitions_that_were_just_restored_are_given_their_time(status: Status, clock: Clock) -> None:
    """A rebalance begins every count anew: old lag is not held against a new owner."""
    tell(status, clock, STUCK_SECONDS + 4, p0=10, p1=99)
    assert not status.ready()[0]
    status.on_owned([1])
    status.on_states({1: state_of(1, 12)})
    tell(status, clock, 2, p1=99)

    assert status.ready() == (True, "chaining partitions [1]")


def _unassigned(status: Status) -> None:
    status.waiting = "an assignment"


def _cut_off(status: Status) -> None:
    status.on_statistics('{"brokers": {"one": {"state": "DOWN"}}}')


def _in_a_transaction(status: Status) -> None:
    status.transaction_since = 1_000.0 - SLOW_SECONDS - 1


def _in_a_step(status: Status) -> None:
    status.stepped_at = 1_000.0 - STUCK_SECONDS - 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_unassigned, "waiting for an assignment"),
        (_cut_off, "no broker is connected"),
        (_in_a_transaction, "a transaction that is open for 4 s"),
        (_in_a_step, "a step of the log's thread for 21 s"),
    ],
)
def test_what_a_worker_waits_for(status: Status, change: Callable[[Status], None], words: str) -> None:
    """Whatever keeps a worker from chaining, it is not ready, and says what it waits for."""
    change(status)
    ready, said = status.ready()

    assert not ready
    assert words in said


def test_a_thread_that_hangs_is_not_alive(status: Status, clock: Clock) -> None:
    """What no waiting mends ends the process: the page that asks for that looks at the log's thread."""
    clock.now += THREAD_SECONDS - 1
    assert status.alive()
    clock.now += 2
    assert not status.alive()


def test_everything_is_there_at_three_in_the_morning(status: Status, clock: Clock) -> None:
    """The page shows each partition's position, end, lag, chains and last commit, and what it waits for."""
    tell(status, clock, 2, p0=12, p1=10)
    status.on_commit(committed(0, 11, chains=3))
    status.on_owned([0, 1, 2])
    status.on_states({0: state_of(0, 11, chains=3), 1: state_of(1, 10)})
    status.waiting = "partition 2: heads up to offset 7, read 0"
    page: dict[str, Any] = json.loads(json.dumps(status.describe()))

    assert (page["ready"], page["topic"], page["connected"]) == (False, "audit.events", True)
    assert page["doing"] == "waiting for partition 2: heads up to offset 7, read 0"
    first, last = page["partitions"]["0"], page["partitions"]["2"]
    assert (first["position"], first["end"], first["lag"], first["chains"]) == (11, 12, 1, 3)
    assert first["last_commit"].endswith("+00:00")
    assert (first["state"], last["state"]) == ("chaining", "restoring")
    assert last["waiting_for"] == status.waiting
    assert (last["position"], last["last_commit"]) == (None, None)


def test_the_same_stands_in_the_metrics(status: Status, clock: Clock) -> None:
    """Gauges tell of the partitions that the worker owns, and of no other one."""
    tell(status, clock, 2, p0=12, p1=10)
    status.on_commit(committed(0, 11))
    status.export()
    text = metrics.exposition().decode()
    for line in (
        'sealstream_processor_position_offsets{partition="0"} 11.0',
        'sealstream_processor_end_offsets{partition="0"} 12.0',
        'sealstream_processor_lag_records{partition="0"} 1.0',
        'sealstream_processor_held_chains{partition="0"} 2.0',
        'sealstream_processor_last_commit_timestamp_seconds{partition="0"}',
        "sealstream_processor_assigned_partitions 2.0",
        "sealstream_processor_stuck_partitions 0.0",
    ):
        assert line in text
    status.on_owned([1])
    status.export()

    assert 'partition="0"' not in metrics.exposition().decode()


def test_what_is_not_known_is_not_claimed() -> None:
    """Before a restore, and before the brokers have told the end, there is no lag: not even one of 0."""
    one = PartitionStatus()
    assert one.lag is None
    one.on_end(5)
    assert one.lag is None
    one.position = 5

    assert one.lag == 0
