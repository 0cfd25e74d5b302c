"""Reading ahead: what a source yields comes in its order, with its errors, and it is closed in the end."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from sealstream.producers.importer.ahead import read_ahead
from sealstream.schemas.errors import Unreachable


class Items:
    """A generator of numbers that says what became of it."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count = count
        self.error = error
        self.given = 0
        self.second = threading.Event()
        self.closed_on: threading.Thread | None = None

    def __call__(self) -> Generator[int]:
        """Yield the numbers, and then raise the error."""
        try:
            for number in range(self.count):
                self.given = number + 1
                if self.given == 2:
                    self.second.set()
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed_on = threading.current_thread()


def test_all_in_order() -> None:
    """Everything comes, in its order, and the source is closed."""
    items = Items(100)

    assert list(read_ahead(items())) == list(range(100))
    assert items.closed_on not in {None, threading.current_thread()}


def test_one_is_ahead() -> None:
    """While one item is at hand the next is made already, and no more: memory stays bounded."""
    items = Items(100)
    with closing(read_ahead(items())) as ahead:
        assert next(ahead) == 0
        assert items.second.wait(30)
        assert items.given == 2


def test_its_error_comes_behind_its_items() -> None:
    """What a source raises is raised to whoever reads it, behind what came before."""
    found: list[int] = []
    with pytest.raises(Unreachable, match="gone"):
        found.extend(read_ahead(Items(3, Unreachable("gone"))()))

    assert found == [0, 1, 2]


def test_closed_early() -> None:
    """Whoever stops in the middle finds the source closed, and nothing going on."""
    items = Items(100)
    before = threading.active_count()
    with closing(read_ahead(items())) as ahead:
        assert next(ahead) == 0
    assert items.closed_on is not None
    assert items.given <= 2
    assert threading.active_count() == before
