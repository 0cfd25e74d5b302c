"""Whatever bytes a reader of foreign bytes is given, it takes them or refuses them with a typed error, and soon."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.target import Target, cpu_limit
from fuzz.targets import TARGETS
from support.mutation import changed_bytes, cuts

EXAMPLES: Final = 40
SEED_BYTES_MAX: Final = 4_000
"""Of larger seeds not every byte is changed here."""
CHANGES_MAX: Final = 500
LARGE_BYTES: Final = 60_000

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@st.composite
def edited(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Draw a seed with pieces of it or of others put in, taken out, doubled or overwritten."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 40)))
        other = draw(st.sampled_from(seeds))
        cut = draw(st.integers(0, len(other)))
        piece = draw(
            st.binary(max_size=9)
            | st.sampled_from(
                [bytes(data[begin:end]) * 2, other[cut : cut + 40], b"\n", b"\n\n", b"\xff" * 8, bytes(8)]
            )
        )
        data[begin:end] = piece
    return bytes(data)


@every_target
def test_seeds(target: Target) -> None:
    """Each target takes one at least of its inputs to begin with; else nothing behind its first check is reached."""
    verdicts = [target.taken(seed) for seed in target.seeds]
    assert True in verdicts


@every_target
def test_any_bytes(target: Target) -> None:
    """Bytes of any kind are taken, or refused with a typed error."""

    @settings(max_examples=EXAMPLES)
    @given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
    def check(data: bytes) -> None:
        with cpu_limit():
            assert target.taken(data) in (True, False)

    check()


@every_target
def test_edited_seeds(target: Target) -> None:
    """What was valid and has been edited in some places is taken, or refused with a typed error."""

    @settings(max_examples=EXAMPLES)
    @given(edited(target.seeds))
    def check(data: bytes) -> None:
        with cpu_limit():
            assert target.taken(data) in (True, False)

    check()


def small_changes(seeds: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield seeds with one byte changed, and cut at each place; of large ones at some places."""
    for seed in seeds:
        yield from changed_bytes(seed[:SEED_BYTES_MAX])
        yield from cuts(seed[:SEED_BYTES_MAX])


@every_target
def test_small_changes(target: Target) -> None:
    """One byte changed, or some cut off, is what happens most: each such input is taken or refused."""
    changes = list(small_changes(target.seeds))
    chosen = random.Random(target.name).sample(changes, min(len(changes), CHANGES_MAX))
    for data in chosen:
        with cpu_limit():
            assert target.taken(data) in (True, False)


@every_target
def test_large_inputs(target: Target) -> None:
    """Large inputs cost no more than time in proportion, whatever is repeated in them."""
    pieces = [b"\x00", b"\xff", b"\n", b" ", b"9", b"a+", b"[", b"\n\n", *(seed[:64] for seed in target.seeds)]
    for seed in target.seeds[:2]:
        for piece in pieces:
            if piece:
                with cpu_limit():
                    assert target.taken((seed + piece * (LARGE_BYTES // len(piece)))[:LARGE_BYTES]) in (True, False)
                    assert target.taken((piece * (LARGE_BYTES // len(piece)))[:LARGE_BYTES]) in (True, False)
