"""The short way that ordinary records take through chaining: it must say what the rules say, or nothing."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealstream.kafka.partition import partition_of
from sealstream.processors.chaining import Chained, PartitionState, Rules, chain
from sealstream.processors.heads import PackedHeads
from sealstream.processors.window import Window, namespace
from sealstream.schemas.codec import ordinary_event_id, ordinary_mark, read_prefix
from sealstream.schemas.entry import (
    EVENT_ID_BYTES,
    EVENT_ID_PATTERN,
    VALUE_BYTES_MAX,
    Genesis,
    Kind,
    entry_head,
    pack_trusted,
    packer,
)
from sealstream.schemas.errors import FrameInvalid
from sealstream.schemas.event import EventKind
from support.model import SourceRecord
from support.mutation import changed_bytes, cuts, mutated
from support.publish import event_value
from support.records import MessageLike

PARTITIONS = 2
TOPIC_ID = bytes(range(16))
RULES = Rules(Genesis("test.example/o", PARTITIONS, window_offsets=9, window_seconds=1), TOPIC_ID)
TENANTS = [name for name in (f"t{n}" for n in range(20)) if partition_of(name.encode(), PARTITIONS) == 0][:3]
CONFLUENT = b"\x00\x00\x00\x00\x07" + event_value(TENANTS[0], "confluent")[10:]
LONG_TENANT = "t" * 64

_ids = st.sampled_from(["a", "b-c", "c" * 63, "d" * 64, "e" * 128, "", "no spaces", "x" * 129])
_good = st.builds(
    event_value,
    st.sampled_from(TENANTS),
    _ids,
    note=st.sampled_from(["", "x", "y"]),
    kind=st.sampled_from([EventKind.EVENT, EventKind.EVENT, EventKind.IMPORTED, EventKind.CONTROL]),
)
_values = st.one_of(_good, _good, st.sampled_from([None, b"", b"\x00", b"\xc3\x01", CONFLUENT]), st.binary(max_size=50))
_keys = st.sampled_from([*(name.encode() for name in TENANTS), None, b"!partition-0", b"no tenant of partition 0"])


@st.composite
def _records(draw: st.DrawFn) -> list[SourceRecord]:
    """Records of partition 0: ordinary ones, repeats, conflicts, and what is wrong in each way."""
    records: list[SourceRecord] = []
    offset, now = -1, 1_700_000_000_000
    for _ in range(draw(st.integers(0, 40))):
        offset += draw(st.sampled_from([1, 1, 1, 4]))
        now += draw(st.sampled_from([0, 1, 999, -700]))
        value = draw(_values)
        own = _tenant_of(value)
        key = own if own is not None and draw(st.integers(0, 9)) else draw(_keys)
        time = draw(st.sampled_from([now, now, now, now, None, 0]))
        records.append(SourceRecord(0, offset, key, value, time))
    return records


def _tenant_of(value: bytes | None) -> bytes | None:
    try:
        return read_prefix(value or b"")[1]
    except FrameInvalid:
        return None


def _chain(records: list[SourceRecord], size: int) -> tuple[list[Chained], PartitionState]:
    state = PartitionState(0, PackedHeads(), RULES.window())
    parts = [records[start : start + size] for start in range(0, len(records), size)]
    return [chain(RULES, state, [MessageLike(record) for record in part]) for part in parts], state


@given(records=_records(), size=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_the_short_way_makes_what_the_rules_make(records: list[SourceRecord], size: int) -> None:
    """Whatever the records, chaining makes the same of them if none of them is taken for an ordinary one."""
    fast, fast_state = _chain(records, size)
    with patch("sealstream.processors.ordinary.ordinary_event_id", lambda _value, _mark: b""):
        plain, plain_state = _chain(records, size)

    assert fast == plain
    assert (fast_state.position, fast_state.last_offset, fast_state.last_received) == (
        plain_state.position,
        plain_state.last_offset,
        plain_state.last_received,
    )
    assert fast_state.window.remembers_the_same(plain_state.window)


@given(value=mutated(st.sampled_from([event_value("acme", "ev-1"), event_value("acme", "a" * 63), CONFLUENT])))
@example(value=event_value("acme", "a" * 63))
@example(value=event_value("acme", "a" * 64))
@example(value=event_value("acme", "ä"))
@example(value=event_value("acme", ""))
@example(value=event_value("acm", "ev-1"))
@example(value=event_value("acme.", "ev-1"))
@example(value=event_value(LONG_TENANT, "ev-1"))
@example(value=event_value("acme", "ev-1") + bytes(VALUE_BYTES_MAX))
@settings(max_examples=500, deadline=None)
def test_an_ordinary_events_id_is_that_of_its_prefix(value: bytes) -> None:
    """What is taken for an ordinary event has, by the specified reading, that id, that tenant and the kind event."""
    assert _agrees(value)


def test_no_change_of_a_byte_and_no_cut_makes_it_another_events() -> None:
    """Of an event changed in any one byte, or cut anywhere, nothing is said that the specified reading does not say."""
    for value in (event_value("acme", "ev-1"), CONFLUENT):
        for changed in (*changed_bytes(value), *cuts(value)):
            assert _agrees(changed), changed


def _agrees(value: bytes) -> bool:
    tenants = [b"acme", TENANTS[0].encode(), LONG_TENANT.encode()]
    found = {tenant: ordinary_event_id(value, ordinary_mark(tenant)) for tenant in tenants}
    return all(
        read_prefix(value) == (event_id, tenant, 0)
        and EVENT_ID_PATTERN.fullmatch(event_id)
        and len(value) <= VALUE_BYTES_MAX
        for tenant, event_id in found.items()
        if event_id
    )


def test_ordinary_events_take_the_short_way() -> None:
    """Events in either framing, of the shortest and the longest tenant, with ids of up to 63 bytes, are ordinary."""
    for tenant in ("t", "acme", "t" * 63, LONG_TENANT):
        for event_id in ("a", "A-1.b_c:d", "0" * 63):
            value, mark = event_value(tenant, event_id), ordinary_mark(tenant.encode())

            assert ordinary_event_id(value, mark) == event_id.encode()
            assert ordinary_event_id(b"\x00\x00\x00\x00\x01" + value[10:], mark) == event_id.encode()


def test_the_bytes_of_an_id_are_those_of_its_pattern() -> None:
    """The quick question about an id's bytes knows the same bytes as the pattern."""
    assert [byte for byte in range(256) if EVENT_ID_PATTERN.fullmatch(bytes((byte,)))] == sorted(EVENT_ID_BYTES)


@given(
    tenant=st.binary(min_size=1, max_size=64),
    event_id=st.binary(max_size=128),
    numbers=st.tuples(*[st.integers(0, 2**63 - 1)] * 4),
    sizes=st.tuples(*[st.integers(0, 2**31 - 1)] * 2),
    kind=st.sampled_from(Kind),
)
def test_the_packer_packs_as_the_entry_says(
    tenant: bytes, event_id: bytes, numbers: tuple[int, ...], sizes: tuple[int, ...], kind: Kind
) -> None:
    """An entry packed in one call, behind its head, has the same bytes as one packed field by field."""
    (seq, received, offset, ref), (partition, length) = numbers, sizes
    head, prev, digest = entry_head(kind, tenant), bytes(range(32)), bytes(range(32, 64))
    quick = packer(len(head), len(event_id))(
        head, seq, prev, received, TOPIC_ID, partition, offset, ref, len(event_id), event_id, length, digest
    )

    assert quick == pack_trusted(
        kind, 0, tenant, seq, prev, received, TOPIC_ID, partition, offset, ref, event_id, length, digest
    )


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from("abc"), st.sampled_from("xy"), st.booleans())))
def test_a_window_remembers_in_short_what_it_would_remember_after_judging(
    steps: list[tuple[int, str, str, bool]],
) -> None:
    """Asked in short first, a window gives the same judgements and ends in the same state as one that only judges."""
    quick, plain = Window(offsets=5, microseconds=10), Window(offsets=5, microseconds=10)
    offset = 0
    for step, event_id, digest, short in steps:
        offset += step
        said = None
        name = namespace(b"t") + event_id.encode()
        if not (short and quick.remember(name, offset, offset, offset, digest.encode() * 32)):
            said = quick.judge(b"t", event_id.encode(), offset, offset, offset, digest.encode() * 32)

        assert said == plain.judge(b"t", event_id.encode(), offset, offset, offset, digest.encode() * 32)
    assert quick.remembers_the_same(plain)
