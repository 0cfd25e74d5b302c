"""How much memory heads and window take: a million tenants must fit beside everything else in one worker."""

from __future__ import annotations

import tracemalloc

from sealstream.processors.chaining import Link
from sealstream.processors.heads import HeadsReader, chain_key, pack_link
from sealstream.processors.window import Window

TENANTS = 100_000
HEAD_BYTES_MAX = 220
WINDOW_OFFSETS = 10_000
WINDOW_BYTES_MAX = 300


def test_a_restored_head_takes_little_memory() -> None:
    """The heads of a million tenants with names of 16 characters take less than 220 MB, however they were read."""
    reader = HeadsReader(0)
    tracemalloc.start()
    try:
        for number in range(TENANTS + TENANTS // 10):  # some are written again; what stood there before must not stay
            name = b"tenant-%09d" % (number % TENANTS)
            reader.feed(chain_key(0, name), pack_link(Link(name, number, bytes(32))))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(reader.heads) == TENANTS
    assert held / TENANTS < HEAD_BYTES_MAX


def test_a_windows_memory_is_bounded_by_its_offsets() -> None:
    """Of five windows' worth of records at most two are remembered, at less than 300 bytes each."""
    window = Window(offsets=WINDOW_OFFSETS, microseconds=1)
    tracemalloc.start()
    try:
        for offset in range(5 * WINDOW_OFFSETS):
            event_id = b"0199a1b2-c3d4-7000-8000-%012x" % offset
            assert window.judge(b"tenant-%09d" % (offset % 997), event_id, offset, offset, 1, bytes(32)) is None
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(window) <= 2 * WINDOW_OFFSETS
    assert held / (2 * WINDOW_OFFSETS) < WINDOW_BYTES_MAX
