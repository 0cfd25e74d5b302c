"""A library that says one thing a hundred times does not bury what is said once."""

from __future__ import annotations

import logging

from sealstream.worker.repeats import AGAIN_SECONDS, KINDS_MAX, Repeats


class Said:
    """A logger's filter, its clock, and what came through."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._filter = Repeats(clock=lambda: self.now)

    def say(self, text: str, level: int = logging.ERROR) -> None:
        """Say something, as a library does."""
        record = logging.LogRecord("kafka", level, "", 0, "%s", (text,), None)
        if self._filter.filter(record):
            self.lines.append(record.getMessage())


def test_alike_lines_are_told_once_in_a_while_with_their_number() -> None:
    """Lines that differ only in how long something took are one kind; the next says how many were held back."""
    said = Said()
    for n in range(5):
        said.say(f"broker:9092: Connection refused (after {n}ms in state CONNECT)")
    said.now = AGAIN_SECONDS
    said.say("broker:9092: Connection refused (after 9ms in state CONNECT)")

    assert said.lines == [
        "broker:9092: Connection refused (after 0ms in state CONNECT)",
        "broker:9092: Connection refused (after 9ms in state CONNECT) [and 4 more like it before]",
    ]


def test_other_lines_go_through_at_once() -> None:
    """Another broker, another level or other words are another kind."""
    said = Said()
    said.say("one:9092: Connection refused (after 1ms)")
    said.say("two:9092: Connection refused (after 1ms)")
    said.say("one:9092: Connection refused (after 1ms)", logging.WARNING)

    assert len(said.lines) == 3


def test_memory_is_bounded() -> None:
    """However many kinds a library knows, only the latest are remembered, and each of them is still told apart."""
    said = Said()
    for n in range(KINDS_MAX + 1):
        said.say(f"kind {n}")
    said.say("kind 0")
    said.say(f"kind {KINDS_MAX}")

    assert len(said.lines) == KINDS_MAX + 2
    assert said.lines[-1] == "kind 0"
