-- Partitions. The writer names the first level below a root (entries_p0, payloads_standard, events_standard) when it
-- adds rows: PostgreSQL refuses COPY into a table with row-level security, and the roots have it for the readers' sake.

CREATE FUNCTION sealstream.make_entry_partitions(count integer) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text;
BEGIN
  FOR number IN 0 .. count - 1 LOOP
    name := format('entries_p%s', number);
    CONTINUE WHEN to_regclass(format('sealstream.%I', name)) IS NOT NULL;
    EXECUTE format('CREATE TABLE sealstream.%I PARTITION OF sealstream.entries FOR VALUES IN (%s)', name, number);
    EXECUTE format('GRANT SELECT, INSERT ON sealstream.%I TO sealstream_writer', name);
    PERFORM sealstream.refuse_truncate(format('sealstream.%I', name)::regclass);
    RETURN NEXT name;
  END LOOP;
END
$$;
REVOKE ALL ON FUNCTION sealstream.make_entry_partitions(integer) FROM PUBLIC;

CREATE FUNCTION sealstream.make_retention_class(class text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  root text;
  name text;
BEGIN
  IF class !~ '^[a-z][a-z0-9_]{0,29}$' THEN
    RAISE EXCEPTION 'retention class % is not 1 to 30 of a-z0-9_, beginning with a letter', quote_literal(class)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOREACH root IN ARRAY ARRAY['payloads', 'events'] LOOP
    name := root || '_' || class;
    CONTINUE WHEN to_regclass(format('sealstream.%I', name)) IS NOT NULL;
    EXECUTE format('CREATE TABLE sealstream.%I PARTITION OF sealstream.%I FOR VALUES IN (%L) PARTITION BY RANGE (%I)',
      name, root, class, CASE root WHEN 'payloads' THEN 'received' ELSE 'received_at' END);
    -- What belongs to no month that was made, such as a time of 0.
    EXECUTE format('CREATE TABLE sealstream.%I PARTITION OF sealstream.%I DEFAULT', name || '_default', name);
    EXECUTE format('GRANT SELECT, INSERT ON sealstream.%I TO sealstream_writer', name);
    IF root = 'payloads' THEN
      PERFORM sealstream.refuse_truncate(format('sealstream.%I', name)::regclass);
      PERFORM sealstream.refuse_truncate(format('sealstream.%I', name || '_default')::regclass);
    END IF;
  END LOOP;
END
$$;
REVOKE ALL ON FUNCTION sealstream.make_retention_class(text) FROM PUBLIC;

-- The only thing a writer can create: months, from the one before a day on, for every class. With the owner's rights,
-- hence the fixed search path and the bounds.
CREATE FUNCTION sealstream.make_months(day date, months integer) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  parent text;
  name text;
  first timestamptz;
  bounds text;
BEGIN
  IF day NOT BETWEEN '2000-01-01' AND '2999-12-31' OR months NOT BETWEEN 1 AND 36 THEN
    RAISE EXCEPTION 'months are made 1 to 36 at a time, from the year 2000 to 2999'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- Two workers may ask at the same time.
  PERFORM pg_advisory_xact_lock(hashtext('sealstream.make_months'));
  FOR parent IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('sealstream.payloads'::regclass, 'sealstream.events'::regclass) ORDER BY c.relname
  LOOP
    FOR number IN -1 .. months - 2 LOOP
      first := date_trunc('month', day::timestamptz) + make_interval(months => number);
      name := parent || to_char(first, '_YYYY_MM');
      CONTINUE WHEN to_regclass(format('sealstream.%I', name)) IS NOT NULL;
      bounds := CASE WHEN parent LIKE 'payloads%' THEN format('FROM (%s) TO (%s)',
          (extract(epoch FROM first) * 1000000)::bigint,
          (extract(epoch FROM first + interval '1 month') * 1000000)::bigint)
        ELSE format('FROM (%L) TO (%L)', first, first + interval '1 month') END;
      BEGIN
        EXECUTE format('CREATE TABLE sealstream.%I PARTITION OF sealstream.%I FOR VALUES %s', name, parent, bounds);
      EXCEPTION WHEN check_violation THEN
        -- Rows of that month are in the default partition already: they stay where they are.
        RAISE NOTICE 'the rows of % stay in the default partition', name;
        CONTINUE;
      END;
      IF parent LIKE 'payloads%' THEN
        PERFORM sealstream.refuse_truncate(format('sealstream.%I', name)::regclass);
      END IF;
      RETURN NEXT name;
    END LOOP;
  END LOOP;
END
$$;
REVOKE ALL ON FUNCTION sealstream.make_months(date, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sealstream.make_months(date, integer) TO sealstream_writer;

SELECT sealstream.make_retention_class('standard');
