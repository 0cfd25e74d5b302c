-- Group roles, for the whole cluster, as the store has them: an operator makes login roles and grants them one of these.
-- This file runs before the numbered ones, every time, as whoever migrates; another database may be making the same
-- roles at this very moment, hence the exceptions.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['sealstream_notary_owner', 'sealstream_notary', 'sealstream_notary_reader'] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
      BEGIN
        EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        RAISE NOTICE 'role % was made by another session', name;
      END;
    END IF;
  END LOOP;
  IF NOT pg_catalog.pg_has_role(current_user, 'sealstream_notary_owner', 'USAGE') THEN
    EXECUTE pg_catalog.format('GRANT sealstream_notary_owner TO %I', current_user);
  END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS sealstream_notary AUTHORIZATION sealstream_notary_owner;
