"""Source logs of every kind, drawn by hypothesis: with holes, repeats, bad records, and times that step to and fro."""

from __future__ import annotations

from hypothesis import strategies as st

from sealstream.sinks.verifier.rules import SourceRecord
from support.publish import event_value
from support.verifying import START_MS, source_record, tenants_here

ACME, OTHER = tenants_here(2)
GOOD = event_value(ACME.decode(), "id-1")

_KEYS = st.sampled_from([ACME, OTHER, ACME, OTHER, None, b"", b"!partition-1", b"tenant-of-another-partition"])
_IDS = st.sampled_from(["id-1", "id-2", "id-3", "", "no spaces"])
_VALUES = st.one_of(
    st.builds(
        event_value,
        st.sampled_from([ACME.decode(), OTHER.decode()]),
        _IDS,
        note=st.sampled_from(["", "x"]),
    ),
    st.sampled_from([None, b"", b"\xff", GOOD[:12], b"\xc3\x01" + bytes(8) + b"\x80\x00"]),
    st.binary(max_size=40),
)


@st.composite
def source_logs(draw: st.DrawFn) -> list[SourceRecord]:
    """Logs with holes, repeats, bad records, and times that step to and fro."""
    steps = draw(
        st.lists(
            st.tuples(st.integers(1, 30), _KEYS, _VALUES, st.one_of(st.none(), st.integers(-90_000, 90_000))),
            max_size=60,
        )
    )
    records: list[SourceRecord] = []
    offset, ms = -1, START_MS
    for step, key, value, change in steps:
        offset, ms = offset + step, ms + (change or 0)
        records.append(source_record(offset, key, value, None if change is None else ms))
    return records
