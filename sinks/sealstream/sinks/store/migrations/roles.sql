-- Group roles, for the whole cluster. This file runs before the numbered ones, every time, as whoever migrates.
-- They cannot log in: an operator makes login roles and grants them one of these. Another database of the same cluster
-- may be making them at this very moment, hence the exceptions.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['sealstream_owner', 'sealstream_writer', 'sealstream_reader'] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
      BEGIN
        EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        RAISE NOTICE 'role % was made by another session', name;
      END;
    END IF;
  END LOOP;
  -- From PostgreSQL 16 on, whoever makes a role may grant it, but is not yet a member of it.
  IF NOT pg_catalog.pg_has_role(current_user, 'sealstream_owner', 'USAGE') THEN
    EXECUTE pg_catalog.format('GRANT sealstream_owner TO %I', current_user);
  END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS sealstream AUTHORIZATION sealstream_owner;
