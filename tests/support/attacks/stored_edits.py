"""What the owner of the database does to the rows of a chain: reads them, and writes them anew with every guard off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psycopg

from sealstream.schemas.entry import ZERO_HASH, Entry, entry_hash, pack, parse, payload_digest
from support.attacks.recorded import Copies

_INSERT = (
    "INSERT INTO sealstream.entries"
    ' (partition, tenant, seq, kind, topic_id, "offset", event_id, received, hash, entry)'
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
_SET = (
    'UPDATE sealstream.entries SET kind = %s, topic_id = %s, "offset" = %s, event_id = %s, received = %s, hash = %s,'
    " entry = %s WHERE tenant = %s AND seq = %s"
)


@dataclass(frozen=True, slots=True)
class Link:
    """An entry with its payload.

    Arguments:
        entry: The entry.
        payload: What is stored beside it; ``None`` for nothing.
    """

    entry: Entry
    payload: bytes | None

    def with_payload(self, payload: bytes) -> Link:
        """Return it with another payload, and an entry that commits to that."""
        entry = replace(self.entry, length=len(payload), payload=payload_digest(payload))
        return Link(entry, payload)

    def saying(self, **fields: object) -> Link:
        """Return it with an entry that says something else."""
        return replace(self, entry=replace(self.entry, **fields))  # type: ignore[arg-type]  # the fields are the row's


Alter = Callable[[list[Link]], Sequence[Link]]


def links(copies: Copies, chain: str) -> list[Link]:
    """Return a chain as it is stored."""
    query = (
        "SELECT e.entry, p.bytes FROM sealstream.entries AS e LEFT JOIN sealstream.payloads AS p"
        " ON (p.tenant, p.seq) = (e.tenant, e.seq) WHERE e.tenant = %s ORDER BY e.seq"
    )
    with psycopg.connect(copies.store_url) as connection:
        return [Link(parse(entry), payload) for entry, payload in connection.execute(query, (chain,))]


def rewrite(copies: Copies, chain: str, alter: Alter, *, name: str = "") -> None:
    """Write a chain anew, columns, payloads and head included, each entry chained to the one before: no trace is left.

    Arguments:
        copies: What is attacked.
        chain: The chain.
        alter: Makes other entries of those that are there; places and links are set afterwards.
        name: The name of the new chain; the same if not given.
    """
    made = alter(links(copies, chain))
    drop(copies, chain)
    write(copies, name or chain, made)


def write(copies: Copies, chain: str, made: Sequence[Link]) -> None:
    """Write a chain that is not there, each entry chained to the one before it."""
    prev = ZERO_HASH
    with psycopg.connect(copies.store_url) as connection:
        connection.execute("SET session_replication_role = replica")
        for seq, link in enumerate(made):
            entry = replace(link.entry, tenant=chain, seq=seq, prev=prev)
            prev = _insert(connection, entry, pack(entry), link.payload)
        head = (chain, len(made) - 1, prev)
        connection.execute("INSERT INTO sealstream.tenant_heads VALUES (%s, %s, %s)", head)


def unseen_offsets(copies: Copies, partition: int) -> list[int]:
    """Return the source offsets of a partition that have no entry, because no reader sees them."""
    query = 'SELECT "offset" FROM sealstream.entries WHERE partition = %s'
    with psycopg.connect(copies.store_url) as connection:
        taken = {offset for (offset,) in connection.execute(query, (partition,))}
    return sorted(set(range(max(taken))) - taken)


def insert(copies: Copies, link: Link, *, seq: int) -> None:
    """Insert an entry as it is at a place of its own chain, beside what is there, and let that be its chain's end."""
    drop_source_index(copies)
    with psycopg.connect(copies.store_url) as connection:
        connection.execute("SET session_replication_role = replica")
        digest = _insert(connection, replace(link.entry, seq=seq), pack(link.entry), link.payload)
        head = (seq, digest, link.entry.tenant)
        connection.execute("UPDATE sealstream.tenant_heads SET seq = %s, hash = %s WHERE tenant = %s", head)


def overwrite(copies: Copies, chain: str, seq: int, entry: bytes) -> None:
    """Put the bytes of an entry in the place of another one, with its hash and all columns that it has."""
    drop_source_index(copies)
    one = parse(entry)
    place = (chain, seq)
    columns = (one.kind, one.topic_id, one.offset, one.event_id or None, one.received, entry_hash(entry), entry)
    copies.tamper(_SET, *columns, *place)


def drop_source_index(copies: Copies) -> None:
    """Drop the index by which one source record is one entry: its owner may."""
    with psycopg.connect(copies.store_url, autocommit=True) as connection:
        connection.execute("DROP INDEX sealstream.entries_source")


def drop(copies: Copies, chain: str, first: int = 0) -> None:
    """Delete a chain from a place on, and let the table of heads say that it ends there."""
    cut(copies, chain, first)
    if first == 0:
        copies.tamper("DELETE FROM sealstream.tenant_heads WHERE tenant = %s", chain)
        return
    last = links(copies, chain)[-1].entry
    copies.tamper(
        "UPDATE sealstream.tenant_heads SET seq = %s, hash = %s WHERE tenant = %s",
        last.seq,
        entry_hash(pack(last)),
        chain,
    )


def cut(copies: Copies, chain: str, first: int, last: int = 2**62) -> None:
    """Delete entries of a chain with their payloads and search rows, and nothing else."""
    for table in ("payloads", "events", "entries"):
        with psycopg.connect(copies.store_url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            statement = f"DELETE FROM sealstream.{table} WHERE tenant = %s AND seq BETWEEN %s AND %s"
            connection.execute(statement.encode(), (chain, first, last))


def _insert(connection: psycopg.Connection, entry: Entry, data: bytes, payload: bytes | None) -> bytes:
    digest = entry_hash(data)
    place = (entry.partition, entry.tenant, entry.seq)
    said = (entry.kind, entry.topic_id, entry.offset, entry.event_id or None, entry.received)
    connection.execute(_INSERT, (*place, *said, digest, data))
    if payload is not None:
        connection.execute(
            "INSERT INTO sealstream.payloads (tenant, seq, received, bytes) VALUES (%s, %s, %s, %s)",
            (entry.tenant, entry.seq, entry.received, payload),
        )
    return digest
