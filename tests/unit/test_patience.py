"""Calls into librdkafka that may hang: one waits for them as long as one wants to, and no longer."""

from __future__ import annotations

import threading
import time

import pytest

from sealstream.kafka.patience import call_within


def _never() -> bool:
    return False


def test_a_call_that_comes_back_is_as_if_it_were_made_here() -> None:
    """What it returns is returned, also if that is nothing, and what it raises is raised."""

    def fail() -> None:
        raise KeyError("of the call")

    assert call_within(lambda: 7, timeout_seconds=10, give_up=_never) == 7
    assert call_within(lambda: None, timeout_seconds=10, give_up=_never) is None
    with pytest.raises(KeyError, match="of the call"):
        call_within(fail, timeout_seconds=10, give_up=_never)


def test_a_call_that_hangs_is_left_behind() -> None:
    """After the time given, one goes on; the call keeps its thread, which does not keep the process."""
    comes_back = threading.Event()
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        call_within(lambda: comes_back.wait(30), timeout_seconds=0.2, give_up=_never)

    assert time.monotonic() - before < 20
    hanging = [thread for thread in threading.enumerate() if thread.name == "call"]
    assert all(thread.daemon for thread in hanging)
    assert hanging
    comes_back.set()


def test_one_may_give_up_before_the_time_is_over() -> None:
    """A worker that was told to stop does not wait for a call that hangs."""
    comes_back, stopping = threading.Event(), threading.Event()
    threading.Timer(0.2, stopping.set).start()
    with pytest.raises(TimeoutError):
        call_within(lambda: comes_back.wait(30), timeout_seconds=30, give_up=stopping.is_set)

    assert stopping.is_set()
    comes_back.set()
