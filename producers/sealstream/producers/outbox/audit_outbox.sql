-- A transactional outbox for audit events: an event commits with the business data, or not at all.
-- Safe to run again. PostgreSQL 14 or newer. The first five columns are those of Debezium's outbox event router.

CREATE TABLE IF NOT EXISTS {table} (
  id                  uuid         NOT NULL PRIMARY KEY,  -- made by the client (UUIDv7): the payload names it
  aggregatetype       varchar(255) NOT NULL DEFAULT 'audit',
  aggregateid         varchar(255) NOT NULL,  -- the tenant, which is the record's key
  type                text         NOT NULL,  -- the action
  payload             bytea        NOT NULL,  -- the event's final bytes, which are sent as they are
  "position"          bigint       NOT NULL GENERATED ALWAYS AS IDENTITY,  -- a cache of numbers would break the order
  shard               smallint     NOT NULL
    GENERATED ALWAYS AS ((hashtextextended(aggregateid, 0) & {last_shard})::smallint) STORED,
  inserted_at         timestamptz  NOT NULL DEFAULT clock_timestamp(),
  published_at        timestamptz,  -- these three are set where the relay keeps what it has published
  published_partition integer,
  published_offset    bigint,
  refused             text  -- why the relay has set the row aside; NULL again lets it try once more
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01);

COMMENT ON TABLE {table} IS
  'Audit events that have committed with the business data, until the relay has published them.';

CREATE INDEX IF NOT EXISTS {waiting_index} ON {table} (shard, "position")
  WHERE published_at IS NULL AND refused IS NULL;
CREATE INDEX IF NOT EXISTS {refused_index} ON {table} ("position") WHERE refused IS NOT NULL;

-- Whoever holds a shard's row publishes the events of its tenants: one relay at a time, so that their order stays.
CREATE TABLE IF NOT EXISTS {shards} (
  shard     smallint NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND {last_shard}),
  relay     text,  -- which relay served it last
  served_at timestamptz,
  published bigint   NOT NULL DEFAULT 0
) WITH (fillfactor = 20);

INSERT INTO {shards} (shard) SELECT generate_series(0, {last_shard}) ON CONFLICT DO NOTHING;
