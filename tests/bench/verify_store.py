"""``sealstream bench verify-store``: the whole store verified, against a bare loop that fetches and hashes its bytes.

The store is filled by the sink's own writer. Then, in every run, one process verifies all of it, the loop copies the
same entries and payloads out and hashes each of them and looks at nothing, and the command itself verifies with a
process on each core. What PostgreSQL takes is measured apart, where it is the benchmark's own.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import psutil
import psycopg

from bench.common import Machine, Options, Result, collect
from bench.filled import fill
from bench.published import publish_store
from bench.servers import serve
from bench.usage import cpu_seconds
from sealstream.schemas.entry import PAYLOAD_PREFIX
from sealstream.schemas.errors import StoreError
from sealstream.sinks.verifier.audit import verify_store
from sealstream.sinks.verifier.published import Against
from support.providers import fresh_database
from support.shell import Shell
from support.stores import migrated

EVENTS: Final = 500_000
PEER: Final = "bare_loop"
_MICROSECONDS: Final = 1_000_000
_CPU_RATE: Final = "entries_per_cpu_second"
_ROWS: Final = b"""COPY (
  SELECT e.entry, p.bytes FROM sealstream.entries AS e
  LEFT JOIN sealstream.payloads AS p ON p.tenant = e.tenant AND p.seq = e.seq ORDER BY e.tenant, e.seq
) TO STDOUT (FORMAT BINARY)"""
_NOTES: Final = (
    "the bare loop copies entry and payload of each row out and hashes both, and looks at nothing else",
    "cpu is the client's; PostgreSQL's own stands apart",
    "compared_... is the same store held against a witnessed checkpoint: trees, map, coverage",
    "command_entries_per_second is the command with a process a core, its start included",
)


def run(options: Options) -> Result:
    """Run the benchmark.

    Raises:
        StoreError: The store does not hold: nothing was measured.
    """
    machine = Machine.describe()
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    with (
        serve(kafka=False, database=True) as servers,
        fresh_database(servers.database) as url,
        fresh_database(servers.database) as notary_url,
        migrated(url, partitions=options.partitions) as store,
        tempfile.TemporaryDirectory() as directory,
    ):
        entries = fill(url, options)
        options.progress("publishing")
        against = publish_store(store, Path(directory), notary_url, partitions=options.partitions)
        server = psutil.Process(servers.pids["database"]) if "database" in servers.pids else None
        for number in range(options.runs):
            options.progress(f"run {number + 1} of {options.runs}")
            contestants = [(ours, lambda: _verify(url)), (bare, lambda: _hash_all(url))]
            for measured, work in contestants if number % 2 else reversed(contestants):
                measured.append(_measure(work, entries, server))
            ours[-1] |= _compared(_measure(lambda: _verify(url, against), entries, server))
            ours[-1] |= _command(url, entries, options)
    own, peer = collect(ours), collect(bare)
    return Result(
        name="verify_store",
        options=options,
        ours=own,
        peers={PEER: peer},
        ratios={f"{PEER}_per_cpu_second": own[_CPU_RATE].over(peer[_CPU_RATE])},
        machine=replace(machine, versions=dict(machine.versions) | servers.versions),
        notes=_NOTES,
    )


def _measure(work: Callable[[], int], entries: int, server: psutil.Process | None) -> dict[str, float]:
    """Let something read all entries in this process, and return its figures."""
    began, cpu, server_cpu = time.perf_counter(), time.process_time(), _taken(server)
    found = work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if found != entries:
        raise StoreError(f"{found} of {entries} entries were read")
    measured = {
        "entries_per_second": entries / seconds,
        _CPU_RATE: entries / cpu,
        "cpu_microseconds_per_entry": cpu / entries * _MICROSECONDS,
    }
    if server is not None:
        measured["postgres_cpu_microseconds_per_entry"] = (_taken(server) - server_cpu) / entries * _MICROSECONDS
    return measured


def _compared(measured: dict[str, float]) -> dict[str, float]:
    """Return the figures of a verification that was held against a checkpoint, under names of their own."""
    return {f"compared_{name}": value for name, value in measured.items()}


def _verify(url: str, against: Against | None = None) -> int:
    result = verify_store(url, against=against)
    if not result.is_valid:
        raise StoreError(f"the store does not hold: {result.failure or result.violations[0].message}")
    return result.entries


def _hash_all(url: str) -> int:
    """Fetch entry and payload of every row and hash both: what cannot be left out."""
    rows = 0
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for method in ("sort", "hashjoin", "nestloop"):
            cursor.execute(f"SET LOCAL enable_{method} = off".encode())  # as the verifier reads
        with cursor.copy(_ROWS) as copy:
            front = 19  # what COPY sends before the first row
            for data in copy:
                row = bytes(data)[front:]
                front = 0
                if len(row) == 2:  # the trailer
                    continue
                end = 6 + int.from_bytes(row[2:6], "big")
                sha256(b"\x00" + row[6:end]).digest()
                sha256(PAYLOAD_PREFIX + row[end + 4 :]).digest()
                rows += 1
    return rows


def _command(url: str, entries: int, options: Options) -> dict[str, float]:
    """Let the command verify with a process on each core."""
    options.progress("  the command")
    began, cpu = time.perf_counter(), _children_seconds()
    found = Shell(SEALSTREAM_DATABASE=url).json("verify")
    seconds, cpu = time.perf_counter() - began, _children_seconds() - cpu
    if found["exit_code"] != 0 or found["entries"] != entries:
        raise StoreError(f"the command verified {found['entries']} of {entries} entries: {found['failure']}")
    return {
        "command_entries_per_second": entries / seconds,
        "command_cpu_microseconds_per_entry": cpu / entries * _MICROSECONDS,
    }


def _children_seconds() -> float:
    """Return the CPU time of the processes that have ended, and of those that they had started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _taken(server: psutil.Process | None) -> float:
    return 0.0 if server is None else cpu_seconds(server)
