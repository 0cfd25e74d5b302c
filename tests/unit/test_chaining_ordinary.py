"""The short way that ordinary records take through chaining: it must say what the rules say, or nothing."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealstream.processors.chaining import Link
from sealstream.processors.ordinary import End, Run
from sealstream.processors.window import Window, namespace
from sealstream.schemas.codec import ordinary_event_id, ordinary_mark, read_prefix
from sealstream.schemas.entry import (
    EVENT_ID_BYTES,
    EVENT_ID_PATTERN,
    TENANT_BYTES_MAX,
    TENANT_PATTERN,
    VALUE_BYTES_MAX,
    Kind,
    entry_head,
    pack_trusted,
    packer,
)
from support.model import SourceRecord
from support.mutation import changed_bytes, cuts, mutated
from support.ordinary import CONFLUENT, TENANTS, TOPIC_ID, assert_same, chain_in_parts, ordinary_logs
from support.publish import event_value

LONG_TENANT = "t" * 64


@given(records=ordinary_logs(), size=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_the_short_way_makes_what_the_rules_make(records: list[SourceRecord], size: int) -> None:
    """Whatever the records, chaining makes the same of them if none of them is taken for an ordinary one."""

    def none_is_ordinary(_run: Run) -> None:
        """Leave every record to the rules."""

    assert_same(chain_in_parts(records, size), chain_in_parts(records, size, none_is_ordinary))


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


def test_tenants_of_every_size_are_known_by_their_marks() -> None:
    """What a chain's end holds of its tenant, to recognise and pack ordinary events, is right for every size."""
    for size in range(1, TENANT_BYTES_MAX + 1):
        name = b"t" * size
        end = End(Link(name, seq=1), 0)

        assert TENANT_PATTERN.fullmatch(name)
        assert (end.head, end.mark, end.namespace) == (entry_head(Kind.EVENT, name), ordinary_mark(name), name + b"/")
    assert not TENANT_PATTERN.fullmatch(b"t" * (TENANT_BYTES_MAX + 1))


def test_a_chain_that_has_not_begun_takes_nothing_for_ordinary() -> None:
    """Before its genesis, in another epoch, or if it is no tenant's, a chain leaves every record to the rules."""
    ends = [End(Link(b"t"), 0), End(Link(b"t", seq=1, previous_topic=bytes(16)), 0), End(Link(b"!partition-0", 1), 1)]

    assert [(end.head, end.mark, end.namespace) for end in ends] == [(b"", b"", b"")] * 3


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
