"""Bodies are read as they come, and never more of them than was said."""

from __future__ import annotations

from typing import Any

import pytest

from sealstream.producers.gateway.bodies import SHARE_OF_ALL, Bodies, ClientGone, Receive
from sealstream.producers.gateway.problems import Problem


def coming(*pieces: bytes, ends: bool = True) -> Receive:
    """Return what gives these pieces one after the other; the last one ends the body, or the client is gone then."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left) or not ends}

    return receive


async def test_pieces_make_the_body() -> None:
    """However it is cut, a body arrives whole; it is held until it is released."""
    bodies = Bodies(1_000)
    for pieces in ((b"abc",), (b"a", b"", b"bc"), (b"",)):
        body = await bodies.read(coming(*pieces), None)
        assert body == b"".join(pieces)
        assert bodies.held_bytes == len(body)
        bodies.release(body)
    assert bodies.held_bytes == 0


@pytest.mark.parametrize("length", [b"", b"-1", b"1.5", b"0x10", b"9" * 19, b"\xb2"])
async def test_a_length_is_a_number(length: bytes) -> None:
    """Anything else is refused before a byte is read."""
    with pytest.raises(Problem, match="Content-Length"):
        await Bodies(1_000).read(coming(b"abc"), length)


@pytest.mark.parametrize("pieces", [(b"x" * 1_001,), (b"x" * 600, b"x" * 401), (b"x" * 10,) * 101])
async def test_what_is_too_large_is_let_go(pieces: tuple[bytes, ...]) -> None:
    """A body that grows too large is refused, and nothing of it counts as held any more."""
    bodies = Bodies(1_000)
    with pytest.raises(Problem) as caught:
        await bodies.read(coming(*pieces), None)

    assert (caught.value.status, bodies.held_bytes) == (413, 0)


async def test_a_client_that_goes_is_forgotten() -> None:
    """A body whose client goes away in its midst is let go."""
    bodies = Bodies(1_000)
    with pytest.raises(ClientGone):
        await bodies.read(coming(b"abc", b"def", ends=False), b"100")

    assert bodies.held_bytes == 0


async def test_all_bodies_together_have_a_bound() -> None:
    """Where all of the room is taken, another body is 503 with when to try again; when one is let go, it is taken."""
    bodies = Bodies(1_000)
    held = [await bodies.read(coming(b"x" * 1_000), b"1000") for _ in range(SHARE_OF_ALL)]
    for length in (b"1", None):
        with pytest.raises(Problem) as caught:
            await bodies.read(coming(b"x"), length)
        assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)

    bodies.release(held.pop())
    assert await bodies.read(coming(b"x"), b"1") == b"x"
