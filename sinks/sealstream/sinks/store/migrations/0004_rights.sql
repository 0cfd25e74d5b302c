-- The writer adds rows below the roots (0003) and moves its positions; it reads what it must compare with.
-- The reader reads, through the roots, the tenants that sealstream.reader_tenants gives to its role.

REVOKE ALL ON ALL TABLES IN SCHEMA sealstream FROM PUBLIC;
GRANT USAGE ON SCHEMA sealstream TO sealstream_writer, sealstream_reader;
GRANT SELECT ON sealstream.migrations, sealstream.positions TO sealstream_writer, sealstream_reader;
GRANT SELECT ON sealstream.entries, sealstream.payloads, sealstream.tenant_heads
  TO sealstream_writer, sealstream_reader;
GRANT SELECT ON sealstream.events, sealstream.reader_tenants TO sealstream_reader;
GRANT INSERT, UPDATE ON sealstream.positions TO sealstream_writer;
GRANT SELECT ON sealstream.search_positions TO sealstream_writer, sealstream_reader;
GRANT INSERT, UPDATE ON sealstream.search_positions TO sealstream_writer;

-- Heads move by this function alone, and only from where the writer saw them: two writers that hold the same tenant,
-- as they could while an epoch changes, cannot both go on.
CREATE FUNCTION sealstream.advance_heads(
  tenants text[], from_seqs bigint[], from_hashes bytea[], to_seqs bigint[], to_hashes bytea[]
) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH step AS (
    SELECT * FROM unnest(tenants, from_seqs, from_hashes, to_seqs, to_hashes)
      AS s (tenant, from_seq, from_hash, to_seq, to_hash)
  ), begun AS (
    INSERT INTO sealstream.tenant_heads (tenant, seq, hash)
    SELECT tenant, to_seq, to_hash FROM step WHERE from_seq IS NULL
    ON CONFLICT DO NOTHING
    RETURNING 1
  ), moved AS (
    UPDATE sealstream.tenant_heads AS h SET seq = s.to_seq, hash = s.to_hash
    FROM step AS s
    WHERE h.tenant = s.tenant AND h.seq = s.from_seq AND h.hash = s.from_hash
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM begun) + (SELECT count(*) FROM moved)
$$;
REVOKE ALL ON FUNCTION sealstream.advance_heads(text[], bigint[], bytea[], bigint[], bytea[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sealstream.advance_heads(text[], bigint[], bytea[], bigint[], bytea[]) TO sealstream_writer;

ALTER TABLE sealstream.entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE sealstream.payloads ENABLE ROW LEVEL SECURITY;
ALTER TABLE sealstream.events ENABLE ROW LEVEL SECURITY;
ALTER TABLE sealstream.tenant_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE sealstream.reader_tenants ENABLE ROW LEVEL SECURITY;

CREATE POLICY writer ON sealstream.entries FOR SELECT TO sealstream_writer USING (true);
CREATE POLICY writer ON sealstream.payloads FOR SELECT TO sealstream_writer USING (true);
CREATE POLICY writer ON sealstream.tenant_heads FOR SELECT TO sealstream_writer USING (true);

-- The rows of a role are those of every role whose rights it has. SET ROLE reaches only roles that one is a member of,
-- and no setting of a session takes part: a reader cannot name itself another tenant.
CREATE POLICY own ON sealstream.reader_tenants FOR SELECT TO sealstream_reader USING (
  EXISTS (
    SELECT FROM pg_catalog.pg_roles AS r
    WHERE r.rolname = role AND pg_catalog.pg_has_role(current_user, r.oid, 'USAGE')
  )
);

-- Both sub-selects are independent of the row, so they run once a query. The policy above applies within them.
CREATE POLICY reader ON sealstream.entries FOR SELECT TO sealstream_reader USING (
  (SELECT EXISTS (SELECT FROM sealstream.reader_tenants AS t WHERE t.tenant = '*'))
  OR tenant = ANY (ARRAY(SELECT t.tenant FROM sealstream.reader_tenants AS t))
);
CREATE POLICY reader ON sealstream.payloads FOR SELECT TO sealstream_reader USING (
  (SELECT EXISTS (SELECT FROM sealstream.reader_tenants AS t WHERE t.tenant = '*'))
  OR tenant = ANY (ARRAY(SELECT t.tenant FROM sealstream.reader_tenants AS t))
);
CREATE POLICY reader ON sealstream.events FOR SELECT TO sealstream_reader USING (
  (SELECT EXISTS (SELECT FROM sealstream.reader_tenants AS t WHERE t.tenant = '*'))
  OR tenant = ANY (ARRAY(SELECT t.tenant FROM sealstream.reader_tenants AS t))
);
CREATE POLICY reader ON sealstream.tenant_heads FOR SELECT TO sealstream_reader USING (
  (SELECT EXISTS (SELECT FROM sealstream.reader_tenants AS t WHERE t.tenant = '*'))
  OR tenant = ANY (ARRAY(SELECT t.tenant FROM sealstream.reader_tenants AS t))
);
