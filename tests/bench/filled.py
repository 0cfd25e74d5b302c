"""A store that is filled by the sink's own writer, with what the processor makes of a benchmark's events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import psycopg

from bench.common import Options
from bench.source import keyed_events
from sealstream.kafka.partition import partition_of
from sealstream.schemas.entry import ZERO_HASH, Genesis, Kind, entry_hash, pack_trusted, payload_digest
from support.chained import INSTANCE, RECEIVED, Sealed
from support.stores import Feeder

_BATCH_RECORDS: Final = 10_000
_TOPIC_ID: Final = bytes(range(16))
_ID_AT: Final = 11  # in single-object encoding, behind the id's size


def fill(url: str, options: Options) -> int:
    """Store events as the sink does, and return how many entries they are."""
    feeder = Feeder(url, partitions=options.partitions)
    try:
        feeder.claim()
        records, stored = _chained(options), 0
        while taken := list(islice(records, _BATCH_RECORDS)):
            batch = feeder.batch(taken)
            feeder.writer.write(batch)
            feeder.offsets |= dict(batch.ends)
            stored += len(taken)
            options.progress(f"storing: {stored:,} entries")
    finally:
        feeder.writer.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # as PostgreSQL does by itself before long
    return stored


def _chained(options: Options) -> Iterator[Sealed]:
    """Yield what the processor makes of the events, geneses included."""
    genesis = Genesis(INSTANCE, options.partitions).payload()
    heads: dict[bytes, tuple[int, bytes]] = {}
    offsets = [0] * options.partitions
    for key, value in keyed_events(options.tenants, 0, options.events):
        partition = partition_of(key, options.partitions)
        if key not in heads:
            heads[key] = (-1, ZERO_HASH)
            yield _sealed(heads, Kind.GENESIS, key, genesis, b"", partition, offsets[partition])
        event_id = value[_ID_AT : _ID_AT + value[_ID_AT - 1] // 2]
        yield _sealed(heads, Kind.EVENT, key, value, event_id, partition, offsets[partition])
        offsets[partition] += 1


def _sealed(
    heads: dict[bytes, tuple[int, bytes]],
    kind: Kind,
    tenant: bytes,
    payload: bytes,
    event_id: bytes,
    partition: int,
    offset: int,
) -> Sealed:
    """Return the next record of a chain, and move its head."""
    seq, prev = heads[tenant]
    received, digest = RECEIVED + 1000 * offset, payload_digest(payload)
    entry = pack_trusted(
        kind, 0, tenant, seq + 1, prev, received, _TOPIC_ID, partition, offset, 0, event_id, len(payload), digest
    )
    heads[tenant] = (seq + 1, entry_hash(entry))
    return Sealed(partition, tenant, payload, entry)
