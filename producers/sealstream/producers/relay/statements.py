"""The relay's SQL, for one table."""

from __future__ import annotations

from typing import Final

from psycopg.sql import SQL, Composed, Identifier

from sealstream.producers.outbox.table import OutboxTable

COUNTED_ROWS_MAX: Final = 1_000_000
"""So many rows are counted for the lag, and no more: counting must not cost more than publishing."""
LISTED_ROWS_MAX: Final = 100

_WAITING: Final = SQL("{alias}.published_at IS NULL AND {alias}.refused IS NULL")


class Statements:
    """The statements for one table.

    Arguments:
        table: The table.
    """

    def __init__(self, table: OutboxTable) -> None:
        rows, shards = Identifier(*table.parts), Identifier(*table.shards_parts)
        waiting = _WAITING.format(alias=Identifier("o"))
        self.listen: Composed = SQL("LISTEN {}").format(Identifier(table.channel))
        # Whoever was served longest ago comes first, so that no tenant waits for another one's flood.
        self.lock: Composed = SQL(
            "SELECT s.shard FROM {shards} AS s"
            " WHERE EXISTS (SELECT FROM {rows} AS o WHERE o.shard = s.shard AND {waiting})"
            " ORDER BY s.served_at NULLS FIRST, s.shard LIMIT %s FOR UPDATE OF s SKIP LOCKED"
        ).format(shards=shards, rows=rows, waiting=waiting)
        # Of each shard the first rows, and of all these no more bytes than given: still the first rows of each shard.
        self.read: Composed = SQL(
            "WITH found AS (SELECT o.* FROM unnest(%(shards)s::smallint[]) AS held (shard) CROSS JOIN LATERAL ("
            'SELECT o.id, o."position", octet_length(o.payload) AS size_bytes FROM {rows} AS o'
            ' WHERE o.shard = held.shard AND {waiting} ORDER BY o."position" LIMIT %(rows)s) AS o),'
            ' bounded AS (SELECT id, sum(size_bytes) OVER (ORDER BY "position") - size_bytes AS before_bytes'
            " FROM found)"
            " SELECT o.id::text, o.aggregateid, o.payload FROM bounded JOIN {rows} AS o USING (id)"
            ' WHERE before_bytes < %(bytes)s ORDER BY o."position"'
        ).format(rows=rows, waiting=waiting)
        self.delete: Composed = SQL("DELETE FROM {} WHERE id = ANY(%s::uuid[])").format(rows)
        self.mark: Composed = SQL(
            "UPDATE {} AS o SET published_at = clock_timestamp(), published_partition = p.at_partition,"
            " published_offset = p.at_offset"
            " FROM unnest(%s::uuid[], %s::integer[], %s::bigint[]) AS p (id, at_partition, at_offset) WHERE o.id = p.id"
        ).format(rows)
        self.refuse: Composed = SQL(
            "UPDATE {} AS o SET refused = p.reason FROM unnest(%s::uuid[], %s::text[]) AS p (id, reason)"
            " WHERE o.id = p.id"
        ).format(rows)
        self.served: Composed = SQL(
            "UPDATE {} SET relay = %s, served_at = clock_timestamp(), published = published + %s"
            " WHERE shard = ANY(%s::smallint[])"
        ).format(shards)
        count = SQL("(SELECT count(*) FROM (SELECT FROM {rows} AS o WHERE {condition} LIMIT {limit}) AS counted)")
        self.measure: Composed = SQL(
            "SELECT {waiting}, {refused},"
            " (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - o.inserted_at)), 0)::float8"
            " FROM {shards} AS s CROSS JOIN LATERAL (SELECT o.inserted_at FROM {rows} AS o"
            ' WHERE o.shard = s.shard AND {condition} ORDER BY o."position" LIMIT 1) AS o)'
        ).format(
            waiting=count.format(rows=rows, condition=waiting, limit=COUNTED_ROWS_MAX),
            refused=count.format(rows=rows, condition=SQL("o.refused IS NOT NULL"), limit=COUNTED_ROWS_MAX),
            shards=shards,
            rows=rows,
            condition=waiting,
        )
        self.kept: Composed = SQL("SELECT ") + count.format(
            rows=rows, condition=SQL("o.published_at IS NOT NULL"), limit=COUNTED_ROWS_MAX
        )
        self.refused: Composed = SQL(
            "SELECT o.id::text, o.aggregateid, o.refused, o.inserted_at FROM {rows} AS o WHERE o.refused IS NOT NULL"
            ' ORDER BY o."position" LIMIT {limit}'
        ).format(rows=rows, limit=LISTED_ROWS_MAX)
        self.relays: Composed = SQL(
            "SELECT relay, max(served_at), count(*) FROM {} WHERE relay IS NOT NULL GROUP BY relay ORDER BY relay"
        ).format(shards)
        self.columns: Composed = SQL(
            "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped"
        ).format(table.name)
