"""Checkpoints: one form, and every other byte is refused."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.checkpoint import Checkpoint, chain_origin, root_origin
from sealstream.schemas.errors import CheckpointInvalid
from support.notes import CHECKPOINT

# The text of the example in C2SP tlog-checkpoint.
EXAMPLE = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

LINES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, range(32)))), min_size=1, max_size=40
)
CHECKPOINTS = st.builds(
    Checkpoint,
    origin=LINES,
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    extensions=st.lists(LINES, max_size=3).map(tuple),
)


def test_published_example() -> None:
    """The example of the specification is read, and written back byte for byte."""
    checkpoint = Checkpoint.parse(EXAMPLE)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert checkpoint.pack() == EXAMPLE


@given(CHECKPOINTS)
def test_comes_back(checkpoint: Checkpoint) -> None:
    """What is written is read."""
    assert Checkpoint.parse(checkpoint.pack()) == checkpoint


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, they are a checkpoint in its one form, or refused with a reason."""
    try:
        checkpoint = Checkpoint.parse(data)
    except CheckpointInvalid:
        return
    assert checkpoint.pack() == data


def test_cut_anywhere() -> None:
    """A checkpoint that was cut is refused, wherever."""
    for size in range(len(EXAMPLE)):
        with pytest.raises(CheckpointInvalid):
            Checkpoint.parse(EXAMPLE[:size])


@pytest.mark.parametrize("place", range(len(EXAMPLE)))
def test_changed_anywhere(place: int) -> None:
    """A changed byte gives another checkpoint or none: no two texts say the same."""
    read: list[Checkpoint] = []
    for byte in range(256):
        with contextlib.suppress(CheckpointInvalid):
            read.append(Checkpoint.parse(EXAMPLE[:place] + bytes((byte,)) + EXAMPLE[place + 1 :]))
    assert read.count(Checkpoint.parse(EXAMPLE)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "newline"),
        (b"a\n1\n", "2 lines"),
        (EXAMPLE.replace(b"20852163", b"020852163"), "leading zeros"),
        (EXAMPLE.replace(b"20852163", b"9223372036854775808"), "decimal"),
        (EXAMPLE.replace(b"q2I=", b"q2J="), "one form"),
        (EXAMPLE.replace(b"q2I=", b"q2I"), "base64"),
        (b"a\n1\nAAAA\n", "3 bytes"),
        (b"\n" + EXAMPLE, "line 1 is empty"),
        (EXAMPLE + b"\n", "line 4 is empty"),
        (EXAMPLE + b"a\rb\n", "line 4"),
        (b"\xff" + EXAMPLE, "UTF-8"),
    ],
)
def test_reasons(text: bytes, words: str) -> None:
    """What is wrong is said."""
    with pytest.raises(CheckpointInvalid, match=words):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(CHECKPOINT, origin=""),
        replace(CHECKPOINT, origin="a\nb"),
        replace(CHECKPOINT, origin="\udc80"),
        replace(CHECKPOINT, size=-1),
        replace(CHECKPOINT, size=2**63),
        replace(CHECKPOINT, root=bytes(31)),
        replace(CHECKPOINT, extensions=("",)),
        replace(CHECKPOINT, extensions=("a\n",)),
    ],
)
def test_only_checkpoints_are_written(wrong: Checkpoint) -> None:
    """What would not be read is not written."""
    with pytest.raises(CheckpointInvalid):
        wrong.pack()


def test_origins() -> None:
    """The root log has the instance's name, a chain's log that and the chain's as it is, case included."""
    assert root_origin("demo.example/audit") == "demo.example/audit"
    assert chain_origin("demo.example/audit", "Acme_1") == "demo.example/audit/Acme_1"
    assert chain_origin("demo.example/audit", "!partition-7") == "demo.example/audit/!partition-7"
    assert len(chain_origin("a" * 120, "b" * 64).encode()) <= 255  # what ML-DSA-44 can cosign


@pytest.mark.parametrize(
    ("instance", "chain"), [("Demo", "acme"), ("", "acme"), ("demo", "a/b"), ("demo", "!p"), ("demo", "")]
)
def test_no_origins(instance: str, chain: str) -> None:
    """Nothing but the names of an instance and of a chain makes an origin."""
    with pytest.raises(CheckpointInvalid):
        chain_origin(instance, chain)
