-- Entries and payloads are only ever added. Rights say so to everybody but the owner, and these triggers say it to the
-- owner too. They are guard rails against mistakes: a superuser can switch them off, and the evidence is elsewhere.

CREATE FUNCTION sealstream.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION '% on %.% is refused: the store is only ever added to', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege', HINT = 'to move old payloads elsewhere, detach their partition';
END
$$;
REVOKE ALL ON FUNCTION sealstream.refuse_change() FROM PUBLIC;

-- Row triggers are inherited by every partition, now and later.
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON sealstream.entries
  FOR EACH ROW EXECUTE FUNCTION sealstream.refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON sealstream.payloads
  FOR EACH ROW EXECUTE FUNCTION sealstream.refuse_change();

-- TRUNCATE has no row triggers, and a statement trigger is not inherited: whoever makes a partition calls this for it.
CREATE FUNCTION sealstream.refuse_truncate(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION sealstream.refuse_change()',
    relation);
END
$$;
REVOKE ALL ON FUNCTION sealstream.refuse_truncate(regclass) FROM PUBLIC;

SELECT sealstream.refuse_truncate('sealstream.entries');
SELECT sealstream.refuse_truncate('sealstream.payloads');
