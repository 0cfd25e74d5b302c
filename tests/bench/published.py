"""What an instance would have published of a benchmark's store: one round over all of it, signed and cosigned."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path

import psycopg

from sealstream.schemas.coverage import PartitionCoverage
from sealstream.schemas.entry import Genesis, Kind
from sealstream.schemas.merkle import root
from sealstream.sinks.verifier.published import Against
from support.chained import INSTANCE
from support.compared import Compared
from support.rounds import Head, publish_rounds, seal_round
from support.stores import TestStore

_COUNTS = """SELECT topic_id, partition, kind, count(*), max("offset") FROM sealstream.entries
  GROUP BY topic_id, partition, kind ORDER BY topic_id, partition"""
_HASHES = "SELECT tenant, hash FROM sealstream.entries ORDER BY tenant, seq"


def publish_store(store: TestStore, directory: Path, notary_url: str, *, partitions: int) -> Against:
    """Publish a round over all that a store has, and return what a reader compares it with.

    Arguments:
        store: The store.
        directory: An empty directory to publish in.
        notary_url: An empty database for what the notary remembers.
        partitions: The number of source partitions.
    """
    published = Compared(store, directory, notary_url, "", Genesis(INSTANCE, partitions))
    published.rounds = [seal_round(None, _parts(store.url), _heads(store.url))]
    publish_rounds(published.objects, published.rounds)
    published.sign()
    published.remember()
    return published.against()


def _parts(url: str) -> list[PartitionCoverage]:
    """Return what the store has of each source partition: all offsets up to its last one."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(_COUNTS).fetchall()
    parts: list[PartitionCoverage] = []
    for (topic_id, partition), several in groupby(rows, key=itemgetter(0, 1)):
        counts, end = [0] * len(Kind), 0
        for _, _, kind, count, last in several:
            counts[kind], end = count, max(end, last + 1)
        parts.append(PartitionCoverage(topic_id, partition, 0, end, tuple(counts)))
    return parts


def _heads(url: str) -> dict[str, Head]:
    heads: dict[str, Head] = {}
    with psycopg.connect(url) as connection, connection.cursor("hashes", binary=True) as rows:
        rows.itersize = 10_000
        rows.execute(_HASHES.encode())
        for tenant, several in groupby(rows, key=itemgetter(0)):
            hashes = [digest for _, digest in several]
            heads[tenant] = Head(len(hashes), root(hashes))
    return heads
