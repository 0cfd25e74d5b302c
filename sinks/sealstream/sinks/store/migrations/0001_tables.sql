-- What the store holds. No key comes twice in an index (deduplicate_items = off: it is not looked for). Texts that are compared are of collation "C": no locale's order, and none of its costs.

CREATE TABLE sealstream.entries (
  partition  integer  NOT NULL,  -- of the source
  tenant     text     COLLATE "C" NOT NULL,
  seq        bigint   NOT NULL,
  kind       smallint NOT NULL,
  topic_id   bytea    NOT NULL CHECK (octet_length(topic_id) = 16),
  "offset"   bigint   NOT NULL,
  event_id   text     COLLATE "C",  -- NULL where the record had no valid one
  received   bigint   NOT NULL,  -- microseconds since the epoch
  hash       bytea    NOT NULL CHECK (octet_length(hash) = 32),
  entry      bytea    NOT NULL,
  -- The tenant stands first so that a chain can be read in its order from each partition's index.
  PRIMARY KEY (tenant, seq, partition)
) PARTITION BY LIST (partition);

COMMENT ON TABLE sealstream.entries IS
  'The chains. "entry" is the evidence, byte for byte; the other columns serve keys and look-ups, and whoever verifies compares them with it.';

-- One source record is one entry. A genesis, a gap and an epoch have the coordinates of a neighbour.
CREATE UNIQUE INDEX entries_source ON sealstream.entries (topic_id, "offset", partition) WHERE kind NOT IN (0, 7, 8);
-- The id stands first: ids that begin with their time (UUIDv7) come in their order, and cost half of what others cost.
CREATE INDEX entries_event_id ON sealstream.entries (event_id, tenant) WITH (deduplicate_items = off)
  WHERE event_id IS NOT NULL;

CREATE TABLE sealstream.payloads (
  tenant          text   COLLATE "C" NOT NULL,
  seq             bigint NOT NULL,
  retention_class text   COLLATE "C" NOT NULL DEFAULT 'standard',
  received        bigint NOT NULL,  -- the entry's: microseconds since the epoch
  bytes           bytea  NOT NULL
) PARTITION BY LIST (retention_class);

COMMENT ON TABLE sealstream.payloads IS
  'What the entries commit to by digest. A month of a retention class is a partition, so that a tier moves by detaching it.';

CREATE INDEX payloads_place ON sealstream.payloads (tenant, seq) WITH (deduplicate_items = off);

CREATE TABLE sealstream.events (
  tenant          text        COLLATE "C" NOT NULL,
  seq             bigint      NOT NULL,
  retention_class text        COLLATE "C" NOT NULL DEFAULT 'standard',
  kind            smallint    NOT NULL,
  event_id        text        COLLATE "C" NOT NULL,
  received_at     timestamptz NOT NULL,
  occurred_at     timestamptz,
  actor_type      text,
  actor_id        text,
  actor_name      text,
  action          text,
  outcome         text,
  targets         jsonb,
  ip              text,
  request_id      text,
  context         jsonb,
  metadata        jsonb,
  undecoded       text,  -- why the payload could not be decoded; NULL where it could
  PRIMARY KEY (tenant, received_at, seq, retention_class)
) PARTITION BY LIST (retention_class);

COMMENT ON TABLE sealstream.events IS
  'Derived from the payloads for search, and rebuildable from them. Never evidence.';

-- Few on purpose: each index costs every insert. An actor's id can be longer than an index takes, so its beginning is indexed.
CREATE INDEX events_actor ON sealstream.events (tenant, left(actor_id, 128), received_at, seq)
  WITH (deduplicate_items = off);
CREATE INDEX events_targets ON sealstream.events USING gin (targets jsonb_path_ops);

CREATE TABLE sealstream.positions (
  topic       text    COLLATE "C" NOT NULL,  -- the chained topic, by its name
  partition   integer NOT NULL,
  topic_id    bytea   NOT NULL CHECK (octet_length(topic_id) = 16),  -- and by its UUID
  next_offset bigint  NOT NULL,
  writer      text    NOT NULL,
  PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

COMMENT ON TABLE sealstream.positions IS
  'How far the chained topic is stored; moves in the same transaction as the entries and payloads.';

CREATE TABLE sealstream.search_positions (
  topic_id    bytea   NOT NULL CHECK (octet_length(topic_id) = 16),  -- of the source
  partition   integer NOT NULL,
  next_offset bigint  NOT NULL,  -- of the source: entries before it have their rows in events
  received    bigint  NOT NULL,  -- of the last entry before it, in microseconds since the epoch; 0 if there is none
  PRIMARY KEY (topic_id, partition)
) WITH (fillfactor = 50);

COMMENT ON TABLE sealstream.search_positions IS
  'How far events follow the entries; moves in the same transaction as the rows of events. Never evidence.';

CREATE TABLE sealstream.tenant_heads (
  tenant text   COLLATE "C" PRIMARY KEY,
  seq    bigint NOT NULL,
  hash   bytea  NOT NULL CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 50);

COMMENT ON TABLE sealstream.tenant_heads IS
  'Where each chain ends at the positions above, whichever partition and epoch it comes from.';

CREATE TABLE sealstream.reader_tenants (
  role   text NOT NULL,  -- a role, or a group that roles are members of
  tenant text COLLATE "C" NOT NULL,  -- a tenant, a partition's chain such as !partition-0, or * for all of them
  PRIMARY KEY (role, tenant)
);

COMMENT ON TABLE sealstream.reader_tenants IS
  'Which role may read which tenant. Only the owner writes it, so no session can widen its own view.';
