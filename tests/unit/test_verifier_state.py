"""What the verifier remembers, and what it may do with a partition that it comes back to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealstream.schemas.errors import FormatError, HeadsDiffer, InstanceDiffers, SourceExpired
from sealstream.schemas.violation import ViolationType
from sealstream.sinks.verifier.records import Chain, Head
from sealstream.sinks.verifier.restoring import Log, begin_or_go, is_short, log_damage
from sealstream.sinks.verifier.state import (
    Position,
    StateReader,
    chain_key,
    pack_chain,
    parse_chain,
    partition_key,
)
from support.verifying import GENESIS

CHAINED_ID, SOURCE_ID = b"c" * 16, b"s" * 16
POSITION = Position(
    chained=50,
    source=40,
    verified=40,
    chained_topic_id=CHAINED_ID,
    source_topic_id=SOURCE_ID,
    genesis=GENESIS.payload(),
)
CHAINED = Log("audit.chained", CHAINED_ID, 0, 100)
SOURCE = Log("audit.events", SOURCE_ID, 0, 100)
_HASHES = st.binary(min_size=32, max_size=32)
_IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.lists(_HASHES, max_size=3),
    st.lists(_IDS, max_size=3),
)
def test_a_position_comes_back_as_it_was(chained: int, source: int, delayed: list[bytes], stopped: list[str]) -> None:
    """What is written of a partition is what is read."""
    position = replace(POSITION, chained=chained, source=source, delayed=tuple(delayed), stopped=tuple(stopped))

    assert Position.parse(position.pack()) == position


@given(
    st.builds(Head, st.integers(0, 2**62), _HASHES),
    st.one_of(st.none(), st.builds(Head, st.integers(0, 2**62), _HASHES)),
    st.booleans(),
    st.lists(_IDS, max_size=3),
    st.integers(0, 1000),
)
def test_a_chain_comes_back_as_it_was(
    head: Head, other: Head | None, missing: bool, still_open: list[str], unreported: int
) -> None:
    """What is written of a chain is what is read."""
    chain = Chain(b"acme", *head, other, missing, still_open, unreported)

    assert parse_chain(b"acme", pack_chain(chain)) == chain


@given(st.integers(0, 2**62), _HASHES)
def test_a_sound_chain_is_written_like_any_other(seq: int, prev: bytes) -> None:
    """The short way that nearly all chains take gives the same JSON, and is read in both ways."""
    chain = Chain(b"acme", seq, prev)
    fields: dict[str, object] = {
        "seq": seq,
        "prev": prev.hex(),
        "other": None,
        "missing": False,
        "open": [],
        "unreported": 0,
    }

    assert pack_chain(chain) == json.dumps(fields, separators=(",", ":")).encode()
    assert parse_chain(b"acme", pack_chain(chain)) == parse_chain(b"acme", json.dumps(fields).encode()) == chain


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"{", b"null", b"[" * 100_000, b'{"version":2}', b'{"version":1,"chained":-1}', b"\xff"]
)
def test_what_is_no_state_is_refused(value: bytes) -> None:
    """Bytes that no verifier of this version wrote raise a typed error, never another one."""
    with pytest.raises(FormatError):
        Position.parse(value)
    with pytest.raises(FormatError):
        parse_chain(b"acme", value)


def test_the_last_record_of_a_key_counts() -> None:
    """A partition's state is what was written last of it and of each of its chains."""
    reader = StateReader(3)
    for seq in (1, 2):
        reader.feed(chain_key(3, b"acme"), pack_chain(Chain(b"acme", seq, bytes(32))))
        reader.feed(partition_key(3), replace(POSITION, chained=seq).pack())

    assert reader.position == replace(POSITION, chained=2)
    assert reader.chains.get(b"acme") == Chain(b"acme", 2, bytes(32))


@pytest.mark.parametrize("key", [None, b"", b"4", b"4/acme", b"acme"])
def test_a_record_that_no_verifier_writes_there_stops_it(key: bytes | None) -> None:
    """A record of another partition, or of something else, is an unsafe state and not ignored."""
    with pytest.raises(HeadsDiffer):
        StateReader(3).feed(key, POSITION.pack())


def test_a_source_that_lost_its_beginning_is_gone_on_with_if_audit_chained_says_so() -> None:
    """What audit.chained next declares lost lets the checks begin; less than the whole does not."""
    source = SOURCE._replace(start=45)
    for position, verified in ((POSITION, 40), (None, 0)):
        found = begin_or_go(0, position, CHAINED, source, GENESIS, declared_to=45)
        assert (found.source, found.verified) == (45, verified)
        with pytest.raises(SourceExpired):
            begin_or_go(0, position, CHAINED, source, GENESIS, declared_to=44)


def test_a_first_verification_begins_at_the_beginning() -> None:
    """Without a state both logs are read from offset 0, and pinned by their topics' UUIDs."""
    position = begin_or_go(0, None, CHAINED, SOURCE, GENESIS)

    assert position == replace(POSITION, chained=0, source=0, verified=0)


@pytest.mark.parametrize(
    ("position", "chained", "source", "error"),
    [
        (None, CHAINED._replace(start=1), SOURCE, SourceExpired),
        (None, CHAINED, SOURCE._replace(start=1), SourceExpired),
        (POSITION, CHAINED._replace(start=51), SOURCE, SourceExpired),
        (POSITION, CHAINED, SOURCE._replace(start=41), SourceExpired),
        (POSITION, CHAINED, SOURCE._replace(topic_id=b"x" * 16), InstanceDiffers),
        (replace(POSITION, genesis=replace(GENESIS, partitions=8).payload()), CHAINED, SOURCE, InstanceDiffers),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(
    position: Position | None, chained: Log, source: Log, error: type[Exception]
) -> None:
    """What expired before it was verified, and what belongs to another instance, is a typed error."""
    with pytest.raises(error):
        begin_or_go(0, position, chained, source, GENESIS)


@pytest.mark.parametrize(("chained", "source"), [(CHAINED, SOURCE), (CHAINED._replace(start=50), SOURCE)])
def test_what_is_all_there_is_gone_on_with(chained: Log, source: Log) -> None:
    """A log that begins at or before the position, and reaches it, is gone on with."""
    assert begin_or_go(0, POSITION, chained, source, GENESIS) == POSITION
    assert log_damage(0, POSITION, chained, source, GENESIS) is None
    assert not is_short(POSITION, chained, source)


@pytest.mark.parametrize(
    ("chained", "source", "kind", "offset"),
    [
        (CHAINED._replace(topic_id=b"x" * 16), SOURCE, ViolationType.ROLLBACK, 50),
        (CHAINED._replace(end=49), SOURCE, ViolationType.TRUNCATED, 50),
        (CHAINED, SOURCE._replace(end=39), ViolationType.TRUNCATED, 40),
    ],
)
def test_a_damaged_log_is_a_violation_of_the_partition(
    chained: Log, source: Log, kind: ViolationType, offset: int
) -> None:
    """A topic made anew is a rollback, a log that lost its end is truncated; both name the partition's chain."""
    found = log_damage(2, POSITION, chained, source, GENESIS)

    assert found is not None
    assert (found.type, found.tenant, found.seq, found.offset) == (kind, "!partition-2", None, offset)
    assert is_short(POSITION, chained, source) == (kind is ViolationType.TRUNCATED)
    assert log_damage(2, None, chained, source, GENESIS) is None


def test_another_source_is_refused_however_long_it_is() -> None:
    """A source topic made anew is another instance's affair, not one that lost its end."""
    source = SOURCE._replace(topic_id=b"x" * 16, end=0)

    assert log_damage(2, POSITION, CHAINED, source, GENESIS) is None
    with pytest.raises(InstanceDiffers):
        begin_or_go(2, POSITION, CHAINED, source, GENESIS)
