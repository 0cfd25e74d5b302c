-- What the notary has committed to before it signs. Restore it together with the store, and a rollback of both stays unseen.

CREATE TABLE sealstream_notary.log (
  only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
  instance   text        COLLATE "C" NOT NULL,
  key        text        COLLATE "C" NOT NULL,  -- the vkey that the log began with; later ones follow it by rotations
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sealstream_notary.root_log (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  size     bigint  NOT NULL CHECK (size >= 0),
  root     bytea   NOT NULL CHECK (octet_length(root) = 32),
  hashes   bytea   NOT NULL  -- the compact range of [0, size), which gives the root
);

COMMENT ON TABLE sealstream_notary.root_log IS
  'The head: compared and swapped in the transaction of each round, before anything of the round is signed.';

CREATE TABLE sealstream_notary.chains (
  chain       text    COLLATE "C" PRIMARY KEY,
  partition   integer NOT NULL,  -- of its last entry
  size        bigint  NOT NULL CHECK (size > 0),
  root        bytea   NOT NULL CHECK (octet_length(root) = 32),
  last_hash   bytea   NOT NULL CHECK (octet_length(last_hash) = 32),  -- of entry size - 1
  hashes      bytea   NOT NULL,  -- the compact range of [0, size)
  grown_in    bigint  NOT NULL,  -- the last round in which it grew,
  size_before bigint  NOT NULL CHECK (size_before >= 0 AND size_before < size)  -- and its size before that
) WITH (fillfactor = 50);
-- Hashes do not compress.
ALTER TABLE sealstream_notary.chains ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE sealstream_notary.positions (
  topic_id    bytea   NOT NULL CHECK (octet_length(topic_id) = 16),  -- of the source
  partition   integer NOT NULL,
  next_offset bigint  NOT NULL CHECK (next_offset > 0),  -- all before it are accounted for by the rounds so far
  PRIMARY KEY (topic_id, partition)
) WITH (fillfactor = 50);

CREATE TABLE sealstream_notary.rounds (
  round           bigint      PRIMARY KEY,
  leaf            bytea       NOT NULL,
  coverage        bytea       NOT NULL,
  root            bytea       NOT NULL CHECK (octet_length(root) = 32),  -- of the root log at size round + 1
  made_at         timestamptz NOT NULL DEFAULT now(),
  appended_from   timestamptz,  -- received of its oldest entry; NULL if it has none
  appended_before timestamptz,  -- received of its newest entry
  note            text,         -- the root checkpoint of size round + 1, signed; cosigned once it is witnessed
  witnessed_at    timestamptz,  -- when its quorum was complete,
  published_at    timestamptz,  -- and when that was public
  timestamp_token bytea,
  timestamped_at  timestamptz,
  locked_at       timestamptz
);

COMMENT ON COLUMN sealstream_notary.rounds.note IS
  'Kept before it leaves. What leaves is evidence; what stands here is the memory of it.';

CREATE TABLE sealstream_notary.map_tiles (
  round bigint  NOT NULL,
  level integer NOT NULL,
  index bigint  NOT NULL,
  data  bytea   NOT NULL,  -- as C2SP tlog-tiles has it; of the right edge as wide as it is
  PRIMARY KEY (round, level, index)
);
ALTER TABLE sealstream_notary.map_tiles ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE sealstream_notary.map_leaves (
  round bigint NOT NULL,
  index bigint NOT NULL,
  data  bytea  NOT NULL,  -- 256 leaves of 96 bytes, one behind the other, from leaf 256 * index on
  PRIMARY KEY (round, index)
);
ALTER TABLE sealstream_notary.map_leaves ALTER COLUMN data SET STORAGE EXTERNAL;

COMMENT ON TABLE sealstream_notary.map_leaves IS
  'The tenant map of each round of late, and of those that were anchored: what proofs of older entries are made from.';

REVOKE ALL ON ALL TABLES IN SCHEMA sealstream_notary FROM PUBLIC;
GRANT USAGE ON SCHEMA sealstream_notary TO sealstream_notary, sealstream_notary_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA sealstream_notary TO sealstream_notary, sealstream_notary_reader;
GRANT INSERT ON sealstream_notary.log, sealstream_notary.root_log, sealstream_notary.chains,
  sealstream_notary.positions, sealstream_notary.rounds, sealstream_notary.map_tiles, sealstream_notary.map_leaves
  TO sealstream_notary;
GRANT UPDATE ON sealstream_notary.root_log, sealstream_notary.chains, sealstream_notary.positions TO sealstream_notary;
GRANT UPDATE (note, witnessed_at, published_at, timestamp_token, timestamped_at, locked_at) ON sealstream_notary.rounds
  TO sealstream_notary;
GRANT DELETE ON sealstream_notary.map_tiles, sealstream_notary.map_leaves TO sealstream_notary;
