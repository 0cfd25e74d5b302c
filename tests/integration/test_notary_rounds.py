"""Rounds out of a real store: what is new, whole and rehashed; and what a store that was changed is refused for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from sealstream.schemas.entry import Kind, Quarantine
from sealstream.schemas.errors import SealstreamError, StoreDamaged, StoreError, TreeDiffers, WriterConflict
from sealstream.sinks.notary.database import NotaryDatabase
from sealstream.sinks.notary.made import MadeRound
from sealstream.sinks.notary.migrate import migrate
from sealstream.sinks.notary.reading import ROUND_ENTRIES_MAX
from sealstream.sinks.notary.rounds import Rounds
from sealstream.sinks.notary.scrub import Scrub
from sealstream.sinks.notary.stored import Store
from support.chained import INSTANCE, Chains, Sealed
from support.notarised import SECRET, PlainRounds, check_rounds
from support.stores import Feeder, TestStore, migrated, open_feeder

KEY = "test.example/store+00000000+x"
SECONDS = 20.0


@dataclass
class Notarised:
    """A store, and a notary that reads it."""

    test_store: TestStore
    feeder: Feeder
    store: Store
    database: NotaryDatabase
    chains: Chains = field(default_factory=Chains)
    entries: list[bytes] = field(default_factory=list[bytes])
    made: list[MadeRound] = field(default_factory=list[MadeRound])

    def feed(self, records: list[Sealed]) -> None:
        """Store records."""
        self.feeder.feed(records)
        self.entries += [record.entry for record in records]

    def rounds(self) -> Rounds:
        """Return what goes on where the database says."""
        memory = self.database.load()
        assert memory is not None
        return Rounds(memory, SECRET, self.database.advance)

    def round(self, rounds: Rounds | None = None, *, entries_max: int = ROUND_ENTRIES_MAX) -> bool:
        """Make a round, and return whether there is more to read."""
        with self.store.snapshot() as snapshot:
            made, reading = (rounds or self.rounds()).make(snapshot, entries_max=entries_max)
        self.made.append(made)
        return reading.more

    def check(self) -> PlainRounds:
        """Recompute all rounds from the entries."""
        plain = check_rounds([(one.leaf, one.coverage) for one in self.made], self.entries)
        assert plain.roots == tuple(one.root for one in self.made)
        return plain


@pytest.fixture
def notarised(database_url: str) -> Iterator[Notarised]:
    """An empty store, and the notary of it, with the rights that their operators would give them."""
    with migrated(database_url) as test_store, open_feeder(test_store) as feeder:
        feeder.claim()
        migrate(database_url)
        store = Store(test_store.reader("*"), instance=INSTANCE, timeout_seconds=SECONDS)
        database = NotaryDatabase(test_store.login("sealstream_notary"), timeout_seconds=SECONDS)
        database.begin_log(INSTANCE, KEY)
        yield Notarised(test_store, feeder, store, database)
        store.close()
        database.close()


def all_kinds(chains: Chains) -> list[Sealed]:
    """Return records of every kind that a processor makes of a source, in several chains."""
    return [
        *chains.events(3, 9),
        *chains.event("acme", "ev-a"),
        *chains.event("acme", "ev-a", kind=Kind.DUPLICATE, ref=1),
        *chains.event("acme", "ev-a", kind=Kind.CONFLICT, ref=1),
        *chains.event("acme", "ev-b", kind=Kind.IMPORTED),
        *chains.event("acme", "ev-c", kind=Kind.CONTROL),
        *chains.quarantined("acme", Quarantine.VALUE_SIZE),
        *chains.quarantined("!partition-1", Quarantine.NO_KEY),
    ]


def test_rounds_are_what_the_entries_come_to(notarised: Notarised) -> None:
    """Every kind of entry, a round without news, holes in the source: each map and root is that of the entries."""
    rounds = notarised.rounds()
    notarised.round(rounds)
    notarised.feed(all_kinds(notarised.chains))
    notarised.round(rounds)
    notarised.chains.offsets[2] += 5  # offsets that no reader of committed records sees
    notarised.feed(notarised.chains.events(5, 40))
    notarised.round(rounds)
    notarised.round(rounds)

    plain = notarised.check()
    assert sum(plain.sizes.values()) == len(notarised.entries)
    assert [len(one.chains) > 0 for one in notarised.made] == [False, True, True, False]


@pytest.mark.parametrize("entries_max", [1, 3, 7])
def test_small_rounds_come_to_the_same(notarised: Notarised, entries_max: int) -> None:
    """However little a round takes, all is read in the end, and the heads are those of the entries."""
    notarised.feed([*all_kinds(notarised.chains), *notarised.chains.events(5, 30)])
    while notarised.round(entries_max=entries_max):
        assert len(notarised.made) < len(notarised.entries) + 2, "it does not come to an end"

    plain = notarised.check()
    assert sum(plain.sizes.values()) == len(notarised.entries)


def test_the_last_round_is_remade_byte_for_byte(notarised: Notarised) -> None:
    """Who starts after a crash publishes the same round that was committed to, also when the store has grown since."""
    notarised.feed(all_kinds(notarised.chains))
    notarised.round()
    notarised.feed(notarised.chains.events(4, 20))
    notarised.round()
    notarised.feed(notarised.chains.events(4, 20))
    with notarised.store.snapshot() as snapshot:
        assert notarised.rounds().remake_last(snapshot) == notarised.made[-1]


def test_of_two_notaries_one_goes_on(notarised: Notarised) -> None:
    """Who made a round from heads that have moved meanwhile commits to nothing, and says so."""
    notarised.feed(all_kinds(notarised.chains))
    first, second = notarised.rounds(), notarised.rounds()
    notarised.round(first)
    with pytest.raises(WriterConflict):
        notarised.round(second)
    notarised.round(first)
    notarised.check()


TAMPERINGS = [
    ("UPDATE sealstream.entries SET received = received + 1 WHERE tenant = 'acme' AND seq = 2", "received"),
    ("UPDATE sealstream.entries SET event_id = 'ev-x' WHERE tenant = 'acme' AND seq = 2", "event_id"),
    ("UPDATE sealstream.entries SET \"offset\" = 1000 WHERE tenant = 'acme' AND seq = 2", "offset"),
    ("UPDATE sealstream.entries SET kind = 2 WHERE tenant = 'acme' AND seq = 2", "kind"),
    ("UPDATE sealstream.entries SET hash = sha256('x') WHERE tenant = 'acme' AND seq = 2", "hash"),
    ("UPDATE sealstream.entries SET entry = set_byte(entry, 40, 7) WHERE tenant = 'acme' AND seq = 2", "entry"),
    ("DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq = 2", "missing"),
    ("DELETE FROM sealstream.entries WHERE tenant = 'acme' AND seq = 0", "missing"),
    ("UPDATE sealstream.payloads SET bytes = 'x' WHERE tenant = 'acme' AND seq = 1", "payload"),
    ("DELETE FROM sealstream.payloads WHERE tenant = 'acme' AND seq = 1", "payload"),
    ("DELETE FROM sealstream.payloads WHERE tenant = 'acme' AND seq = 0", "payload"),
    ("INSERT INTO sealstream.payloads SELECT * FROM sealstream.payloads WHERE tenant = 'acme' AND seq = 1", "twice"),
    (
        (
            "INSERT INTO sealstream.payloads SELECT p.tenant, e.seq, retention_class, e.received, bytes FROM"
            " sealstream.payloads AS p JOIN sealstream.entries AS e USING (tenant)"
            " WHERE tenant = 'acme' AND p.seq = 1 AND e.seq = 2"
        ),
        "payload",
    ),
]


@pytest.mark.parametrize(("statement", "word"), TAMPERINGS)
def test_a_row_that_was_changed_is_refused(notarised: Notarised, statement: str, word: str) -> None:
    """Any column, entry or payload that does not hold together names chain and seq, and nothing is committed to."""
    notarised.feed(all_kinds(notarised.chains))
    notarised.test_store.tamper(statement)

    with pytest.raises(StoreDamaged, match=word) as caught:
        notarised.round()
    assert caught.value.tenant == "acme"
    memory = notarised.database.load()
    assert memory is not None
    assert memory.head.size == 0


def test_a_store_that_ends_earlier_is_refused(notarised: Notarised) -> None:
    """A store that was set back behind what was committed to makes no further round."""
    notarised.feed(all_kinds(notarised.chains))
    notarised.round()
    notarised.test_store.tamper(
        'DELETE FROM sealstream.entries AS e WHERE e."offset" = (SELECT max("offset") FROM sealstream.entries AS o'
        " WHERE o.partition = e.partition)"
    )

    with pytest.raises(TreeDiffers, match="ends at source offset"):
        notarised.round()


@pytest.mark.parametrize("entries_max", [1, 4, 1000])
def test_the_scrub_walks_over_all_chains(notarised: Notarised, entries_max: int) -> None:
    """In any portions it reads all entries again, while chains grow, and finds nothing where nothing was changed."""
    notarised.feed(all_kinds(notarised.chains))
    rounds = notarised.rounds()
    notarised.round(rounds)
    scrub, read, size = Scrub(rounds.chains), 0, len(notarised.entries)

    def walk(turns: int) -> int:
        count = 0
        for _ in range(turns):
            with notarised.store.snapshot() as snapshot:
                count += scrub.run(snapshot, entries_max=entries_max)
        return count

    read = walk(3)
    notarised.feed(notarised.chains.events(4, 5))
    notarised.round(rounds)
    read += walk(3 * size // min(entries_max, size))
    assert read >= 2 * size

    notarised.test_store.tamper("UPDATE sealstream.entries SET hash = sha256('x') WHERE tenant = 'acme' AND seq = 2")
    with pytest.raises(StoreDamaged, match="acme seq 2"):
        walk(3 * size)


def test_a_login_that_sees_too_little_is_refused(notarised: Notarised) -> None:
    """What row-level security hides would look as if it were gone: the notary says what right it lacks."""
    store = Store(notarised.test_store.reader("acme"), instance=INSTANCE, timeout_seconds=SECONDS)
    with pytest.raises(StoreError, match="all tenants"), store.snapshot():
        pass


def test_another_instance_is_refused(notarised: Notarised) -> None:
    """Entries of another instance's store are not taken for this one's."""
    notarised.feed(all_kinds(notarised.chains))
    other = Store(notarised.test_store.reader("*"), instance="other.example/audit", timeout_seconds=SECONDS)
    with pytest.raises(SealstreamError, match="belongs to the instance"), other.snapshot() as snapshot:
        notarised.rounds().make(snapshot)
    other.close()
