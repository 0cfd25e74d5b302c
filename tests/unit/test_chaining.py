"""The rules of chaining, one by one: the published vectors, every reason of quarantine, headers, positions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from sealstream.kafka.partition import partition_of
from sealstream.processors.chaining import (
    Chained,
    PartitionState,
    PositionDiffers,
    Rules,
    chain,
    judge_value,
)
from sealstream.processors.chaining import Link as End
from sealstream.processors.heads import PackedHeads
from sealstream.schemas.chain import Link, verify_chain
from sealstream.schemas.entry import (
    CARRIED_KINDS,
    EVENT_ID_PATTERN,
    VALUE_BYTES_MAX,
    Genesis,
    Kind,
    Quarantine,
    entry_hash,
    parse,
)
from sealstream.schemas.event import EventKind
from sealstream.schemas.merkle import root
from support.model import Model, SourceRecord
from support.publish import event_value
from support.records import MessageLike

TOPIC_ID = bytes(range(16))
PARTITIONS = 4
GENESIS = Genesis("test.example/audit", PARTITIONS)
TENANT = b"acme"
PARTITION = partition_of(TENANT, PARTITIONS)
GOOD = event_value("acme", "ev-1")
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"


def make_state(rules: Rules, partition: int = PARTITION) -> PartitionState:
    """Return the state of a partition that was never chained."""
    return PartitionState(partition, PackedHeads(), rules.window())


def record(  # noqa: D103
    offset: int,
    key: bytes | None = TENANT,
    value: bytes | None = GOOD,
    *,
    partition: int = PARTITION,
    timestamp_ms: int | None = 1_700_000_000_000,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> SourceRecord:
    return SourceRecord(partition, offset, key, value, timestamp_ms, tuple(headers))


def run(*records: SourceRecord, genesis: Genesis = GENESIS) -> Chained:
    """Chain records of one partition from its beginning, and hold the outcome equal to the model's."""
    rules = Rules(genesis, TOPIC_ID)
    state = make_state(rules, records[0].partition)
    chained = chain(rules, state, [MessageLike(one) for one in records])
    expected = Model(genesis, TOPIC_ID, records[0].partition).expect(records)

    assert [(one.key, one.value, one.entry, one.traceparent) for one in expected] == chained.sealed
    return chained


def kinds(chained: Chained) -> list[Kind]:
    """Return the kinds of the entries, in order, without geneses."""
    parsed = [parse(entry).kind for _, _, entry, _ in chained.sealed]
    return [kind for kind in parsed if kind is not Kind.GENESIS]


def test_the_published_vectors_come_out() -> None:
    """The chain of the specification's example has exactly the published hashes and root.

    Its payloads are single bytes, which no frame allows; so the example is chained with a prefix reader of its own.
    """
    names = {b"a": b"ev-1", b"b": b"ev-2"}
    rules = Rules(Genesis("demo.example/audit", 4), TOPIC_ID)
    state = make_state(rules, 0)
    state.heads.put(End(TENANT))  # a chain that is known lets its tenant pass in a partition that is not its own
    values = [b"a", b"b", b"a", b"\xff"]
    records = [
        record(n, TENANT, value, partition=0, timestamp_ms=1_700_000_000_000 + n) for n, value in enumerate(values)
    ]

    def judge_example(_tenant: bytes, value: bytes, *, append_time: bool) -> tuple[int, bytes, Kind]:
        assert append_time
        return (0, names[value], Kind.EVENT) if value in names else (Quarantine.MALFORMED, b"", Kind.QUARANTINED)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sealstream.processors.chaining.judge_value", judge_example)
        chained = chain(rules, state, [MessageLike(one) for one in records])
    hashes = [entry_hash(entry) for _, _, entry, _ in chained.sealed]

    assert [digest.hex() for digest in hashes] == [
        "1f3f3fb8e5c903497785c03ab9db4a2e9b2c384e6725574fdd1f54e31dc08cc7",
        "d63e184656e91ca7abca0366a0a326ceb66bea1c5ad7932b79606cdf9df47f3f",
        "e5f5effc413311ec9c7e248e17e38fdfddd6efb7651e357f103abc740cd86f0e",
        "1ddd28deb226a3ffeee618c89c01d25efcc1c429c605fa3d8b4f2a30d9ff30cd",
        "19e95d85a373a33373c04a47854ce89b455c682e35d1e5d359160bbb3d579f11",
    ]
    assert root(hashes).hex() == "56735eade6ae7b44be86c95637bd6a8da94688d496fd2296b5f7cfcaa5b9a573"


QUARANTINED = [
    (Quarantine.NO_KEY, record(0, None)),
    (Quarantine.NO_KEY, record(0, b"")),
    (Quarantine.TENANT_INVALID, record(0, b"!partition-0", partition=0)),
    (Quarantine.TENANT_INVALID, record(0, b".", event_value(".", "a"))),
    (Quarantine.TENANT_INVALID, record(0, b"..", event_value("..", "a"))),
    (Quarantine.TENANT_INVALID, record(0, b"with space")),
    (Quarantine.TENANT_INVALID, record(0, b"a" * 65)),
    (Quarantine.TENANT_INVALID, record(0, b"acme\n")),
    (Quarantine.PARTITION_WRONG, record(0, partition=(PARTITION + 1) % PARTITIONS)),
    (Quarantine.VALUE_SIZE, record(0, value=None)),
    (Quarantine.VALUE_SIZE, record(0, value=b"")),
    (Quarantine.VALUE_SIZE, record(0, value=GOOD + bytes(VALUE_BYTES_MAX))),
    (Quarantine.MALFORMED, record(0, value=b"\xff")),
    (Quarantine.MALFORMED, record(0, value=GOOD[:20])),
    (Quarantine.TENANT_DIFFERS, record(0, value=event_value("other", "ev-1"))),
    (Quarantine.TENANT_DIFFERS, record(0, value=event_value("other", "no spaces"))),
    (Quarantine.EVENT_ID_INVALID, record(0, value=event_value("acme", ""))),
    (Quarantine.EVENT_ID_INVALID, record(0, value=event_value("acme", "no spaces"))),
    (Quarantine.EVENT_ID_INVALID, record(0, value=event_value("acme", "x" * 129))),
    (Quarantine.TIMESTAMP_TYPE, record(0, timestamp_ms=None)),
]


@pytest.mark.parametrize(("reason", "bad"), QUARANTINED)
def test_each_thing_wrong_with_a_record_has_its_reason(reason: Quarantine, bad: SourceRecord) -> None:
    """A bad record becomes one entry of kind 4 with the reason of the first check that fails, and a dead letter."""
    chained = run(bad)
    entry = parse(chained.sealed[1][2])

    assert (entry.kind, entry.reason, entry.ref) == (Kind.QUARANTINED, reason, 0)
    assert entry.tenant == (f"!partition-{bad.partition}" if reason <= Quarantine.PARTITION_WRONG else "acme")
    assert chained.sealed[1][1] == b""
    [letter] = chained.letters
    assert (letter.key, letter.value, letter.reason, letter.seq) == (bad.key, bad.value, reason, 1)
    assert letter.chain.decode() == entry.tenant
    assert letter.digest == entry.payload


def test_the_first_check_that_fails_decides() -> None:
    """A record with everything wrong has the first reason, and each repair brings out the next one."""
    other = (PARTITION + 1) % PARTITIONS
    wrong = event_value("other", "no spaces")
    in_order = [
        record(0, None, b"", partition=other, timestamp_ms=None),
        record(0, b"!", b"", partition=other, timestamp_ms=None),
        record(0, TENANT, b"", partition=other, timestamp_ms=None),
        record(0, TENANT, b"", timestamp_ms=None),
        record(0, TENANT, b"\xff", timestamp_ms=None),
        record(0, TENANT, wrong, timestamp_ms=None),
        record(0, TENANT, event_value("acme", "no spaces"), timestamp_ms=None),
        record(0, TENANT, GOOD, timestamp_ms=None),
    ]

    assert [parse(run(one).sealed[-1][2]).reason for one in in_order] == list(Quarantine)


def test_a_record_without_the_brokers_time_was_not_received() -> None:
    """Where the time is the publisher's own claim, entry and genesis say 0."""
    chained = run(record(0, None, timestamp_ms=None), record(1, timestamp_ms=None))

    assert [parse(entry).received for _, _, entry, _ in chained.sealed] == [0, 0, 0, 0]


def test_the_payloads_own_kind_becomes_the_entrys() -> None:
    """Events, imported events and controls keep their kinds, and their values travel untouched."""
    values = [event_value("acme", f"e-{kind}", kind=kind) for kind in EventKind]
    chained = run(*(record(n, value=value) for n, value in enumerate(values)))

    assert kinds(chained) == [Kind.EVENT, Kind.IMPORTED, Kind.CONTROL]
    assert [value for _, value, _, _ in chained.sealed[1:]] == values


def test_a_repeat_is_a_duplicate_or_a_conflict_and_says_of_what() -> None:
    """Equal bytes are a duplicate of the first such record; other bytes under a used id are a conflict, and carried."""
    forged = event_value("acme", "ev-1", note="forged")
    chained = run(record(0), record(1), record(2, value=forged), record(3, value=forged), record(4))
    entries = [parse(entry) for _, _, entry, _ in chained.sealed[1:]]

    assert [entry.kind for entry in entries] == [
        Kind.EVENT,
        Kind.DUPLICATE,
        Kind.CONFLICT,
        Kind.DUPLICATE,
        Kind.DUPLICATE,
    ]
    assert [entry.ref for entry in entries] == [0, 1, 1, 3, 1]
    assert [value for _, value, _, _ in chained.sealed[1:]] == [GOOD, b"", forged, b"", b""]


def test_quarantined_records_and_duplicates_do_not_enter_the_window() -> None:
    """What was quarantined is repeated by nobody, and a duplicate does not refresh what it repeats."""
    genesis = Genesis("test.example/audit", PARTITIONS, window_offsets=10)
    timeless = record(0, timestamp_ms=None)
    chained = run(timeless, record(1), record(9), record(12), genesis=genesis)

    assert kinds(chained) == [Kind.QUARANTINED, Kind.EVENT, Kind.DUPLICATE, Kind.EVENT]


def test_the_same_id_of_another_tenant_is_no_repeat() -> None:
    """Ids are unique within a tenant, and nobody else's events are touched by a guessed one."""
    other = next(name for name in (f"t{n}" for n in range(99)) if partition_of(name.encode(), PARTITIONS) == PARTITION)
    chained = run(record(0), record(1, other.encode(), event_value(other, "ev-1")))

    assert kinds(chained) == [Kind.EVENT, Kind.EVENT]


def test_a_key_that_names_a_partitions_chain_never_reaches_it_as_a_tenant() -> None:
    """Once ``!partition-<n>`` exists, a record whose key is that name is quarantined like any other bad key."""
    name = f"!partition-{PARTITION}".encode()
    chained = run(record(0, None), record(1, name, event_value("acme", "x")), record(2, name))

    assert [parse(entry).reason for _, _, entry, _ in chained.sealed[1:]] == [1, 2, 2]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("traceparent", TRACE)], TRACE),
        ([("other", b"x"), ("traceparent", TRACE), ("traceparent", b"second")], TRACE),
        ([("traceparent", b"nonsense"), ("traceparent", TRACE)], None),
        ([("traceparent", None)], None),
        ([("traceparent", TRACE + b"\n")], None),
        ([("Traceparent", TRACE)], None),
        ([("x", b"h" * 300_000)] * 3, None),
        ([], None),
    ],
)
def test_only_a_valid_first_traceparent_is_carried_on(
    headers: list[tuple[str, bytes | None]], expected: bytes | None
) -> None:
    """Of a record's headers a valid first ``traceparent`` travels on, and nothing else does."""
    chained = run(record(0, headers=headers))

    assert [trace for _, _, _, trace in chained.sealed] == [None, expected]


def test_headers_that_cannot_be_read_do_no_harm() -> None:
    """A header whose name is no text makes the client fail; the record is chained all the same."""

    class Unreadable(MessageLike):
        def headers(self) -> list[tuple[str, bytes | None]] | None:
            raise SystemError("returned a result with an exception set")

    rules = Rules(GENESIS, TOPIC_ID)
    chained = chain(rules, make_state(rules), [Unreadable(record(0))])

    assert kinds(chained) == [Kind.EVENT]


@pytest.mark.parametrize("offsets", [(5, 5), (5, 4), (2,)])
def test_records_that_go_backwards_are_refused(offsets: tuple[int, ...]) -> None:
    """A batch that overlaps what is chained, or itself, is never chained: it must be read again."""
    rules = Rules(GENESIS, TOPIC_ID)
    state = make_state(rules)
    chain(rules, state, [MessageLike(record(2, value=event_value("acme", "first")))])

    with pytest.raises(PositionDiffers):
        chain(rules, state, [MessageLike(record(offset, value=event_value("acme", str(offset)))) for offset in offsets])


def test_offsets_may_have_gaps() -> None:
    """What a transactional publisher aborted, and its markers, leave gaps, which are no entries."""
    rules = Rules(GENESIS, TOPIC_ID)
    state = make_state(rules)
    chain(rules, state, [MessageLike(record(n, value=event_value("acme", f"e{n}"))) for n in (3, 70, 71, 9_000)])

    assert (state.position, state.last_offset, state.last_received) == (9_001, 9_000, 1_700_000_000_000_000)
    state_before = (state.position, state.last_offset)
    assert chain(rules, state, []).sealed == []
    assert (state.position, state.last_offset) == state_before


def test_a_chain_verifies_by_itself() -> None:
    """What chaining makes is a chain in the eyes of the verifier's own code."""
    chained = run(*(record(n, value=event_value("acme", f"e{n % 5}", note="x" * (n % 3))) for n in range(40)))
    links = [
        Link(parse(entry).seq, entry, value if parse(entry).kind in CARRIED_KINDS else None)
        for _, value, entry, _ in chained.sealed
    ]

    assert verify_chain("acme", links) == []
    assert chained.kinds == [kinds(chained).count(kind) if kind else 1 for kind in Kind]


def test_the_fast_check_of_ids_is_the_pattern() -> None:
    """The quick test of an id accepts exactly what the specified pattern accepts."""
    last = [bytes([byte]) for byte in range(256)]
    for raw in [b"", *((b"a" * size) + byte for size in (0, 126, 127, 128) for byte in last)]:
        value = _with_id(raw)
        reason, _, _ = judge_value(TENANT, value, append_time=True)

        assert (reason == 0) == (EVENT_ID_PATTERN.fullmatch(raw) is not None), raw


def _with_id(raw: bytes) -> bytes:
    """Return a value whose id is any bytes: a frame, the four first fields, and nothing more."""
    size = len(raw) * 2
    length = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
    return b"\x00\x00\x00\x00\x01" + length + raw + bytes([len(TENANT) * 2]) + TENANT + b"\x00" + bytes(16)


def test_equal_records_give_equal_bytes() -> None:
    """No clock, random number or order of dictionaries is in it: two runs give one and the same bytes."""
    records = [record(n, value=event_value("acme", f"e{n % 7}")) for n in range(50)]
    digests = {hashlib.sha256(repr(run(*records).sealed).encode()).hexdigest() for _ in range(2)}

    assert len(digests) == 1
