"""Random bytes by the piece, fetched from the system by the page.

Each call of the system lets go of Python's lock, so that another thread may take it and keep the caller, which is in
the middle of a request, waiting for milliseconds.
"""

from __future__ import annotations

import os
from typing import Final

PIECE_BYTES: Final = 16
_PIECES: Final = 256

_stock: Final[list[bytes]] = []


def random_bytes() -> bytes:
    """Return 16 random bytes, fit for secrets; no two calls return the same ones, whatever threads and forks do."""
    try:
        return _stock.pop()  # one step: two threads never get the same piece
    except IndexError:
        page = os.urandom(PIECE_BYTES * _PIECES)
        pieces = [page[start : start + PIECE_BYTES] for start in range(0, len(page), PIECE_BYTES)]
        piece = pieces.pop()
        _stock.extend(pieces)
        return piece


# The parent has the same pieces in stock: a forked process that used them would make the same ids and salts.
os.register_at_fork(after_in_child=_stock.clear)
