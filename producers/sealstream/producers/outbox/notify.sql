
-- Wakes the relays when a transaction with events commits. All commits that notify queue for one lock of the server's:
-- where thousands of transactions a second do, leave this out (--no-notify) and let the relays look by themselves.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('{channel}', '');
  RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}();
