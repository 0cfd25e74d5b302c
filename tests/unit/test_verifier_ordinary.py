"""The verifier's pass over ordinary records, held against its plain twin: the whole rules for each record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.kafka.topics import TRACEPARENT_HEADER
from sealstream.schemas.codec import SINGLE_OBJECT_MAGIC
from sealstream.schemas.entry import Kind, entry_hash, pack_trusted, payload_digest
from sealstream.schemas.event import EventKind
from sealstream.schemas.violation import Violation
from sealstream.sinks.verifier.chains import Chains
from sealstream.sinks.verifier.ordinary import ID_BYTES_MAX
from sealstream.sinks.verifier.partition import PartitionVerifier
from sealstream.sinks.verifier.records import Chain, ChainedRecord, Demand, Head, Outcome
from sealstream.sinks.verifier.rules import SourceRecord
from support.publish import event_value
from support.verifying import (
    LATEST,
    PARTITION,
    START_MS,
    TOPIC_ID,
    WholeRules,
    chained,
    model_chain,
    source_record,
    tenants_here,
    verify_log,
)

ACME, OTHER = tenants_here(2)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _framed(value: bytes, confluent: bool) -> bytes:
    """Return an event in the other framing, if that is wanted."""
    assert value.startswith(SINGLE_OBJECT_MAGIC)
    return b"\0\0\0\0\7" + value[10:] if confluent else value


_IDS = st.one_of(
    st.integers(0, 40).map(lambda number: f"id-{number}"),
    st.integers(ID_BYTES_MAX - 1, ID_BYTES_MAX + 2).map(lambda size: "i" * size),
    st.sampled_from(["", "no spaces", "i" * 128, "i" * 129]),
)
_SOUND = st.builds(
    _framed,
    st.builds(
        event_value,
        st.sampled_from([ACME.decode(), OTHER.decode()]),
        _IDS,
        note=st.sampled_from(["", "x", "y" * 80]),
        kind=st.sampled_from([EventKind.EVENT, EventKind.EVENT, EventKind.IMPORTED, EventKind.CONTROL]),
    ),
    st.booleans(),
)


def _cut(value: bytes, size: int) -> bytes:
    return value[:size]


def _flipped(value: bytes, at: int, bit: int) -> bytes:
    return value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]


_CUT = st.builds(_cut, _SOUND, st.integers(0, 70))
_FLIPPED = st.builds(_flipped, _SOUND, st.integers(0, 75), st.integers(0, 7))
_VALUES = st.one_of(_SOUND, _SOUND, _SOUND, _SOUND, _CUT, _FLIPPED, st.none())
_KEYS = st.sampled_from([ACME, ACME, ACME, OTHER, OTHER, None, b"!partition-%d" % PARTITION])
_TIMES = st.one_of(st.just(0), st.just(0), st.none(), st.integers(-90_000, 90_000), st.just(10**12))


@st.composite
def _sources(draw: st.DrawFn) -> list[SourceRecord]:
    """Sources that are sound for the most part: each value mostly has its own tenant's key."""
    records: list[SourceRecord] = []
    for step, key, value, shift in draw(
        st.lists(st.tuples(st.integers(1, 9), st.none() | _KEYS, _VALUES, _TIMES), max_size=60)
    ):
        named = ACME if value is not None and ACME in value[:150] else OTHER
        offset = (records[-1].offset if records else -1) + step
        ms = None if shift is None else START_MS + shift
        records.append(source_record(offset, named if key is None else key, value, ms))
    return records


_ALTERATIONS = st.lists(
    st.tuples(
        st.integers(0, 70),
        st.sampled_from(["entry", "no entry", "value", "no value", "key", "drop", "twice", "swap", "trace"]),
        st.integers(0, 200),
    ),
    max_size=4,
)


def _altered(log: list[ChainedRecord], alterations: list[tuple[int, str, int]]) -> list[ChainedRecord]:
    """Return a log with some of its records altered."""
    for place, what, somewhere in alterations:
        if not log:
            return log
        index = place % len(log)
        record = log[index]
        entry, value = record.entry or b"?", record.value or b"?"
        at = somewhere % len(entry)
        changed = {
            "entry": record._replace(entry=entry[:at] + bytes([entry[at] ^ 1]) + entry[at + 1 :]),
            "no entry": record._replace(entry=None),
            "value": record._replace(value=value + b"x"),
            "no value": record._replace(value=None),
            "key": record._replace(key=b"mallory"),
            "trace": record._replace(traceparent=_TRACEPARENT),
        }
        if what == "drop":
            del log[index]
        elif what == "twice":
            log.insert(min(len(log), index + at % 5), record)
        elif what == "swap":
            log[index : index + 2] = reversed(log[index : index + 2])
        else:
            log[index] = changed[what]
    return [record._replace(offset=number) for number, record in enumerate(log)]


def _states(verifier: PartitionVerifier, names: set[bytes]) -> dict[str, object]:
    """Return all that a verifier has come to know."""
    window = verifier.rules.window
    return {
        "chains": {name: verifier.chains.get(name) for name in names},
        "positions": (verifier.chained_position, verifier.source_position, verifier.is_waiting),
        "delayed": list(verifier.delayed),
        "window": window.remembered(),
    }


def _found(outcome: Outcome) -> list[Violation]:
    """Return what was found, whenever that was."""
    return [replace(violation, detected_at=_NEVER) for violation in outcome.violations]


@given(_sources(), _ALTERATIONS, st.sampled_from([1, 2, 7, 1000]))
@settings(max_examples=500, deadline=None)
def test_the_pass_comes_to_what_the_whole_rules_come_to(
    source: list[SourceRecord], alterations: list[tuple[int, str, int]], batch: int
) -> None:
    """Whatever stands in source and log, sound or forged: same feed, same violations, same state behind it."""
    _compare(source, _altered(chained(model_chain(source)), alterations), batch)


@given(_ALTERATIONS.filter(bool), st.sampled_from([3, 1000]))
@settings(max_examples=150, deadline=None)
def test_what_is_altered_in_a_usual_log_does_not_pass(alterations: list[tuple[int, str, int]], batch: int) -> None:
    """Among nothing but ordinary records, an altered one is left to the whole rules, whatever was altered of it."""
    source = [source_record(n, name, event_value(name.decode(), f"e-{n}")) for n, name in enumerate([ACME, OTHER] * 20)]

    _compare(source, _altered(chained(model_chain(source)), alterations), batch)


def _compare(source: list[SourceRecord], log: list[ChainedRecord], batch: int) -> None:
    passed, outcome = verify_log(source, log, batch=batch)
    plain, expected = verify_log(source, log, batch=batch, made_by=WholeRules)

    assert outcome.published == expected.published
    assert _found(outcome) == _found(expected)
    assert +outcome.kinds == +expected.kinds
    assert outcome.records == expected.records
    names = set(outcome.touched) | set(expected.touched)
    assert _states(passed, names) == _states(plain, names)


class _Counting(PartitionVerifier):
    """Counts what is left to the whole rules."""

    left = 0

    def _demand(self, record: ChainedRecord) -> Demand | None:
        type(self).left += 1
        return super()._demand(record)


@pytest.fixture
def counting() -> Iterator[type[_Counting]]:
    """Count from zero."""
    _Counting.left = 0
    yield _Counting
    _Counting.left = 0


@pytest.mark.parametrize("kind", [EventKind.EVENT, EventKind.IMPORTED])
@pytest.mark.parametrize("confluent", [False, True])
def test_ordinary_records_are_left_to_the_pass(kind: EventKind, confluent: bool, counting: type[_Counting]) -> None:
    """But for the first of each tenant, no record of a usual log takes the long way: that is what makes it fast."""
    source = [
        source_record(
            n, name, _framed(event_value(name.decode(), f"0199a1b2-c3d4-7000-8000-{n:012}", kind=kind), confluent)
        )
        for n, name in enumerate([ACME, OTHER] * 50)
    ]

    _, outcome = verify_log(source, chained(model_chain(source)), batch=30, made_by=counting)

    assert len(outcome.published) == 100
    assert outcome.kinds[Kind.EVENT if kind is EventKind.EVENT else Kind.IMPORTED] == 100
    assert counting.left == 2 * 2 + 1  # genesis and first entry of both, and where the window's generations take turns


_SOUND_SIZE = 10 + 1 + len("e-1") + 1 + len(ACME) + 1 + 16  # frame, id, tenant and kind, salt


@pytest.mark.parametrize(
    ("event_id", "size", "ms"),
    [("e-1", _SOUND_SIZE - 1, START_MS), ("e 1", None, START_MS), ("", None, START_MS), ("e-1", None, None)],
)
def test_a_log_that_knows_less_of_the_rules_does_not_pass(event_id: str, size: int | None, ms: int | None) -> None:
    """What must be quarantined is not an event because its entry says so: cut in its salt, with a bad id, undated."""
    values = [event_value(ACME.decode(), "e-0"), event_value(ACME.decode(), event_id)[:size]]
    source = [source_record(0, ACME, values[0]), source_record(1, ACME, values[1], ms)]
    log = chained(model_chain(source))
    forged = pack_trusted(
        Kind.EVENT, 0, ACME, 2, entry_hash(log[1].entry or b""), START_MS * 1000, TOPIC_ID, PARTITION, 1, 0,
        event_id.encode(), len(values[1]), payload_digest(values[1]),
    )  # fmt: skip
    log[2] = log[2]._replace(entry=forged, value=values[1])

    _, outcome = verify_log(source, log)

    assert len(outcome.violations) == 1
    assert len(outcome.published) == 1


def test_a_messages_own_headers_stay_as_they_are() -> None:
    """A message that was checked once says the same when it is checked again, as after a transaction that failed."""
    source = [source_record(n, ACME, event_value(ACME.decode(), f"e-{n}")) for n in range(5)]
    log = [record._replace(traceparent=_TRACEPARENT) for record in chained(model_chain(source))]

    first, again = (verify_log(source, log)[1] for _ in range(2))

    assert first.published == again.published
    assert all([*published[-1]] == [(TRACEPARENT_HEADER, _TRACEPARENT)] for published in first.published)


def test_a_time_beyond_the_latest_possible_is_left_to_the_rules() -> None:
    """A broker's clock that runs ahead is a warning, which the pass does not give: it steps aside."""
    source = [
        source_record(n, ACME, event_value(ACME.decode(), f"e-{n}"), START_MS if n < 3 else LATEST // 1000 + 1)
        for n in range(6)
    ]

    _, outcome = verify_log(source, chained(model_chain(source)))

    assert len(outcome.violations) == 1
    assert len(outcome.published) == 6


class TestChains:
    """Chains that rest are packed, and come back as they were."""

    def test_a_sound_chain_rests_and_comes_back(self) -> None:
        """What was put is what is got, before and after a rest."""
        chains = Chains()
        chains.put(Chain(b"acme", 7, b"h" * 32))
        chains.rest()

        assert chains.get(b"acme") == Chain(b"acme", 7, b"h" * 32)
        assert chains.get(b"other") is None
        assert chains.unsound() == []
        assert chains.begun

    def test_a_chain_that_more_is_known_of_keeps_it(self) -> None:
        """Violations, and where a chain may go on otherwise, are never packed away."""
        chains = Chains()
        stopped = Chain(b"acme", 7, b"h" * 32, open=["ab" * 16])
        parted = Chain(b"other", 3, b"h" * 32, other=Head(4, b"o" * 32))
        for chain in (stopped, parted):
            chains.put(chain)
        chains.rest()

        assert chains.get(b"acme") is stopped
        assert chains.unsound() == [stopped, parted]

    def test_what_changed_since_it_rested_counts(self) -> None:
        """The packed form of a chain that is awake is out of date, and never seen."""
        chains = Chains()
        chains.put(Chain(b"acme", 7, b"h" * 32))
        chains.rest()
        awake = chains.get(b"acme")
        assert awake is not None
        awake.head = Head(8, b"i" * 32)

        assert chains.get(b"acme") is awake
        chains.rest(keep={b"acme"})
        assert chains.get(b"acme") is awake
        chains.rest()
        assert chains.get(b"acme") == Chain(b"acme", 8, b"i" * 32)


def test_what_was_found_earlier_does_not_overwrite_what_is_newer() -> None:
    """An outcome from before a batch takes effect with it: where both touched a chain, the batch knows it better."""
    newer, older = Chain(b"acme", 8), Chain(b"acme", 7)
    outcome = Outcome(touched={b"acme": newer})
    outcome.add(Outcome(touched={b"acme": older, b"other": older}))

    assert outcome.touched == {b"acme": newer, b"other": older}
