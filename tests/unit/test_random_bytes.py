"""Random bytes by the piece: never the same ones twice, in whatever process."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from sealstream.schemas.random_bytes import PIECE_BYTES, random_bytes


def test_pieces_differ_over_threads() -> None:
    """However many threads ask, each gets 16 bytes of its own."""
    with ThreadPoolExecutor(4) as pool:
        pieces = [asked.result() for asked in [pool.submit(random_bytes) for _ in range(20_000)]]

    assert len(set(pieces)) == 20_000
    assert {len(piece) for piece in pieces} == {PIECE_BYTES}


def test_a_forked_process_gets_others() -> None:
    """A fork must not repeat what its parent will use: two events would get one id."""
    random_bytes()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"".join(random_bytes() for _ in range(20)))
        os._exit(0)
    own = {random_bytes() for _ in range(300)}
    os.waitpid(child, 0)
    theirs = os.read(reader, 20 * PIECE_BYTES)
    os.close(reader)
    os.close(writer)

    assert len(theirs) == 20 * PIECE_BYTES
    assert not own & {theirs[start : start + PIECE_BYTES] for start in range(0, len(theirs), PIECE_BYTES)}
