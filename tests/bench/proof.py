"""``sealstream bench proof``: proofs out of a large chain, against fetching the same records and proving nothing.

The store is filled by the sink's own writer with one tenant's chain. Its trees, and a map with ten thousand other
chains in each of sixty rounds, are published to a directory and to the notary's tables as a notary would have left
them. Each run begins with a prover that has read nothing yet, and proves events all over the chain, and then as many
others: what a prover costs that has run for a while.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import Final

import psycopg

from bench.common import Machine, Options, Result, collect
from bench.filled import fill
from bench.servers import serve
from sealstream.schemas.bundle_check import verify_bundle
from sealstream.schemas.errors import StoreError
from sealstream.schemas.proof_file import ProofFile
from sealstream.sinks.notary.migrate import migrate as migrate_notary
from sealstream.sinks.proofs.archive import Archive
from sealstream.sinks.proofs.exporting import Exporter
from sealstream.sinks.proofs.notary_reader import NotaryReader
from sealstream.sinks.proofs.proving import Prover
from sealstream.sinks.store.reader import AuditStore
from sealstream.worker.objects import Objects, open_objects
from support.memory_notary import MAP_SECRET, MemoryNotary, policy, reader
from support.providers import fresh_database
from support.stores import migrated

EVENTS: Final = 1_000_000
PEER: Final = "look_up"
_PROOFS: Final = 1_000
_ROUNDS: Final = 60
_EXPORTED: Final = 50_000
_MILLISECONDS: Final = 1_000
_BATCH: Final = 50_000
_HASHES: Final = b"SELECT hash FROM sealstream.entries WHERE tenant = %s ORDER BY seq"
_P50: Final = "milliseconds_p50"
_P99: Final = "milliseconds_p99"
_NOTES: Final = (
    "the peer fetches the same records by their ids, compares columns, hash and payload, and proves nothing",
    "each run begins with empty caches; warm_... is the same prover's second thousand, of other events",
    "events say that they are from other times than their rounds: a prover is led astray by them as by a wrong clock",
    "proof_bytes_most is without payload and schema",
    "cpu is of the prover's process; PostgreSQL's is not in it",
    "export and check are of one bundle; the check needs no server",
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where everything is.

    Arguments:
        url: Store and notary's tables.
        objects: The storage.
        tenant: The tenant.
        entries: How many entries its chain has.
    """

    url: str
    objects: Objects
    tenant: str
    entries: int


def run(options: Options) -> Result:
    """Run the benchmark.

    Raises:
        StoreError: A bundle did not hold: nothing was measured.
    """
    machine = Machine.describe()
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    with (
        serve(kafka=False, database=True) as servers,
        fresh_database(servers.database) as url,
        migrated(url, partitions=options.partitions),
        tempfile.TemporaryDirectory(prefix="sealstream-bench-") as folder,
    ):
        fill(url, replace(options, tenants=1))
        migrate_notary(url)
        place = _publish(url, Path(folder), options)
        for number in range(options.runs):
            options.progress(f"run {number + 1} of {options.runs}")
            ids, others = _ids(place, random.Random(number))
            for contestant in (bare, ours) if number % 2 else (ours, bare):
                contestant.append(_prove(place, ids, others) if contestant is ours else _look_up(place, ids))
            ours[-1] |= _export(place, options)
    own, peer = collect(ours), collect(bare)
    return Result(
        name="proof",
        options=options,
        ours=own,
        peers={PEER: peer},
        ratios={f"{PEER}_{_P50}": own[_P50].over(peer[_P50]), f"{PEER}_{_P99}": own[_P99].over(peer[_P99])},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=_NOTES,
    )


def _publish(url: str, folder: Path, options: Options) -> _Place:
    """Leave behind what a notary of many rounds would have."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT tenant, seq + 1 FROM sealstream.tenant_heads LIMIT 1").fetchone()
    if row is None:
        raise StoreError("nothing was stored")
    tenant, entries = str(row[0]), int(row[1])
    notary = MemoryNotary()
    for number in range(options.tenants):
        notary.add_hashes(f"other-{number}", [number.to_bytes(32, "big")])
    for made, part in enumerate(_hashes(url, tenant, -(-entries // _ROUNDS)), 1):
        notary.add_hashes(tenant, part)
        notary.round()
        options.progress(f"round {made} of {_ROUNDS}")
    notary.fill(url)
    objects = open_objects(str(folder))
    objects.put_many(notary.objects.files.items())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return _Place(url, objects, tenant, entries)


def _hashes(url: str, tenant: str, count: int) -> Iterator[list[bytes]]:
    with psycopg.connect(url) as connection, connection.cursor("hashes", binary=True) as cursor:
        cursor.itersize = _BATCH
        cursor.execute(_HASHES, (tenant,))
        while rows := cursor.fetchmany(count):
            yield [bytes(row[0]) for row in rows]


def _ids(place: _Place, chance: random.Random) -> tuple[list[str], list[str]]:
    """Return the ids of events all over the chain, and of as many others."""
    seqs = chance.sample(range(1, place.entries), min(2 * _PROOFS, place.entries - 1))
    with psycopg.connect(place.url) as connection:
        rows = connection.execute(
            "SELECT event_id FROM sealstream.entries WHERE tenant = %s AND seq = ANY(%s)", (place.tenant, seqs)
        ).fetchall()
    ids = [str(row[0]) for row in rows]
    chance.shuffle(ids)
    return ids[: len(ids) // 2], ids[len(ids) // 2 :]


def _prover(place: _Place, store: AuditStore) -> Prover:
    archive = Archive(NotaryReader(place.url), place.objects)
    return Prover(store, archive, map_secret=MAP_SECRET, policy=policy())


def _prove(place: _Place, ids: list[str], others: list[str]) -> dict[str, float]:
    """Prove events and then others, each verified by the policy, and return the figures."""
    with AuditStore(place.url) as store, _prover(place, store) as prover:
        store.get_event_proof(place.tenant, ids[0])
        prover.get_record_proof(place.tenant, 0)  # what opens the connections
        cold = _proven(place, prover, ids)
        warm = _proven(place, prover, others)
    return {f"warm_{name}": value for name, value in warm.items() if "milliseconds" in name} | cold


def _proven(place: _Place, prover: Prover, ids: list[str]) -> dict[str, float]:
    largest = without = 0
    taken: list[tuple[float, float]] = []
    for event_id in ids:
        began = time.perf_counter(), time.process_time()
        (made,) = prover.get_event_proof(place.tenant, event_id)
        data = made.proof.pack()
        taken.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        largest = max(largest, _own_bytes(made.proof, data))
        alone = replace(made.proof, earlier=None)
        without = max(without, _own_bytes(alone, alone.pack()))
    return _figures(taken) | {"proof_bytes_most": float(largest), "proof_bytes_most_without_earlier": float(without)}


def _own_bytes(proof: ProofFile, data: bytes) -> int:
    """Return what a proof takes without what it is about."""
    return len(data) - len(proof.payload or b"") - len(proof.schema or b"")


def _look_up(place: _Place, ids: list[str]) -> dict[str, float]:
    """Fetch the same records, and return the figures."""
    taken: list[tuple[float, float]] = []
    with AuditStore(place.url) as store:
        store.get_event_proof(place.tenant, ids[0])
        for event_id in ids:
            began = time.perf_counter(), time.process_time()
            store.get_event_proof(place.tenant, event_id)
            taken.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return _figures(taken)


def _figures(taken: list[tuple[float, float]]) -> dict[str, float]:
    """Return the figures of what each took, by the clock and of the processor."""
    wall = quantiles([one for one, _ in taken], n=100)
    cpu = quantiles([one for _, one in taken], n=100)
    return {
        _P50: wall[49] * _MILLISECONDS,
        _P99: wall[98] * _MILLISECONDS,
        "cpu_milliseconds_p50": cpu[49] * _MILLISECONDS,
        "cpu_milliseconds_p99": cpu[98] * _MILLISECONDS,
    }


def _export(place: _Place, options: Options) -> dict[str, float]:
    """Export a part of the chain and check it, and return the figures."""
    options.progress("  a bundle")
    count = min(_EXPORTED, place.entries)
    file = io.BytesIO()
    with AuditStore(place.url) as store, _prover(place, store) as prover:
        cpu = time.process_time()
        made = Exporter(prover, store).write(file, place.tenant, place.entries - count, place.entries - 1)
        export = time.process_time() - cpu
    file.seek(0)
    cpu = time.process_time()
    found = verify_bundle(file.readline, reader())
    check = time.process_time() - cpu
    if not found.is_valid or found.entries != count:
        raise StoreError(f"the bundle does not hold: {found.failure or found.violations}")
    return {
        "exported_entries_per_cpu_second": count / export,
        "checked_entries_per_cpu_second": count / check,
        "bundle_bytes_per_entry": made.size_bytes / count,
    }
