"""Heads computed anew from audit.chained, compared with those that stand there, and rebuilt where that is proven."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sealstream.processors.chaining import Link, PartitionState, Rules, Sealed, chain
from sealstream.processors.comparison import DIFFERENCES_MAX, Examination, SourceState, compare
from sealstream.processors.heads import HeadsReader, PackedHeads, PartitionHead, chain_key, pack_link, partition_key
from sealstream.processors.rebuilding import NotRebuildable, Plan, plan_rebuild
from sealstream.processors.recomputation import FAULTS_MAX, Recomputation
from sealstream.schemas.entry import Genesis, entry_hash, pack, parse
from sealstream.schemas.errors import InstanceDiffers
from support.model import SourceRecord
from support.publish import event_value
from support.records import MessageLike

TOPIC_ID = bytes(range(16))
RULES = Rules(Genesis("test.example/audit", 1, window_offsets=4), TOPIC_ID)
TENANTS = ("acme", "globex", "acme", "acme", "acme", "acme", "acme", "acme")
"""Of the eight events one is globex', the second: it lies outside the window at the end."""


@dataclass
class Log:
    """One partition of audit.chained and audit.heads, and what else a look at it finds.

    Arguments:
        state: What the worker knows.
        sealed: The chained records.
        first: How many of them have expired.
        carried: Whether this is a later epoch.
        committed: The group's committed offset.
        pinned: Whether a processor committed it.
        source: What the source has behind it.
        settled: Whether heads and committed offset agree.
    """

    state: PartitionState
    sealed: Sequence[Sealed]
    reader: HeadsReader = field(default_factory=lambda: HeadsReader(0))
    first: int = 0
    carried: bool = False
    committed: int | None = 8
    pinned: bool = True
    source: SourceState = field(default_factory=lambda: SourceState(0, 20))
    settled: bool = True

    def recompute(self) -> Recomputation:
        """Return what the chained records lead to."""
        recomputed = Recomputation(0, RULES, beginning_gone=self.first > 0, carried=self.carried)
        for key, value, seal, _ in self.sealed[self.first :]:
            recomputed.feed(key, seal, value)
        return recomputed

    def examine(self) -> Examination:
        """Return all that is known of the partition."""
        return Examination(0, self.recompute(), self.reader, self.committed, self.pinned, self.source, self.settled)

    def types(self) -> list[str]:
        """Return what differs."""
        return [difference.type.value for difference in compare(self.examine()).differences]

    def plan(self) -> Plan:
        """Return what a rebuild writes."""
        plan = plan_rebuild(self.examine(), RULES)
        assert plan is not None
        return plan

    def write(self, key: bytes, value: bytes | None) -> None:
        """Write a record to audit.heads."""
        self.reader.feed(key, value)

    def apply(self, plan: Plan) -> None:
        """Write what a rebuild writes, in its order."""
        for key, value in plan.changes.items():
            self.write(key, value)
        self.write(partition_key(0), plan.head.pack())
        self.committed, self.settled = plan.head.position, True


@pytest.fixture
def log() -> Log:
    """A partition with eight events of two tenants, all well."""
    state = PartitionState(0, PackedHeads(), RULES.window())
    records = [
        MessageLike(SourceRecord(0, n, t.encode(), event_value(t, f"e{n}"), 1_700_000_000_000))
        for n, t in enumerate(TENANTS)
    ]
    log = Log(state, chain(RULES, state, records).sealed)
    assert isinstance(state.heads, PackedHeads)
    for name, value in state.heads.packed.items():
        log.write(chain_key(0, name), value)
    log.write(partition_key(0), PartitionHead.of(state, RULES).pack())
    return log


def change_partition(log: Log, **changes: Any) -> None:
    """Write the partition's own record with other fields."""
    assert log.reader.head is not None
    log.write(partition_key(0), replace(log.reader.head, **changes).pack())


WRONG = pack_link(Link(b"", 3, b"\x07" * 32))
DAMAGE: list[tuple[str, Callable[[Log], None], set[str]]] = [
    ("wrong hash", lambda log: log.write(b"0/acme", WRONG), {"chain-differs", "heads-incomplete"}),
    ("lost", lambda log: log.write(b"0/acme", None), {"chain-missing", "heads-incomplete"}),
    ("unknown", lambda log: log.write(b"0/nobody", WRONG), {"chain-unknown", "heads-incomplete"}),
    ("nonsense", lambda log: log.write(b"0/acme", b"x"), {"head-malformed", "chain-missing", "heads-incomplete"}),
    ("foreign key", lambda log: log.write(b"who", b"x"), {"head-malformed"}),
    ("no position", lambda log: log.write(b"0", None), {"position-missing"}),
    ("stale", lambda log: change_partition(log, position=5, last_offset=4), {"position-differs"}),
    ("ahead", lambda log: change_partition(log, position=21), {"position-differs"}),
    ("back", lambda log: change_partition(log, position=7), {"position-differs"}),
]


def test_heads_that_a_worker_wrote_are_those_that_the_chains_lead_to(log: Log) -> None:
    """Where nothing was damaged, nothing differs, and there is nothing to write."""
    assert log.types() == []
    plan = log.plan()
    assert (plan.changes, plan.kept, plan.back_from, plan.head) == ({}, 0, None, log.reader.head)


@pytest.mark.parametrize(("damage", "found"), [(d, f) for _, d, f in DAMAGE], ids=[name for name, _, _ in DAMAGE])
def test_each_damage_is_named_and_mended(log: Log, damage: Callable[[Log], None], found: set[str]) -> None:
    """What a check names, a rebuild mends: afterwards the heads are what they were."""
    before, heads = log.reader.head, log.reader.heads.copy()
    damage(log)
    assert set(log.types()) == found
    log.apply(log.plan())

    assert log.types() == []
    log.reader.require_sound()
    assert (log.reader.heads, log.reader.head) == (heads, before)


@pytest.mark.parametrize("committed", [None, 3])
def test_offsets_that_are_not_the_heads_are_told(log: Log, committed: int | None) -> None:
    """A lost or moved offset is a difference of its own, and none where offsets do not count."""
    log.committed, log.settled = committed, False
    assert log.types() == ["offset-missing" if committed is None else "offset-differs"]
    assert compare(log.examine(), offsets=False).total == 0


def test_a_silent_tenants_head_is_kept_once_its_entries_expired(log: Log) -> None:
    """With the beginning of audit.chained gone, globex stands in audit.heads alone, and is proven by the partition."""
    log.first = 5
    assert log.types() == []
    log.write(b"0/acme", WRONG)
    plan = log.plan()
    assert (set(plan.changes), plan.kept, len(plan.heads)) == ({b"0/acme"}, 1, 2)
    log.apply(plan)
    assert log.types() == []


UNPROVEN: dict[str, Callable[[Log], None]] = {
    "lost": lambda log: log.write(b"0/globex", None),
    "changed": lambda log: log.write(b"0/globex", WRONG),
    "unknown": lambda log: log.write(b"0/nobody", WRONG),
    "no position": lambda log: log.write(b"0", None),
    "stale": lambda log: change_partition(log, position=5, last_offset=4),
}


@pytest.mark.parametrize("damage", UNPROVEN.values(), ids=UNPROVEN)
@pytest.mark.parametrize("carried", [False, True], ids=["expired", "later epoch"])
def test_what_cannot_be_proven_is_not_rebuilt(log: Log, damage: Callable[[Log], None], carried: bool) -> None:
    """Where a silent tenant's head may be lost or wrong, a rebuild would begin its chain again: it refuses."""
    log.first, log.carried = (0, True) if carried else (5, False)
    if carried:  # globex has said nothing since the epoch before
        log.sealed = [sealed for sealed in log.sealed if sealed[0] != b"globex"]
        assert log.types() == []
    damage(log)
    assert log.types() != []
    with pytest.raises(NotRebuildable) as refused:
        log.plan()
    assert "backup" in refused.value.hint


def test_heads_alone_are_kept_when_all_entries_expired(log: Log) -> None:
    """An instance that rested for longer than audit.chained is kept goes on from its heads."""
    log.first = len(log.sealed)
    assert log.types() == []
    plan = log.plan()
    assert (plan.changes, plan.kept, plan.head) == ({}, 2, log.reader.head)


def test_a_position_behind_offsets_that_are_no_records_stays(log: Log) -> None:
    """What a worker has passed over, because it was aborted, is not taken for lost when it has expired."""
    change_partition(log, position=12)
    log.committed, log.source = 12, SourceState(12, 20)
    assert log.types() == []
    log.write(b"0", None)
    assert log.plan().head.position == 12
    log.pinned = False
    assert log.plan().head.position == 8


def test_a_position_that_passes_over_a_record_is_found(log: Log) -> None:
    """Heads and offset may agree and be wrong: a record that nobody chained lies before them."""
    change_partition(log, position=12)
    log.committed, log.source = 12, SourceState(0, 9)
    assert log.types() == ["position-differs"]
    assert log.plan().head.position == 8


def test_a_chained_log_that_lost_its_end_is_made_again_only_from_a_whole_source(log: Log) -> None:
    """What is missing at the end is chained anew, to the same bytes, if the source still has it; else nothing is."""
    log.sealed, log.source = log.sealed[:-2], SourceState(0, 6)
    plan = log.plan()
    assert (plan.head.position, plan.back_from, plan.heads.get(b"acme")) == (6, 8, log.recompute().heads.get(b"acme"))
    log.source = SourceState(7, 7)
    with pytest.raises(NotRebuildable, match="cannot be chained anew"):
        log.plan()


def edited(seal: bytes) -> bytes:
    """Return an entry whose payload digest is another one."""
    return pack(replace(parse(seal), payload=bytes(32)))


BROKEN: dict[str, tuple[int, Callable[[Sealed], Sealed] | None, str]] = {
    "edited": (5, lambda s: (s[0], s[1], edited(s[2]), None), "does not follow the entry before it"),
    "missing": (5, None, "follows seq"),
    "no genesis": (0, None, "begins with seq 1"),
    "key": (4, lambda s: (b"globex", s[1], s[2], None), "has another key"),
    "cut": (4, lambda s: (s[0], s[1], s[2][:-1], None), "cut short"),
}


@pytest.mark.parametrize(("index", "change", "words"), BROKEN.values(), ids=BROKEN)
def test_a_chain_that_does_not_hold_is_not_believed(
    log: Log, index: int, change: Callable[[Sealed], Sealed] | None, words: str
) -> None:
    """Heads are computed only from chains that hold; what does not is named, and a rebuild writes nothing."""
    changed = list(log.sealed)
    changed[index : index + 1] = [] if change is None else [change(changed[index])]
    log.sealed = changed

    assert "chained-broken" in log.types()
    assert any(words in fault for fault in log.recompute().faults)
    with pytest.raises(NotRebuildable, match="does not hold"):
        log.plan()


def test_a_record_that_was_chained_twice_is_found(log: Log) -> None:
    """Two entries of one source record hold as a chain, and are wrong all the same."""
    last = parse(log.sealed[-1][2])
    again = pack(replace(last, seq=last.seq + 1, prev=entry_hash(log.sealed[-1][2])))
    log.sealed = [*log.sealed, (b"acme", b"", again, None)]

    assert log.recompute().faults == ["source offset 7 was chained twice"]


def test_another_topic_or_other_settings_are_refused(log: Log) -> None:
    """Entries of another source topic, or of chains that pin something else, are not compared with these settings."""
    with pytest.raises(InstanceDiffers, match="was chained from the topic"):
        Recomputation(0, Rules(RULES.genesis, bytes(16)), beginning_gone=False).feed(*_fed(log.sealed[0]))
    other = Rules(replace(RULES.genesis, window_offsets=5), TOPIC_ID)
    with pytest.raises(InstanceDiffers, match="other settings"):
        Recomputation(0, other, beginning_gone=False).feed(*_fed(log.sealed[0]))


def test_the_window_is_what_a_restored_worker_holds(log: Log) -> None:
    """The window out of a whole log is that of the last offsets, also where the log begins in its middle."""
    for first, complete in ((0, True), (3, True), (7, False)):
        log.first = first
        window = log.recompute().window(8)
        assert len(window) == min(4, len(log.sealed) - first)
        again = RULES.window()
        for _, _, seal, _ in log.sealed[-len(window) :]:
            entry = parse(seal)
            again.restore(b"acme", entry.event_id.encode(), entry.offset, entry.received, entry.seq, entry.payload)
        assert window.remembers_the_same(again) is complete


def test_a_heap_of_differences_is_counted_and_bounded(log: Log) -> None:
    """However much is wrong, what is told stays readable, and the number is right."""
    for number in range(1_000):
        log.write(b"0/nobody-%d" % number, WRONG)
    found = compare(log.examine())
    assert (len(found.differences), found.total) == (DIFFERENCES_MAX, 1_001)
    broken = Recomputation(0, RULES, beginning_gone=False)
    for _ in range(1_000):
        broken.feed(b"acme", b"nonsense", b"")
    assert (len(broken.faults), broken.faults_total) == (FAULTS_MAX, 1_000)


def _fed(sealed: Sealed) -> tuple[bytes, bytes, bytes]:
    key, value, seal, _ = sealed
    return key, seal, value
