"""The duplicate window: its limits to the offset and the microsecond, and its bounds in memory and time."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.processors.window import Repeat, Window, WindowIncomplete
from sealstream.schemas.entry import Kind

OFFSETS, MICROSECONDS = 10, 1_000_000


def digest(text: str) -> bytes:
    """Return some digest."""
    return hashlib.sha256(text.encode()).digest()


def judge(window: Window, offset: int, received: int, *, payload: str = "a", seq: int | None = None) -> Repeat | None:
    """Judge a record of one and the same id."""
    return window.judge(b"acme", b"id", offset, received, offset + 1 if seq is None else seq, digest(payload))


@pytest.mark.parametrize(("offset", "repeats"), [(1, True), (OFFSETS, True), (OFFSETS + 1, False)])
def test_a_repeat_reaches_back_exactly_the_windows_offsets(offset: int, repeats: bool) -> None:
    """W offsets back is a repeat, W + 1 is not."""
    window = Window(offsets=OFFSETS, microseconds=MICROSECONDS)
    judge(window, 0, 5)

    assert judge(window, offset, 5) == ((Kind.DUPLICATE, 1) if repeats else None)


@pytest.mark.parametrize(
    ("later", "repeats"), [(-(10**9), True), (0, True), (MICROSECONDS, True), (MICROSECONDS + 1, False)]
)
def test_a_repeat_reaches_back_exactly_the_windows_time(later: int, repeats: bool) -> None:
    """A later is a repeat, a microsecond more is not; and where the broker's clock stepped back, it is one too."""
    window = Window(offsets=OFFSETS, microseconds=MICROSECONDS)
    received = 10**12
    judge(window, 0, received)

    assert judge(window, 1, received + later) == ((Kind.DUPLICATE, 1) if repeats else None)


def test_a_record_too_old_by_time_may_be_near_again() -> None:
    """Age is judged at each look-up: after the broker's clock stepped back, an older record counts again."""
    window = Window(offsets=OFFSETS, microseconds=MICROSECONDS)
    judge(window, 0, 0)
    assert judge(window, 1, 2 * MICROSECONDS) is None
    assert judge(window, 2, 2 * MICROSECONDS) == (Kind.DUPLICATE, 2)

    assert judge(window, 3, MICROSECONDS) == (Kind.DUPLICATE, 1)


def test_equal_bytes_count_before_the_first_of_other_bytes() -> None:
    """A record that equals any earlier one is its duplicate, even if the id was used with other bytes before."""
    window = Window(offsets=OFFSETS, microseconds=MICROSECONDS)
    judge(window, 0, 0, payload="a")

    assert judge(window, 1, 0, payload="b") == (Kind.CONFLICT, 1)
    assert judge(window, 2, 0, payload="c") == (Kind.CONFLICT, 1)
    assert judge(window, 3, 0, payload="b") == (Kind.DUPLICATE, 2)
    assert judge(window, OFFSETS + 1, 0, payload="d") == (Kind.CONFLICT, 2)


steps = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 2, 7]),
        st.sampled_from([0, 1, MICROSECONDS // 2, MICROSECONDS, -MICROSECONDS]),
        st.sampled_from("ab"),
        st.sampled_from("xyz"),
    ),
    max_size=120,
)


@given(steps=steps, offsets=st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_the_window_equals_a_list_of_all_records(steps: list[tuple[int, int, str, str]], offsets: int) -> None:
    """Whatever the order of ids, bytes, offsets and times, the answer is that of a search through all records."""
    window = Window(offsets=offsets, microseconds=MICROSECONDS)
    remembered: list[tuple[str, int, int, int, str]] = []
    offset, received = -1, 10**12
    for forward, later, name, payload in steps:
        offset, received = offset + forward, received + later
        near = [
            (seq, other)
            for known, then, at, seq, other in remembered
            if known == name and offset - then <= offsets and received - at <= MICROSECONDS
        ]
        equal = [seq for seq, other in near if other == payload]
        expected = (Kind.DUPLICATE, equal[0]) if equal else (Kind.CONFLICT, near[0][0]) if near else None
        if not equal:
            remembered.append((name, offset, received, offset + 1, payload))

        assert window.judge(b"acme", name.encode(), offset, received, offset + 1, digest(payload)) == expected


def test_the_window_holds_no_more_than_twice_its_offsets() -> None:
    """However long the log is, memory stays bounded."""
    window = Window(offsets=100, microseconds=MICROSECONDS)
    for offset in range(5_000):
        window.judge(b"acme", b"%d" % offset, offset, 0, offset + 1, digest("a"))

        assert len(window) <= 2 * 100


@pytest.mark.parametrize("pause", [0, 2 * MICROSECONDS])
def test_one_id_with_ever_other_bytes_costs_no_more_than_others(pause: int) -> None:
    """Whoever sends one id tens of thousands of times does not slow the chain down: seconds here, not hours."""
    window = Window(offsets=65_536, microseconds=MICROSECONDS)
    began = time.monotonic()
    for offset in range(60_000):
        received = 0 if offset < 30_000 else pause
        window.judge(b"acme", b"id", offset, received, offset + 1, offset.to_bytes(32, "big"))

    assert time.monotonic() - began < 10


def test_a_window_that_lacks_records_refuses_what_might_repeat_them() -> None:
    """After a restore from a log whose beginning is gone, a record near to what is gone stops the worker."""
    window = Window(offsets=OFFSETS, microseconds=MICROSECONDS)
    window.lacks(100, 5 * MICROSECONDS)
    with pytest.raises(WindowIncomplete):
        judge(window, 105, 6 * MICROSECONDS)


@pytest.mark.parametrize(("offset", "received"), [(100 + OFFSETS, 0), (101, 6 * MICROSECONDS + 1)])
def test_a_window_that_lacks_only_what_is_out_of_reach_serves(offset: int, received: int) -> None:
    """What is gone but too far back, by offset or by time, is not missed."""
    window = Window(offsets=OFFSETS, microseconds=MICROSECONDS)
    window.lacks(100, 5 * MICROSECONDS)

    assert judge(window, offset, received) is None
