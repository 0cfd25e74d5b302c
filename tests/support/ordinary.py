"""Records of which most are ordinary: what chains those in short must make of all of them what the rules make."""

from __future__ import annotations

from hypothesis import strategies as st

from sealstream.kafka.partition import partition_of
from sealstream.processors.chaining import Chained, PartitionState, Rules, chain
from sealstream.processors.heads import PackedHeads
from sealstream.processors.ordinary import ChainOrdinary, chain_ordinary
from sealstream.schemas.codec import read_prefix
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import FrameInvalid
from sealstream.schemas.event import EventKind
from support.model import SourceRecord
from support.mutation import mutated
from support.publish import event_value
from support.records import MessageLike

PARTITIONS = 2
TOPIC_ID = bytes(range(16))
RULES = Rules(Genesis("test.example/o", PARTITIONS, window_offsets=9, window_seconds=1), TOPIC_ID)
TENANTS = [name for name in (f"t{n}" for n in range(20)) if partition_of(name.encode(), PARTITIONS) == 0][:3]
CONFLUENT = b"\x00\x00\x00\x00\x07" + event_value(TENANTS[0], "confluent")[10:]
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"

_ids = st.sampled_from(["a", "b-c", "c" * 63, "d" * 64, "e" * 128, "", "no spaces", "x" * 129])
_good = st.builds(
    event_value,
    st.sampled_from(TENANTS),
    _ids,
    note=st.sampled_from(["", "x", "y"]),
    kind=st.sampled_from([EventKind.EVENT, EventKind.EVENT, EventKind.IMPORTED, EventKind.CONTROL]),
)
_values = st.one_of(
    _good, _good, mutated(_good), st.sampled_from([None, b"", b"\x00", b"\xc3\x01", CONFLUENT]), st.binary(max_size=50)
)
_keys = st.sampled_from([*(name.encode() for name in TENANTS), None, b"!partition-0", b"no tenant of partition 0"])


_headers = st.sampled_from([(), (), (), (("traceparent", TRACE),), (("traceparent", b"x"),), (("other", None),)])


@st.composite
def ordinary_logs(draw: st.DrawFn) -> list[SourceRecord]:
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
        records.append(SourceRecord(0, offset, key, value, time, draw(_headers)))
    return records


def _tenant_of(value: bytes | None) -> bytes | None:
    try:
        return read_prefix(value or b"")[1]
    except FrameInvalid:
        return None


def chain_in_parts(
    records: list[SourceRecord], size: int, chain_ordinary: ChainOrdinary = chain_ordinary
) -> tuple[list[Chained], PartitionState]:
    """Chain records in parts of this size, and return what they became and what is known of the partition then."""
    state = PartitionState(0, PackedHeads(), RULES.window())
    parts = [records[start : start + size] for start in range(0, len(records), size)]
    return [chain(RULES, state, [MessageLike(record) for record in part], chain_ordinary) for part in parts], state


def assert_same(one: tuple[list[Chained], PartitionState], other: tuple[list[Chained], PartitionState]) -> None:
    """Assert that two ways made the same of the same records, and know the same of the partition."""
    (chained, state), (chained_too, state_too) = one, other

    assert chained == chained_too
    assert (state.position, state.last_offset, state.last_received) == (
        state_too.position,
        state_too.last_offset,
        state_too.last_received,
    )
    assert state.window.remembers_the_same(state_too.window)
