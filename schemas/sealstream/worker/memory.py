"""How a worker's memory is managed where the defaults are made for other programs."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

GARBAGE_OBJECTS: Final = 500_000
_ARENA_MAX: Final = -8  # M_ARENA_MAX in glibc's malloc.h


def tune() -> None:
    """Tune this process for batches of records. Call it once, when what stays has been made and no thread runs yet.

    - A batch makes and drops some hundred thousand objects without cycles: to look for cycles among them after every
      700 takes up to a fifth of the time.
    - librdkafka allocates each record and header in one thread and frees it in another. With an arena a thread, as
      glibc gives them, that costs more than all else about a header: measured, 7 instead of 4 microseconds for a
      record with five. One arena for all threads also keeps memory from being held twice.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
    except (OSError, AttributeError):
        return  # another C library, which has other arenas or none
