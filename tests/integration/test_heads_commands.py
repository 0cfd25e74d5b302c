"""``sealstream heads`` on a real Kafka: damage to heads is named, mended from audit.chained, and proven mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer

from sealstream.deploy.cli import main
from sealstream.deploy.cli.output import ExitCode
from sealstream.kafka.client import consumer_config
from sealstream.kafka.partition import partition_of
from sealstream.processors import examining
from sealstream.processors import keeper as keeping
from sealstream.processors.chaining import Link
from sealstream.processors.epochs import Start, carry_out, prepare
from sealstream.processors.heads import chain_key, pack_link
from sealstream.processors.membership import SoleMember, WorkersRunning
from sealstream.processors.rebuilding import NotRebuildable
from sealstream.schemas.errors import HeadsDiffer, OffsetsExpired
from sealstream.worker.settings import load_settings
from support.harness import read_log
from support.heads import (
    delete_offsets,
    expire_chained,
    open_keeper,
    read_heads,
    write_chain_head,
    write_heads,
    write_partition_head,
)
from support.processing import (
    PARTITIONS,
    TENANTS,
    committed,
    group_of,
    load,
    publish,
    run_engine,
    wait_ready,
)
from support.publish import RawRecord, event_value
from support.workers import Pipeline, wait_for

MakePipeline = Callable[..., Pipeline]
Run = Callable[..., tuple[int, Any]]
EVENTS = 50  # of the fixture `chained`
FOREIGN = Link(b"nobody", 7, bytes(32))
OTHER = Link(b"", 3, b"\x07" * 32)


@pytest.fixture(autouse=True)
def soon_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a difference be taken for damage sooner than in operation: nothing that happens here surfaces late."""
    monkeypatch.setattr(examining, "SETTLE_SECONDS", 0.5)


@pytest.fixture
def heads(chained: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``sealstream heads`` with these arguments and --json; returns the exit code and what was printed."""
    for name, value in chained.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SEALSTREAM_DATABASE", raising=False)

    def run(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()  # what a worker within this process has logged
        code = main(["heads", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def own(tenant: str) -> int:
    """Return a tenant's partition."""
    return partition_of(tenant.encode(), PARTITIONS)


def by_partition() -> dict[int, list[str]]:
    """Return the tenants of each partition that has at least two."""
    found: dict[int, list[str]] = {}
    for tenant in TENANTS:
        found.setdefault(own(tenant), []).append(tenant)
    return {partition: tenants for partition, tenants in found.items() if len(tenants) > 1}


def types(checked: Any) -> set[tuple[int, str, str | None]]:
    """Return what a check found: partition, type and chain of each difference."""
    return {(d["partition"], d["type"], d["chain"]) for p in checked["partitions"] for d in p["differences"]}


def test_damage_is_named_and_mended(chained: Pipeline, heads: Run) -> None:
    """A wrong hash, a lost tenant, an unknown one, nonsense and a stale position: each is named, and all are mended.

    Before that the worker refuses to go on; after it the worker goes on, and no byte of any chain is another one.
    """
    code, shown = heads("show")
    assert (code, sum(view["chains"] for view in shown)) == (ExitCode.OK, len(TENANTS))
    assert heads("check")[0] == ExitCode.OK
    (first, [wrong, lost, *_]), (second, [odd, *_]) = list(by_partition().items())[:2]
    write_chain_head(chained, wrong, pack_link(OTHER))
    write_chain_head(chained, lost, None)
    write_chain_head(chained, odd, b"nonsense")
    write_heads(chained, second, {chain_key(second, FOREIGN.name): pack_link(FOREIGN), b"who/am/i": b"?"})
    before = write_partition_head(chained, second, position=3, last_offset=2)
    with pytest.raises(HeadsDiffer, match="partition") as refused:
        run_engine(chained, until=lambda: False, request_timeout_seconds=2)

    code, checked = heads("check")
    assert code == ExitCode.FOUND
    assert types(checked) >= {
        (first, "chain-differs", wrong),
        (first, "chain-missing", lost),
        (first, "heads-incomplete", None),
        (second, "chain-missing", odd),
        (second, "head-malformed", None),
        (second, "chain-unknown", "nobody"),
        (second, "position-differs", None),
    }
    assert {partition for partition, _, _ in types(checked)} == {first, second}
    assert "heads rebuild" in refused.value.hint

    code, rebuilt = heads("rebuild")
    assert (code, rebuilt["ok"]) == (ExitCode.OK, True)
    assert {p["partition"]: (p["written"], p["removed"]) for p in rebuilt["partitions"] if p["written"]} == {
        first: (2, 0),
        second: (1, 2),
    }
    assert heads("check") == (ExitCode.OK, heads("check")[1])
    assert read_heads(chained)[second].head == before
    chained.start("processor")
    load(chained, "more", 30)
    assert chained.harness().check().events == EVENTS + 30
    wait_for(lambda: heads("check")[0] == ExitCode.OK, timeout_seconds=30, what="heads that agree beside a worker")


def test_a_tenants_head_is_shown(heads: Run) -> None:
    """`heads show TENANT` tells where the chain ends; a tenant without a chain is an error that says what to do."""
    code, shown = heads("show", TENANTS[0])
    assert (code, shown["tenant"], shown["last_seq"], shown["partition"]) == (0, TENANTS[0], 5, own(TENANTS[0]))
    assert len(shown["last_hash"]) == 64
    for tenant in ("no-such-tenant", "no tenant"):
        code, error = heads("show", tenant)
        assert (code, bool(error["hint"])) == (ExitCode.FAILED, True)
    code, error = heads("check", "--partition", "9")
    assert (code, error["error"]) == (ExitCode.FAILED, "there is no partition 9")


@pytest.mark.slow
def test_lost_heads_are_written_anew(chained: Pipeline, heads: Run) -> None:
    """Where audit.chained is whole, all heads may be lost: they come back with their positions, as they were."""
    before = read_heads(chained)
    for partition, reader in enumerate(before):
        keys = [chain_key(partition, name) for name in reader.heads.packed]
        write_heads(chained, partition, dict.fromkeys([*keys, b"%d" % partition]))
    code, rebuilt = heads("rebuild")

    assert (code, sum(p["written"] for p in rebuilt["partitions"])) == (ExitCode.OK, len(TENANTS))
    after = read_heads(chained)
    assert [(r.head, r.heads) for r in after] == [(r.head, r.heads) for r in before]
    assert heads("check")[0] == ExitCode.OK


@pytest.mark.slow
def test_heads_of_silent_tenants_are_kept_or_not_touched(make_pipeline: MakePipeline) -> None:
    """Once a silent tenant's entries have expired, its head is kept where it is proven; lost, nothing is rebuilt.

    Otherwise its chain would begin a second time. A worker notices that head's loss as well.
    """
    chained = make_pipeline(store=False, window_offsets=4)
    partition, [silent, other, *_] = next(iter(by_partition().items()))
    names = [(silent, 3), (other, 10)]
    publish(chained, *(RawRecord(t.encode(), event_value(t, f"e-{n}")) for t, count in names for n in range(count)))
    run_engine(chained, until=lambda: sum(committed(chained).values()) == 13)
    sealed = read_log(chained.connection, chained.topics.chained, PARTITIONS)[partition]
    expire_chained(chained, partition, sealed[-6].offset)
    write_chain_head(chained, other, pack_link(OTHER))
    keeper = open_keeper(chained)
    try:
        [rebuilt] = keeper.rebuild([partition])
        assert (rebuilt.kept, rebuilt.written, rebuilt.chains) == (1, 1, 2)
        [checked] = keeper.check([partition])
        assert (checked.differences_total, checked.kept, checked.window) == (0, 1, 4)

        write_chain_head(chained, silent, None)
        [checked] = keeper.check([partition])
        assert [difference.type for difference in checked.differences] == ["heads-incomplete"]
        with pytest.raises(NotRebuildable, match="missing or changed") as refused:
            list(keeper.rebuild([partition]))
        assert "backup" in refused.value.hint
    finally:
        keeper.close()
    with pytest.raises(HeadsDiffer, match="chains' heads were written"):
        run_engine(chained, until=lambda: False, request_timeout_seconds=2)
    assert set(read_heads(chained)[partition].heads.packed) == {other.encode()}


@pytest.mark.slow
def test_expired_offsets_are_restored_from_heads(chained: Pipeline, heads: Run) -> None:
    """When the group's offsets expired, `restore-offsets` commits what heads and audit.chained agree on, or nothing."""
    before = committed(chained)
    delete_offsets(chained)
    with pytest.raises(OffsetsExpired, match="no committed offset") as refused:
        run_engine(chained, until=lambda: False)
    assert "restore-offsets" in refused.value.hint
    assert {(kind, chain) for _, kind, chain in types(heads("check")[1])} == {("offset-missing", None)}
    head = write_partition_head(chained, 0, position=1)
    assert heads("restore-offsets")[1]["type"] == "HeadsDiffer"
    assert committed(chained) == {}
    write_partition_head(chained, 0, position=head.position)

    code, restored = heads("restore-offsets")

    assert (code, restored) == (ExitCode.OK, {"committed": {str(n): at for n, at in sorted(before.items())}})
    assert heads("check")[0] == ExitCode.OK
    load(chained, "more", 10)
    run_engine(chained, until=lambda: sum(committed(chained).values()) == EVENTS + 10)
    assert chained.harness().check().events == EVENTS + 10


@pytest.mark.slow
def test_a_running_worker_is_never_written_under(
    chained: Pipeline, heads: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a worker runs, nothing is mended; one that joins meanwhile puts the mending out, and loses nothing."""
    worker = chained.start("processor")
    wait_ready(worker)
    assert heads("check")[0] == ExitCode.OK
    for command in ("rebuild", "restore-offsets"):
        code, error = heads(command)
        assert (code, error["type"]) == (ExitCode.FAILED, "WorkersRunning")
    assert worker.terminate() == 0
    tenant = TENANTS[0]
    write_chain_head(chained, tenant, pack_link(OTHER))
    joined: list[Consumer] = []
    members: list[SoleMember] = []

    class Watched(SoleMember):
        """Tells who the command is to the group."""

        def join(self) -> None:
            super().join()
            members.append(self)

    monkeypatch.setattr(keeping, "SoleMember", Watched)

    def join(words: str, _done: int, _total: int) -> None:
        if "writing" in words and not joined:
            joined.append(Consumer(dict(consumer_config(chained.connection, client_id="x", group=group_of(chained)))))
            assigned: list[object] = []
            joined[0].subscribe([chained.topics.events], on_assign=lambda _c, places: assigned.extend(places))

            def is_member() -> bool:
                joined[0].poll(0.1)
                members[0].consumer.poll(0)
                return bool(assigned)

            wait_for(is_member, timeout_seconds=60, what="the other member's assignment")

    keeper = open_keeper(chained, on_progress=join)
    try:
        rebuilding = keeper.rebuild([own(tenant)])
        with pytest.raises(WorkersRunning):
            next(rebuilding)
        assert joined, "nobody joined while heads were written"
        joined[0].close()
        assert read_heads(chained)[own(tenant)].heads.packed[tenant.encode()] == pack_link(OTHER)
        [rebuilt] = keeper.rebuild([own(tenant)])
        assert rebuilt.written == 1
    finally:
        keeper.close()


@pytest.mark.slow
def test_chains_that_were_carried_over_are_kept(chained: Pipeline) -> None:
    """In a later epoch the heads of tenants that have said nothing there yet are proven, and survive a rebuild."""
    after = chained.next_epoch(partitions=PARTITIONS)
    settings = load_settings(after.environment)
    start = Start(settings=settings, old=settings.connection(), source_gone=False, by="ada", why="a test")
    carry_out(prepare(start, wait_seconds=30))
    tenant = TENANTS[0]
    keeper = open_keeper(after)
    try:
        assert [checked.differences_total for checked in keeper.check(range(PARTITIONS))] == [0] * PARTITIONS
        publish(after, RawRecord(tenant.encode(), event_value(tenant, "next")))
        run_engine(after, until=lambda: sum(committed(after).values()) == 1)
        [checked] = keeper.check([own(tenant)])
        assert (checked.differences_total, checked.entries, checked.kept) == (0, 2, checked.chains - 1)

        write_chain_head(after, tenant, pack_link(OTHER))
        [rebuilt] = keeper.rebuild([own(tenant)])
        assert (rebuilt.written, rebuilt.kept) == (1, checked.kept)
        [checked] = keeper.check([own(tenant)])
        assert checked.differences_total == 0
    finally:
        keeper.close()
