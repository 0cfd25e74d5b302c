"""What a fuzz target is: a reader of foreign bytes, inputs to begin with, and the errors that it may raise."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, TypeVar

from sealstream.schemas.errors import FormatError

CPU_SECONDS_MAX: Final = 5.0
"""What one input may cost at most; nearly all cost less than a thousandth of it."""

_Value = TypeVar("_Value")


class TooSlow(BaseException):
    """An input keeps its reader busy; no ``except Exception`` can hide it."""


@dataclass(frozen=True)
class Target:
    """A reader of foreign bytes.

    Arguments:
        name: How the command line calls it.
        check: Reads the bytes; returns if they are taken, and asserts what then holds.
        seeds: Inputs to begin with, most of which are taken.
        errors: The errors by which it refuses what it does not take.
    """

    name: str
    check: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = (FormatError,)

    def taken(self, data: bytes) -> bool:
        """Return whether the reader takes the bytes; whatever else it raises than a typed error is a finding.

        Raises:
            TooSlow: It takes more than :data:`CPU_SECONDS_MAX`.
        """
        try:
            self.check(data)
        except self.errors:
            return False
        return True


@contextmanager
def cpu_limit(seconds: float = CPU_SECONDS_MAX) -> Generator[None]:
    """Raise :class:`TooSlow` where the block takes more of the processor's time; waiting for others does not count."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def same(parse: Callable[[bytes], _Value], pack: Callable[[_Value], bytes]) -> Callable[[bytes], None]:
    """Return a check of a format that has one encoding of each value: what is taken is packed to the same bytes."""

    def check(data: bytes) -> None:
        packed = pack(parse(data))
        assert packed == data, f"{data!r} is packed as {packed!r}"

    return check


def text_of(data: bytes) -> str:
    """Return bytes as the text that a caller may hold: whatever is no UTF-8 as Python reads it from the system."""
    return data.decode(errors="surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return the bytes that a text stands for, the inverse of :func:`text_of`."""
    return text.encode(errors="surrogateescape")


def by_name(targets: Iterable[Target]) -> dict[str, Target]:
    """Return targets by their names."""
    named: dict[str, Target] = {}
    for target in targets:
        assert named.setdefault(target.name, target) is target, target.name
    return named
