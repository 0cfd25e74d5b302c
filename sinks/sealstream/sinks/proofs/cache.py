"""What was read and will be read again: bounded by bytes, for several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

_OVERHEAD_BYTES: Final = 200  # of an entry's key and its place


class BytesCache:
    """Keeps bytes by their keys, the least recently used going first.

    Only what never changes belongs in it.

    Arguments:
        bytes_max: How much it holds.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], bytes]) -> bytes:
        """Return what is kept under a key; else what is read, which is kept from then on.

        Two threads that ask for the same at once may both read it.
        """
        if (found := self.known(key)) is not None:
            return found
        found = read()
        self.keep(key, found)
        return found

    def keep(self, key: Hashable, data: bytes) -> None:
        """Keep bytes under a key, unless there are some."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += len(data) + _OVERHEAD_BYTES
            while self._bytes > self._bytes_max and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped) + _OVERHEAD_BYTES

    def known(self, key: Hashable) -> bytes | None:
        """Return what is kept under a key; ``None`` for nothing."""
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
            return found


class Recent(Generic[_Key, _Value]):
    """Keeps so many values by their keys, the least recently used going first; for several threads.

    Arguments:
        count_max: How many it holds.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Value] = OrderedDict()

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """Return what is kept under a key; else what is made, which is kept from then on."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._count_max:
                self._kept.popitem(last=False)
        return made
