"""A store and what was published of it, for tests of `sealstream verify`: each can be changed behind the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from sealstream.kafka.partition import partition_of
from sealstream.schemas.checkpoint import Checkpoint, chain_origin
from sealstream.schemas.entry import Genesis, entry_hash, parse
from sealstream.schemas.log_layout import ROOT_CHECKPOINT, chain_prefix, root_checkpoint_path, timestamp_path
from sealstream.schemas.merkle import root
from sealstream.schemas.note import sign_note
from sealstream.schemas.tenant_map import MapLeaf, derive_nonce, map_key
from sealstream.schemas.tile_tree import TileEdge
from sealstream.sinks.verifier.audit import VerifyResult, verify_store
from sealstream.sinks.verifier.published import Against
from sealstream.worker.objects import Objects, open_objects
from support.chained import INSTANCE, Sealed
from support.model import Model, SourceRecord
from support.notes import NOW_SECONDS, cosigned, policy, signer
from support.publish import event_value
from support.rounds import SECRET, PlainRound, make_round, publish_rounds, root_checkpoint
from support.rounds import Sealed as Chained
from support.stores import Feeder, TestStore

LOG = signer(INSTANCE)
POLICY = policy(3, 2, log=LOG)
TOPIC_ID = bytes(range(16))
PARTITIONS = 4
WIDTH = 256
ROUND_SECONDS = 60
FIRST_SECONDS = NOW_SECONDS - 86_400
"""When round 0 was cosigned."""

Alter = Callable[[Sequence[PlainRound]], list[PlainRound]]

_TABLES = """
DROP SCHEMA IF EXISTS sealstream_notary CASCADE;
CREATE SCHEMA sealstream_notary;
CREATE TABLE sealstream_notary.chains (chain text COLLATE "C" PRIMARY KEY);
CREATE TABLE sealstream_notary.rounds (round bigint PRIMARY KEY, coverage bytea, made_at timestamptz DEFAULT now(),
  timestamp_token bytea);
CREATE TABLE sealstream_notary.map_leaves (round bigint, index bigint, data bytea, PRIMARY KEY (round, index));
"""


def key_of(name: str) -> bytes:
    """Return the key under which the tests' maps have a chain."""
    return map_key(derive_nonce(SECRET, name), name)


@dataclass
class Compared:
    """A store, its storage of published logs, and its notary's database.

    Arguments:
        store: The store.
        directory: Where the logs are published.
        notary: The notary's database.
        writer: The store, as somebody who may write it.
        genesis: What chains pin.
    """

    store: TestStore
    directory: Path
    notary: str
    writer: str
    genesis: Genesis
    sealed: list[Sealed] = field(default_factory=list[Sealed])
    rounds: list[PlainRound] = field(default_factory=list[PlainRound])
    offsets: dict[int, int] = field(default_factory=dict[int, int])
    make_tables: InitVar[bool] = True

    def __post_init__(self, make_tables: bool) -> None:
        self._models = [Model(self.genesis, TOPIC_ID, n) for n in range(PARTITIONS)]
        if not make_tables:
            return
        with psycopg.connect(self.notary, autocommit=True) as connection:
            connection.execute(_TABLES)

    @property
    def objects(self) -> Objects:
        """The storage."""
        return open_objects(str(self.directory))

    def append(self, *tenants: str, count: int = 1, skip: int = 0, stored: bool = True) -> list[Sealed]:
        """Chain and store so many events of each tenant, in turn.

        Arguments:
            tenants: Whose events.
            count: How many of each.
            skip: How many offsets nobody sees before each.
            stored: Whether the store gets them.
        """
        made: list[Sealed] = []
        for _ in range(count):
            for tenant in tenants:
                partition = partition_of(tenant.encode(), PARTITIONS)
                offset = self.offsets.get(partition, 0) + skip
                self.offsets[partition] = offset + 1
                value = event_value(tenant, f"e-{partition}-{offset}")
                record = SourceRecord(partition, offset, tenant.encode(), value, 1_700_000_000_000 + offset)
                expected = self._models[partition].expect([record])
                made += [Sealed(r.partition, r.key, r.value, r.entry) for r in expected]
        self.sealed += made
        if stored:
            self.feed(made)
        return made

    def feed(self, records: Sequence[Sealed]) -> None:
        """Store records as the sink does."""
        feeder = Feeder(self.writer)
        try:
            feeder.claim()
            feeder.feed(records)
        finally:
            feeder.writer.close()

    def publish(self, *, witnesses: Sequence[int] = (1, 2), alter: Alter | None = None) -> PlainRound:
        """Make a round of all that was chained, and publish it with all its files.

        Arguments:
            witnesses: Who cosigns.
            alter: What a lying log makes of its rounds before it signs them.
        """
        entries = self._entries()
        made = make_round(entries, self._ends(), topic_id=TOPIC_ID, before=self.rounds)
        self.rounds.append(made)
        if alter is not None:
            self.rounds = alter(self.rounds)
        publish_rounds(self.objects, self.rounds)
        self._publish_chains()
        self.sign(witnesses=witnesses)
        self.remember()
        return self.rounds[-1]

    def relog(self, rounds: Sequence[PlainRound]) -> None:
        """Publish another root log in place of the one that is there, as a log that lies."""
        self.rounds = list(rounds)
        shutil.rmtree(self.directory / "root")
        publish_rounds(self.objects, self.rounds)
        self.sign()

    def sign(self, rounds: Sequence[PlainRound] | None = None, *, witnesses: Sequence[int] = (1, 2)) -> bytes:
        """Publish a signed checkpoint of the root log, and return it."""
        several = self.rounds if rounds is None else rounds
        note = self.note(root_checkpoint(INSTANCE, several), witnesses=witnesses)
        self.objects.put_many([(ROOT_CHECKPOINT, note), (root_checkpoint_path(len(several)), note)])
        return note

    def note(self, checkpoint: Checkpoint, *, witnesses: Sequence[int] = (1, 2)) -> bytes:
        """Return a signed and cosigned checkpoint."""
        when = self.seconds(checkpoint.size)
        return cosigned(dict.fromkeys(witnesses, when), log=LOG, checkpoint=checkpoint)

    @staticmethod
    def seconds(size: int) -> int:
        """Return when the root checkpoint of a size was cosigned."""
        return FIRST_SECONDS + ROUND_SECONDS * (size - 1)

    def stamp(self, size: int, stamp: Callable[[bytes], bytes]) -> None:
        """Publish a timestamp of the root checkpoint of a size."""
        self.objects.put(timestamp_path(size), stamp(self.objects.get(root_checkpoint_path(size))))
        number = size - 1
        with psycopg.connect(self.notary, autocommit=True) as connection:
            connection.execute("UPDATE sealstream_notary.rounds SET timestamp_token = 'x' WHERE round = %s", (number,))

    def against(self, **changes: Any) -> Against:
        """Return what a reader of everything compares with."""
        given: dict[str, Any] = {
            "policy": POLICY.pack(),
            "storage": str(self.directory),
            "notary_database": self.notary,
            "map_secret": SECRET,
            "now_seconds": NOW_SECONDS,
        }
        return Against(**(given | changes))

    def verify(self, *, against: dict[str, Any] | None = None, url: str = "", **options: Any) -> VerifyResult:
        """Verify the store against what was published."""
        return verify_store(url or self.store.url, against=self.against(**(against or {})), **options)

    # -- what somebody does behind the guards --------------------------------------------------------------------------

    def cut(self, tenant: str, first: int) -> None:
        """Cut a chain's end off, and make the store's own table of heads agree."""
        for table in ("entries", "payloads"):
            self.store.tamper(f"DELETE FROM sealstream.{table} WHERE tenant = %s AND seq >= %s", tenant, first)
        if first:
            self.store.tamper(
                "UPDATE sealstream.tenant_heads AS h SET seq = e.seq, hash = e.hash FROM sealstream.entries AS e"
                " WHERE h.tenant = %s AND e.tenant = h.tenant AND e.seq = %s",
                tenant,
                first - 1,
            )
        else:
            self.store.tamper("DELETE FROM sealstream.tenant_heads WHERE tenant = %s", tenant)

    def restore(self, records: Sequence[Sealed]) -> None:
        """Put an older state of the whole store back, or another one: its tables hold these records, and agree."""
        self.store.clear()
        self.feed(records)

    def rewritten(self, tenant: str, first: int) -> list[Sealed]:
        """Return all records as they would be, had another event been written at a place: a chain anew from there."""
        models = [Model(self.genesis, TOPIC_ID, n) for n in range(PARTITIONS)]
        made: list[Sealed] = []
        for one in self.sealed:
            entry = parse(one.entry)
            if entry.seq == 0:
                continue
            value = one.value
            if (entry.tenant, entry.seq) == (tenant, first):
                value = event_value(tenant, f"forged-{entry.offset}")
            record = SourceRecord(entry.partition, entry.offset, entry.tenant.encode(), value, entry.received // 1000)
            made += [Sealed(r.partition, r.key, r.value, r.entry) for r in models[entry.partition].expect([record])]
        return made

    def _entries(self) -> dict[int, list[Chained]]:
        return {
            number: [Chained(one.entry, one.value) for one in self.sealed if one.partition == number]
            for number in range(PARTITIONS)
        }

    def _ends(self) -> dict[int, int]:
        return dict(self.offsets)

    def _chains(self) -> dict[str, list[bytes]]:
        chains: dict[str, list[bytes]] = {}
        for one in self.sealed:
            chains.setdefault(one.key.decode(), []).append(one.entry)
        return chains

    def _publish_chains(self) -> None:
        for name, entries in self._chains().items():
            hashes = [entry_hash(entry) for entry in entries]
            edge = TileEdge()
            files = [*edge.extend(hashes), *edge.partial()]
            key = LOG.renamed(chain_origin(INSTANCE, name))
            note = sign_note(Checkpoint(chain_origin(INSTANCE, name), len(hashes), root(hashes)).pack(), [key])
            prefix = chain_prefix(name)
            self.objects.put_many([(prefix + tile.path(), data) for tile, data in files])
            self.objects.put(f"{prefix}checkpoint", note)

    def remember(self) -> None:
        """Write what the notary remembers of its last round."""
        last = self.rounds[-1]
        leaves = sorted((MapLeaf(key_of(name), *head) for name, head in last.heads.items()), key=lambda leaf: leaf.key)
        with psycopg.connect(self.notary, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO sealstream_notary.rounds (round) VALUES (%s) ON CONFLICT DO NOTHING", (last.leaf.round,)
            )
            for index in range(0, len(leaves), WIDTH):
                data = b"".join(leaf.pack() for leaf in leaves[index : index + WIDTH])
                connection.execute(
                    "INSERT INTO sealstream_notary.map_leaves VALUES (%s, %s, %s)",
                    (last.leaf.round, index // WIDTH, data),
                )
            for name in last.heads:
                connection.execute("INSERT INTO sealstream_notary.chains VALUES (%s) ON CONFLICT DO NOTHING", (name,))

    def forget(self, statement: str) -> None:
        """Change the notary's database."""
        with psycopg.connect(self.notary, autocommit=True) as connection:
            connection.execute(statement.encode())


def compared(store: TestStore, directory: Path, notary: str, writer: str, *, window_offsets: int = 1_000) -> Compared:
    """Return a store without entries and an empty storage."""
    directory.mkdir()
    store.clear()
    return Compared(store, directory, notary, writer, Genesis(INSTANCE, PARTITIONS, window_offsets=window_offsets))
