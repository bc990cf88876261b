--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: df; Type: SCHEMA; Schema: -; Owner: engine
--

CREATE SCHEMA df;


ALTER SCHEMA df OWNER TO engine;

--
-- Name: listed_instance; Type: TYPE; Schema: df; Owner: engine
--

CREATE TYPE df.listed_instance AS (
	key bigint,
	created_at timestamp with time zone,
	id text,
	label text,
	status text
);


ALTER TYPE df.listed_instance OWNER TO engine;

--
-- Name: TYPE listed_instance; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TYPE df.listed_instance IS 'What df.page_of_instances sorts by.';


--
-- Name: me(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.me() RETURNS oid
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT ((quote_ident((CURRENT_USER)::text))::regrole)::oid AS quote_ident;
END;


ALTER FUNCTION df.me() OWNER TO engine;

--
-- Name: FUNCTION me(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.me() IS 'api: the OID of the current role';


--
-- Name: new_id(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.new_id() RETURNS text
    LANGUAGE sql PARALLEL SAFE
    BEGIN ATOMIC
 SELECT (lpad(to_hex(((EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric))::bigint), 12, '0'::text) || "left"(replace((gen_random_uuid())::text, '-'::text, ''::text), 24));
END;


ALTER FUNCTION df.new_id() OWNER TO engine;

--
-- Name: FUNCTION new_id(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.new_id() IS 'api: a new instance id';


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: completions; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.completions (
    run_as oid DEFAULT df.me() NOT NULL,
    instance_key bigint NOT NULL,
    step text NOT NULL,
    attempt integer NOT NULL,
    written_by oid DEFAULT df.me() NOT NULL,
    repetitions integer DEFAULT 0 NOT NULL,
    outcome text NOT NULL,
    cause uuid,
    event_id uuid DEFAULT gen_random_uuid() NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    result json,
    error json,
    query text,
    note text,
    CONSTRAINT attempts_count_from_one CHECK ((attempt >= 1)),
    CONSTRAINT errors_fit CHECK ((octet_length((error)::text) <= 1048576)),
    CONSTRAINT outcome_is_known CHECK ((outcome = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT results_fit CHECK ((octet_length((result)::text) <= 16777216)),
    CONSTRAINT step_keys_fit CHECK ((octet_length(step) <= 500)),
    CONSTRAINT times_are_real CHECK ((((started_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (started_at <= '2200-01-01 00:00:00+00'::timestamp with time zone)) AND ((recorded_at >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (recorded_at <= '2200-01-01 00:00:00+00'::timestamp with time zone))))
);
ALTER TABLE ONLY df.completions ALTER COLUMN run_as SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN instance_key SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN step SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN attempt SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN written_by SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN repetitions SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN outcome SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN cause SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN event_id SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN started_at SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN recorded_at SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN result SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN error SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN query SET STATISTICS 0;
ALTER TABLE ONLY df.completions ALTER COLUMN note SET STATISTICS 0;


ALTER TABLE df.completions OWNER TO engine;

--
-- Name: TABLE completions; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.completions IS 'How each attempt of each step ended; the history of a workflow.';


--
-- Name: COLUMN completions.note; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.completions.note IS 'What a reader of the history should know, such as that the step ran at least once.';


--
-- Name: instances; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.instances (
    key bigint NOT NULL,
    submitted_by regrole DEFAULT (df.me())::regrole NOT NULL,
    submitter oid DEFAULT df.me() NOT NULL,
    id text DEFAULT df.new_id() NOT NULL,
    graph text NOT NULL,
    label text,
    input jsonb,
    vars jsonb,
    database text,
    created_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    session_role name DEFAULT SESSION_USER NOT NULL,
    parent_key bigint,
    parent_step text,
    parent_id text,
    cause uuid,
    status text DEFAULT 'pending'::text NOT NULL,
    quarantined text,
    pruned bigint,
    result json,
    error json,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    updated_at timestamp with time zone,
    event_id uuid NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    unsuccessful text GENERATED ALWAYS AS (
CASE
    WHEN (status = ANY (ARRAY['failed'::text, 'cancelled'::text])) THEN status
    ELSE NULL::text
END) STORED,
    CONSTRAINT graphs_fit CHECK ((octet_length(graph) <= 16777216)),
    CONSTRAINT inputs_fit CHECK ((octet_length((input)::text) <= 16777216)),
    CONSTRAINT labels_fit CHECK ((octet_length(label) <= 1000)),
    CONSTRAINT snapshots_of_variables_fit CHECK ((octet_length((vars)::text) <= 16777216)),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='50');
ALTER TABLE ONLY df.instances ALTER COLUMN key SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN submitted_by SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN submitter SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN id SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN graph SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN label SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN input SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN vars SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN database SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN created_xid SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN created_at SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN session_role SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN parent_key SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN parent_step SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN parent_id SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN cause SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN status SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN quarantined SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN pruned SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN result SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN error SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN started_at SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN finished_at SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN updated_at SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN event_id SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN recorded_at SET STATISTICS 0;
ALTER TABLE ONLY df.instances ALTER COLUMN unsuccessful SET STATISTICS 0;


ALTER TABLE df.instances OWNER TO engine;

--
-- Name: TABLE instances; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.instances IS 'One row starts a workflow.';


--
-- Name: COLUMN instances.cause; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.instances.cause IS 'Of a child: the event_id of the row that made its parent start it.';


--
-- Name: COLUMN instances.pruned; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.instances.pruned IS 'How many rows of the history of early iterations were removed; null: none.';


--
-- Name: COLUMN instances.unsuccessful; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.instances.unsuccessful IS 'The status where it is failed or cancelled.';


--
-- Name: engines_completions(bigint, uuid); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.engines_completions(p_key bigint, p_event_id uuid) RETURNS SETOF df.completions
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT c.run_as,
     c.instance_key,
     c.step,
     c.attempt,
     c.written_by,
     c.repetitions,
     c.outcome,
     c.cause,
     c.event_id,
     c.started_at,
     c.recorded_at,
     c.result,
     c.error,
     c.query,
     c.note
    FROM (df.instances i
      JOIN df.completions c ON (((c.run_as = (0)::oid) AND (c.instance_key = i.key))))
   WHERE ((i.key = engines_completions.p_key) AND (i.event_id = engines_completions.p_event_id));
END;


ALTER FUNCTION df.engines_completions(p_key bigint, p_event_id uuid) OWNER TO engine;

--
-- Name: FUNCTION engines_completions(p_key bigint, p_event_id uuid); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.engines_completions(p_key bigint, p_event_id uuid) IS 'api: what the engine itself completed in an instance, for who knows its event_id';


--
-- Name: all_completions(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.all_completions(p_key bigint) RETURNS SETOF df.completions
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT c.run_as,
     c.instance_key,
     c.step,
     c.attempt,
     c.written_by,
     c.repetitions,
     c.outcome,
     c.cause,
     c.event_id,
     c.started_at,
     c.recorded_at,
     c.result,
     c.error,
     c.query,
     c.note
    FROM (df.instances i
      JOIN df.completions c ON (((c.run_as = i.submitter) AND (c.instance_key = i.key))))
   WHERE (i.key = all_completions.p_key)
 UNION ALL
  SELECT c.run_as,
     c.instance_key,
     c.step,
     c.attempt,
     c.written_by,
     c.repetitions,
     c.outcome,
     c.cause,
     c.event_id,
     c.started_at,
     c.recorded_at,
     c.result,
     c.error,
     c.query,
     c.note
    FROM (df.instances i
      CROSS JOIN LATERAL df.engines_completions(i.key, i.event_id) c(run_as, instance_key, step, attempt, written_by, repetitions, outcome, cause, event_id, started_at, recorded_at, result, error, query, note))
   WHERE (i.key = all_completions.p_key);
END;


ALTER FUNCTION df.all_completions(p_key bigint) OWNER TO engine;

--
-- Name: FUNCTION all_completions(p_key bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.all_completions(p_key bigint) IS 'api: everything that was completed in an instance';


--
-- Name: answer(text, text, json, json); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.answer(p_id text, p_status text, p_result json, p_error json, OUT outcome text, OUT result json, OUT error json) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  outcome := 'completed';
  result := json_build_object('instance_id', p_id, 'status', p_status, 'result', p_result, 'error', p_error);
  if octet_length(result::text) > 16777216 then
    outcome := 'failed';
    error := json_build_object('message', format('result of instance %s, %s bytes, exceeds the limit of 16777216',
      p_id, octet_length(result::text)), 'code', '54000');
    result := null;
  end if;
end
$$;


ALTER FUNCTION df.answer(p_id text, p_status text, p_result json, p_error json, OUT outcome text, OUT result json, OUT error json) OWNER TO engine;

--
-- Name: FUNCTION answer(p_id text, p_status text, p_result json, p_error json, OUT outcome text, OUT result json, OUT error json); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.answer(p_id text, p_status text, p_result json, p_error json, OUT outcome text, OUT result json, OUT error json) IS 'the completion that tells of an instance''s end';


--
-- Name: are_visible(xid8[]); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.are_visible(p_xids xid8[]) RETURNS boolean
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT (NOT (EXISTS ( SELECT
            FROM unnest(are_visible.p_xids) x(x)
           WHERE (NOT pg_visible_in_snapshot(x.x, pg_current_snapshot())))));
END;


ALTER FUNCTION df.are_visible(p_xids xid8[]) OWNER TO engine;

--
-- Name: FUNCTION are_visible(p_xids xid8[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.are_visible(p_xids xid8[]) IS 'whether all of these transactions are visible';


--
-- Name: as(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df."as"(fut text, name text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  c_short_bytes constant integer := 20000;
  v_node  text := df.as_node(fut, 'as', 'fut');
  v_tail  text;
  v_end   text;   -- what stays behind the name: the mark of c ?> t, and the brace
begin
  perform df.not_null(name, 'as', 'name');
  if name !~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    raise exception 'df.as: result name ''%'' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*',
        case when length(name) > 60 then left(name, 60) || '…' else name end
      using errcode = 'invalid_parameter_value';
  end if;
  if df.tail(v_node, 1) <> '}' then
    v_node := rtrim(v_node, E' \t\n\r');
  end if;
  v_tail := df.tail(v_node, 300);
  v_end := substring(v_tail from '(?:,"then_length":[0-9]+)?[}]$');
  if v_end is null then
    raise exception 'df.as: argument fut begins like a node and does not end like one: …%', right(v_node, 30)
      using errcode = 'invalid_parameter_value', hint = '|| binds like ~>: put parentheses around concatenations.';
  end if;
  v_tail := substring(v_tail from ',"result_name":"[A-Za-z_][A-Za-z0-9_]*"(?:,"then_length":[0-9]+)?[}]$');
  if v_tail is null and octet_length(v_node) <= c_short_bytes and strpos(v_node, '"result_name"') > 0 then
    v_node := df.without_name(v_node);
  end if;
  return df.without_tail(v_node, length(coalesce(v_tail, v_end))) || ',"result_name":"' || name || '"' || v_end;
end
$_$;


ALTER FUNCTION df."as"(fut text, name text) OWNER TO engine;

--
-- Name: FUNCTION "as"(fut text, name text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df."as"(fut text, name text) IS 'api: names the result of a node; operator |=>';


--
-- Name: as_node(text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.as_node(p_text text, p_builder text, p_argument text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if p_text is null then
    raise exception 'df.%: argument % is NULL', p_builder, p_argument
      using errcode = 'null_value_not_allowed', hint = '|| with a NULL gives NULL.';
  elsif df.is_node(p_text) then
    return p_text;
  end if;
  return '{"node_type":"SQL","query":' || to_json(p_text) || '}';
end
$$;


ALTER FUNCTION df.as_node(p_text text, p_builder text, p_argument text) OWNER TO engine;

--
-- Name: FUNCTION as_node(p_text text, p_builder text, p_argument text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.as_node(p_text text, p_builder text, p_argument text) IS 'api: the graph node that a builder''s argument means';


--
-- Name: as_nodes(text[], text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.as_nodes(p_texts text[], p_builder text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_nodes text[] := '{}';
  v_text  text;
begin
  if coalesce(cardinality(p_texts), 0) = 0 then
    raise exception 'df.%: needs at least one argument', p_builder using errcode = 'invalid_parameter_value';
  end if;
  foreach v_text in array p_texts loop
    v_nodes[cardinality(v_nodes) + 1] := df.as_node(v_text, p_builder, (cardinality(v_nodes) + 1)::text);
  end loop;
  return v_nodes;
end
$$;


ALTER FUNCTION df.as_nodes(p_texts text[], p_builder text) OWNER TO engine;

--
-- Name: FUNCTION as_nodes(p_texts text[], p_builder text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.as_nodes(p_texts text[], p_builder text) IS 'api: the graph nodes that a builder''s arguments mean';


--
-- Name: await_instance(text, numeric); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.await_instance(instance_id text, timeout_seconds numeric DEFAULT NULL::numeric) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  perform df.not_null(instance_id, 'await_instance', 'instance_id');
  if instance_id !~ '^[A-Za-z0-9~][A-Za-z0-9._:/-]*$' and not df.has_reference(instance_id) then
    perform df.refuse_argument('await_instance', format('instance_id ''%s'' is not the id of an instance', left(instance_id, 60)));
  end if;
  return df.options_node('AWAIT_INSTANCE',
    '{"instance_id":' || to_json(instance_id)
    || case when timeout_seconds is null then ''
            else ',"timeout_seconds":' || df.seconds_text(timeout_seconds, 'await_instance', 'timeout_seconds') end || '}');
end
$_$;


ALTER FUNCTION df.await_instance(instance_id text, timeout_seconds numeric) OWNER TO engine;

--
-- Name: FUNCTION await_instance(instance_id text, timeout_seconds numeric); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.await_instance(instance_id text, timeout_seconds numeric) IS 'api: waits for the end of another instance, at most so long';


--
-- Name: begin_waits(bigint, json); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.begin_waits(p_epoch bigint, p_rows json, OUT skipped integer[], OUT missing integer[], OUT refused json) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_given   record;
  v_waiter  record;
  v_found   record;
  v_refused json[] := '{}';
begin
  perform df.require_epoch(p_epoch);
  for v_given in
    select c.*
      from json_to_recordset(p_rows) as c(ordinal integer, key bigint, step text, instance_id text, cause uuid, xids xid8[])
     order by c.key, c.step
  loop
    if not df.are_visible(v_given.xids) then
      skipped := skipped || v_given.ordinal;
      continue;
    end if;
    select i.key, i.submitter, i.submitted_by into v_waiter from df.instances i where i.key = v_given.key;
    continue when not found;
    select 1::bigint as several, i.key, i.submitter into v_found
      from df.instances i
     where i.submitted_by = v_waiter.submitted_by and i.id = v_given.instance_id;
    if not found then
      select count(*) as several, min(i.key) as key, min(i.submitter) as submitter into v_found
        from df.instances i
       where i.id = v_given.instance_id
         and i.submitted_by = any (array(
           select r.oid
             from pg_roles r
            where pg_has_role(v_waiter.submitter, r.oid, 'USAGE')
               or pg_has_role(v_waiter.submitter, (select n.nspowner from pg_namespace n where n.nspname = 'df'), 'USAGE')));
    end if;
    if v_found.several = 0 then
      missing := missing || v_given.ordinal;
    elsif v_found.several > 1 then
      v_refused := v_refused || json_build_object('ordinal', v_given.ordinal, 'code', '42P09', 'message',
        format('Instance %s is ambiguous: %s roles that you may act for have one', v_given.instance_id, v_found.several));
    elsif v_found.key = v_waiter.key then
      v_refused := v_refused || json_build_object('ordinal', v_given.ordinal, 'code', 'deadlock', 'message',
        format('Instance %s cannot wait for itself', v_given.instance_id));
    else
      -- it must not be removed meanwhile (0012_retention.sql)
      perform from df.instances i where i.key = v_found.key for key share;
      if not found then
        missing := missing || v_given.ordinal;
        continue;
      end if;
      insert into df.waits (instance_key, owner, waiter_key, waiter_step, cause)
      values (v_found.key, v_found.submitter, v_given.key, v_given.step, v_given.cause)
          on conflict do nothing;
    end if;
  end loop;
  refused := array_to_json(v_refused);
end
$$;


ALTER FUNCTION df.begin_waits(p_epoch bigint, p_rows json, OUT skipped integer[], OUT missing integer[], OUT refused json) OWNER TO engine;

--
-- Name: FUNCTION begin_waits(p_epoch bigint, p_rows json, OUT skipped integer[], OUT missing integer[], OUT refused json); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.begin_waits(p_epoch bigint, p_rows json, OUT skipped integer[], OUT missing integer[], OUT refused json) IS 'the engine''s waits for instances';


--
-- Name: branches(text, text[]); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.branches(p_type text, p_nodes text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"' || p_type || '","left_node":' || p_nodes[1] || ',"right_node":' || p_nodes[2]
    || case when cardinality(p_nodes) > 2 then ',"extra_nodes":[' || array_to_string(p_nodes[3:], ',') || ']' else '' end
    || '}';
end
$$;


ALTER FUNCTION df.branches(p_type text, p_nodes text[]) OWNER TO engine;

--
-- Name: FUNCTION branches(p_type text, p_nodes text[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.branches(p_type text, p_nodes text[]) IS 'api: a graph node with branches';


--
-- Name: break(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.break(value text DEFAULT NULL::text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if value is null then
    return '{"node_type":"BREAK"}';
  end if;
  return df.options_node('BREAK',
    '{"break_value":' || case when df.is_json(value) then btrim(value, E' \t\n\r') else to_json(value)::text end || '}');
end
$$;


ALTER FUNCTION df.break(value text) OWNER TO engine;

--
-- Name: FUNCTION break(value text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.break(value text) IS 'api: ends the innermost loop, with a value';


--
-- Name: call_child(text, text, jsonb); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.call_child(graph text, label text DEFAULT NULL::text, options jsonb DEFAULT NULL::jsonb) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_query constant text := concat_ws(',',
    '"label":' || to_json(nullif(label, '')),
    case when options not in ('{}', 'null') then '"options":' || df.compact(options) end);
begin
  if octet_length(label) > 1000 and not df.has_reference(label) then
    perform df.refuse_argument('call_child', 'argument label is longer than 1000 bytes');
  end if;
  if options <> 'null' then
    perform df.refuse_argument('call_child', df.call_child_flaw(jsonb_build_object('options', options::text)));
  end if;
  return '{"node_type":"CALL_CHILD","left_node":' || df.as_node(graph, 'call_child', 'graph')
    || case when v_query = '' then '' else ',"query":' || to_json('{' || v_query || '}') end || '}';
end
$$;


ALTER FUNCTION df.call_child(graph text, label text, options jsonb) OWNER TO engine;

--
-- Name: FUNCTION call_child(graph text, label text, options jsonb); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.call_child(graph text, label text, options jsonb) IS 'api: starts an instance as part of this one and waits for its end';


--
-- Name: call_child_flaw(jsonb); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.call_child_flaw(p_query jsonb) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_options jsonb;
  v_keys    text[];
  v_unknown text;
  v_choice  record;
  v_token   text;
begin
  if left(p_query ->> 'label', 1) <> '"' then
    return 'label is not a string';
  elsif p_query ->> 'options' is null then
    return null;
  elsif left(p_query ->> 'options', 1) <> '{' then
    return 'options is not a JSON object';
  end if;
  select array_agg(o.key), jsonb_object_agg(o.key, o.value::text) filter (where json_typeof(o.value) <> 'null'),
         (array_agg(o.key order by o.ordinality)
            filter (where json_typeof(o.value) <> 'null'
                      and o.key not in ('timeout_seconds', 'on_failure', 'inherit_vars', 'vars', 'input', 'on_parent_cancel', 'detach')))[1]
    into v_keys, v_options, v_unknown
    from json_each((p_query ->> 'options')::json) with ordinality as o;
  if exists (select from unnest(v_keys) as k(key) group by k.key having count(*) > 1) then
    return 'options has a key twice';
  elsif v_unknown is not null then
    return format('options has an unknown key ''%s''', left(v_unknown, 60));
  end if;
  v_token := v_options ->> 'timeout_seconds';
  if not df.may_be_seconds(v_token) and not (left(v_token, 1) = '"' and df.has_reference(df.json_text(v_token))) then
    return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
  end if;
  for v_choice in
    values ('on_failure', 'raise', 'return'), ('on_parent_cancel', 'cancel', 'abandon')
  loop
    v_token := v_options ->> v_choice.column1;
    if left(v_token, 1) <> '"' then
      return format('%s is not a string', v_choice.column1);
    elsif df.json_text(v_token) not in (v_choice.column2, v_choice.column3) then
      return format('%s is not ''%s'' or ''%s''', v_choice.column1, v_choice.column2, v_choice.column3);
    end if;
  end loop;
  for v_choice in
    values ('inherit_vars'), ('detach')
  loop
    if v_options ->> v_choice.column1 not in ('true', 'false') then
      return format('%s is not true or false', v_choice.column1);
    end if;
  end loop;
  if left(v_options ->> 'vars', 1) <> '{' then
    return 'vars is not a JSON object';
  end if;
  return null;
end
$$;


ALTER FUNCTION df.call_child_flaw(p_query jsonb) OWNER TO engine;

--
-- Name: FUNCTION call_child_flaw(p_query jsonb); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.call_child_flaw(p_query jsonb) IS 'api: what is wrong with the options of a call of a child, null when nothing is';


--
-- Name: cancel(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.cancel(instance_id text, reason text DEFAULT 'Cancelled by user'::text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_status text;
  v_reason text := coalesce(cancel.reason, 'Cancelled by user');
begin
  select i.status into v_status from df.instances i where i.key = df.find_key(cancel.instance_id);
  if df.is_final(v_status) then
    return format('Instance %s is already %s', instance_id, v_status);
  end if;
  insert into df.cancellations (instance_id, reason) values (cancel.instance_id, v_reason);
  return format('Instance %s cancelled: %s', instance_id, v_reason);
end
$$;


ALTER FUNCTION df.cancel(instance_id text, reason text) OWNER TO engine;

--
-- Name: FUNCTION cancel(instance_id text, reason text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.cancel(instance_id text, reason text) IS 'api: cancels an instance when this transaction commits';


--
-- Name: cancel_children(bigint, json); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.cancel_children(p_epoch bigint, p_rows json, OUT skipped integer[]) RETURNS integer[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_ready integer[];
begin
  perform df.require_epoch(p_epoch);
  with given as materialized (
    select c.*, df.are_visible(c.xids) as ready
      from json_to_recordset(p_rows) as c(ordinal integer, parent bigint, step text, graph text, cause uuid, xids xid8[])
  ), inserted as (
    insert into df.instances
      (submitted_by, submitter, id, graph, database, parent_key, parent_step, parent_id, cause, status, error, finished_at)
    select p.submitted_by, p.submitter, df.child_id(p.key, g.step), g.graph, p.database, p.key, g.step, p.id, g.cause, 'cancelled',
           json_build_object('message', 'Cancelled by its parent', 'code', 'cancelled', 'node', 1, 'step', '1', 'attempt', 1),
           clock_timestamp()
      from given g
     cross join lateral (select p.* from df.instances p where p.key = g.parent offset 0) as p
     where g.ready
     order by p.key, g.step
        on conflict do nothing
    returning id, status, result, error, parent_key, parent_step, cause
  ), answered as (
    insert into df.completions (run_as, instance_key, step, attempt, outcome, result, cause)
    select 0, i.parent_key, i.parent_step, 1, a.outcome, a.result, i.cause
      from inserted i
     cross join lateral df.answer(i.id, i.status, i.result, i.error) as a
     order by i.parent_key, i.parent_step
        on conflict do nothing
  )
  select array_agg(g.ordinal) filter (where g.ready), array_agg(g.ordinal) filter (where not g.ready)
    into v_ready, skipped
    from given g;
  insert into df.cancellations (owner, instance_id, reason)
  select i.submitter, i.id, 'Cancelled by its parent'
    from json_to_recordset(p_rows) as g(ordinal integer, parent bigint, step text)
   cross join lateral (select p.* from df.instances p where p.key = g.parent offset 0) as p
   cross join lateral (
     select i.* from df.instances i where i.submitted_by = p.submitted_by and i.id = df.child_id(p.key, g.step) offset 0
   ) as i
   where g.ordinal = any (v_ready) and not df.is_final(i.status) and (i.parent_key, i.parent_step) = (p.key, g.step);
  -- there, and not to be seen yet
  skipped := skipped || array(
    select g.ordinal
      from json_to_recordset(p_rows) as g(ordinal integer, parent bigint, step text)
     cross join lateral (select p.* from df.instances p where p.key = g.parent offset 0) as p
     where g.ordinal = any (v_ready)
       and (select i.key from df.instances i where i.submitted_by = p.submitted_by and i.id = df.child_id(p.key, g.step)) is null);
end
$$;


ALTER FUNCTION df.cancel_children(p_epoch bigint, p_rows json, OUT skipped integer[]) OWNER TO engine;

--
-- Name: FUNCTION cancel_children(p_epoch bigint, p_rows json, OUT skipped integer[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.cancel_children(p_epoch bigint, p_rows json, OUT skipped integer[]) IS 'the engine''s cancellations of children';


--
-- Name: catch(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.catch(fut text, handler text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"CATCH","left_node":' || df.as_node(fut, 'catch', 'fut')
    || ',"right_node":' || df.as_node(handler, 'catch', 'handler') || '}';
end
$$;


ALTER FUNCTION df.catch(fut text, handler text) OWNER TO engine;

--
-- Name: FUNCTION catch(fut text, handler text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.catch(fut text, handler text) IS 'api: handler runs when a node fails';


--
-- Name: child_header(text, text, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.child_header(p_kind text, p_role text, p_branch integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT
         CASE p_kind
             WHEN 'IF'::text THEN
             CASE p_role
                 WHEN 'C'::text THEN '? condition:'::text
                 WHEN 'L'::text THEN '✓ then:'::text
                 ELSE '✗ else:'::text
             END
             WHEN 'LOOP'::text THEN
             CASE p_role
                 WHEN 'C'::text THEN '? while:'::text
                 ELSE '↻ body:'::text
             END
             WHEN 'JOIN'::text THEN (('║ branch '::text || (p_branch)::text) || ':'::text)
             WHEN 'RACE'::text THEN (('║ branch '::text || (p_branch)::text) || ':'::text)
             WHEN 'MAP'::text THEN
             CASE p_role
                 WHEN 'L'::text THEN '≡ items:'::text
                 ELSE '↻ body:'::text
             END
             WHEN 'RETRY'::text THEN '↻ try:'::text
             WHEN 'TIMEOUT'::text THEN '⏱ within:'::text
             WHEN 'CATCH'::text THEN
             CASE p_role
                 WHEN 'L'::text THEN '▷ try:'::text
                 ELSE '✗ catch:'::text
             END
             WHEN 'UNDO'::text THEN
             CASE p_role
                 WHEN 'L'::text THEN '▷ do:'::text
                 ELSE '↶ undo:'::text
             END
             WHEN 'CALL_CHILD'::text THEN '⇉ child:'::text
             ELSE NULL::text
         END AS "case";
END;


ALTER FUNCTION df.child_header(p_kind text, p_role text, p_branch integer) OWNER TO engine;

--
-- Name: FUNCTION child_header(p_kind text, p_role text, p_branch integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.child_header(p_kind text, p_role text, p_branch integer) IS 'api: the header over a child in df.explain';


--
-- Name: child_id(bigint, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.child_id(p_parent bigint, p_step text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT ((('~'::text || p_parent) || '/'::text) || p_step);
END;


ALTER FUNCTION df.child_id(p_parent bigint, p_step text) OWNER TO engine;

--
-- Name: FUNCTION child_id(p_parent bigint, p_step text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.child_id(p_parent bigint, p_step text) IS 'the id of the child that a step starts';


--
-- Name: clearvars(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.clearvars() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform df.refuse_in_workflow('clearvars');
  update df.vars v set value = null where v.owner = df.me();
end
$$;


ALTER FUNCTION df.clearvars() OWNER TO engine;

--
-- Name: FUNCTION clearvars(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.clearvars() IS 'api: removes all variables of the caller';


--
-- Name: commands_check(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.commands_check() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_patience timestamptz := clock_timestamp();
  v_missing  text;
begin
  if current_setting('df.in_workflow', true) = 'true' and current_setting('transaction_isolation') = 'read committed' then
    v_patience := v_patience + interval '5 seconds';
  end if;
  loop
    select n.instance_id into v_missing
      from new_rows n
     where n.instance_key is null
       and not exists (select from df.instances i where i.submitted_by = n.owner::regrole and i.id = n.instance_id)
     limit 1;
    exit when not found;
    if clock_timestamp() >= v_patience then
      raise exception 'Instance not found or access denied: %', v_missing using errcode = 'no_data_found';
    end if;
    perform pg_sleep(0.005);
  end loop;
  return null;
end
$$;


ALTER FUNCTION df.commands_check() OWNER TO engine;

--
-- Name: commands_guard(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.commands_guard() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_me    oid := df.me();
  v_count bigint;
begin
  if not has_any_column_privilege(tg_relid, 'INSERT') then
    raise insufficient_privilege using message = 'permission denied for table ' || tg_table_name;
  end if;
  new.sent_by := v_me;
  new.folded := false;
  if tg_table_name = 'signals' then
    new.taken_by := null;
  end if;
  new.instance_key := null;
  new.event_id := gen_random_uuid();
  new.recorded_at := clock_timestamp();
  if new.owner is not null and df.is_engine(tg_relid) then
    -- it cancels the children of every role
    select i.key into new.instance_key
      from df.instances i
     where i.submitted_by = new.owner::regrole and i.id = new.instance_id;
    return new;
  end if;
  if new.owner is null then
    select i.submitter, i.key into new.owner, new.instance_key
      from df.instances i
     where i.submitted_by = v_me::regrole and i.id = new.instance_id;
    if found then
      return new;
    end if;
    select count(*), min(i.submitter), min(i.key) into v_count, new.owner, new.instance_key
      from df.instances i
     where i.submitted_by = any (df.my_roles()) and i.id = new.instance_id;
    if v_count > 1 then
      raise exception 'Instance % is ambiguous: % roles that you may act for have one', new.instance_id, v_count
        using errcode = 'ambiguous_alias', hint = 'Say whose with the column owner.';
    elsif v_count = 0 then
      new.owner := v_me;
      new.instance_key := null;
    end if;
    return new;
  end if;
  if not exists (select from pg_roles r where r.oid = new.owner) or not pg_has_role(new.owner, 'USAGE') then
    raise exception 'Instance not found or access denied: %', new.instance_id using errcode = 'no_data_found';
  end if;
  select i.key into new.instance_key
    from df.instances i
   where i.submitted_by = new.owner::regrole and i.id = new.instance_id;
  return new;
end
$$;


ALTER FUNCTION df.commands_guard() OWNER TO engine;

--
-- Name: cancellations; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.cancellations (
    owner oid NOT NULL,
    instance_id text NOT NULL,
    instance_key bigint,
    reason text DEFAULT 'Cancelled by user'::text NOT NULL,
    sent_by oid DEFAULT df.me() NOT NULL,
    folded boolean DEFAULT false NOT NULL,
    event_id uuid DEFAULT gen_random_uuid() NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT reasons_fit CHECK ((octet_length(reason) <= 10000))
)
WITH (fillfactor='80');
ALTER TABLE ONLY df.cancellations ALTER COLUMN owner SET STATISTICS 0;
ALTER TABLE ONLY df.cancellations ALTER COLUMN instance_id SET STATISTICS 0;
ALTER TABLE ONLY df.cancellations ALTER COLUMN instance_key SET STATISTICS 0;
ALTER TABLE ONLY df.cancellations ALTER COLUMN reason SET STATISTICS 0;
ALTER TABLE ONLY df.cancellations ALTER COLUMN sent_by SET STATISTICS 0;
ALTER TABLE ONLY df.cancellations ALTER COLUMN folded SET STATISTICS 0;
ALTER TABLE ONLY df.cancellations ALTER COLUMN event_id SET STATISTICS 0;
ALTER TABLE ONLY df.cancellations ALTER COLUMN recorded_at SET STATISTICS 0;


ALTER TABLE df.cancellations OWNER TO engine;

--
-- Name: TABLE cancellations; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.cancellations IS 'One row cancels an instance.';


--
-- Name: releases; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.releases (
    owner oid NOT NULL,
    instance_id text NOT NULL,
    instance_key bigint,
    reason text DEFAULT 'Released by user'::text NOT NULL,
    sent_by oid DEFAULT df.me() NOT NULL,
    folded boolean DEFAULT false NOT NULL,
    event_id uuid DEFAULT gen_random_uuid() NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT reasons_fit CHECK ((octet_length(reason) <= 10000))
)
WITH (fillfactor='80');
ALTER TABLE ONLY df.releases ALTER COLUMN owner SET STATISTICS 0;
ALTER TABLE ONLY df.releases ALTER COLUMN instance_id SET STATISTICS 0;
ALTER TABLE ONLY df.releases ALTER COLUMN instance_key SET STATISTICS 0;
ALTER TABLE ONLY df.releases ALTER COLUMN reason SET STATISTICS 0;
ALTER TABLE ONLY df.releases ALTER COLUMN sent_by SET STATISTICS 0;
ALTER TABLE ONLY df.releases ALTER COLUMN folded SET STATISTICS 0;
ALTER TABLE ONLY df.releases ALTER COLUMN event_id SET STATISTICS 0;
ALTER TABLE ONLY df.releases ALTER COLUMN recorded_at SET STATISTICS 0;


ALTER TABLE df.releases OWNER TO engine;

--
-- Name: TABLE releases; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.releases IS 'One row lets a quarantined instance go on.';


--
-- Name: commands_to(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.commands_to(p_key bigint) RETURNS TABLE(kind text, reason text, sent_by oid, folded boolean, at timestamp with time zone)
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT 'cancellation'::text,
     c.reason,
     c.sent_by,
     c.folded,
     c.recorded_at
    FROM (df.instances i
      JOIN df.cancellations c ON (((c.owner = i.submitter) AND (c.instance_id = i.id) AND ((c.instance_key IS NULL) OR (c.instance_key = i.key)))))
   WHERE (i.key = commands_to.p_key)
 UNION ALL
  SELECT 'release'::text,
     r.reason,
     r.sent_by,
     r.folded,
     r.recorded_at
    FROM (df.instances i
      JOIN df.releases r ON (((r.owner = i.submitter) AND (r.instance_id = i.id) AND ((r.instance_key IS NULL) OR (r.instance_key = i.key)))))
   WHERE (i.key = commands_to.p_key);
END;


ALTER FUNCTION df.commands_to(p_key bigint) OWNER TO engine;

--
-- Name: FUNCTION commands_to(p_key bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.commands_to(p_key bigint) IS 'api: the cancellations and releases of an instance';


--
-- Name: compact(jsonb); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.compact(p_json jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return regexp_replace(p_json::text, E'("(?:[^"\\\\]|\\\\.)*")|([,:]) ', E'\\1\\2', 'g');
end
$$;


ALTER FUNCTION df.compact(p_json jsonb) OWNER TO engine;

--
-- Name: FUNCTION compact(p_json jsonb); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.compact(p_json jsonb) IS 'api: JSON as graphs have it, without white space';


--
-- Name: cron_flaw(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.cron_flaw(p_text text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  c_shown constant text := left(p_text, 60);
  c_days  constant integer[] := '{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}';
  v_parts text[] := regexp_split_to_array(btrim(p_text, E' \t\n\r'), '[ \t\n\r]+');
  v_field record;
  v_numbers integer[];
  v_days    integer[];
  v_months  integer[];
begin
  if cardinality(v_parts) = 1 then
    v_parts := string_to_array(case lower(v_parts[1] collate "C")
      when '@yearly' then '0 0 1 1 *'
      when '@annually' then '0 0 1 1 *'
      when '@monthly' then '0 0 1 * *'
      when '@weekly' then '0 0 * * 0'
      when '@daily' then '0 0 * * *'
      when '@midnight' then '0 0 * * *'
      when '@hourly' then '0 * * * *'
    end, ' ');
  end if;
  if cardinality(v_parts) is distinct from 5 then
    return format('cron_expr is neither five fields nor a macro such as @daily: ''%s''', c_shown);
  end if;
  for v_field in
    values (1, 'minute', 0, 59, '{}'::text[]),
           (2, 'hour', 0, 23, '{}'),
           (3, 'day of the month', 1, 31, '{}'),
           (4, 'month', 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'),
           (5, 'day of the week', 0, 6, '{sun,mon,tue,wed,thu,fri,sat}')
  loop
    v_numbers := df.cron_numbers(v_parts[v_field.column1], v_field.column3, v_field.column4, v_field.column5);
    if v_numbers is null then
      return format('cron_expr has no valid %s: ''%s''', v_field.column2, c_shown);
    elsif v_field.column1 = 3 then
      v_days := v_numbers;
    elsif v_field.column1 = 4 then
      v_months := v_numbers;
    end if;
  end loop;
  if v_parts[5] ~ '(^|,)\*(/0*1)?(,|$)'
    and (select min(d) from unnest(v_days) as d) > (select max(c_days[m]) from unnest(v_months) as m)
  then
    return format('cron_expr never comes: ''%s''', c_shown);
  end if;
  return null;
end
$_$;


ALTER FUNCTION df.cron_flaw(p_text text) OWNER TO engine;

--
-- Name: FUNCTION cron_flaw(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.cron_flaw(p_text text) IS 'api: what is wrong with a cron expression, null when nothing is';


--
-- Name: cron_numbers(text, integer, integer, text[]); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.cron_numbers(p_field text, p_low integer, p_high integer, p_names text[] DEFAULT '{}'::text[]) RETURNS integer[]
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  c_size  constant integer := p_high - p_low + 1;
  v_found integer[] := '{}';
  v_term  text;
  v_read  text[];
  v_ends  integer[];
  v_step  integer;
begin
  foreach v_term in array string_to_array(p_field, ',') loop
    v_read := regexp_match(v_term, '^(\*|[0-9]{1,2}|[A-Za-z]{3})(?:-([0-9]{1,2}|[A-Za-z]{3}))?(?:/([0-9]{1,4}))?$');
    v_step := coalesce(v_read[3]::integer, 1);
    if v_read is null or v_step = 0 or v_read[1] = '*' and v_read[2] is not null then
      return null;
    end if;
    v_ends := '{}';
    for v_end in 1 .. 2 loop
      v_ends[v_end] := case
        when v_read[v_end] = '*' then p_low
        when v_read[v_end] >= 'A' collate "C" then array_position(p_names, lower(v_read[v_end] collate "C")) + p_low - 1
        when v_read[v_end]::integer = 7 and p_names[1] = 'sun' then 0
        when v_read[v_end]::integer between p_low and p_high then v_read[v_end]::integer
      end;
    end loop;
    if v_read[2] is null then
      v_ends[2] := case when v_read[1] = '*' or v_read[3] is not null then p_high else v_ends[1] end;
    end if;
    if v_ends[1] is null or v_ends[2] is null then
      return null;
    end if;
    for v_number in v_ends[1] .. v_ends[2] + case when v_ends[2] < v_ends[1] then c_size else 0 end by v_step loop
      v_found[cardinality(v_found) + 1] := (v_number - p_low) % c_size + p_low;
    end loop;
  end loop;
  return v_found;
end
$_$;


ALTER FUNCTION df.cron_numbers(p_field text, p_low integer, p_high integer, p_names text[]) OWNER TO engine;

--
-- Name: FUNCTION cron_numbers(p_field text, p_low integer, p_high integer, p_names text[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.cron_numbers(p_field text, p_low integer, p_high integer, p_names text[]) IS 'api: the numbers of a field of a cron expression';


--
-- Name: draw(text, text[]); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.draw(p_graph text, p_markers text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  g_kinds      text[];
  g_queries    text[];
  g_names      text[];
  g_parents    integer[];
  g_roles      text[];
  g_rights     integer[];
  g_conditions integer[];
  g_lasts      integer[];
  v_count    integer;
  v_places   integer[];
  v_indents  integer[];
  v_children integer[];
  v_nth      integer[];
  v_headers  text[];   -- headers that wait for the first line below them
  v_suffixes text[];   -- names of the chains that end with the node, and its own
  v_lines    text[];
  v_up       integer;
  v_kind     text;
  v_upper    text;
  v_header   text;
  v_suffix   text;
begin
  select g.kinds, g.queries, g.names, g.parents, g.roles, g.rights, g.conditions, g.lasts
    into g_kinds, g_queries, g_names, g_parents, g_roles, g_rights, g_conditions, g_lasts
    from df.number_nodes(p_graph) as g;
  v_count := cardinality(g_kinds);
  v_places := array_fill(1, array[v_count]);
  v_children := array_fill(0, array[v_count]);
  v_indents := v_children;
  v_nth := v_children;
  v_headers := array_fill(''::text, array[v_count]);
  v_suffixes := v_headers;
  v_lines := v_headers;
  for v_node in 2 .. v_count loop
    v_up := g_parents[v_node];
    v_children[v_up] := v_children[v_up] + 1;
    v_nth[v_node] := v_children[v_up];
  end loop;

  for v_node in 1 .. v_count loop
    v_kind := g_kinds[v_node];
    v_up := g_parents[v_node];
    v_header := '';
    v_suffix := '';
    if v_up is not null then
      v_upper := g_kinds[v_up];
      v_places[v_node] := v_places[v_up] + v_node - v_up;
      if v_upper = 'THEN' then
        v_indents[v_node] := v_indents[v_up];
        if v_node = v_up + 1 then
          v_header := v_headers[v_up];
        end if;
        if v_node = g_rights[v_up] then
          v_suffix := v_suffixes[v_up];
        end if;
      else
        v_indents[v_node] := v_indents[v_up] + 4;
        v_header := repeat(' ', v_indents[v_up] + 2) || df.child_header(v_upper, g_roles[v_node], v_nth[v_node]) || E'\n';
        if v_upper = 'IF' and g_conditions[v_up] is not null then
          v_places[v_node] := case when g_roles[v_node] = 'C' then v_places[v_up] + 1
            else v_places[v_node] + g_lasts[v_up] - g_conditions[v_up] + 1 end;
        end if;
      end if;
    end if;
    if g_names[v_node] is not null then
      v_suffix := ' |=> ''' || g_names[v_node] || '''' || v_suffix;
    end if;
    if v_kind = 'THEN' then
      v_headers[v_node] := v_header;
      v_suffixes[v_node] := v_suffix;
      continue;
    end if;
    v_lines[v_places[v_node]] := v_header || repeat(' ', v_indents[v_node]) || coalesce(p_markers[v_node] || ' ', '')
      || df.node_text(v_kind, g_queries[v_node], v_children[v_node], g_conditions[v_node] is not null)
      || v_suffix;
    if v_kind = 'IF' and g_conditions[v_node] is null then
      v_lines[v_places[v_node]] := v_lines[v_places[v_node]] || E'\n' || repeat(' ', v_indents[v_node] + 2)
        || '? condition: $' || (g_queries[v_node]::json ->> 'result_name') || ' has rows';
    end if;
  end loop;
  return (select string_agg(l.line, E'\n' order by l.n) from unnest(v_lines) with ordinality as l(line, n) where l.line <> '');
end
$_$;


ALTER FUNCTION df.draw(p_graph text, p_markers text[]) OWNER TO engine;

--
-- Name: FUNCTION draw(p_graph text, p_markers text[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.draw(p_graph text, p_markers text[]) IS 'api: a graph as a tree of lines';


--
-- Name: draw_instance(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.draw_instance(p_key bigint) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_graph   text;
  v_markers text[];
begin
  select i.graph into v_graph from df.instances i where i.key = p_key;
  if not found then
    return null;
  end if;
  select array_agg(case n.inferred when 'completed' then '✓' when 'failed' then '✗' when 'running' then '⏳'
                                   when 'pending' then '○' else '⊘' end order by n.number)
    into v_markers
    from df.node_states(p_key) as n;
  return df.draw(v_graph, v_markers);
end
$$;


ALTER FUNCTION df.draw_instance(p_key bigint) OWNER TO engine;

--
-- Name: FUNCTION draw_instance(p_key bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.draw_instance(p_key bigint) IS 'api: the instance of a key as a tree of lines, with how far it has come';


--
-- Name: explain(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.explain(input text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  v_key bigint;
begin
  perform df.not_null(input, 'explain', 'input');
  if octet_length(input) <= 200 and input ~ '^[~A-Za-z0-9][A-Za-z0-9._:/-]*$' then
    v_key := df.find_key(input);
    if v_key is null and input ~ '[^A-Za-z]' then
      raise exception 'Instance not found or access denied: %', input using errcode = 'no_data_found';
    end if;
  end if;
  if v_key is null then
    perform df.validate_graph(input);
    return df.draw(input, null);
  end if;
  return df.draw_instance(v_key);
end
$_$;


ALTER FUNCTION df.explain(input text) OWNER TO engine;

--
-- Name: FUNCTION explain(input text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.explain(input text) IS 'api: a graph, SQL or an instance as a text tree; nothing of it is run';


--
-- Name: find_key(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.find_key(p_id text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_key   bigint;
  v_count bigint;
begin
  select i.key into v_key
    from df.instances i
   where i.submitted_by = df.me()::regrole and i.id = p_id;
  if found then
    return v_key;
  end if;
  select count(*), min(i.key) into v_count, v_key
    from df.instances i
   where i.submitted_by = any (df.seen_roles()) and i.id = p_id;
  if v_count > 1 then
    raise exception 'Instance % is ambiguous: % roles that you may act for have one', p_id, v_count
      using errcode = 'ambiguous_alias', hint = 'Ask df.instances, by submitted_by and id.';
  end if;
  return v_key;
end
$$;


ALTER FUNCTION df.find_key(p_id text) OWNER TO engine;

--
-- Name: FUNCTION find_key(p_id text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.find_key(p_id text) IS 'api: the key of the instance that an id means, null when there is none';


--
-- Name: loop_generations(bigint, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.loop_generations(p_key bigint, p_graph text) RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_loop  record;
  v_count integer;
begin
  select * into v_loop from df.outermost_loop(p_graph);
  if v_loop.node is not null then
    select max(greatest(nullif(split_part(s.path, '.', 1), '')::integer,
                        case when s.node = v_loop.node then (s.details ->> 'iteration')::integer end))
      into v_count
      from df.step_records(p_key) as s
     where s.node between v_loop.node + case when s.source = 1 then 0 else 1 end and v_loop.last;
  end if;
  return coalesce(v_count, 1);
end
$$;


ALTER FUNCTION df.loop_generations(p_key bigint, p_graph text) OWNER TO engine;

--
-- Name: FUNCTION loop_generations(p_key bigint, p_graph text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.loop_generations(p_key bigint, p_graph text) IS 'api: how many generations of its outermost loop an instance has begun';


--
-- Name: generations(bigint, text, timestamp with time zone); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.generations(p_key bigint, p_graph text, p_started timestamp with time zone) RETURNS integer
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN (p_started IS NULL) THEN 0
             WHEN (strpos(p_graph, 'LOOP'::text) = 0) THEN 1
             ELSE df.loop_generations(p_key, p_graph)
         END AS loop_generations;
END;


ALTER FUNCTION df.generations(p_key bigint, p_graph text, p_started timestamp with time zone) OWNER TO engine;

--
-- Name: FUNCTION generations(p_key bigint, p_graph text, p_started timestamp with time zone); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.generations(p_key bigint, p_graph text, p_started timestamp with time zone) IS 'api: how many generations of its outermost loop an instance has begun, 1 without a loop';


--
-- Name: getvar(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.getvar(name text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (select v.value from df.vars v where v.owner = df.me() and v.name = getvar.name);
end
$$;


ALTER FUNCTION df.getvar(name text) OWNER TO engine;

--
-- Name: FUNCTION getvar(name text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.getvar(name text) IS 'api: a variable of the caller, null when it is not set';


--
-- Name: grant_usage(regrole, boolean, boolean); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.grant_usage(p_role regrole, include_http boolean DEFAULT false, with_grant boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_option text := case when with_grant then ' with grant option' else '' end;
  v_role   text := p_role::text;
  v_api    record;
begin
  if include_http then
    raise exception 'df.grant_usage: HTTP steps are not available in this version of walflow'
      using errcode = 'feature_not_supported', hint = 'Leave include_http out.';
  end if;
  perform df.refuse_owner(p_role);
  execute format('grant usage on schema df to %s%s', v_role, v_option);
  execute format('grant select on df.instances, df.signals, df.cancellations, df.releases, df.completions, df.vars, df.settings, df.progress, df.epoch to %s%s', v_role, v_option);
  if to_regclass('df.nodes') is not null then
    execute format('grant select on df.nodes to %s%s', v_role, v_option);
  end if;
  execute format('grant insert (id, graph, label, input, database) on df.instances to %s%s', v_role, v_option);
  execute format('grant insert (owner, instance_id, name, data) on df.signals to %s%s', v_role, v_option);
  execute format('grant insert (owner, instance_id, reason) on df.cancellations, df.releases to %s%s', v_role, v_option);
  execute format('grant insert (instance_key, step, attempt, outcome, result, error, cause, repetitions, started_at, query) on df.completions to %s%s', v_role, v_option);
  execute format('grant insert (name, value), update (value) on df.vars to %s%s', v_role, v_option);
  for v_api in
    select p.oid::regprocedure as signature
      from pg_proc p
     where p.pronamespace = 'df'::regnamespace
       and (obj_description(p.oid, 'pg_proc') like 'api: %'
            or with_grant and p.proname in ('grant_usage', 'revoke_usage', 'refuse_owner'))
  loop
    execute format('grant execute on routine %s to %s%s', v_api.signature, v_role, v_option);
  end loop;
end
$$;


ALTER FUNCTION df.grant_usage(p_role regrole, include_http boolean, with_grant boolean) OWNER TO engine;

--
-- Name: FUNCTION grant_usage(p_role regrole, include_http boolean, with_grant boolean); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.grant_usage(p_role regrole, include_http boolean, with_grant boolean) IS 'lets a role start, signal, cancel and read its own workflows';


--
-- Name: has_reference(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.has_reference(p_text text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
begin
  return p_text ~ '\{[A-Za-z_][A-Za-z0-9_]*\}|\$[A-Za-z_]';
end
$_$;


ALTER FUNCTION df.has_reference(p_text text) OWNER TO engine;

--
-- Name: FUNCTION has_reference(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.has_reference(p_text text) IS 'api: does a text refer to a variable or a result';


--
-- Name: heartbeat(bigint, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.heartbeat(p_epoch bigint, p_slot text, OUT wal_end pg_lsn, OUT restart_lsn pg_lsn, OUT wal_status text, OUT settings json, OUT now_us bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_event uuid;
begin
  perform df.require_epoch(p_epoch);
  insert into df.heartbeats (epoch) values (p_epoch) returning event_id into v_event;
  delete from df.heartbeats h where h.event_id = v_event;
  select pg_current_wal_lsn(), s.restart_lsn, s.wal_status into wal_end, restart_lsn, wal_status
    from (values (true)) as one(row)
    left join pg_replication_slots s on s.slot_name = p_slot;
  select json_object_agg(s.name, s.value) into settings from df.settings s;
  now_us := extract(epoch from clock_timestamp()) * 1000000;
end
$$;


ALTER FUNCTION df.heartbeat(p_epoch bigint, p_slot text, OUT wal_end pg_lsn, OUT restart_lsn pg_lsn, OUT wal_status text, OUT settings json, OUT now_us bigint) OWNER TO engine;

--
-- Name: FUNCTION heartbeat(p_epoch bigint, p_slot text, OUT wal_end pg_lsn, OUT restart_lsn pg_lsn, OUT wal_status text, OUT settings json, OUT now_us bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.heartbeat(p_epoch bigint, p_slot text, OUT wal_end pg_lsn, OUT restart_lsn pg_lsn, OUT wal_status text, OUT settings json, OUT now_us bigint) IS 'the end-to-end probe';


--
-- Name: history(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.history(id text) RETURNS TABLE(number bigint, at timestamp with time zone, event text, node_id integer, node_type text, step text, attempt integer, repetitions integer, query text, outcome text, result json, error json, started_at timestamp with time zone, duration_ms numeric, who text, note text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query select * from df.history_of(df.require_key('history', history.id)) as h order by h.number;
end
$$;


ALTER FUNCTION df.history(id text) OWNER TO engine;

--
-- Name: FUNCTION history(id text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.history(id text) IS 'api: what happened in an instance, in order';


--
-- Name: history_of(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.history_of(p_key bigint) RETURNS TABLE(number bigint, at timestamp with time zone, event text, node_id integer, node_type text, step text, attempt integer, repetitions integer, query text, outcome text, result json, error json, started_at timestamp with time zone, duration_ms numeric, who text, note text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_instance record;
  v_command  record;
  g_kinds      text[];
  g_queries    text[];
  g_levels     integer[];
begin
  select i.key, i.id, i.graph, i.label, i.input, i.status, i.result, i.error, i.quarantined, i.pruned, i.submitter, i.submitted_by,
         i.session_role, i.parent_id, i.parent_key, i.created_at, i.started_at, i.finished_at
    into v_instance
    from df.instances i
   where i.key = p_key;
  if not found then
    return;
  end if;
  select g.kinds, g.queries, g.levels
    into g_kinds, g_queries, g_levels
    from df.number_nodes(v_instance.graph) as g;
  select c.reason, c.sent_by into v_command
    from df.commands_to(p_key) as c
   where c.kind = 'cancellation'
   order by c.at
   limit 1;
  return query
    with happened as (
      select v_instance.created_at as at, 0 as rank, 'started' as event, null::integer as node, null::text as step,
             null::integer as attempt, null::integer as repetitions, null::text as query, null::text as outcome,
             v_instance.input::json as result, null::json as error, v_instance.created_at as began, null::oid as who,
             concat_ws(', ', 'label ' || quote_literal(v_instance.label),
                       'logged in as ' || nullif(v_instance.session_role::text, v_instance.submitted_by::text),
                       'child of ' || v_instance.parent_id) as note
      union all
      select c.recorded_at, 2,
             case
               when g_kinds[s.node] = 'SQL' then 'step'
               when g_kinds[s.node] in ('HTTP', 'HTTP_MULTIPART') then 'http'
               when g_kinds[s.node] = 'CALL_CHILD' and length(df.step_path(c.step)) = df.path_length(g_levels[s.node]) then 'child ended'
               when g_kinds[s.node] = 'AWAIT_INSTANCE' then 'awaited'
               else 'timer'
             end,
             s.node, c.step, c.attempt, c.repetitions,
             coalesce(c.query, case when g_kinds[s.node] = 'SQL' then g_queries[s.node] end),
             c.outcome, c.result, c.error, c.started_at, null, c.note
        from df.all_completions(p_key) c
       cross join lateral (
               select case when df.step_path(c.step) is not null then split_part(c.step, '.', 1)::integer end as node) as s
       where s.node <= cardinality(g_kinds)
         and (c.run_as = 0) = (g_kinds[s.node] <> 'SQL')
      union all
      select s.recorded_at, 1, 'signal', split_part(s.taken_by, '.', 1)::integer, s.taken_by, null, null, s.name,
             case when s.taken_by is not null then 'taken' when s.folded then 'not taken' else 'on its way' end,
             s.data, null, null, s.sent_by, null
        from df.signals_to(p_key) s
      union all
      select c.created_at, 1, 'child started', split_part(c.parent_step, '.', 1)::integer, c.parent_step, null, null, c.id, c.status,
             null, null, c.started_at, null, 'label ' || quote_literal(c.label)
        from df.instances c
       where c.submitter = v_instance.submitter and c.submitted_by = v_instance.submitted_by
         and c.parent_key = p_key
      union all
      select c.at, 1, c.kind, null, null, null, null, null, case when c.folded then 'taken' else 'on its way' end,
             null, null, null, c.sent_by, c.reason
        from df.commands_to(p_key) c
      union all
      select v_instance.created_at, 1, 'pruned', null, null, null, null, null, null, null, null, null, null,
             v_instance.pruned || ' rows of early iterations were removed (df.settings, loop_history)'
       where v_instance.pruned is not null
      union all
      select 'infinity', 3, 'quarantined', null, null, null, null, null, v_instance.status, null, null, null, null, v_instance.quarantined
       where v_instance.quarantined is not null
      union all
      select v_instance.finished_at, 4, 'ended', (v_instance.error ->> 'node')::integer, v_instance.error ->> 'step', null, null, null,
             v_instance.status, v_instance.result, v_instance.error, v_instance.started_at,
             case when v_instance.status = 'cancelled' then v_command.sent_by end,
             case v_instance.status
               when 'cancelled' then coalesce(v_command.reason, v_instance.error ->> 'message')
               else v_instance.error ->> 'message'
             end
       where df.is_final(v_instance.status)
    )
    -- the end is the last, whatever two clocks say; what never comes has no time
    select row_number() over (order by h.rank >= 3, h.at, h.rank, h.step collate "C", h.attempt), nullif(h.at, 'infinity'), h.event,
           h.node, g_kinds[h.node], h.step, h.attempt, h.repetitions, h.query, h.outcome, h.result, h.error, h.began,
           case when h.event not in ('started', 'child started', 'child ended')
                then round(extract(epoch from h.at - h.began) * 1000, 3) end,
           case when h.event = 'started' then v_instance.submitted_by::text
                when h.who is not null then h.who::regrole::text end,
           nullif(h.note, '')
      from happened h
     order by 1;
end
$$;


ALTER FUNCTION df.history_of(p_key bigint) OWNER TO engine;

--
-- Name: FUNCTION history_of(p_key bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.history_of(p_key bigint) IS 'api: what happened in the instance of a key, in order';


--
-- Name: http(text, text, text, jsonb, numeric); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.http(url text, method text DEFAULT 'POST'::text, body text DEFAULT NULL::text, headers jsonb DEFAULT NULL::jsonb, timeout_seconds numeric DEFAULT 30) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.http_node('http', 'HTTP', url, method, coalesce(',"body":' || to_json(body), ''), headers, timeout_seconds);
end
$$;


ALTER FUNCTION df.http(url text, method text, body text, headers jsonb, timeout_seconds numeric) OWNER TO engine;

--
-- Name: FUNCTION http(url text, method text, body text, headers jsonb, timeout_seconds numeric); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.http(url text, method text, body text, headers jsonb, timeout_seconds numeric) IS 'api: an HTTP request';


--
-- Name: http_multipart(text, text, jsonb, jsonb, numeric); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.http_multipart(url text, method text DEFAULT 'POST'::text, parts jsonb DEFAULT NULL::jsonb, headers jsonb DEFAULT NULL::jsonb, timeout_seconds numeric DEFAULT 30) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_part record;
begin
  perform df.not_null(parts, 'http_multipart', 'parts');
  if jsonb_typeof(parts) <> 'array' then
    perform df.refuse_argument('http_multipart', 'parts is not a JSON array');
  elsif jsonb_array_length(parts) = 0 then
    perform df.refuse_argument('http_multipart', 'needs at least one part');
  end if;
  for v_part in
    select p.value, p.ordinality from jsonb_array_elements(parts) with ordinality as p
  loop
    if jsonb_typeof(v_part.value) <> 'object'
      or jsonb_typeof(v_part.value -> 'name') is distinct from 'string'
      or jsonb_typeof(v_part.value -> 'data_b64') is distinct from 'string'
      or jsonb_typeof(v_part.value -> 'filename') not in ('string', 'null')
      or jsonb_typeof(v_part.value -> 'content_type') not in ('string', 'null')
    then
      perform df.refuse_argument('http_multipart',
        format('part %s is not {"name":…,"data_b64":…}, with strings for "filename" and "content_type" if they are there',
               v_part.ordinality));
    end if;
  end loop;
  return df.http_node('http_multipart', 'HTTP_MULTIPART', url, method, ',"parts":' || df.compact(parts), headers, timeout_seconds);
end
$$;


ALTER FUNCTION df.http_multipart(url text, method text, parts jsonb, headers jsonb, timeout_seconds numeric) OWNER TO engine;

--
-- Name: FUNCTION http_multipart(url text, method text, parts jsonb, headers jsonb, timeout_seconds numeric); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.http_multipart(url text, method text, parts jsonb, headers jsonb, timeout_seconds numeric) IS 'api: an HTTP request with parts, as forms send them';


--
-- Name: http_node(text, text, text, text, text, jsonb, numeric); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  perform df.not_null(p_url, p_builder, 'url');
  perform df.not_null(p_method, p_builder, 'method');
  if btrim(p_url, E' \t\n\r') = '' then
    perform df.refuse_argument(p_builder, 'argument url is empty');
  elsif p_method !~ '^[A-Za-z]{1,20}$' and not df.has_reference(p_method) then
    perform df.refuse_argument(p_builder, format('method ''%s'' is not a word', left(p_method, 60)));
  elsif jsonb_typeof(p_headers) not in ('object', 'null') then
    perform df.refuse_argument(p_builder, 'headers is not a JSON object');
  end if;
  return df.options_node(p_type,
    '{"url":' || to_json(p_url) || ',"method":' || to_json(p_method) || p_content
    || case when coalesce(p_headers, '{}') in ('{}', 'null') then '' else ',"headers":' || df.compact(p_headers) end
    || ',"timeout_seconds":' || df.seconds_text(p_seconds, p_builder, 'timeout_seconds') || '}');
end
$_$;


ALTER FUNCTION df.http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric) OWNER TO engine;

--
-- Name: FUNCTION http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric) IS 'api: a graph node that sends an HTTP request';


--
-- Name: if(text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.if(condition text, then_branch text, else_branch text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"IF","left_node":' || df.as_node(then_branch, 'if', 'then_branch')
    || ',"right_node":' || df.as_node(else_branch, 'if', 'else_branch')
    || ',"condition_node":' || df.as_node(condition, 'if', 'condition') || '}';
end
$$;


ALTER FUNCTION df.if(condition text, then_branch text, else_branch text) OWNER TO engine;

--
-- Name: FUNCTION if(condition text, then_branch text, else_branch text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.if(condition text, then_branch text, else_branch text) IS 'api: one branch or the other; operators ?> and !>';


--
-- Name: if_else(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.if_else(fut text, else_branch text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  c_start constant text := '{"node_type":"IF","left_node":';
  c_short_bytes constant integer := 20000;
  v_else  constant text := df.as_node(else_branch, 'if', 'else_branch');
  v_half  constant text := rtrim(fut, E' \t\n\r');
  v_mark  constant text := substring(right(v_half, 40) from ',"then_length":[0-9]{1,9}[}]$');
  v_then  integer;   -- where the then branch ends
begin
  if starts_with(v_half, c_start) and v_mark is not null then
    v_then := length(c_start) + substring(v_mark from '[0-9]+')::integer;
    if substr(v_half, v_then + 1, 18) = ',"condition_node":' then
      return left(v_half, v_then) || ',"right_node":' || v_else
        || substr(left(v_half, - length(v_mark)), v_then + 1) || '}';
    end if;
  end if;
  -- an IF without else that somebody wrote: short, so that parsing it costs nothing
  if df.is_node(v_half) and octet_length(v_half) <= c_short_bytes and df.is_json(v_half) then
    if v_half::json ->> 'node_type' = 'IF' and v_half::json ->> 'right_node' is null then
      return left(v_half, -1) || ',"right_node":' || v_else || '}';
    end if;
  end if;
  raise exception 'Invalid if-then-else: left side of !> must be a ?> expression'
    using errcode = 'invalid_parameter_value', hint = 'Operators have one precedence, left to right: c ?> t !> e.';
end
$_$;


ALTER FUNCTION df.if_else(fut text, else_branch text) OWNER TO engine;

--
-- Name: FUNCTION if_else(fut text, else_branch text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.if_else(fut text, else_branch text) IS 'api: operator !>, which completes ?>';


--
-- Name: if_rows(text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.if_rows(result_name text, then_branch text, else_branch text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  perform df.not_null(result_name, 'if_rows', 'result_name');
  if result_name !~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    raise exception 'df.if_rows: result name ''%'' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*',
        case when length(result_name) > 60 then left(result_name, 60) || '…' else result_name end
      using errcode = 'invalid_parameter_value';
  end if;
  return '{"node_type":"IF","left_node":' || df.as_node(then_branch, 'if_rows', 'then_branch')
    || ',"right_node":' || df.as_node(else_branch, 'if_rows', 'else_branch')
    || ',"query":' || to_json('{"condition_type":"result_has_rows","result_name":"' || result_name || '"}') || '}';
end
$_$;


ALTER FUNCTION df.if_rows(result_name text, then_branch text, else_branch text) OWNER TO engine;

--
-- Name: FUNCTION if_rows(result_name text, then_branch text, else_branch text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.if_rows(result_name text, then_branch text, else_branch text) IS 'api: one branch if a named result has rows, else the other';


--
-- Name: if_then(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.if_then(condition text, then_branch text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_then constant text := df.as_node(then_branch, 'if', 'then_branch');
begin
  return '{"node_type":"IF","left_node":' || v_then || ',"condition_node":' || df.as_node(condition, 'if', 'condition')
    || ',"then_length":' || length(v_then) || '}';
end
$$;


ALTER FUNCTION df.if_then(condition text, then_branch text) OWNER TO engine;

--
-- Name: FUNCTION if_then(condition text, then_branch text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.if_then(condition text, then_branch text) IS 'api: operator ?>, to be completed by !>';


--
-- Name: instance_executions(text, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.instance_executions(id text, limit_count integer DEFAULT 5) RETURNS TABLE(execution_id integer, status text, event_count bigint, duration_ms bigint, output json)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_key      bigint := df.require_key('instance_executions', instance_executions.id);
  v_instance record;
  v_loop     record;
  v_last     integer;
begin
  perform df.require_limit('instance_executions', limit_count, 'The newest are told first.');
  select i.graph, i.status, i.result, i.error, i.pruned, i.created_at, i.started_at, i.finished_at into v_instance
    from df.instances i
   where i.key = v_key;
  select * into v_loop from df.outermost_loop(v_instance.graph);
  v_last := greatest(df.generations(v_key, v_instance.graph, v_instance.started_at), 1);
  return query
    with records as (
      select case
               when s.node between v_loop.node and v_loop.last and s.path <> '' then split_part(s.path, '.', 1)::integer
               when s.node > v_loop.last then v_last
               else 1
             end as generation,
             s.at, s.source, s.outcome, s.result,
             coalesce((s.details ->> 'started_at')::timestamptz, s.at) as began
        from df.step_records(v_key) as s
       where s.source >= 3
    ), ended as (
      select r.generation, count(*) as events, min(r.began) as began, max(r.at) as at,
             (array_agg(r.result order by r.at desc) filter (where r.outcome = 'completed' and r.source = 4))[1] as result
        from records r
       group by r.generation
    ), generations as (
      select n, e.events, e.result,
             case when n = 1 then coalesce(v_instance.started_at, v_instance.created_at) else coalesce(lag(e.at) over (order by n), e.began) end as began,
             case when n < v_last then e.at else coalesce(v_instance.finished_at, clock_timestamp()) end as until
        from generate_series(greatest(v_last - limit_count, 1), v_last) as n
        left join ended e on e.generation = n
    )
    select g.n, case when g.n < v_last then 'completed' else v_instance.status end, coalesce(g.events, 0),
           case when v_instance.started_at is null then null
                else greatest(round(extract(epoch from g.until - g.began) * 1000), 0)::bigint end,
           case when g.n < v_last then g.result else coalesce(v_instance.result, v_instance.error) end
      from generations g
     where g.n > v_last - limit_count
       and (g.n = v_last or g.events is not null or v_instance.pruned is null)
     order by g.n desc;
end
$$;


ALTER FUNCTION df.instance_executions(id text, limit_count integer) OWNER TO engine;

--
-- Name: FUNCTION instance_executions(id text, limit_count integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.instance_executions(id text, limit_count integer) IS 'api: the generations of an instance''s outermost loop, newest first, as far as their history is kept; one without a loop';


--
-- Name: instance_info(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.instance_info(id text) RETURNS TABLE(instance_id text, label text, function_name text, function_version text, current_execution_id integer, status text, output json)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query
    select i.id, i.label, df.root_type(i.graph), df.version(), df.generations(i.key, i.graph, i.started_at), i.status,
           coalesce(i.result, i.error)
      from df.instances i
     where i.key = df.require_key('instance_info', instance_info.id);
end
$$;


ALTER FUNCTION df.instance_info(id text) OWNER TO engine;

--
-- Name: FUNCTION instance_info(id text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.instance_info(id text) IS 'api: one instance at a glance';


--
-- Name: instance_nodes(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.instance_nodes(id text) RETURNS TABLE(node_id integer, node_type text, query text, result_name text, left_node integer, right_node integer, status text, result json, status_details jsonb, inferred_status text, inferred_status_from_ancestor_id integer, updated_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query
    select * from df.node_states(df.require_key('instance_nodes', instance_nodes.id)) as n order by n.number;
end
$$;


ALTER FUNCTION df.instance_nodes(id text) OWNER TO engine;

--
-- Name: FUNCTION instance_nodes(id text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.instance_nodes(id text) IS 'api: the nodes of an instance and what has become of them, as of the last checkpoint';


--
-- Name: instances_guard(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.instances_guard() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  v_me   oid := df.me();
  v_role record;
begin
  new.event_id := gen_random_uuid();
  new.recorded_at := clock_timestamp();
  -- the engine starts children and nothing else; that the owner starts nothing of his own, the next trigger sees to
  if new.parent_key is not null and df.is_engine(tg_relid) then
    return new;
  end if;
  -- someone else's view or rule runs with our identity; only who may insert here himself may start
  if not has_any_column_privilege(tg_relid, 'INSERT') then
    raise insufficient_privilege using message = 'permission denied for table instances';
  end if;
  select r.rolsuper, r.rolcanlogin into strict v_role from pg_roles r where r.oid = v_me;
  if v_role.rolsuper and df.setting('superuser_instances') is distinct from 'on' then
    raise exception 'superuser instances are disabled: steps run as the role that inserts, with all its rights'
      using errcode = 'insufficient_privilege', hint = 'Insert as an ordinary role; df.grant_usage(role) lets it.';
  end if;
  if not v_role.rolcanlogin then
    raise exception 'role % cannot log in, so its steps could not run', quote_ident(current_user)
      using errcode = 'insufficient_privilege', hint = 'Insert as a role with LOGIN.';
  end if;
  -- the length apart from the pattern: {0,199} in it takes a third of the whole trigger
  if new.id is null or octet_length(new.id) > 200 or new.id !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]*$' then
    raise exception 'invalid instance id %', coalesce(quote_literal(left(new.id, 60)), 'NULL')
      using errcode = 'invalid_parameter_value',
            hint = case when left(new.id, 1) = '~' then 'Ids that begin with ~ are the engine''s.'
                        else 'An id is [A-Za-z0-9][A-Za-z0-9._:/-]{0,199}.' end;
  end if;
  if new.database is not null and new.database <> current_database() then
    raise exception 'database "%" is not this one: steps run in the database of their instance in this version', new.database
      using errcode = 'feature_not_supported', hint = 'Leave the column database out.';
  end if;
  new.submitted_by := v_me;
  new.submitter := v_me;
  new.session_role := session_user;
  new.created_xid := pg_current_xact_id();
  new.created_at := now();
  new.parent_key := null;
  new.parent_step := null;
  new.parent_id := null;
  new.cause := null;
  new.status := 'pending';
  new.quarantined := null;
  new.pruned := null;
  new.result := null;
  new.error := null;
  new.started_at := null;
  new.finished_at := null;
  new.updated_at := null;
  return new;
end
$_$;


ALTER FUNCTION df.instances_guard() OWNER TO engine;

--
-- Name: instances_key(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.instances_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
begin
  new.key := nextval('df.instance_keys');
  if new.parent_key is null then
    if new.submitter = df.me() then
      raise exception 'the owner of schema df cannot start workflows'
        using errcode = 'insufficient_privilege', hint = 'Insert as an ordinary role; df.grant_usage(role) lets it.';
    end if;
    new.vars := (select jsonb_object_agg(v.name, v.value) from df.vars v where v.owner = new.submitted_by and v.value is not null);
  end if;
  return new;
end
$$;


ALTER FUNCTION df.instances_key() OWNER TO engine;

--
-- Name: instances_validate(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.instances_validate() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_graph text;
begin
  for v_graph in select distinct n.graph from new_rows n loop
    perform df.validate_graph(v_graph, p_now => true);
  end loop;
  return null;
end
$$;


ALTER FUNCTION df.instances_validate() OWNER TO engine;

--
-- Name: FUNCTION instances_validate(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.instances_validate() IS 'refuses graphs that cannot run, in the transaction that inserts them';


--
-- Name: interval_text(interval, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.interval_text(p_interval interval, p_builder text, p_argument text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.seconds_text(extract(epoch from p_interval), p_builder, p_argument);
end
$$;


ALTER FUNCTION df.interval_text(p_interval interval, p_builder text, p_argument text) OWNER TO engine;

--
-- Name: FUNCTION interval_text(p_interval interval, p_builder text, p_argument text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.interval_text(p_interval interval, p_builder text, p_argument text) IS 'api: an interval in seconds as graphs have it: a month is 30 days';


--
-- Name: is_engine(oid); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_engine(p_table oid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT (c.relowner = df.me())
    FROM pg_class c
   WHERE (c.oid = is_engine.p_table);
END;


ALTER FUNCTION df.is_engine(p_table oid) OWNER TO engine;

--
-- Name: FUNCTION is_engine(p_table oid); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_engine(p_table oid) IS 'api: does the current role own this table';


--
-- Name: is_final(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_final(p_status text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT (p_status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text]));
END;


ALTER FUNCTION df.is_final(p_status text) OWNER TO engine;

--
-- Name: FUNCTION is_final(p_status text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_final(p_status text) IS 'api: does an instance of this status never change again';


--
-- Name: is_json(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_json(p_text text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_text text := p_text;
  v_next text;
begin
  if p_text ~ E'[\\u0001-\\u0008\\u000b\\u000c\\u000e-\\u001f]' then
    return false;
  end if;
  v_text := regexp_replace(v_text, E'"(?:[^"\\\\\\u0001-\\u001f]|\\\\(?:["\\\\/bfnrt]|u[0-9A-Fa-f]{4}))*"', E'\x01', 'g');
  v_text := regexp_replace(v_text, E'-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null', E'\x02', 'g');
  v_text := translate(v_text, E' \t\n\r', '');
  for v_level in 1 .. 1000 loop
    v_next := regexp_replace(
      v_text,
      E'\\[(?:[\x01\x02](?:,[\x01\x02])*)?\\]|\\{(?:\x01:[\x01\x02](?:,\x01:[\x01\x02])*)?\\}',
      E'\x02', 'g');
    exit when v_next = v_text;
    v_text := v_next;
  end loop;
  return v_text in (E'\x01', E'\x02');
end
$$;


ALTER FUNCTION df.is_json(p_text text) OWNER TO engine;

--
-- Name: FUNCTION is_json(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_json(p_text text) IS 'api: is a text JSON';


--
-- Name: is_json_scalar(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_json_scalar(p_token text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
begin
  return p_token ~ ('^(?:"(?:[^"\\\u0001-\u001f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"'
    || '|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)$');
end
$_$;


ALTER FUNCTION df.is_json_scalar(p_token text) OWNER TO engine;

--
-- Name: FUNCTION is_json_scalar(p_token text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_json_scalar(p_token text) IS 'api: is a token of a graph a string, a number or a word of JSON';


--
-- Name: is_node(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_node(p_text text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT (starts_with(p_text, '{"'::text) OR (("left"(p_text, 1) = ANY (ARRAY['{'::text, ' '::text, '	'::text, '
'::text, '
'::text])) AND (p_text ~ '^[ 	

]*\{[ 	

]*"'::text)));
END;


ALTER FUNCTION df.is_node(p_text text) OWNER TO engine;

--
-- Name: FUNCTION is_node(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_node(p_text text) IS 'api: is a text meant as a graph node (and not as SQL)';


--
-- Name: is_seconds(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_seconds(p_text text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
begin
  if p_text !~ '^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?$' or length(p_text) > 400 then
    return false;
  end if;
  return p_text::numeric <= 10000000000;
end
$_$;


ALTER FUNCTION df.is_seconds(p_text text) OWNER TO engine;

--
-- Name: FUNCTION is_seconds(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_seconds(p_text text) IS 'api: is a text a number of seconds that a graph may hold';


--
-- Name: is_timestamp(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_timestamp(p_text text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    SET "TimeZone" TO 'UTC'
    AS $_$
begin
  if p_text !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?( ?(Z|[+-][0-9]{2}(:?[0-9]{2})?))?)?$' then
    return false;
  end if;
  perform p_text::timestamptz;
  return true;
exception
  when datetime_field_overflow or invalid_datetime_format or invalid_time_zone_displacement_value then
    return false;
end
$_$;


ALTER FUNCTION df.is_timestamp(p_text text) OWNER TO engine;

--
-- Name: FUNCTION is_timestamp(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_timestamp(p_text text) IS 'api: is a text an ISO 8601 time that a graph may hold';


--
-- Name: is_true(json); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_true(p_result json) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  v_value jsonb := p_result::jsonb;
  v_text  text;
begin
  if jsonb_typeof(v_value) = 'object' then
    if jsonb_typeof(v_value -> 'rows') = 'array' then
      if v_value -> 'rows' = '[]' then
        return false;
      end if;
      -- json keeps the order of the columns
      v_value := (select e.value::jsonb from json_each(p_result -> 'rows' -> 0) with ordinality as e(key, value, n) where e.n = 1);
    elsif jsonb_typeof(v_value -> 'timed_out') = 'boolean' then
      return not (v_value -> 'timed_out')::boolean;
    elsif jsonb_typeof(v_value -> 'ok') = 'boolean' then
      return (v_value -> 'ok')::boolean;
    end if;
  end if;
  case jsonb_typeof(v_value)
    when 'boolean' then
      return v_value::boolean;
    when 'number' then
      return v_value::numeric <> 0;
    when 'string' then
      v_text := lower(btrim(v_value #>> '{}', E' \t\n\r'));
      if v_text ~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?$' then
        return v_text::numeric <> 0;
      end if;
      return v_text not in ('', 'false', 'f', 'no', 'n', 'off');
    when 'array' then
      return v_value <> '[]';
    when 'object' then
      return v_value <> '{}';
    else
      return false;
  end case;
end
$_$;


ALTER FUNCTION df.is_true(p_result json) OWNER TO engine;

--
-- Name: FUNCTION is_true(p_result json); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_true(p_result json) IS 'api: is a result true';


--
-- Name: is_zone(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.is_zone(p_text text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  c_top constant text[] := '{cet,cst6cdt,cuba,eet,egypt,eire,est,est5edt,gb,gb-eire,gmt,gmt+0,gmt-0,gmt0,greenwich,hongkong,hst,'
    'iceland,iran,israel,jamaica,japan,kwajalein,libya,met,mst,mst7mdt,navajo,nz,nz-chat,poland,portugal,prc,pst8pdt,roc,rok,'
    'singapore,turkey,uct,universal,utc,w-su,wet,zulu}';
  v_key text := lower(p_text collate "C");
begin
  if strpos(v_key, '/') = 0 and v_key <> all (c_top)
    or strpos(v_key, '/') > 0
       and v_key !~ '^((?!posix/|right/)[a-z][a-z_/-]*|etc/gmt([+-]?0|\+[1-9]|\+1[0-2]|-[1-9]|-1[0-4]))$'
  then
    return false;
  end if;
  perform now() at time zone p_text;
  return true;
exception
  when invalid_parameter_value then
    return false;
end
$_$;


ALTER FUNCTION df.is_zone(p_text text) OWNER TO engine;

--
-- Name: FUNCTION is_zone(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.is_zone(p_text text) IS 'api: is a text the name of a time zone';


--
-- Name: join(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df."join"(a text, b text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.branches('JOIN', array[df.as_node(a, 'join', 'a'), df.as_node(b, 'join', 'b')]);
end
$$;


ALTER FUNCTION df."join"(a text, b text) OWNER TO engine;

--
-- Name: FUNCTION "join"(a text, b text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df."join"(a text, b text) IS 'api: both at once; operator &';


--
-- Name: join3(text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.join3(a text, b text, c text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.branches('JOIN', array[df.as_node(a, 'join3', 'a'), df.as_node(b, 'join3', 'b'), df.as_node(c, 'join3', 'c')]);
end
$$;


ALTER FUNCTION df.join3(a text, b text, c text) OWNER TO engine;

--
-- Name: FUNCTION join3(a text, b text, c text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.join3(a text, b text, c text) IS 'api: all three at once';


--
-- Name: join_all(text[]); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.join_all(VARIADIC futs text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_nodes constant text[] := df.as_nodes(futs, 'join_all');
begin
  if cardinality(v_nodes) = 1 then
    return '{"node_type":"JOIN","left_node":' || v_nodes[1] || '}';
  end if;
  return df.branches('JOIN', v_nodes);
end
$$;


ALTER FUNCTION df.join_all(VARIADIC futs text[]) OWNER TO engine;

--
-- Name: FUNCTION join_all(VARIADIC futs text[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.join_all(VARIADIC futs text[]) IS 'api: all at once';


--
-- Name: json_text(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.json_text(p_token text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
begin
  if strpos(p_token, '\') = 0 then
    return substr(p_token, 2, length(p_token) - 2);
  elsif strpos(p_token, '\u') = 0 then
    return p_token::jsonb #>> '{}';
  end if;
  begin
    return p_token::jsonb #>> '{}';
  exception
    when untranslatable_character or invalid_text_representation then
      return null;
  end;
end
$$;


ALTER FUNCTION df.json_text(p_token text) OWNER TO engine;

--
-- Name: FUNCTION json_text(p_token text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.json_text(p_token text) IS 'api: the text of a JSON string token, null when no text can hold it';


--
-- Name: json_token_pattern(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.json_token_pattern() RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  c_string constant text := '"(?:[^"\\\u0001-\u001f]|\\.)*';
begin
  return '[{,][ \t\n\r]*' || c_string || '"[ \t\n\r]*:|' || c_string || '"?|[^] \t\n\r"{}[,:]+|[]{}[,:]';
end
$$;


ALTER FUNCTION df.json_token_pattern() OWNER TO engine;

--
-- Name: FUNCTION json_token_pattern(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.json_token_pattern() IS 'api: the pattern that cuts a graph into tokens';


--
-- Name: list_instances(text, integer, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.list_instances(status_filter text DEFAULT NULL::text, limit_count integer DEFAULT 100, label_filter text DEFAULT NULL::text, after_cursor text DEFAULT NULL::text) RETURNS TABLE(instance_id text, label text, function_name text, status text, execution_count integer, output json, created_at timestamp with time zone, completed_at timestamp with time zone, next_cursor text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  v_before timestamptz := 'infinity';
  v_id     text := '';
  v_parts  text[];
begin
  perform df.require_limit('list_instances', limit_count, 'Ask for the next page with after_cursor => next_cursor.');
  if status_filter not in ('pending', 'running', 'completed', 'failed', 'cancelled') then
    raise exception 'df.list_instances: unknown status ''%''. Valid statuses: pending, running, completed, failed, cancelled',
        left(status_filter, 60)
      using errcode = 'invalid_parameter_value';
  end if;
  if after_cursor is not null then
    v_parts := regexp_match(after_cursor, '^([0-9]{1,17}):([~A-Za-z0-9][A-Za-z0-9._:/-]*)$');
    if v_parts is null then
      raise exception 'df.list_instances: invalid after_cursor'
        using errcode = 'invalid_parameter_value', hint = 'A cursor is the next_cursor of the page before.';
    end if;
    v_before := 'epoch'::timestamptz + v_parts[1]::bigint * interval '1 microsecond';
    v_id := v_parts[2];
  end if;
  return query
    with page as materialized (
      select p.key, row_number() over (order by p.created_at desc, p.id desc) as n
        from df.page_of_instances(status_filter, label_filter, v_before, v_id, limit_count + 1) as p
    )
    select i.id, i.label, df.root_type(i.graph), i.status, df.generations(i.key, i.graph, i.started_at),
           coalesce(i.result, i.error), i.created_at, i.finished_at,
           (select (extract(epoch from l.created_at) * 1000000)::bigint || ':' || l.id
              from page p
              join df.instances l on l.key = p.key
             where p.n = limit_count
               and exists (select from page o where o.n > limit_count))
      from page p
      join df.instances i on i.key = p.key
     where p.n <= limit_count
     order by p.n;
end
$_$;


ALTER FUNCTION df.list_instances(status_filter text, limit_count integer, label_filter text, after_cursor text) OWNER TO engine;

--
-- Name: FUNCTION list_instances(status_filter text, limit_count integer, label_filter text, after_cursor text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.list_instances(status_filter text, limit_count integer, label_filter text, after_cursor text) IS 'api: instances, newest first. Of more than 5,000, those pending or running for less than a moment may be missing under status_filter.';


--
-- Name: loop(text, text, interval); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.loop(body text, condition text DEFAULT NULL::text, every interval DEFAULT NULL::interval) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"LOOP","left_node":' || df.as_node(body, 'loop', 'body')
    || case when condition is null then '' else ',"condition_node":' || df.as_node(condition, 'loop', 'condition') end
    || case when every is null then ''
            else ',"query":' || to_json('{"every":' || df.interval_text(every, 'loop', 'every') || '}') end
    || '}';
end
$$;


ALTER FUNCTION df.loop(body text, condition text, every interval) OWNER TO engine;

--
-- Name: FUNCTION loop(body text, condition text, every interval); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.loop(body text, condition text, every interval) IS 'api: body again and again, while condition holds or until a break; operator @>';


--
-- Name: loop_forever(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.loop_forever(body text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"LOOP","left_node":' || df.as_node(body, 'loop', 'body') || '}';
end
$$;


ALTER FUNCTION df.loop_forever(body text) OWNER TO engine;

--
-- Name: FUNCTION loop_forever(body text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.loop_forever(body text) IS 'api: operator @>';


--
-- Name: map(text, text, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.map(items text, body text, max_parallel integer DEFAULT 10) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  perform df.not_null(max_parallel, 'map', 'max_parallel');
  if max_parallel not between 1 and 10000 then
    perform df.refuse_argument('map', format('argument max_parallel must be from 1 to 10000, not %s', max_parallel));
  end if;
  if items ~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    return '{"node_type":"MAP","right_node":' || df.as_node(body, 'map', 'body')
      || ',"query":' || to_json('{"items":"' || items || '","max_parallel":' || max_parallel || '}') || '}';
  end if;
  return '{"node_type":"MAP","left_node":' || df.as_node(items, 'map', 'items')
    || ',"right_node":' || df.as_node(body, 'map', 'body')
    || ',"query":' || to_json('{"max_parallel":' || max_parallel || '}') || '}';
end
$_$;


ALTER FUNCTION df.map(items text, body text, max_parallel integer) OWNER TO engine;

--
-- Name: FUNCTION map(items text, body text, max_parallel integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.map(items text, body text, max_parallel integer) IS 'api: body once for each row of a step or of a named result';


--
-- Name: may_be_count(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.may_be_count(p_token text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
begin
  return p_token is null or p_token ~ '^[1-9][0-9]{0,8}$' and p_token::integer <= 10000;
end
$_$;


ALTER FUNCTION df.may_be_count(p_token text) OWNER TO engine;

--
-- Name: FUNCTION may_be_count(p_token text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.may_be_count(p_token text) IS 'api: is an option of a graph node absent or a whole number from 1 to 10000';


--
-- Name: may_be_seconds(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.may_be_seconds(p_token text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
begin
  return p_token is null or df.is_seconds(regexp_replace(p_token, '^-(?=[0.]+([eE]|$))', ''));
end
$_$;


ALTER FUNCTION df.may_be_seconds(p_token text) OWNER TO engine;

--
-- Name: FUNCTION may_be_seconds(p_token text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.may_be_seconds(p_token text) IS 'api: is an option of a graph node absent or a number of seconds';


--
-- Name: checkpoint; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.checkpoint (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    lsn pg_lsn DEFAULT '0/0'::pg_lsn NOT NULL,
    system_identifier text,
    slot_name text,
    slot_generation bigint DEFAULT 0 NOT NULL,
    scanning boolean DEFAULT false NOT NULL,
    installation uuid DEFAULT gen_random_uuid() NOT NULL,
    written_at timestamp with time zone DEFAULT now() NOT NULL,
    started_total bigint DEFAULT 0 NOT NULL,
    completed_total bigint DEFAULT 0 NOT NULL,
    failed_total bigint DEFAULT 0 NOT NULL,
    cancelled_total bigint DEFAULT 0 NOT NULL,
    executions_total bigint DEFAULT 0 NOT NULL,
    events_total bigint DEFAULT 0 NOT NULL,
    backlog json DEFAULT '[]'::json NOT NULL,
    CONSTRAINT checkpoint_only_row_check CHECK (only_row)
)
WITH (fillfactor='10');


ALTER TABLE df.checkpoint OWNER TO engine;

--
-- Name: TABLE checkpoint; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.checkpoint IS 'Up to where the log is folded into df.states, for which slot, by which engine.';


--
-- Name: COLUMN checkpoint.backlog; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.checkpoint.backlog IS 'Of each submitter whose starts wait for admission [submitter, after, last, count]: their keys lie above after, up to last.';


--
-- Name: metrics(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.metrics() RETURNS TABLE(total_instances bigint, running_instances bigint, completed_instances bigint, failed_instances bigint, total_executions bigint, total_events bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT c.started_total,
     (((c.started_total - c.completed_total) - c.failed_total) - c.cancelled_total),
     c.completed_total,
     c.failed_total,
     c.executions_total,
     c.events_total
    FROM df.checkpoint c;
END;


ALTER FUNCTION df.metrics() OWNER TO engine;

--
-- Name: FUNCTION metrics(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.metrics() IS 'totals over all roles since the installation, as of the last checkpoint; granted by itself';


--
-- Name: my_roles(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.my_roles() RETURNS oid[]
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT array_agg(r.oid) AS array_agg
    FROM pg_roles r
   WHERE pg_has_role(r.oid, 'USAGE'::text);
END;


ALTER FUNCTION df.my_roles() OWNER TO engine;

--
-- Name: FUNCTION my_roles(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.my_roles() IS 'api: the OIDs of all roles whose privileges the caller has';


--
-- Name: my_role_keys(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.my_role_keys() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT jsonb_object_agg((r.oid)::integer, true) AS jsonb_object_agg
    FROM unnest(df.my_roles()) r(oid);
END;


ALTER FUNCTION df.my_role_keys() OWNER TO engine;

--
-- Name: FUNCTION my_role_keys(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.my_role_keys() IS 'api: the OIDs of all roles whose privileges the caller has, as the keys of an object';


--
-- Name: needed_text_flaw(text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.needed_text_flaw(p_type text, p_key text, p_token text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
begin
  if left(p_token, 1) <> '"' then
    return format('%s is not a string', p_key);
  elsif p_token is null or p_token = '""' then
    return format('%s needs %s %s', p_type, case when p_key ~ '^[aeiou]' then 'an' else 'a' end, p_key);
  end if;
  return null;
end
$$;


ALTER FUNCTION df.needed_text_flaw(p_type text, p_key text, p_token text) OWNER TO engine;

--
-- Name: FUNCTION needed_text_flaw(p_type text, p_key text, p_token text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.needed_text_flaw(p_type text, p_key text, p_token text) IS 'api: what is wrong with an option that a graph node needs';


--
-- Name: node_children_flaw(text, text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_children_flaw(p_type text, p_has text, p_needs text, p_may text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_child record;
begin
  for v_child in
    values ('L', 'left_node'), ('R', 'right_node'), ('C', 'condition_node')
  loop
    if strpos(p_needs, v_child.column1) > 0 and strpos(p_has, v_child.column1) = 0 then
      return format('%s needs a %s', p_type, v_child.column2);
    elsif strpos(p_needs || p_may, v_child.column1) = 0 and strpos(p_has, v_child.column1) > 0 then
      return format('%s takes no %s', p_type, v_child.column2);
    end if;
  end loop;
  if strpos(p_has, 'e') > 0 then
    return 'extra_nodes is not an array';
  elsif strpos(p_has, 'E') = 0 then
    return null;
  elsif strpos(p_may, 'E') = 0 then
    return format('%s takes no extra_nodes', p_type);
  elsif strpos(p_has, 'R') = 0 then
    return format('%s with extra_nodes needs a right_node', p_type);
  end if;
  return null;
end
$$;


ALTER FUNCTION df.node_children_flaw(p_type text, p_has text, p_needs text, p_may text) OWNER TO engine;

--
-- Name: FUNCTION node_children_flaw(p_type text, p_has text, p_needs text, p_may text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_children_flaw(p_type text, p_has text, p_needs text, p_may text) IS 'api: what is wrong with the children of a graph node, null when nothing is';


--
-- Name: node_options_flaw(text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_options_flaw(p_type text, p_query text, p_has text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  v_json    json;
  v_keys    text[];
  v_options jsonb;  -- key to token, nulls left out: as a token no number is too large for jsonb
  v_text    text;
  v_wrong   text;
begin
  begin
    v_json := p_query;
  exception
    when invalid_text_representation then
      v_json := 'null';
    when statement_too_complex then
      return format('query of %s is nested too deeply', p_type);
  end;
  if json_typeof(v_json) <> 'object' then
    return format('query of %s is not a JSON object', p_type);
  end if;
  begin
    select array_agg(o.key), jsonb_object_agg(o.key, o.value::text) filter (where json_typeof(o.value) <> 'null')
      into v_keys, v_options
      from json_each(v_json) as o;
  exception
    when invalid_text_representation or untranslatable_character then
      return format('query of %s has a character that text cannot hold', p_type);
  end;
  if exists (select from unnest(v_keys) as k(key) group by k.key having count(*) > 1) then
    return format('query of %s has a key twice', p_type);
  end if;

  case p_type
    when 'IF' then
      v_text := v_options ->> 'condition_type';
      if left(v_text, 1) <> '"' then
        return 'condition_type is not a string';
      elsif df.json_text(v_text) is distinct from 'result_has_rows' then
        return 'condition_type is not ''result_has_rows''';
      end if;
      return df.result_name_flaw(coalesce(v_options ->> 'result_name', '""'));
    when 'LOOP' then
      if not df.may_be_seconds(v_options ->> 'every') then
        return 'every is not a number of seconds from 0 to 10000000000';
      end if;
    when 'BREAK' then
      null;  -- break_value may be anything
    when 'SLEEP' then
      v_text := coalesce(v_options ->> 'until', '""');
      if left(v_text, 1) <> '"' then
        return 'until is not a string';
      end if;
      v_text := df.json_text(v_text);
      if v_text = '' then
        return 'SLEEP needs a number of seconds, a text or an until';
      elsif not df.has_reference(v_text) and not df.is_timestamp(v_text) then
        return format('until is neither an ISO 8601 time nor a reference: ''%s''', left(v_text, 60));
      end if;
    when 'SIGNAL' then
      v_wrong := df.needed_text_flaw(p_type, 'signal_name', v_options ->> 'signal_name');
      if v_wrong is not null then
        return v_wrong;
      end if;
      v_text := df.json_text(v_options ->> 'signal_name');
      if octet_length(v_text) > 200 and not df.has_reference(v_text) then
        return 'signal_name is longer than 200 bytes';
      elsif v_options ->> 'fresh' not in ('true', 'false') then
        return 'fresh is not true or false';
      elsif not df.may_be_seconds(v_options ->> 'timeout_seconds') then
        return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
      end if;
    when 'WAIT_SCHEDULE' then
      v_wrong := df.needed_text_flaw(p_type, 'cron_expr', v_options ->> 'cron_expr');
      v_text := coalesce(v_options ->> 'timezone', '"UTC"');
      if v_wrong is not null then
        return v_wrong;
      elsif left(v_text, 1) <> '"' then
        return 'timezone is not a string';
      end if;
      v_text := df.json_text(v_options ->> 'cron_expr');
      v_wrong := case when not df.has_reference(v_text) then df.cron_flaw(v_text) end;
      v_text := coalesce(df.json_text(v_options ->> 'timezone'), 'UTC');
      if v_wrong is not null then
        return v_wrong;
      elsif not df.has_reference(v_text) and not df.is_zone(v_text) then
        return format('timezone ''%s'' is not known', left(v_text, 60));
      end if;
    when 'HTTP', 'HTTP_MULTIPART' then
      if p_type = 'HTTP_MULTIPART' and left(v_options ->> 'parts', 1) <> '[' then
        return 'parts is not a JSON array';
      end if;
      v_wrong := df.needed_text_flaw(p_type, 'url', v_options ->> 'url');
      if v_wrong is not null then
        return v_wrong;
      elsif left(v_options ->> 'method', 1) <> '"' then
        return 'method is not a string';
      elsif left(v_options ->> 'body', 1) <> '"' then
        return 'body is not a string';
      elsif left(v_options ->> 'headers', 1) <> '{' then
        return 'headers is not a JSON object';
      elsif not df.may_be_seconds(v_options ->> 'timeout_seconds') then
        return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
      end if;
    when 'CALL_CHILD' then
      return df.call_child_flaw(v_options);
    when 'AWAIT_INSTANCE' then
      v_wrong := df.needed_text_flaw(p_type, 'instance_id', v_options ->> 'instance_id');
      if v_wrong is not null then
        return v_wrong;
      end if;
      v_text := df.json_text(v_options ->> 'instance_id');
      if v_text !~ '^[A-Za-z0-9~][A-Za-z0-9._:/-]*$' and not df.has_reference(v_text) then
        return format('instance_id ''%s'' is not the id of an instance', left(v_text, 60));
      elsif not df.may_be_seconds(v_options ->> 'timeout_seconds') then
        return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
      end if;
    when 'MAP' then
      v_text := v_options ->> 'items';
      if left(v_text, 1) <> '"' then
        return 'items is not a string';
      elsif v_text is null and strpos(p_has, 'L') = 0 then
        return 'MAP needs a left_node or items';
      elsif v_text is not null and strpos(p_has, 'L') > 0 then
        return 'MAP with items takes no left_node';
      end if;
      v_wrong := case when v_text is not null then df.result_name_flaw(v_text) end;
      if v_wrong is not null then
        return v_wrong;
      elsif not df.may_be_count(v_options ->> 'max_parallel') then
        return 'max_parallel is not a whole number from 1 to 10000';
      end if;
    when 'RETRY' then
      if not df.may_be_count(v_options ->> 'max_attempts') then
        return 'max_attempts is not a whole number from 1 to 10000';
      elsif v_options ->> 'max_attempts' is null then
        return 'RETRY needs a max_attempts';
      elsif not df.may_be_seconds(v_options ->> 'initial') then
        return 'initial is not a number of seconds from 0 to 10000000000';
      elsif not df.may_be_seconds(v_options ->> 'backoff') or (v_options ->> 'backoff')::numeric not between 1 and 1000 then
        return 'backoff is not a number from 1 to 1000';
      elsif not df.may_be_seconds(v_options ->> 'max_interval') then
        return 'max_interval is not a number of seconds from 0 to 10000000000';
      end if;
    when 'TIMEOUT' then
      if not df.may_be_seconds(v_options ->> 'seconds') then
        return 'seconds is not a number of seconds from 0 to 10000000000';
      elsif v_options ->> 'seconds' is null then
        return 'TIMEOUT needs seconds';
      end if;
  end case;
  return null;
end
$_$;


ALTER FUNCTION df.node_options_flaw(p_type text, p_query text, p_has text) OWNER TO engine;

--
-- Name: FUNCTION node_options_flaw(p_type text, p_query text, p_has text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_options_flaw(p_type text, p_query text, p_has text) IS 'api: what is wrong with the options of a graph node, null when nothing is';


--
-- Name: node_path(integer[], text[], integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_path(p_parents integer[], p_roles text[], p_node integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_node   integer := p_node;
  v_places text[] := '{}';
  v_count  integer := 0;
  v_nth    integer;
begin
  while v_node is not null loop
    v_count := v_count + 1;
    if p_roles[v_node] = 'X' then
      select count(*) into v_nth
        from unnest(p_parents[:v_node - 1], p_roles[:v_node - 1]) as n(parent, role)
       where n.parent = p_parents[v_node] and n.role = 'X';
    end if;
    v_places[v_count] := case p_roles[v_node]
      when 'L' then 'left_node'
      when 'R' then 'right_node'
      when 'C' then 'condition_node'
      when 'X' then format('extra_nodes[%s]', v_nth)
      else 'root'
    end;
    v_node := p_parents[v_node];
  end loop;
  v_places := array(select p.place from unnest(v_places) with ordinality as p(place, n) order by p.n desc);
  if v_count > 40 then
    v_places := v_places[:20] || format('…(%s more)…', v_count - 40) || v_places[v_count - 19:];
  end if;
  return array_to_string(v_places, '.');
end
$$;


ALTER FUNCTION df.node_path(p_parents integer[], p_roles text[], p_node integer) OWNER TO engine;

--
-- Name: FUNCTION node_path(p_parents integer[], p_roles text[], p_node integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_path(p_parents integer[], p_roles text[], p_node integer) IS 'api: the path of a graph node, for messages';


--
-- Name: node_query_flaw(text, text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_query_flaw(p_type text, p_kind text, p_query text, p_has text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  v_trimmed text := btrim(p_query, E' \t\n\r');
begin
  case
    when p_query is null and p_kind like 'none%' then
      return null;
    when p_kind = 'none' then
      return format('%s takes no query', p_type);
    when p_kind = 'options' and p_query is null then
      -- what is missing is said of its options
      return df.node_options_flaw(p_type, '{}', p_has);
    when p_kind like '%options' then
      return df.node_options_flaw(p_type, p_query, p_has);
    when coalesce(v_trimmed, '') = '' then
      return format('%s needs a query', p_type);
    when p_kind = 'text' then
      return null;
    when df.is_node(v_trimmed) then
      return df.node_options_flaw(p_type, v_trimmed, p_has);
    when df.is_seconds(v_trimmed) then
      return null;
    when v_trimmed ~ '^-?[0-9.]+([eE][+-]?[0-9]+)?$' then
      return format('%s is not for a number of seconds from 0 to 10000000000', p_type);
    when not df.has_reference(v_trimmed) then
      return format('%s needs a number of seconds or a reference, not ''%s''', p_type, left(v_trimmed, 60));
    else
      return null;
  end case;
end
$_$;


ALTER FUNCTION df.node_query_flaw(p_type text, p_kind text, p_query text, p_has text) OWNER TO engine;

--
-- Name: FUNCTION node_query_flaw(p_type text, p_kind text, p_query text, p_has text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_query_flaw(p_type text, p_kind text, p_query text, p_has text) IS 'api: what is wrong with the query of a graph node, null when nothing is';


--
-- Name: node_rules(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_rules() RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT jsonb_object_agg(r.node_type, to_jsonb(r.*)) AS jsonb_object_agg
    FROM ( VALUES (1,'SQL'::text,''::text,''::text,'text'::text,''::text,''::text,''::text), (2,'THEN'::text,'LR'::text,''::text,'none'::text,''::text,''::text,''::text), (3,'JOIN'::text,'L'::text,'RE'::text,'none'::text,''::text,''::text,''::text), (4,'RACE'::text,'LR'::text,'E'::text,'none'::text,''::text,''::text,''::text), (5,'IF'::text,'LR'::text,'C'::text,'none|options'::text,''::text,''::text,''::text), (6,'LOOP'::text,'L'::text,'C'::text,'none|options'::text,'LC'::text,'LC'::text,''::text), (7,'BREAK'::text,''::text,''::text,'none|options'::text,''::text,''::text,''::text), (8,'SLEEP'::text,''::text,''::text,'duration'::text,''::text,''::text,''::text), (9,'SIGNAL'::text,''::text,''::text,'options'::text,''::text,''::text,''::text), (10,'WAIT_SCHEDULE'::text,''::text,''::text,'options'::text,''::text,''::text,''::text), (11,'HTTP'::text,''::text,''::text,'options'::text,''::text,''::text,''::text), (12,'HTTP_MULTIPART'::text,''::text,''::text,'options'::text,''::text,''::text,''::text), (13,'CALL_CHILD'::text,'L'::text,''::text,'none|options'::text,''::text,''::text,'L'::text), (14,'AWAIT_INSTANCE'::text,''::text,''::text,'options'::text,''::text,''::text,''::text), (15,'MAP'::text,'R'::text,'L'::text,'options'::text,'R'::text,''::text,'R'::text), (16,'RETRY'::text,'L'::text,''::text,'options'::text,'L'::text,''::text,''::text), (17,'TIMEOUT'::text,'L'::text,''::text,'options'::text,''::text,''::text,''::text), (18,'CATCH'::text,'LR'::text,''::text,'none'::text,''::text,''::text,''::text), (19,'UNDO'::text,'LR'::text,''::text,'none'::text,''::text,''::text,'R'::text)) r(ordinal, node_type, needs, may, query, repeats, opens, closes);
END;


ALTER FUNCTION df.node_rules() OWNER TO engine;

--
-- Name: FUNCTION node_rules(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_rules() IS 'api: the node types and what each may hold';


--
-- Name: node_states(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_states(p_key bigint) RETURNS TABLE(number integer, kind text, query text, name text, lft integer, rgt integer, status text, result json, details jsonb, inferred text, ancestor integer, at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
#variable_conflict use_column
declare
  c_final     constant text[] := array['completed', 'failed', 'cancelled'];
  -- leaves whose end is always on record
  c_recording constant text[] := array['SQL', 'SLEEP', 'SIGNAL', 'WAIT_SCHEDULE', 'HTTP', 'HTTP_MULTIPART', 'CALL_CHILD', 'AWAIT_INSTANCE'];
  v_instance record;
  g_kinds      text[];
  g_queries    text[];
  g_names      text[];
  g_parents    integer[];
  g_roles      text[];
  g_lefts      integer[];
  g_rights     integer[];
  g_conditions integer[];
  g_levels     integer[];
  r          record;
  v_count    integer;
  v_best     text[];      -- the greatest path on record in its subtree, up to its level
  v_bodies   text[];      -- of a repeating node: the same, of what it repeats
  v_paths    text[];      -- the path that counts now; null: this iteration has not come so far
  v_records  text[];      -- the path that its own record has
  v_status   text[];
  v_results  text[];
  v_details  jsonb[];
  v_framed   boolean[];
  v_ats      timestamptz[];
  v_settled  text[];
  v_from     integer[];
  v_firsts   timestamptz[];  -- of JOIN and RACE: when the first branch ended
  v_winners  text[];         -- and how
  v_open     integer[];      -- branches that are not at their end
  v_begun    integer[];      -- branches of which anything is known
  v_failed   integer[];
  v_one      text;
  v_two      text;
  v_three    text;
  v_up       integer;
  v_path     text;
  v_above    text;
  v_kind     text;
  v_role     text;
  v_options  json;
begin
  select i.graph, i.status, i.result::text as result, i.error, i.submitter, i.started_at, i.finished_at, i.updated_at, i.created_at
    into v_instance
    from df.instances i
   where i.key = p_key;
  if not found then
    return;
  end if;
  select g.kinds, g.queries, g.names, g.parents, g.roles, g.lefts, g.rights, g.conditions, g.levels
    into g_kinds, g_queries, g_names, g_parents, g_roles, g_lefts, g_rights, g_conditions, g_levels
    from df.number_nodes(v_instance.graph) as g;
  v_count := cardinality(g_kinds);
  v_best := array_fill(null::text, array[v_count]);
  v_bodies := v_best;
  v_paths := v_best;
  v_records := v_best;
  v_status := v_best;
  v_results := v_best;
  v_settled := v_best;
  v_winners := v_best;
  v_details := array_fill(null::jsonb, array[v_count]);
  v_framed := array_fill(false, array[v_count]);
  v_ats := array_fill(null::timestamptz, array[v_count]);
  v_firsts := v_ats;
  v_from := array_fill(null::integer, array[v_count]);
  v_open := array_fill(0, array[v_count]);
  v_begun := v_open;
  v_failed := v_open;

  -- the newest records of each node; of one step, what is more certain comes later and counts more
  for r in
    select k.*
      from (select s.*, rank() over (partition by s.node order by s.path collate "C" desc) as nth
              from df.step_records(p_key) as s
             where s.node <= v_count
               and (s.source < 3
                    or s.source = 3 and g_kinds[s.node] = 'SIGNAL'
                    or s.source = 4 and g_kinds[s.node] = any (c_recording)
                       and ((s.details -> 'run_as')::bigint = 0) = (g_kinds[s.node] <> 'SQL'))
               -- the timer of a child has one index more
               and length(s.path) = df.path_length(g_levels[s.node])) as k
     where k.nth = 1
     order by k.node, k.source, k.attempt
  loop
    if r.source = 1 then
      continue when v_instance.status = any (c_final);
      v_framed[r.node] := true;
      if r.details ? 'iteration' or g_kinds[r.node] = 'RETRY' and r.details ? 'attempt' then
        v_bodies[r.node] := concat_ws('.', nullif(r.path, ''), lpad(coalesce(r.details ->> 'iteration', r.details ->> 'attempt'), 10, '0'));
      end if;
    end if;
    v_records[r.node] := r.path;
    v_status[r.node] := r.outcome;
    v_ats[r.node] := r.at;
    v_results[r.node] := r.result::text;
    v_details[r.node] := coalesce(v_details[r.node], '{}') || (r.details - 'run_as') || jsonb_build_object('step', r.step)
      || case when r.error is null then '{}' else jsonb_build_object('error', r.error::jsonb) end
      || case when r.attempt > 1 then jsonb_build_object('attempt', r.attempt) else '{}' end;
    if r.source = 4 then
      v_framed[r.node] := false;
      v_details[r.node] := v_details[r.node] - array['state', 'due'];
      if g_kinds[r.node] = 'CALL_CHILD' and json_typeof(r.result) = 'object' then
        v_details[r.node] := v_details[r.node] || jsonb_build_object('child', r.result ->> 'instance_id');
        v_options := null;
        if g_queries[r.node] is not null then
          v_options := g_queries[r.node]::json -> 'options';
        end if;
        if json_typeof(v_options) = 'object' and v_options ->> 'on_failure' = 'return' then
          null;
        elsif r.result ->> 'status' = 'completed' then
          v_results[r.node] := (r.result -> 'result')::text;
        elsif r.result ->> 'status' in ('failed', 'cancelled') then
          v_status[r.node] := 'failed';
          v_details[r.node] := v_details[r.node] || jsonb_build_object('error', (r.result -> 'error')::jsonb);
        end if;
      elsif g_kinds[r.node] = 'SLEEP' and r.outcome = 'completed' and r.result is null then
        v_results[r.node] := case when df.is_seconds(g_queries[r.node])
          then json_build_object('slept', true, 'seconds', g_queries[r.node]::numeric) else json_build_object('slept', true) end::text;
      elsif g_kinds[r.node] = 'SIGNAL' and r.outcome = 'completed' then
        v_results[r.node] := json_build_object('signal_name', g_queries[r.node]::json ->> 'signal_name', 'timed_out', true, 'data', null)::text;
      end if;
    end if;
  end loop;

  -- a node may fail without a completion: a substitution, a result that is too large
  if v_instance.status = 'failed' and v_instance.error ->> 'node' ~ '^[0-9]{1,5}$' then
    v_up := (v_instance.error ->> 'node')::integer;
    v_path := df.step_path(v_instance.error ->> 'step');
    if v_up between 1 and v_count and length(v_path) = df.path_length(g_levels[v_up])
      and coalesce(v_records[v_up] collate "C" <= v_path, true)
    then
      v_records[v_up] := v_path;
      v_status[v_up] := 'failed';
      v_ats[v_up] := coalesce(v_ats[v_up], v_instance.finished_at);
      v_details[v_up] := coalesce(v_details[v_up], '{}') || jsonb_build_object('step', v_instance.error ->> 'step', 'error', v_instance.error);
    end if;
  end if;

  -- which iteration is the current one
  for v_node in reverse v_count .. 1 loop
    v_best[v_node] := greatest(v_records[v_node] collate "C", v_best[v_node] collate "C", left(v_bodies[v_node], df.path_length(g_levels[v_node])) collate "C");
    v_up := g_parents[v_node];
    if v_up is not null and v_best[v_node] is not null then
      if g_levels[v_up] < g_levels[v_node] then
        v_bodies[v_up] := greatest(v_bodies[v_up] collate "C", v_best[v_node] collate "C");
      end if;
      v_best[v_up] := greatest(v_best[v_up] collate "C", left(v_best[v_node], df.path_length(g_levels[v_up])) collate "C");
    end if;
  end loop;
  v_paths[1] := '';
  for v_node in 2 .. v_count loop
    v_up := g_parents[v_node];
    v_above := v_paths[v_up];
    if g_levels[v_up] < g_levels[v_node] then
      v_path := v_bodies[v_up];
      v_above := case when left(v_path, df.path_length(g_levels[v_up])) = v_above then v_path end;
    end if;
    v_paths[v_node] := v_above;
    if v_records[v_node] is distinct from v_above or v_above is null then
      v_status[v_node] := null;
      v_results[v_node] := null;
      v_details[v_node] := null;
      v_framed[v_node] := false;
      v_ats[v_node] := null;
    end if;
  end loop;

  -- upwards: how far those with children have come
  for v_node in reverse v_count .. 1 loop
    v_kind := g_kinds[v_node];
    v_one := v_status[g_lefts[v_node]];
    v_two := v_status[g_rights[v_node]];
    v_three := v_status[g_conditions[v_node]];
    if v_status[v_node] is null or v_status[v_node] = 'running' then
      v_status[v_node] := case
        when v_framed[v_node] then 'running'
        when v_kind in ('THEN', 'MAP') and v_two is null and v_one = 'completed' then 'running'
        when v_kind = 'THEN' then coalesce(v_two, v_one)
        when v_kind = 'JOIN' and v_begun[v_node] > 0 then
          case when v_open[v_node] > 0 then 'running' when v_failed[v_node] > 0 then 'failed' else 'completed' end
        when v_kind = 'RACE' and v_begun[v_node] > 0 then coalesce(v_winners[v_node], 'running')
        when v_kind = 'IF' then coalesce(v_one, v_two, case when v_three = 'completed' then 'running' else v_three end)
        when v_kind = 'LOOP' then
          case when v_one in ('failed', 'cancelled') then v_one when v_three in ('failed', 'cancelled') then v_three
               when v_one is not null or v_three is not null then 'running' end
        when v_kind = 'MAP' then case when v_one is null or v_one = 'completed' then case when v_two = 'failed' then 'failed' when v_two is not null then 'running' end else v_one end
        when v_kind = 'RETRY' then case when v_one = 'failed' then 'running' else v_one end
        when v_kind = 'TIMEOUT' then case when v_one = 'cancelled' and v_instance.status <> 'cancelled' then 'failed' else v_one end
        when v_kind = 'CATCH' then coalesce(v_two, case when v_one = 'failed' then 'running' else v_one end)
        when v_kind = 'UNDO' then case when v_two = 'running' then 'running' else v_one end
        else v_status[v_node]
      end;
    end if;
    v_up := g_parents[v_node];
    if v_up is not null and g_kinds[v_up] <> 'CALL_CHILD' then
      if v_ats[v_node] > v_ats[v_up] or v_ats[v_up] is null then
        v_ats[v_up] := v_ats[v_node];
      end if;
      if g_kinds[v_up] in ('JOIN', 'RACE') then
        if v_status[v_node] is null or v_status[v_node] = 'running' then
          v_open[v_up] := v_open[v_up] + 1;
        elsif v_status[v_node] <> 'cancelled' and (v_ats[v_node] < v_firsts[v_up] or v_firsts[v_up] is null) then
          v_firsts[v_up] := v_ats[v_node];
          v_winners[v_up] := v_status[v_node];
        end if;
        if v_status[v_node] is not null then
          v_begun[v_up] := v_begun[v_up] + 1;
          if v_status[v_node] in ('failed', 'cancelled') then
            v_failed[v_up] := v_failed[v_up] + 1;
          end if;
        end if;
      end if;
    end if;
  end loop;

  -- downwards: what became of the others
  v_status[1] := case when v_instance.status in ('pending', 'running') then coalesce(v_status[1], v_instance.status) else v_instance.status end;
  if v_instance.status = 'running' and v_status[1] <> 'running' then
    v_status[1] := 'running';  -- until the instance itself has ended, undo steps may follow
  end if;
  v_settled[1] := v_status[1];
  v_ats[1] := coalesce(v_instance.finished_at, v_ats[1], v_instance.updated_at);
  if v_instance.status = 'completed' then
    v_results[1] := v_instance.result;
  end if;
  if v_instance.error is not null then
    v_details[1] := coalesce(v_details[1], '{}') || jsonb_build_object('error', v_instance.error);
  end if;
  for v_node in 2 .. v_count loop
    v_up := g_parents[v_node];
    v_kind := g_kinds[v_up];
    v_role := g_roles[v_node];
    v_above := v_settled[v_up];
    v_one := v_status[v_node];
    if v_one = any (c_final) or v_framed[v_node] then
      v_settled[v_node] := v_one;
      continue;
    end if;
    -- how the one beside it came out
    v_two := case
      when v_kind = 'THEN' and v_role = 'L' or v_kind = 'CATCH' and v_role = 'L' then v_status[g_rights[v_up]]
      when v_kind in ('THEN', 'CATCH', 'MAP') and v_role = 'R' then v_settled[g_lefts[v_up]]
      when v_kind = 'IF' and v_role = 'L' then v_status[g_rights[v_up]]
      when v_kind = 'IF' and v_role = 'R' then v_status[g_lefts[v_up]]
      when v_kind = 'IF' then coalesce(v_status[g_lefts[v_up]], v_status[g_rights[v_up]])
    end;
    v_three := case
      when v_above = 'skipped' then 'skipped'
      when v_kind = 'THEN' and v_role = 'L' and v_two is not null then 'completed'
      when v_kind = 'CATCH' and v_role = 'L' and v_two is not null then 'failed'
      when v_kind = 'IF' and v_role = 'C' and v_two is not null then 'completed'
      when v_kind = 'IF' and v_role <> 'C' and v_two is not null then 'skipped'
      when v_kind = 'THEN' and v_role = 'R' and v_two in ('failed', 'cancelled', 'skipped') then 'skipped'
      when v_kind = 'CATCH' and v_role = 'R' and v_two in ('completed', 'cancelled', 'skipped') then 'skipped'
      when v_kind = 'MAP' and v_role = 'R' and v_two in ('failed', 'cancelled', 'skipped') then 'skipped'
      when v_kind = 'RACE' and v_above = any (c_final) then case when v_one is null then 'skipped' else 'cancelled' end
      when v_kind = 'RACE' and v_winners[v_up] is not null then 'cancelled'
      when v_kind = 'UNDO' and v_role = 'R' and v_above = any (c_final) then 'skipped'
      when v_kind = 'IF' and v_role <> 'C' and v_one is null and (v_above = 'completed' or v_settled[v_up] = 'running') then
        case
          when v_status[g_conditions[v_up]] = 'completed' and v_results[g_conditions[v_up]] is not null
            then case when df.is_true(v_results[g_conditions[v_up]]::json) = (v_role = 'L')
                      then case when v_above = 'completed' or g_kinds[v_node] = 'BREAK' then 'completed' end
                      else 'skipped' end
          when v_above = 'completed' and g_kinds[v_node] = any (c_recording) then 'skipped'
        end
      when v_above = any (c_final) and v_kind = 'IF' and v_role <> 'C' then 'skipped'
      when v_above in ('failed', 'cancelled') and v_kind in ('JOIN', 'LOOP') and v_one is null then 'skipped'
      when v_above = 'completed' and v_one is null and g_kinds[v_node] = any (c_recording) and v_kind <> 'CALL_CHILD' then 'skipped'
      when v_above = any (c_final) then v_above
    end;
    if v_kind = 'IF' and v_three is null and v_above = 'completed' then
      v_three := case when g_kinds[v_node] = any (c_recording) then 'skipped' else 'completed' end;
    end if;
    if v_three is null then
      v_settled[v_node] := coalesce(v_one, 'pending');
    else
      v_settled[v_node] := v_three;
      v_from[v_node] := coalesce(case when v_above = 'skipped' then v_from[v_up] end, v_up);
      if v_one is not null then
        v_status[v_node] := v_three;
      end if;
    end if;
  end loop;

  return query
    select n.number::integer, n.kind, n.query, n.name, n.lft, n.rgt, coalesce(n.status, 'pending'), n.result::json, n.details,
           n.settled, n.origin, n.at
      from unnest(g_kinds, g_queries, g_names, g_lefts, g_rights, v_status, v_results, v_details, v_settled, v_from, v_ats)
           with ordinality
        as n(kind, query, name, lft, rgt, status, result, details, settled, origin, at, number);
end
$_$;


ALTER FUNCTION df.node_states(p_key bigint) OWNER TO engine;

--
-- Name: FUNCTION node_states(p_key bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_states(p_key bigint) IS 'api: what is known, and what follows, of each node of an instance';


--
-- Name: node_text(text, text, integer, boolean); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  q         json;
  v_options json;
begin
  if p_kind = 'SQL' then
    return 'SQL: ' || df.one_line(p_query);
  elsif p_kind = 'JOIN' then
    return format('JOIN (%s)', p_branches);
  elsif p_kind in ('THEN', 'RACE', 'CATCH', 'UNDO') then
    return p_kind;
  elsif p_kind = 'SLEEP' then
    return case
      when df.is_node(p_query) then 'SLEEP until ' || df.one_line(p_query::json ->> 'until')
      when df.is_seconds(btrim(p_query, E' \t\n\r')) then 'SLEEP ' || btrim(p_query, E' \t\n\r') || 's'
      else 'SLEEP ' || df.one_line(p_query)
    end;
  end if;
  q := coalesce(p_query, '{}');
  case p_kind
    when 'IF' then
      return 'IF';
    when 'LOOP' then
      return case when p_has_condition then 'LOOP (while)' else 'LOOP (infinite)' end || coalesce(' every ' || (q ->> 'every') || 's', '');
    when 'BREAK' then
      return 'BREAK' || coalesce(' ' || df.one_line(q ->> 'break_value'), '');
    when 'SIGNAL' then
      return format('SIGNAL ''%s''', df.one_line(q ->> 'signal_name'))
        || coalesce(' (' || (q ->> 'timeout_seconds') || 's)', '') || case when q ->> 'fresh' = 'true' then ' fresh' else '' end;
    when 'WAIT_SCHEDULE' then
      return format('WAIT ''%s''', df.one_line(q ->> 'cron_expr')) || coalesce(' (' || nullif(q ->> 'timezone', 'UTC') || ')', '');
    when 'HTTP' then
      return format('HTTP %s %s', coalesce(upper(q ->> 'method'), 'POST'), df.one_line(q ->> 'url'));
    when 'HTTP_MULTIPART' then
      return format('HTTP %s %s (multipart)', coalesce(upper(q ->> 'method'), 'POST'), df.one_line(q ->> 'url'));
    when 'CALL_CHILD' then
      v_options := q -> 'options';
      return 'CALL_CHILD' || coalesce(' ''' || df.one_line(q ->> 'label') || '''', '') || coalesce(' ' || df.one_line(v_options::text), '');
    when 'AWAIT_INSTANCE' then
      return format('AWAIT ''%s''', df.one_line(q ->> 'instance_id')) || coalesce(' (' || (q ->> 'timeout_seconds') || 's)', '');
    when 'MAP' then
      return 'MAP' || coalesce(' $' || (q ->> 'items'), '') || format(' (%s at once)', coalesce(q ->> 'max_parallel', '10'));
    when 'RETRY' then
      return format('RETRY (%s tries)', coalesce(q ->> 'max_attempts', '?'))
        || coalesce(' from ' || (q ->> 'initial') || 's', '') || coalesce(' × ' || (q ->> 'backoff'), '')
        || coalesce(' to ' || (q ->> 'max_interval') || 's', '');
    when 'TIMEOUT' then
      return 'TIMEOUT ' || coalesce(q ->> 'seconds', '?') || 's';
    else
      return p_kind;
  end case;
end
$_$;


ALTER FUNCTION df.node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean) OWNER TO engine;

--
-- Name: FUNCTION node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean) IS 'api: what a graph node says in df.explain';


--
-- Name: node_type_flaw(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.node_type_flaw(p_token text, p_path text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_name text;
begin
  if p_token is null then
    return 'node_type is missing';
  elsif p_token = '' then
    return 'a node is a JSON object';
  elsif left(p_token, 1) <> '"' then
    return 'node_type is not a string';
  end if;
  v_name := df.json_text(p_token);
  if v_name is null then
    return 'node_type has a character that text cannot hold';
  end if;
  raise exception 'Invalid durable function: Unknown node_type ''%''. Valid types: %',
      left(v_name, 60),
      (select string_agg(r.key, ', ' order by (r.value -> 'ordinal')::integer)
         from jsonb_each(df.node_rules()) as r)
    using errcode = 'invalid_parameter_value', detail = format('The node is %s.', p_path);
end
$$;


ALTER FUNCTION df.node_type_flaw(p_token text, p_path text) OWNER TO engine;

--
-- Name: FUNCTION node_type_flaw(p_token text, p_path text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.node_type_flaw(p_token text, p_path text) IS 'api: what is wrong with the type of a graph node';


--
-- Name: not_null(anyelement, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.not_null(p_value anyelement, p_builder text, p_argument text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if p_value is null then
    raise exception 'df.%: argument % is NULL', p_builder, p_argument using errcode = 'null_value_not_allowed';
  end if;
end
$$;


ALTER FUNCTION df.not_null(p_value anyelement, p_builder text, p_argument text) OWNER TO engine;

--
-- Name: FUNCTION not_null(p_value anyelement, p_builder text, p_argument text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.not_null(p_value anyelement, p_builder text, p_argument text) IS 'api: raises for a builder''s argument that is NULL';


--
-- Name: number_nodes(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_parents integer[];
  v_roles   text[];
  v_types   text[];
  v_queries text[];
  v_names   text[];
  v_count   integer;
  v_sizes   integer[];
  v_left    integer[];   -- sizes of the children
  v_right   integer[];
  v_other   integer[];
  v_extra   integer[];
  v_numbers integer[];
  v_up      integer;
  v_number  integer;
  v_role    text;
begin
  if not df.is_node(p_graph) then
    kinds := array['SQL'];
    queries := array[p_graph];
    names := array[null::text];
    parents := array[null::integer];
    roles := array['root'];
    lefts := parents;
    rights := parents;
    conditions := parents;
    lasts := array[1];
    levels := array[0];
    return;
  end if;

  select r.parents, r.roles, r.types, r.queries, r.names into v_parents, v_roles, v_types, v_queries, v_names
    from df.read_graph(p_graph) as r;
  v_count := cardinality(v_roles);
  v_sizes := array_fill(1, array[v_count]);
  v_left := array_fill(0, array[v_count]);
  v_right := v_left;
  v_other := v_left;
  v_extra := v_left;
  v_numbers := v_left;
  for v_node in reverse v_count .. 2 loop
    v_up := v_parents[v_node];
    v_sizes[v_up] := v_sizes[v_up] + v_sizes[v_node];
    case v_roles[v_node]
      when 'L' then
        v_left[v_up] := v_sizes[v_node];
      when 'R' then
        v_right[v_up] := v_sizes[v_node];
      when 'C' then
        v_other[v_up] := v_sizes[v_node];
      else
        null;
    end case;
  end loop;

  kinds := array_fill(null::text, array[v_count]);
  queries := kinds;
  names := kinds;
  lefts := array_fill(null::integer, array[v_count]);
  rights := lefts;
  conditions := lefts;
  lasts := lefts;
  parents := lefts;
  levels := array_fill(0, array[v_count]);
  roles := kinds;
  for v_node in 1 .. v_count loop
    v_up := v_parents[v_node];
    v_role := v_roles[v_node];
    v_number := 1;
    if v_up is not null then
      v_number := v_numbers[v_up] + 1;
      case v_role
        when 'L' then
          lefts[v_numbers[v_up]] := v_number;
        when 'R' then
          v_number := v_number + v_left[v_up];
          rights[v_numbers[v_up]] := v_number;
        when 'C' then
          v_number := v_number + v_left[v_up] + v_right[v_up];
          conditions[v_numbers[v_up]] := v_number;
        else
          v_number := v_number + v_left[v_up] + v_right[v_up] + v_other[v_up] + v_extra[v_up];
          v_extra[v_up] := v_extra[v_up] + v_sizes[v_node];
      end case;
      parents[v_number] := v_numbers[v_up];
    end if;
    v_numbers[v_node] := v_number;
    roles[v_number] := v_role;
    lasts[v_number] := v_number + v_sizes[v_node] - 1;
    kinds[v_number] := v_types[v_node];
    queries[v_number] := v_queries[v_node];
    names[v_number] := v_names[v_node];
  end loop;
  kinds := array(select df.json_text(k) from unnest(kinds) with ordinality as t(k, n) order by n);
  for v_node in 2 .. v_count loop
    v_up := parents[v_node];
    levels[v_node] := levels[v_up]
      + case when kinds[v_up] in ('LOOP', 'RETRY') or kinds[v_up] = 'MAP' and roles[v_node] = 'R' then 1 else 0 end;
  end loop;
  names := array(select df.json_text(k) from unnest(names) with ordinality as t(k, n) order by n);
  queries := array(
    select case when strpos(q, '\') = 0 then btrim(q, '"') else df.json_text(q) end
      from unnest(queries) with ordinality as t(q, n) order by n);
end
$$;


ALTER FUNCTION df.number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]) OWNER TO engine;

--
-- Name: FUNCTION number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]) IS 'api: the nodes of a graph by their numbers';


--
-- Name: one_line(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.one_line(p_text text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN (length(l.line) > 200) THEN ("left"(l.line, 199) || '…'::text)
             ELSE l.line
         END AS line
    FROM ( SELECT btrim(regexp_replace("left"(one_line.p_text, 2000), '\s+'::text, ' '::text, 'g'::text), ' '::text) AS line) l;
END;


ALTER FUNCTION df.one_line(p_text text) OWNER TO engine;

--
-- Name: FUNCTION one_line(p_text text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.one_line(p_text text) IS 'api: a text shortened to one line';


--
-- Name: options_node(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.options_node(p_type text, p_options text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"' || p_type || '","query":' || to_json(p_options) || '}';
end
$$;


ALTER FUNCTION df.options_node(p_type text, p_options text) OWNER TO engine;

--
-- Name: FUNCTION options_node(p_type text, p_options text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.options_node(p_type text, p_options text) IS 'api: a graph node with options';


--
-- Name: outermost_loop(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.outermost_loop(p_graph text, OUT node integer, OUT last integer) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  g      record;
  v_node integer := 1;
begin
  if strpos(p_graph, 'LOOP') = 0 or not df.is_node(p_graph) then
    return;
  end if;
  select * into g from df.number_nodes(p_graph);
  while v_node <= cardinality(g.kinds) loop
    if g.kinds[v_node] = 'LOOP' then
      node := v_node;
      last := g.lasts[v_node];
      return;
    end if;
    v_node := case when g.kinds[v_node] in ('MAP', 'RETRY', 'CALL_CHILD') then g.lasts[v_node] else v_node end + 1;
  end loop;
exception
  when invalid_parameter_value then
    null;  -- no graph, and so no loop
end
$$;


ALTER FUNCTION df.outermost_loop(p_graph text, OUT node integer, OUT last integer) OWNER TO engine;

--
-- Name: FUNCTION outermost_loop(p_graph text, OUT node integer, OUT last integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.outermost_loop(p_graph text, OUT node integer, OUT last integer) IS 'api: the outermost loop of a graph';


--
-- Name: page_of_instances(text, text, timestamp with time zone, text, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer) RETURNS TABLE(key bigint, created_at timestamp with time zone, id text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    AS $$
#variable_conflict use_column
declare
  c_newest constant integer := 5000;
  v_newest df.listed_instance[];
  v_last   df.listed_instance;
  v_found  bigint;
begin
  if p_status in ('failed', 'cancelled') then
    return query
      select i.key, i.created_at, i.id
        from unnest(df.seen_roles()) as r(role)
       cross join lateral (
               select n.key, n.created_at, n.id
                 from df.instances n
                where n.submitted_by = r.role
                  and n.unsuccessful = p_status
                  and (n.created_at, n.id) < (p_before, p_before_id)
                  and (p_label is null or n.label = p_label)
                order by n.submitted_by desc, n.unsuccessful desc, n.created_at desc, n.id desc
                limit p_count) as i
       order by i.created_at desc, i.id desc
       limit p_count;
  elsif p_status in ('pending', 'running') then
    v_newest := array(
      select row(n.key, n.created_at, n.id, n.label, n.status)::df.listed_instance
        from unnest(df.seen_roles()) as r(role)
       cross join lateral (
               select m.key, m.created_at, m.id, m.label, m.status
                 from df.instances m
                where m.submitted_by = r.role
                  and (m.created_at, m.id) < (p_before, p_before_id)
                order by m.submitted_by desc, m.created_at desc, m.id desc
                limit c_newest) as n
       order by n.created_at desc, n.id desc
       limit c_newest);
    -- a page that the newest fill needs nothing older
    return query
      select n.key, n.created_at, n.id
        from unnest(v_newest) as n
       where n.status = p_status
         and (p_label is null or n.label = p_label)
       order by n.created_at desc, n.id desc
       limit p_count;
    get diagnostics v_found = row_count;
    if v_found = p_count or cardinality(v_newest) < c_newest then
      return;
    end if;
    v_last := v_newest[c_newest];
    return query
      select o.key, o.created_at, o.id
        from (select p.instance_key as key
                from unnest(df.seen_roles()) as r(role)
                join df.progress p on p.submitted_by = r.role
               union
              select q.key
                from unnest(df.seen_roles()) as r(role)
                join df.instances q on q.submitted_by = r.role and q.quarantined is not null) as c
       cross join lateral (
               select i.key, i.created_at, i.id, i.label, i.status from df.instances i where i.key = c.key offset 0) as o
       where o.status = p_status
         and (p_label is null or o.label = p_label)
         and (o.created_at, o.id) < (v_last.created_at, v_last.id)
       order by o.created_at desc, o.id desc
       limit p_count - v_found;
  elsif p_label is not null then
    return query
      select i.key, i.created_at, i.id
        from unnest(df.seen_roles()) as r(role)
       cross join lateral (
               select n.key, n.created_at, n.id
                 from df.instances n
                where n.submitted_by = r.role
                  and n.label = p_label
                  and (n.created_at, n.id) < (p_before, p_before_id)
                  and (p_status is null or n.status = p_status)
                order by n.submitted_by desc, n.label desc, n.created_at desc, n.id desc
                limit p_count) as i
       order by i.created_at desc, i.id desc
       limit p_count;
  else
    return query
      select i.key, i.created_at, i.id
        from unnest(df.seen_roles()) as r(role)
       cross join lateral (
               select n.key, n.created_at, n.id
                 from df.instances n
                where n.submitted_by = r.role
                  and (n.created_at, n.id) < (p_before, p_before_id)
                  and (p_status is null or n.status = p_status)
                order by n.submitted_by desc, n.created_at desc, n.id desc
                limit p_count) as i
       order by i.created_at desc, i.id desc
       limit p_count;
  end if;
end
$$;


ALTER FUNCTION df.page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer) OWNER TO engine;

--
-- Name: FUNCTION page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer) IS 'api: the keys of a page of df.list_instances';


--
-- Name: parsed_root_type(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.parsed_root_type(p_graph text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (df.number_nodes(p_graph)).kinds[1];
exception
  when invalid_parameter_value then
    return null;
end
$$;


ALTER FUNCTION df.parsed_root_type(p_graph text) OWNER TO engine;

--
-- Name: FUNCTION parsed_root_type(p_graph text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.parsed_root_type(p_graph text) IS 'api: the node_type of a graph''s root, null when it is no graph';


--
-- Name: path_length(integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.path_length(p_level integer) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT GREATEST(((11 * p_level) - 1), 0) AS "greatest";
END;


ALTER FUNCTION df.path_length(p_level integer) OWNER TO engine;

--
-- Name: FUNCTION path_length(p_level integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.path_length(p_level integer) IS 'api: the length of a step path with so many indices';


--
-- Name: race(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.race(a text, b text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.branches('RACE', array[df.as_node(a, 'race', 'a'), df.as_node(b, 'race', 'b')]);
end
$$;


ALTER FUNCTION df.race(a text, b text) OWNER TO engine;

--
-- Name: FUNCTION race(a text, b text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.race(a text, b text) IS 'api: both at once, the first to end wins; operator |';


--
-- Name: race_all(text[]); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.race_all(VARIADIC futs text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_nodes constant text[] := df.as_nodes(futs, 'race_all');
begin
  if cardinality(v_nodes) = 1 then
    return v_nodes[1];
  end if;
  return df.branches('RACE', v_nodes);
end
$$;


ALTER FUNCTION df.race_all(VARIADIC futs text[]) OWNER TO engine;

--
-- Name: FUNCTION race_all(VARIADIC futs text[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.race_all(VARIADIC futs text[]) IS 'api: all at once, the first to end wins';


--
-- Name: read_graph(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  c_max_nodes constant integer := 10000;
  -- what is open: a node, by its number; the extra_nodes of one, by its negative; or something whose contents are skipped
  c_object    constant integer := -1000000;
  c_array     constant integer := -1000001;
  v_stack  integer[] := '{}';
  v_top    integer := 0;
  v_inside integer;          -- what is open innermost
  v_state  text := 'value';  -- what may come next: value; item (a value, or the end of the array); close (only the brace);
                             -- member (a comma with a key, or the end); next (a comma, or the end); end
  v_role   text := 'root';   -- what the next value is: a node (root, L, R, C, X), E T Q N, or - (skipped)
  v_token  text;
  v_at     integer := 0;     -- which token
  v_first  text;
  v_key    text;
  v_count  integer := 0;
  v_seen   text[] := '{}';   -- the letters of the keys that are there, null values included
begin
  parents := '{}';
  roles := '{}';
  children := '{}';
  types := '{}';
  queries := '{}';
  names := '{}';
  foreach v_token in array array(select m[1] from regexp_matches(p_graph, df.json_token_pattern(), 'g') as m) loop
    v_at := v_at + 1;
    v_first := left(v_token, 1);
    -- what has no backslash is a good string or key if it is a token at all
    if strpos(v_token, '\') > 0 and not df.is_json_scalar(btrim(v_token, E'{,: \t\n\r')) then
      perform df.refuse_json(p_graph, v_at);
    end if;

    case
      when v_first = ',' and v_state = 'member' and v_token <> ',' then
        null;  -- and the key that comes with it, below

      when v_first = '}' and v_state in ('member', 'close') or v_first = ']' and v_state in ('next', 'item') then
        v_top := v_top - 1;
        v_inside := v_stack[v_top];
        v_state := case when v_inside > 0 or v_inside = c_object then 'member' when v_inside < 0 then 'next' else 'end' end;
        continue;

      when v_token = ',' and v_state = 'next' then
        v_state := 'value';
        v_role := case when v_inside = c_array then '-' else 'X' end;
        continue;

      when v_state <> 'value' and v_state <> 'item'
        or v_first in (',', ':', ']', '}')
        or v_first = '"' and (right(v_token, 1) <> '"' or v_token = '"')
        or v_first not in ('"', '{', '[') and not df.is_json_scalar(v_token)
      then
        perform df.refuse_json(p_graph, v_at);

      else
        -- a value begins
        case
          when v_role in ('L', 'R', 'C', 'X', 'root') then
            if v_token <> 'null' or v_role = 'X' then
              v_count := v_count + 1;
              if v_count > c_max_nodes then
                raise exception 'Invalid durable function graph: root: Graph exceeds maximum of % nodes', c_max_nodes
                  using errcode = 'invalid_parameter_value';
              end if;
              roles[v_count] := v_role;
              children[v_count] := '';
              v_seen[v_count] := '';
              if v_first <> '{' then
                types[v_count] := '';
              end if;
              if v_role = 'X' then
                parents[v_count] := - v_inside;
                if strpos(children[- v_inside], 'E') = 0 then
                  children[- v_inside] := children[- v_inside] || 'E';
                end if;
              elsif v_role = 'root' then
                parents[v_count] := null;
              else
                parents[v_count] := v_inside;
                children[v_inside] := children[v_inside] || v_role;
              end if;
            end if;
          when v_role = '-' or v_token = 'null' then
            null;
          when v_role = 'T' then
            types[v_inside] := v_token;
          when v_role = 'Q' then
            queries[v_inside] := v_token;
          when v_role = 'N' then
            names[v_inside] := v_token;
          when v_role = 'E' and v_first <> '[' then
            children[v_inside] := children[v_inside] || 'e';
          else
            null;  -- extra_nodes, an array
        end case;

        if v_first = '{' then
          v_inside := case when v_role in ('L', 'R', 'X', 'C', 'root') then v_count else c_object end;
          v_top := v_top + 1;
          v_stack[v_top] := v_inside;
          if v_token = '{' then
            v_state := 'close';
            continue;
          end if;
        elsif v_first = '[' then
          v_state := 'item';
          if v_role = 'E' then
            v_inside := - v_inside;
            v_role := 'X';
          else
            v_inside := c_array;
            v_role := '-';
          end if;
          v_top := v_top + 1;
          v_stack[v_top] := v_inside;
          continue;
        else
          v_state := case when v_inside > 0 or v_inside = c_object then 'member' else 'next' end;
          continue;
        end if;
    end case;

    -- the token ends with a key
    v_state := 'value';
    if v_inside = c_object then
      v_role := '-';
      continue;
    end if;
    v_key := btrim(v_token, E'{,: \t\n\r');
    if strpos(v_key, '\') > 0 then
      v_key := '"' || coalesce(df.json_text(v_key), '') || '"';
    end if;
    case v_key
      when '"node_type"' then
        v_role := 'T';
      when '"query"' then
        v_role := 'Q';
      when '"left_node"' then
        v_role := 'L';
      when '"right_node"' then
        v_role := 'R';
      when '"condition_node"' then
        v_role := 'C';
      when '"extra_nodes"' then
        v_role := 'E';
      when '"result_name"' then
        v_role := 'N';
      else
        v_role := '-';
        continue;
    end case;
    if strpos(v_seen[v_inside], v_role) = 0 then
      v_seen[v_inside] := v_seen[v_inside] || v_role;
    elsif twice is null or v_inside < twice or v_inside = twice and v_key < twice_key then
      twice := v_inside;
      twice_key := v_key;
    end if;
  end loop;
  if v_state <> 'end' then
    perform df.refuse_json(p_graph, v_at + 1);
  end if;
end
$$;


ALTER FUNCTION df.read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text) OWNER TO engine;

--
-- Name: FUNCTION read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text) IS 'api: the nodes of a graph, not checked yet';


--
-- Name: record_completions(bigint, json); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.record_completions(p_epoch bigint, p_rows json, OUT skipped integer[]) RETURNS integer[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
begin
  perform df.require_epoch(p_epoch);
  with given as materialized (
    select c.*, (c.due is null or clock_timestamp() >= c.due) and df.are_visible(c.xids) as ready
      from json_to_recordset(p_rows)
        as c(ordinal integer, run_as oid, key bigint, step text, attempt integer, outcome text, result json, error json,
             cause uuid, query text, note text, repetitions integer, due timestamptz, xids xid8[])
  ), inserted as (
    insert into df.completions (run_as, instance_key, step, attempt, outcome, result, error, cause, query, note, repetitions)
    select g.run_as, g.key, g.step, g.attempt, g.outcome,
           case when i.key is null then g.result else json_build_object('status', i.status) end,
           g.error, g.cause, g.query, g.note, coalesce(g.repetitions, 0)
      from given g
      left join lateral (
        select w.instance_key from df.waits w where g.due is not null and w.waiter_key = g.key and w.waiter_step = g.step offset 0
      ) as w on true
      left join lateral (select i.key, i.status from df.instances i where i.key = w.instance_key offset 0) as i on true
     where g.ready
     order by g.run_as, g.key, g.step, g.attempt
        on conflict do nothing
  )
  select array_agg(g.ordinal) into skipped from given g where not g.ready;
end
$$;


ALTER FUNCTION df.record_completions(p_epoch bigint, p_rows json, OUT skipped integer[]) OWNER TO engine;

--
-- Name: FUNCTION record_completions(p_epoch bigint, p_rows json, OUT skipped integer[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.record_completions(p_epoch bigint, p_rows json, OUT skipped integer[]) IS 'the engine''s own completions';


--
-- Name: refuse_argument(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.refuse_argument(p_builder text, p_flaw text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if p_flaw is not null then
    raise exception 'df.%: %', p_builder, p_flaw using errcode = 'invalid_parameter_value';
  end if;
end
$$;


ALTER FUNCTION df.refuse_argument(p_builder text, p_flaw text) OWNER TO engine;

--
-- Name: FUNCTION refuse_argument(p_builder text, p_flaw text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.refuse_argument(p_builder text, p_flaw text) IS 'api: raises what is wrong with a builder''s argument';


--
-- Name: refuse_in_workflow(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.refuse_in_workflow(p_function text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if current_setting('df.in_workflow', true) = 'true' then
    raise exception 'df.%() cannot be called inside a workflow - set variables before starting the workflow', p_function
      using errcode = 'object_not_in_prerequisite_state';
  end if;
end
$$;


ALTER FUNCTION df.refuse_in_workflow(p_function text) OWNER TO engine;

--
-- Name: FUNCTION refuse_in_workflow(p_function text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.refuse_in_workflow(p_function text) IS 'api: raises inside a step';


--
-- Name: refuse_json(text, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.refuse_json(p_graph text, p_token integer) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  v_position integer := regexp_instr(p_graph, df.json_token_pattern(), 1, p_token);
begin
  raise exception 'Invalid durable function graph: root: not valid JSON near ''%'' (|| binds like ~>: put parentheses around concatenations)',
      case when v_position > 0 then substr(p_graph, v_position, 30) else right(p_graph, 30) end
    using errcode = 'invalid_parameter_value';
end
$$;


ALTER FUNCTION df.refuse_json(p_graph text, p_token integer) OWNER TO engine;

--
-- Name: FUNCTION refuse_json(p_graph text, p_token integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.refuse_json(p_graph text, p_token integer) IS 'api: raises the error for a graph that is not JSON';


--
-- Name: refuse_node(integer[], text[], integer, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
begin
  raise exception 'Invalid durable function graph: %: %', df.node_path(p_parents, p_roles, p_node), p_wrong
    using errcode = 'invalid_parameter_value';
end
$$;


ALTER FUNCTION df.refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text) OWNER TO engine;

--
-- Name: FUNCTION refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text) IS 'api: raises the error for a bad graph node';


--
-- Name: refuse_owner(regrole); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.refuse_owner(p_role regrole) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if p_role = (select n.nspowner from pg_namespace n where n.nspname = 'df') then
    raise exception 'role % owns schema df', p_role using errcode = 'invalid_parameter_value',
      hint = 'The owner has every right, and cannot start workflows.';
  end if;
end
$$;


ALTER FUNCTION df.refuse_owner(p_role regrole) OWNER TO engine;

--
-- Name: FUNCTION refuse_owner(p_role regrole); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.refuse_owner(p_role regrole) IS 'raises for the owner of df';


--
-- Name: release(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.release(instance_id text, reason text DEFAULT 'Released by user'::text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_status text;
  v_reason text := coalesce(release.reason, 'Released by user');
begin
  select i.status into v_status from df.instances i where i.key = df.find_key(release.instance_id);
  if df.is_final(v_status) then
    return format('Instance %s is already %s', instance_id, v_status);
  end if;
  insert into df.releases (instance_id, reason) values (release.instance_id, v_reason);
  return format('Instance %s released: %s', instance_id, v_reason);
end
$$;


ALTER FUNCTION df.release(instance_id text, reason text) OWNER TO engine;

--
-- Name: FUNCTION release(instance_id text, reason text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.release(instance_id text, reason text) IS 'api: lets a quarantined instance go on when this transaction commits';


--
-- Name: require_epoch(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.require_epoch(p_epoch bigint) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if (select e.epoch from df.epoch e) <> p_epoch then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;
end
$$;


ALTER FUNCTION df.require_epoch(p_epoch bigint) OWNER TO engine;

--
-- Name: FUNCTION require_epoch(p_epoch bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.require_epoch(p_epoch bigint) IS 'raises DF001 when another engine leads';


--
-- Name: require_key(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.require_key(p_function text, p_id text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_key bigint;
begin
  perform df.not_null(p_id, p_function, 'id');
  v_key := df.find_key(p_id);
  if v_key is null then
    raise exception 'Instance not found or access denied: %', p_id using errcode = 'no_data_found';
  end if;
  return v_key;
end
$$;


ALTER FUNCTION df.require_key(p_function text, p_id text) OWNER TO engine;

--
-- Name: FUNCTION require_key(p_function text, p_id text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.require_key(p_function text, p_id text) IS 'api: the key of the instance that an id means; raises when there is none';


--
-- Name: require_limit(text, integer, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.require_limit(p_function text, p_limit integer, p_hint text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_most integer := df.setting('list_limit')::integer;
begin
  if p_limit is null or not p_limit between 1 and v_most then
    raise exception 'df.%: limit_count must be from 1 to %, not %', p_function, v_most, coalesce(p_limit::text, 'NULL')
      using errcode = 'invalid_parameter_value', hint = p_hint;
  end if;
end
$$;


ALTER FUNCTION df.require_limit(p_function text, p_limit integer, p_hint text) OWNER TO engine;

--
-- Name: FUNCTION require_limit(p_function text, p_limit integer, p_hint text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.require_limit(p_function text, p_limit integer, p_hint text) IS 'api: raises for a limit_count that is none';


--
-- Name: result(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.result(id text) RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (select i.result from df.instances i where i.key = df.find_key(result.id) and i.status = 'completed');
end
$$;


ALTER FUNCTION df.result(id text) OWNER TO engine;

--
-- Name: FUNCTION result(id text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.result(id text) IS 'api: the result of a completed instance, else null';


--
-- Name: result_name_flaw(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.result_name_flaw(p_token text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $_$
declare
  v_name text;
begin
  if p_token ~ '^"[A-Za-z_][A-Za-z0-9_]*"$' then
    return null;
  elsif left(p_token, 1) <> '"' then
    return 'result_name is not a string';
  end if;
  v_name := df.json_text(p_token);
  if v_name is null then
    return 'result_name has a character that text cannot hold';
  elsif v_name ~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    return null;
  end if;
  return format('result name ''%s'' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*',
                case when length(v_name) > 60 then left(v_name, 60) || '…' else v_name end);
end
$_$;


ALTER FUNCTION df.result_name_flaw(p_token text) OWNER TO engine;

--
-- Name: FUNCTION result_name_flaw(p_token text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.result_name_flaw(p_token text) IS 'api: what is wrong with a result''s name, given as a JSON token';


--
-- Name: retry(text, integer, interval, numeric, interval); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.retry(fut text, max_attempts integer, initial interval DEFAULT '00:00:01'::interval, backoff numeric DEFAULT 2, max_interval interval DEFAULT '00:05:00'::interval) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform df.not_null(max_attempts, 'retry', 'max_attempts');
  perform df.not_null(backoff, 'retry', 'backoff');
  if max_attempts not between 1 and 10000 then
    perform df.refuse_argument('retry', format('argument max_attempts must be from 1 to 10000, not %s', max_attempts));
  elsif backoff not between 1 and 1000 then
    perform df.refuse_argument('retry', format('argument backoff must be from 1 to 1000, not %s', left(backoff::text, 60)));
  end if;
  return '{"node_type":"RETRY","left_node":' || df.as_node(fut, 'retry', 'fut')
    || ',"query":' || to_json(
         '{"max_attempts":' || max_attempts
         || ',"initial":' || df.interval_text(initial, 'retry', 'initial')
         || ',"backoff":' || trim_scale(round(backoff, 6))
         || ',"max_interval":' || df.interval_text(max_interval, 'retry', 'max_interval') || '}')
    || '}';
end
$$;


ALTER FUNCTION df.retry(fut text, max_attempts integer, initial interval, backoff numeric, max_interval interval) OWNER TO engine;

--
-- Name: FUNCTION retry(fut text, max_attempts integer, initial interval, backoff numeric, max_interval interval); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.retry(fut text, max_attempts integer, initial interval, backoff numeric, max_interval interval) IS 'api: tries a node again when it fails';


--
-- Name: revoke_usage(regrole); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.revoke_usage(p_role regrole) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_object  text;
  v_grantor regrole;
begin
  perform df.refuse_owner(p_role);
  for v_object in
    select format('table %s', c.oid::regclass)
      from pg_class c, aclexplode(c.relacl) as a
     where c.relnamespace = 'df'::regnamespace and a.grantee = p_role
     union
    select format('table %s', c.oid::regclass)
      from pg_class c
      join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) as a
     where c.relnamespace = 'df'::regnamespace and a.grantee = p_role
     union
    select format('routine %s', p.oid::regprocedure)
      from pg_proc p, aclexplode(p.proacl) as a
     where p.pronamespace = 'df'::regnamespace and a.grantee = p_role
     union
    select 'schema df'
      from pg_namespace n, aclexplode(n.nspacl) as a
     where n.nspname = 'df' and a.grantee = p_role
  loop
    execute format('revoke all on %s from %s cascade', v_object, p_role);
  end loop;
  select a.grantor into v_grantor
    from pg_namespace n, aclexplode(n.nspacl) as a
   where n.nspname = 'df' and a.grantee = p_role
   limit 1;
  if found then
    raise exception 'role % still has schema df, from role %', p_role, v_grantor
      using errcode = 'insufficient_privilege', hint = format('Run df.revoke_usage as %s.', v_grantor);
  end if;
end
$$;


ALTER FUNCTION df.revoke_usage(p_role regrole) OWNER TO engine;

--
-- Name: FUNCTION revoke_usage(p_role regrole); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.revoke_usage(p_role regrole) IS 'takes back what df.grant_usage gave; running workflows of the role fail at their next step';


--
-- Name: root_type(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.root_type(p_graph text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN starts_with(p_graph, '{"node_type":"'::text) THEN split_part(substr(p_graph, 15, 40), '"'::text, 1)
             WHEN df.is_node(p_graph) THEN df.parsed_root_type(p_graph)
             ELSE 'SQL'::text
         END AS "case";
END;


ALTER FUNCTION df.root_type(p_graph text) OWNER TO engine;

--
-- Name: FUNCTION root_type(p_graph text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.root_type(p_graph text) IS 'api: the node_type of a graph''s root';


--
-- Name: seal(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.seal() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_type  record;
  v_role  record;
begin
  revoke all on schema df from public;
  revoke all on all tables in schema df from public;
  revoke all on all sequences in schema df from public;
  revoke all on all routines in schema df from public;
  for v_type in
    select t.oid::regtype as name
      from pg_type t
     where t.typnamespace = 'df'::regnamespace
       and t.typtype in ('c', 'd', 'e')
  loop
    -- a user's table with a column of this type would block the next migration
    execute format('revoke usage on type %s from public', v_type.name);
  end loop;
  for v_role in
    select a.grantee::regrole as name, bool_or(a.is_grantable) as with_grant
      from pg_namespace n, aclexplode(n.nspacl) as a
     where n.nspname = 'df'
       and a.privilege_type = 'USAGE'
       and a.grantee <> n.nspowner
       and a.grantee <> 0
     group by a.grantee
  loop
    perform df.grant_usage(v_role.name, false, v_role.with_grant);
  end loop;
end
$$;


ALTER FUNCTION df.seal() OWNER TO engine;

--
-- Name: FUNCTION seal(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.seal() IS 'run by walflow migrate after the migrations';


--
-- Name: seconds_text(numeric, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.seconds_text(p_seconds numeric, p_builder text, p_argument text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if p_seconds is null then
    raise exception 'df.%: argument % is NULL', p_builder, p_argument using errcode = 'null_value_not_allowed';
  elsif not p_seconds between 0 and 10000000000 then
    raise exception 'df.%: argument % must be from 0 to 10000000000 seconds, not %',
        p_builder, p_argument, left(p_seconds::text, 60)
      using errcode = 'invalid_parameter_value';
  end if;
  return trim_scale(round(p_seconds, 6))::text;
end
$$;


ALTER FUNCTION df.seconds_text(p_seconds numeric, p_builder text, p_argument text) OWNER TO engine;

--
-- Name: FUNCTION seconds_text(p_seconds numeric, p_builder text, p_argument text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.seconds_text(p_seconds numeric, p_builder text, p_argument text) IS 'api: a number of seconds as graphs have it';


--
-- Name: seen_roles(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.seen_roles() RETURNS oid[]
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN pg_has_role(n.nspowner, 'USAGE'::text) THEN ARRAY( SELECT r.oid
                FROM pg_roles r)
             ELSE df.my_roles()
         END AS my_roles
    FROM pg_namespace n
   WHERE (n.nspname = 'df'::name);
END;


ALTER FUNCTION df.seen_roles() OWNER TO engine;

--
-- Name: FUNCTION seen_roles(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.seen_roles() IS 'api: the OIDs of the roles whose instances the caller sees';


--
-- Name: seq(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.seq(a text, b text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"THEN","left_node":' || df.as_node(a, 'seq', 'a') || ',"right_node":' || df.as_node(b, 'seq', 'b') || '}';
end
$$;


ALTER FUNCTION df.seq(a text, b text) OWNER TO engine;

--
-- Name: FUNCTION seq(a text, b text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.seq(a text, b text) IS 'api: a, then b; operator ~>';


--
-- Name: seq_all(text[]); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.seq_all(VARIADIC futs text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_nodes constant text[] := df.as_nodes(futs, 'seq_all');
  v_last  constant integer := cardinality(v_nodes);
begin
  if v_last = 1 then
    return v_nodes[1];
  end if;
  return repeat('{"node_type":"THEN","left_node":', v_last - 1) || v_nodes[1]
    || ',"right_node":' || array_to_string(v_nodes[2:], '},"right_node":') || '}';
end
$$;


ALTER FUNCTION df.seq_all(VARIADIC futs text[]) OWNER TO engine;

--
-- Name: FUNCTION seq_all(VARIADIC futs text[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.seq_all(VARIADIC futs text[]) IS 'api: one after the other';


--
-- Name: settings; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.settings (
    name text NOT NULL,
    value text NOT NULL,
    description text NOT NULL
);


ALTER TABLE df.settings OWNER TO engine;

--
-- Name: TABLE settings; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.settings IS 'Limits and switches that the database itself enforces. Admins write, every df role reads.';


--
-- Name: setting(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.setting(p_name text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT s.value
    FROM df.settings s
   WHERE (s.name = setting.p_name);
END;


ALTER FUNCTION df.setting(p_name text) OWNER TO engine;

--
-- Name: FUNCTION setting(p_name text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.setting(p_name text) IS 'api: the value of a row of df.settings';


--
-- Name: setvar(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.setvar(name text, value text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
begin
  perform df.refuse_in_workflow('setvar');
  perform df.not_null(setvar.name, 'setvar', 'name');
  perform df.not_null(setvar.value, 'setvar', 'value');
  if setvar.name !~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    raise exception 'df.setvar: name ''%'' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*', setvar.name
      using errcode = 'invalid_parameter_value';
  end if;
  insert into df.vars (name, value) values (setvar.name, setvar.value)
      on conflict (owner, name) do update set value = excluded.value;
end
$_$;


ALTER FUNCTION df.setvar(name text, value text) OWNER TO engine;

--
-- Name: FUNCTION setvar(name text, value text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.setvar(name text, value text) IS 'api: sets a variable of the caller, {name} in graphs';


--
-- Name: signal(text, text, jsonb); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.signal(instance_id text, signal_name text, signal_data jsonb) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.signal(instance_id, signal_name, signal_data::text);
end
$$;


ALTER FUNCTION df.signal(instance_id text, signal_name text, signal_data jsonb) OWNER TO engine;

--
-- Name: FUNCTION signal(instance_id text, signal_name text, signal_data jsonb); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.signal(instance_id text, signal_name text, signal_data jsonb) IS 'api: sends a signal to an instance when this transaction commits';


--
-- Name: signal(text, text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.signal(instance_id text, signal_name text, signal_data text DEFAULT '{}'::text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_status text;
  v_data   json;
begin
  select i.status into v_status from df.instances i where i.key = df.find_key(signal.instance_id);
  if df.is_final(v_status) then
    raise exception 'Instance % is already %', instance_id, v_status using errcode = 'object_not_in_prerequisite_state';
  end if;
  begin
    v_data := coalesce(signal_data, 'null');
  exception
    when invalid_text_representation or statement_too_complex then
      v_data := to_json(signal_data);
  end;
  insert into df.signals (instance_id, name, data) values (signal.instance_id, signal.signal_name, v_data);
  return 'OK';
end
$$;


ALTER FUNCTION df.signal(instance_id text, signal_name text, signal_data text) OWNER TO engine;

--
-- Name: FUNCTION signal(instance_id text, signal_name text, signal_data text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.signal(instance_id text, signal_name text, signal_data text) IS 'api: sends a signal to an instance when this transaction commits';


--
-- Name: signals; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.signals (
    owner oid NOT NULL,
    instance_id text NOT NULL,
    instance_key bigint,
    name text NOT NULL,
    data json DEFAULT '{}'::json NOT NULL,
    sent_by oid DEFAULT df.me() NOT NULL,
    folded boolean DEFAULT false NOT NULL,
    taken_by text,
    event_id uuid DEFAULT gen_random_uuid() NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT signal_data_fits CHECK ((octet_length((data)::text) <= 16777216)),
    CONSTRAINT signal_names_fit CHECK (((name <> ''::text) AND (octet_length(name) <= 200)))
)
WITH (fillfactor='80');
ALTER TABLE ONLY df.signals ALTER COLUMN owner SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN instance_id SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN instance_key SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN sent_by SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN folded SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN taken_by SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN event_id SET STATISTICS 0;
ALTER TABLE ONLY df.signals ALTER COLUMN recorded_at SET STATISTICS 0;


ALTER TABLE df.signals OWNER TO engine;

--
-- Name: TABLE signals; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.signals IS 'One row delivers a signal to an instance.';


--
-- Name: COLUMN signals.taken_by; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.signals.taken_by IS 'The step of the wait that took it; null while it is buffered.';


--
-- Name: signals_to(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.signals_to(p_key bigint) RETURNS SETOF df.signals
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT s.owner,
     s.instance_id,
     s.instance_key,
     s.name,
     s.data,
     s.sent_by,
     s.folded,
     s.taken_by,
     s.event_id,
     s.recorded_at
    FROM (df.instances i
      JOIN df.signals s ON (((s.owner = i.submitter) AND (s.instance_id = i.id) AND ((s.instance_key IS NULL) OR (s.instance_key = i.key)))))
   WHERE (i.key = signals_to.p_key);
END;


ALTER FUNCTION df.signals_to(p_key bigint) OWNER TO engine;

--
-- Name: FUNCTION signals_to(p_key bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.signals_to(p_key bigint) IS 'api: the signals of an instance';


--
-- Name: sleep(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.sleep(seconds bigint) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.options_node('SLEEP', df.seconds_text(seconds, 'sleep', 'seconds'));
end
$$;


ALTER FUNCTION df.sleep(seconds bigint) OWNER TO engine;

--
-- Name: FUNCTION sleep(seconds bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.sleep(seconds bigint) IS 'api: waits for so many seconds';


--
-- Name: sleep(interval); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.sleep(duration interval) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return df.options_node('SLEEP', df.interval_text(duration, 'sleep', 'duration'));
end
$$;


ALTER FUNCTION df.sleep(duration interval) OWNER TO engine;

--
-- Name: FUNCTION sleep(duration interval); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.sleep(duration interval) IS 'api: waits for an interval; a month is 30 days';


--
-- Name: sleep(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.sleep(duration text) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  if df.has_reference(duration) then
    return df.options_node('SLEEP', duration);
  elsif btrim(duration, E' \t\n\r') ~ '^-?[0-9]+([.][0-9]+)?$' then
    return df.options_node('SLEEP', df.seconds_text(duration::numeric, 'sleep', 'duration'));
  elsif length(duration) > 200 then
    perform df.refuse_argument('sleep', format('argument duration is no interval: ''%s…''', left(duration, 60)));
  end if;
  return df.options_node('SLEEP', df.interval_text(duration::interval, 'sleep', 'duration'));
end
$_$;


ALTER FUNCTION df.sleep(duration text) OWNER TO engine;

--
-- Name: FUNCTION sleep(duration text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.sleep(duration text) IS 'api: waits for seconds or an interval, which may be a reference';


--
-- Name: sleep_until(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.sleep_until(until text) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if df.has_reference(until) then
    return df.options_node('SLEEP', '{"until":' || to_json(until) || '}');
  elsif length(until) > 200 then
    perform df.refuse_argument('sleep_until', format('argument until is no time: ''%s…''', left(until, 60)));
  end if;
  return df.sleep_until(until::timestamptz);
end
$$;


ALTER FUNCTION df.sleep_until(until text) OWNER TO engine;

--
-- Name: FUNCTION sleep_until(until text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.sleep_until(until text) IS 'api: waits until a time, which may be a reference';


--
-- Name: sleep_until(timestamp with time zone); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.sleep_until(until timestamp with time zone) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform df.not_null(until, 'sleep_until', 'until');
  if not isfinite(until) or until < '0001-01-02 00:00:00+00' or until > '9999-12-30 00:00:00+00' then
    raise exception 'df.sleep_until: argument until must be in the years 1 to 9999, not %', until
      using errcode = 'invalid_parameter_value';
  end if;
  return df.options_node('SLEEP', '{"until":"' || to_char(until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}');
end
$$;


ALTER FUNCTION df.sleep_until(until timestamp with time zone) OWNER TO engine;

--
-- Name: FUNCTION sleep_until(until timestamp with time zone); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.sleep_until(until timestamp with time zone) IS 'api: waits until a time';


--
-- Name: sql(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.sql(query text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform df.not_null(query, 'sql', 'query');
  return '{"node_type":"SQL","query":' || to_json(query) || '}';
end
$$;


ALTER FUNCTION df.sql(query text) OWNER TO engine;

--
-- Name: FUNCTION sql(query text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.sql(query text) IS 'api: a step that runs one SQL statement';


--
-- Name: start(text, text, text, text, text, jsonb); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.start(fut text, label text DEFAULT NULL::text, database text DEFAULT NULL::text, transaction_mode text DEFAULT 'caller'::text, id text DEFAULT NULL::text, input jsonb DEFAULT NULL::jsonb) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_id text := coalesce(start.id, df.new_id());
begin
  if fut is null then
    raise exception 'df.start: argument fut is NULL' using errcode = 'null_value_not_allowed';
  elsif transaction_mode = 'new' then
    raise exception 'walflow starts join the caller''s transaction'
      using errcode = 'feature_not_supported', hint = 'It begins when this transaction commits, and never if it rolls back.';
  elsif transaction_mode is distinct from 'caller' then
    raise exception 'df.start: transaction_mode must be ''caller'', not %', quote_nullable(transaction_mode)
      using errcode = 'invalid_parameter_value';
  end if;
  insert into df.instances (id, graph, label, database, input)
  values (v_id, start.fut, start.label, start.database, start.input)
      on conflict (submitted_by, id) do nothing;
  return v_id;
end
$$;


ALTER FUNCTION df.start(fut text, label text, database text, transaction_mode text, id text, input jsonb) OWNER TO engine;

--
-- Name: FUNCTION start(fut text, label text, database text, transaction_mode text, id text, input jsonb); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.start(fut text, label text, database text, transaction_mode text, id text, input jsonb) IS 'api: starts a workflow when this transaction commits; with id, at most once';


--
-- Name: start_children(bigint, json); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.start_children(p_epoch bigint, p_rows json, OUT skipped integer[]) RETURNS integer[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
begin
  perform df.require_epoch(p_epoch);
  with given as materialized (
    select c.*, df.are_visible(c.xids) as ready
      from json_to_recordset(p_rows)
        as c(ordinal integer, parent bigint, step text, graph text, label text, input text, vars text, detach boolean,
             cause uuid, xids xid8[])
  ), inserted as (
    insert into df.instances
      (submitted_by, submitter, id, graph, label, input, vars, database, parent_key, parent_step, parent_id, cause)
    select p.submitted_by, p.submitter, df.child_id(p.key, g.step), g.graph, g.label, g.input::jsonb, g.vars::jsonb, p.database,
           p.key, g.step, p.id, g.cause
      from given g
     cross join lateral (select p.* from df.instances p where p.key = g.parent offset 0) as p
     where g.ready
     order by p.key, g.step
        on conflict do nothing
    returning id, parent_key, parent_step, cause
  ), answered as (
    insert into df.completions (run_as, instance_key, step, attempt, outcome, result, cause)
    select 0, i.parent_key, i.parent_step, 1, a.outcome, a.result, i.cause
      from inserted i
      join given g on g.parent = i.parent_key and g.step = i.parent_step
     cross join lateral df.answer(i.id, 'pending', null, null) as a
     where g.detach
     order by i.parent_key, i.parent_step
        on conflict do nothing
  )
  select array_agg(g.ordinal) into skipped from given g where not g.ready;
  -- no user can have made it: the guard refuses such ids. Whoever got around it must not be taken for the child.
  insert into df.completions (run_as, instance_key, step, attempt, outcome, error, cause)
  select 0, p.key, g.step, 1, 'failed',
         json_build_object('message', format('instance %s is there already and is no child of this step', i.id), 'code', '23505'),
         g.cause
    from json_to_recordset(p_rows) as g(parent bigint, step text, cause uuid)
   cross join lateral (select p.* from df.instances p where p.key = g.parent offset 0) as p
   cross join lateral (
     select i.* from df.instances i where i.submitted_by = p.submitted_by and i.id = df.child_id(p.key, g.step) offset 0
   ) as i
   where (i.parent_key, i.parent_step) is distinct from (p.key, g.step)
   order by p.key, g.step
      on conflict do nothing;
end
$$;


ALTER FUNCTION df.start_children(p_epoch bigint, p_rows json, OUT skipped integer[]) OWNER TO engine;

--
-- Name: FUNCTION start_children(p_epoch bigint, p_rows json, OUT skipped integer[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.start_children(p_epoch bigint, p_rows json, OUT skipped integer[]) IS 'the engine''s rows in df.instances';


--
-- Name: status(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.status(id text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (select i.status from df.instances i where i.key = df.find_key(status.id));
end
$$;


ALTER FUNCTION df.status(id text) OWNER TO engine;

--
-- Name: FUNCTION status(id text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.status(id text) IS 'api: the status of an instance as of the last checkpoint, null for an unknown id';


--
-- Name: step(bigint, text, text, boolean, bigint, xid8[], boolean, text, text, uuid, integer, bigint, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer DEFAULT 1) RETURNS text
    LANGUAGE plpgsql
    AS $$
declare
  v_xid     pg_catalog.xid8;
  v_until   pg_catalog.timestamptz;
  v_row     record;
  v_json    pg_catalog.text;
  v_rows    pg_catalog.text[];
  v_count   pg_catalog.int8 := 0;
  v_bytes   pg_catalog.int8 := 0;
  v_result  pg_catalog.text;
  v_started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
begin
  if (select e.epoch from df.epoch e) operator(pg_catalog.<>) p_epoch then
    return 'fenced';
  end if;

  if p_xids is not null then
    foreach v_xid in array p_xids loop
      while not pg_catalog.pg_visible_in_snapshot(v_xid, pg_catalog.pg_current_snapshot()) loop
        v_until := coalesce(v_until, pg_catalog.clock_timestamp() operator(pg_catalog.+) '100 milliseconds'::pg_catalog.interval);
        -- under any other isolation level the snapshot would stay what it is
        if pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.<>) 'read committed'
          or pg_catalog.clock_timestamp() operator(pg_catalog.>=) v_until
        then
          return 'invisible';
        end if;
        perform pg_catalog.pg_sleep(0.0005);
      end loop;
    end loop;
  end if;

  -- nested: a query locks its tables until the step's end even where its condition is not looked at
  if p_look then
    if exists (
      select
        from df.completions c
       where c.run_as operator(pg_catalog.=) df.me()
         and c.instance_key operator(pg_catalog.=) p_key
         and c.step operator(pg_catalog.=) p_step
         and c.attempt operator(pg_catalog.=) p_attempt
    ) then
      return 'exists';
    end if;
  end if;

  v_json := pg_catalog.set_config('df.in_workflow', 'true', true);
  v_json := pg_catalog.set_config('df.instance_id', p_instance_id, true);

  if p_rows then
    for v_row in execute p_query loop
      v_json := pg_catalog.row_to_json(v_row)::pg_catalog.text;
      v_count := v_count operator(pg_catalog.+) 1;
      v_bytes := v_bytes operator(pg_catalog.+) pg_catalog.octet_length(v_json) operator(pg_catalog.+) 1;
      if v_bytes operator(pg_catalog.>) p_limit then
        raise exception 'result of % bytes exceeds the limit of %', v_bytes, p_limit
          using errcode = '54000', hint = 'Return fewer rows, or keep the data in a table and return its key.';
      end if;
      v_rows := pg_catalog.array_append(v_rows, v_json);
    end loop;
    if v_count operator(pg_catalog.=) 0 then
      -- after no rows the record still has the result's shape
      v_result := pg_catalog.concat('{"rows":[],"row_count":0,"columns":',
        coalesce((select pg_catalog.json_agg(k.name) from pg_catalog.json_object_keys(pg_catalog.row_to_json(v_row)) as k(name)), '[]'), '}');
    else
      v_result := pg_catalog.concat('{"rows":[', pg_catalog.array_to_string(v_rows, ','), '],"row_count":', v_count, '}');
    end if;
  else
    execute p_query;
    get diagnostics v_count = row_count;
    v_result := pg_catalog.concat('{"rows":[],"row_count":0,"affected":', v_count, '}');
  end if;

  -- Reset after the step and inside its transaction: what a failing step did to its session rolls back with it,
  -- a reset before the step would be rolled back too (ROLES.md rule 17). Deferred constraints count as part of the step.
  set constraints all immediate;
  execute 'close all';
  unlisten *;
  if pg_catalog.pg_advisory_unlock_all() is null then  -- a condition costs a fifth of a perform
  end if;
  if pg_catalog.pg_my_temp_schema() operator(pg_catalog.<>) 0 then
    discard temp;
  end if;
  if exists (select from pg_catalog.pg_prepared_statement() as p where p.from_sql) then
    deallocate all;
  end if;
  reset all;
  if current_user operator(pg_catalog.<>) session_user then
    set role none;
  end if;

  -- a database in SQL_ASCII checks nothing, and the log is read as UTF-8
  if pg_catalog.getdatabaseencoding() operator(pg_catalog.=) 'SQL_ASCII' then
    perform pg_catalog.convert_from(pg_catalog.decode(pg_catalog.replace(v_result, e'\\', e'\\\\'), 'escape'), 'UTF8');
  end if;

  insert into df.completions (instance_key, step, attempt, outcome, result, cause, repetitions, started_at, query)
  values (p_key, p_step, p_attempt, 'completed', v_result::pg_catalog.json, p_cause, p_repetitions, v_started, p_shown);
  return 'ok';
end
$$;


ALTER FUNCTION df.step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer) OWNER TO engine;

--
-- Name: FUNCTION step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer) IS 'api: runs one SQL step as the current role and records its completion; called by the engine';


--
-- Name: step_path(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.step_path(p_step text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN (p_step !~ '^[1-9][0-9]{0,8}(\.[1-9][0-9]{0,8})*$'::text) THEN NULL::text
             WHEN (strpos(p_step, '.'::text) = 0) THEN ''::text
             ELSE ( SELECT string_agg(lpad(x.part, 10, '0'::text), '.'::text ORDER BY x.n) AS string_agg
                FROM string_to_table(step_path.p_step, '.'::text) WITH ORDINALITY x(part, n)
               WHERE (x.n > 1))
         END AS string_agg;
END;


ALTER FUNCTION df.step_path(p_step text) OWNER TO engine;

--
-- Name: FUNCTION step_path(p_step text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.step_path(p_step text) IS 'api: the indices of a step key, as text that sorts as they do';


--
-- Name: progress; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.progress (
    submitted_by regrole NOT NULL,
    instance_key bigint NOT NULL,
    nodes json NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70');
ALTER TABLE ONLY df.progress ALTER COLUMN submitted_by SET STATISTICS 0;
ALTER TABLE ONLY df.progress ALTER COLUMN instance_key SET STATISTICS 0;
ALTER TABLE ONLY df.progress ALTER COLUMN nodes SET STATISTICS 0;
ALTER TABLE ONLY df.progress ALTER COLUMN updated_at SET STATISTICS 0;


ALTER TABLE df.progress OWNER TO engine;

--
-- Name: TABLE progress; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.progress IS 'What live views show of an instance; as of the last checkpoint.';


--
-- Name: step_records(bigint); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.step_records(p_key bigint) RETURNS TABLE(node integer, step text, path text, source integer, attempt integer, outcome text, result json, error json, details jsonb, at timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 WITH i AS MATERIALIZED (
          SELECT n.key,
             n.submitted_by,
             n.submitter,
             n.id
            FROM df.instances n
           WHERE (n.key = step_records.p_key)
         )
  SELECT (split_part(r.step, '.'::text, 1))::integer AS split_part,
     r.step,
     df.step_path(r.step) AS step_path,
     r.source,
     r.attempt,
     r.outcome,
     r.result,
     r.error,
     r.details,
     r.at
    FROM ( SELECT c.step,
             4 AS source,
             c.attempt,
             c.outcome,
             c.result,
             c.error,
             jsonb_strip_nulls(jsonb_build_object('run_as', (c.run_as)::bigint, 'repetitions', NULLIF(c.repetitions, 0), 'started_at', c.started_at, 'duration_ms', round((EXTRACT(epoch FROM (c.recorded_at - c.started_at)) * (1000)::numeric), 3), 'note', c.note)) AS details,
             c.recorded_at AS at
            FROM df.all_completions(step_records.p_key) c(run_as, instance_key, step, attempt, written_by, repetitions, outcome, cause, event_id, started_at, recorded_at, result, error, query, note)
         UNION ALL
          SELECT s.taken_by,
             3,
             NULL::integer,
             'completed'::text,
             json_build_object('signal_name', s.name, 'timed_out', false, 'data', s.data) AS json_build_object,
             NULL::json,
             jsonb_build_object('sent_by', quote_ident((( SELECT a.rolname
                    FROM pg_roles a
                   WHERE (a.oid = s.sent_by)))::text)) AS jsonb_build_object,
             s.recorded_at
            FROM df.signals_to(step_records.p_key) s(owner, instance_id, instance_key, name, data, sent_by, folded, taken_by, event_id, recorded_at)
           WHERE (s.taken_by IS NOT NULL)
         UNION ALL
          SELECT c.parent_step,
             2,
             NULL::integer,
             'running'::text,
             NULL::json,
             NULL::json,
             jsonb_build_object('child', c.id) AS jsonb_build_object,
             c.created_at
            FROM (i
              JOIN df.instances c ON (((c.submitter = i.submitter) AND (c.parent_key = i.key))))
           WHERE ((c.parent_key IS NOT NULL) AND ((c.submitted_by)::oid = (i.submitted_by)::oid))
         UNION ALL
          SELECT (f.frame ->> 'step'::text),
             1,
             NULL::integer,
             'running'::text,
             NULL::json,
             NULL::json,
             ((((f.frame - 'node'::text) - 'step'::text) - 'due_us'::text) ||
                 CASE
                     WHEN (f.frame ? 'due_us'::text) THEN jsonb_build_object('due', to_timestamp(((((f.frame ->> 'due_us'::text))::numeric / (1000000)::numeric))::double precision))
                     ELSE '{}'::jsonb
                 END),
             p.updated_at
            FROM ((i
              JOIN df.progress p ON ((((p.submitted_by)::oid = (i.submitted_by)::oid) AND (p.instance_key = i.key))))
              CROSS JOIN LATERAL jsonb_array_elements((p.nodes)::jsonb) f(frame))) r
   WHERE (r.step ~ '^[1-9][0-9]{0,8}(\.[1-9][0-9]{0,8})*$'::text);
END;


ALTER FUNCTION df.step_records(p_key bigint) OWNER TO engine;

--
-- Name: FUNCTION step_records(p_key bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.step_records(p_key bigint) IS 'api: what is known of the steps of an instance';


--
-- Name: tail(text, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.tail(p_text text, p_bytes integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return encode(substr(convert_to(p_text, getdatabaseencoding()), greatest(octet_length(p_text) - p_bytes, 0) + 1), 'escape');
end
$$;


ALTER FUNCTION df.tail(p_text text, p_bytes integer) OWNER TO engine;

--
-- Name: FUNCTION tail(p_text text, p_bytes integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.tail(p_text text, p_bytes integer) IS 'api: the last bytes of a text';


--
-- Name: take_over(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.take_over(OUT epoch bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update df.checkpoint c set epoch = c.epoch + 1 returning c.epoch into strict take_over.epoch;
  update df.epoch e set epoch = take_over.epoch;
end
$$;


ALTER FUNCTION df.take_over(OUT epoch bigint) OWNER TO engine;

--
-- Name: FUNCTION take_over(OUT epoch bigint); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.take_over(OUT epoch bigint) IS 'a new leader''s epoch';


--
-- Name: timeout(text, interval); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.timeout(fut text, after interval) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"TIMEOUT","left_node":' || df.as_node(fut, 'timeout', 'fut')
    || ',"query":' || to_json('{"seconds":' || df.interval_text(after, 'timeout', 'after') || '}') || '}';
end
$$;


ALTER FUNCTION df.timeout(fut text, after interval) OWNER TO engine;

--
-- Name: FUNCTION timeout(fut text, after interval); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.timeout(fut text, after interval) IS 'api: a node fails when it takes longer';


--
-- Name: unsetvar(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.unsetvar(name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform df.refuse_in_workflow('unsetvar');
  update df.vars v set value = null where v.owner = df.me() and v.name = unsetvar.name;
end
$$;


ALTER FUNCTION df.unsetvar(name text) OWNER TO engine;

--
-- Name: FUNCTION unsetvar(name text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.unsetvar(name text) IS 'api: removes a variable of the caller';


--
-- Name: validate_graph(text, boolean); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.validate_graph(p_graph text, p_now boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
declare
  c_max_depth   constant integer := 256;
  c_max_repeats constant integer := 32;
  c_rules       constant jsonb := df.node_rules();
  v_parents   integer[];
  v_roles     text[];
  v_children  text[];
  v_types     text[];
  v_queries   text[];
  v_names     text[];
  v_twice     integer;
  v_twice_key text;
  v_kinds   text[] := '{}';
  v_depths  integer[] := '{}';
  v_repeats integer[] := '{}';  -- nodes around the node that repeat it
  v_breaks  text[] := '{}';     -- the letters of the children in which a BREAK may stand
  v_rule    jsonb;
  v_kind    text;
  v_up      integer;
  v_has     text;
  v_open    boolean;            -- may a BREAK stand here
  v_text    text;               -- its query
  v_query   text;               -- what that must be
  v_needs   text;
  v_wrong   text;
begin
  if not df.is_node(p_graph) then
    if btrim(p_graph, E' \t\n\r') = '' then
      perform df.refuse_node('{}', '{root}', 1, 'SQL needs a query');
    end if;
    return;
  end if;

  select g.parents, g.roles, g.children, g.types, g.queries, g.names, g.twice, g.twice_key
    into v_parents, v_roles, v_children, v_types, v_queries, v_names, v_twice, v_twice_key
    from df.read_graph(p_graph) as g;

  for v_node in 1 .. cardinality(v_roles) loop
    v_wrong := null;
    v_kind := btrim(v_types[v_node], '"');
    v_rule := c_rules -> v_kind;
    if v_node = v_twice and v_types[v_node] is distinct from '' then
      perform df.refuse_node(v_parents, v_roles, v_node, format('key ''%s'' is there twice', btrim(v_twice_key, '"')));
    elsif v_rule is null and left(v_types[v_node], 1) = '"' and strpos(v_types[v_node], '\') > 0 then
      v_kind := df.json_text(v_types[v_node]);
      v_rule := c_rules -> v_kind;
    end if;
    if v_rule is null then
      perform df.refuse_node(v_parents, v_roles, v_node,
                             df.node_type_flaw(v_types[v_node], df.node_path(v_parents, v_roles, v_node)));
    end if;
    v_kinds[v_node] := v_kind;

    -- where it stands
    v_up := v_parents[v_node];
    if v_up is null then
      v_depths[v_node] := 1;
      v_repeats[v_node] := 0;
      v_open := false;
    else
      v_depths[v_node] := v_depths[v_up]
        + case when v_kind = 'THEN' and v_roles[v_node] = 'L' and v_kinds[v_up] = 'THEN' then 0 else 1 end;
      v_repeats[v_node] := v_repeats[v_up]
        + case when strpos(c_rules -> v_kinds[v_up] ->> 'repeats', v_roles[v_node]) > 0 then 1 else 0 end;
      v_open := strpos(v_breaks[v_up], v_roles[v_node]) > 0;
    end if;
    v_breaks[v_node] := (v_rule ->> 'opens') || case when v_open then translate('LRCX', v_rule ->> 'closes', '') else '' end;
    if v_depths[v_node] > c_max_depth then
      v_wrong := format('Graph exceeds maximum nesting depth of %s levels', c_max_depth);
    elsif v_repeats[v_node] >= c_max_repeats and v_rule ->> 'repeats' <> '' then
      v_wrong := format('more than %s repeating nodes around one another', c_max_repeats);
    elsif v_kind = 'BREAK' and not v_open then
      v_wrong := 'BREAK outside a loop';
    end if;

    -- what it holds; no function is called for what is usual
    v_text := null;
    v_has := v_children[v_node];
    if v_names[v_node] is not null and v_wrong is null then
      v_wrong := df.result_name_flaw(v_names[v_node]);
    end if;
    if v_queries[v_node] is not null and v_wrong is null then
      v_text := btrim(v_queries[v_node], '"');
      if left(v_queries[v_node], 1) <> '"' then
        v_wrong := 'query is not a string';
      elsif strpos(v_text, '\') > 0 then
        v_text := df.json_text(v_queries[v_node]);
        v_wrong := case when v_text is null then 'query has a character that text cannot hold' end;
      end if;
    end if;
    if v_kind = 'IF' and v_wrong is null then
      if v_text is null and strpos(v_has, 'C') = 0 then
        v_wrong := 'IF needs a condition_node';
      elsif v_text is not null and strpos(v_has, 'C') > 0 then
        v_wrong := 'IF with a query takes no condition_node';
      end if;
    end if;
    v_query := v_rule ->> 'query';
    if v_text is null and not starts_with(v_query, 'none')
      or v_text is not null and (v_query <> 'text' or ltrim(v_text, E' \t\n\r') = '')
    then
      v_wrong := coalesce(v_wrong, df.node_query_flaw(v_kind, v_query, v_text, v_has));
    end if;
    v_needs := v_rule ->> 'needs';
    if translate(v_needs, v_has, '') <> '' or translate(v_has, v_needs, '') <> '' then
      v_wrong := coalesce(v_wrong, df.node_children_flaw(v_kind, v_has, v_needs, v_rule ->> 'may'));
    end if;
    if p_now and starts_with(v_kind, 'HTTP') then
      v_wrong := coalesce(v_wrong, 'HTTP steps are not available in this version of walflow');
    end if;
    if v_wrong is not null then
      perform df.refuse_node(v_parents, v_roles, v_node, v_wrong);
    end if;
  end loop;
end
$$;


ALTER FUNCTION df.validate_graph(p_graph text, p_now boolean) OWNER TO engine;

--
-- Name: FUNCTION validate_graph(p_graph text, p_now boolean); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.validate_graph(p_graph text, p_now boolean) IS 'api: raises unless a text is a graph that can run';


--
-- Name: vars_removed(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.vars_removed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
begin
  delete from df.vars v where v.owner = new.owner and v.name = new.name and v.value is null;
  return null;
end
$$;


ALTER FUNCTION df.vars_removed() OWNER TO engine;

--
-- Name: version(); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.version() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT '0.1.0'::text AS text;
END;


ALTER FUNCTION df.version() OWNER TO engine;

--
-- Name: FUNCTION version(); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.version() IS 'api: the version of walflow that made this schema';


--
-- Name: wait_for_completion(text, numeric); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.wait_for_completion(id text, timeout_seconds numeric DEFAULT 30) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  c_longest_pause constant double precision := 0.2;
  v_until    timestamptz;
  v_pause    double precision := 0.002;
  v_instance record;
begin
  if current_setting('df.in_workflow', true) = 'true' then
    raise exception 'df.wait_for_completion cannot be called inside a workflow: the step would hold its transaction open'
      using errcode = 'object_not_in_prerequisite_state';
  elsif current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'df.wait_for_completion cannot be called in a % transaction: its snapshot would never show the end',
        upper(current_setting('transaction_isolation'))
      using errcode = 'object_not_in_prerequisite_state', hint = 'Call it in a transaction of its own, or in READ COMMITTED.';
  elsif timeout_seconds is null or not timeout_seconds between 0 and 10000000000 then
    raise exception 'df.wait_for_completion: timeout_seconds must be from 0 to 10000000000, not %',
        coalesce(timeout_seconds::text, 'NULL')
      using errcode = 'invalid_parameter_value';
  end if;
  v_until := clock_timestamp() + make_interval(secs => timeout_seconds::double precision);
  loop
    select i.status, i.created_xid, i.quarantined into v_instance
      from df.instances i
     where i.key = df.find_key(wait_for_completion.id);
    if not found then
      raise exception 'Instance not found or access denied: %', id using errcode = 'no_data_found';
    elsif df.is_final(v_instance.status) then
      return v_instance.status;
    elsif v_instance.created_xid = pg_current_xact_id_if_assigned() then
      raise exception 'Instance % was started by this transaction: it cannot begin before the commit', id
        using errcode = 'object_not_in_prerequisite_state', hint = 'Commit, then wait.';
    elsif clock_timestamp() >= v_until then
      raise exception 'Timeout after %s waiting for instance % (status: %)%',
          trim_scale(timeout_seconds), id, v_instance.status,
          case when v_instance.quarantined is null then '' else ', quarantined: ' || v_instance.quarantined end
        using hint = 'The instance goes on; only the waiting has ended.';
    end if;
    perform pg_sleep(least(v_pause, extract(epoch from v_until - clock_timestamp())));
    v_pause := least(v_pause * 1.5, c_longest_pause);
  end loop;
end
$$;


ALTER FUNCTION df.wait_for_completion(id text, timeout_seconds numeric) OWNER TO engine;

--
-- Name: FUNCTION wait_for_completion(id text, timeout_seconds numeric); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.wait_for_completion(id text, timeout_seconds numeric) IS 'api: waits until an instance has ended and returns its status';


--
-- Name: wait_for_schedule(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.wait_for_schedule(cron_expr text, timezone text DEFAULT 'UTC'::text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  v_zone text := timezone;
begin
  perform df.not_null(cron_expr, 'wait_for_schedule', 'cron_expr');
  perform df.not_null(timezone, 'wait_for_schedule', 'timezone');
  if not df.has_reference(cron_expr) then
    perform df.refuse_argument('wait_for_schedule', df.cron_flaw(cron_expr));
  end if;
  if not df.has_reference(timezone) then
    if not df.is_zone(timezone) then
      perform df.refuse_argument('wait_for_schedule', format('timezone ''%s'' is not known', left(timezone, 60)));
    end if;
    v_zone := df.zone_name(timezone);
  end if;
  return df.options_node('WAIT_SCHEDULE', '{"cron_expr":' || to_json(cron_expr) || ',"timezone":' || to_json(v_zone) || '}');
end
$$;


ALTER FUNCTION df.wait_for_schedule(cron_expr text, timezone text) OWNER TO engine;

--
-- Name: FUNCTION wait_for_schedule(cron_expr text, timezone text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.wait_for_schedule(cron_expr text, timezone text) IS 'api: waits for the next tick of a cron expression; the zone may be in any case';


--
-- Name: wait_for_signal(text, numeric, boolean); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.wait_for_signal(name text, timeout_seconds numeric DEFAULT NULL::numeric, fresh boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform df.not_null(name, 'wait_for_signal', 'name');
  return df.options_node('SIGNAL',
    '{"signal_name":' || to_json(name)
    || case when timeout_seconds is null then ''
            else ',"timeout_seconds":' || df.seconds_text(timeout_seconds, 'wait_for_signal', 'timeout_seconds') end
    || case when fresh then ',"fresh":true' else '' end || '}');
end
$$;


ALTER FUNCTION df.wait_for_signal(name text, timeout_seconds numeric, fresh boolean) OWNER TO engine;

--
-- Name: FUNCTION wait_for_signal(name text, timeout_seconds numeric, fresh boolean); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.wait_for_signal(name text, timeout_seconds numeric, fresh boolean) IS 'api: waits for a signal, at most so long';


--
-- Name: with_undo(text, text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.with_undo(fut text, undo text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return '{"node_type":"UNDO","left_node":' || df.as_node(fut, 'with_undo', 'fut')
    || ',"right_node":' || df.as_node(undo, 'with_undo', 'undo') || '}';
end
$$;


ALTER FUNCTION df.with_undo(fut text, undo text) OWNER TO engine;

--
-- Name: FUNCTION with_undo(fut text, undo text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.with_undo(fut text, undo text) IS 'api: once a node has completed, undo is owed; operator <~';


--
-- Name: without_name(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.without_name(p_node text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not exists (select from json_object_keys(p_node::json) as k where k = 'result_name') then
    return p_node;
  end if;
  return (
    select '{' || string_agg(to_json(m.key) || ':' || m.value, ',' order by m.ordinality) || '}'
      from json_each(p_node::json) with ordinality as m
     where m.key <> 'result_name'
  );
end
$$;


ALTER FUNCTION df.without_name(p_node text) OWNER TO engine;

--
-- Name: FUNCTION without_name(p_node text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.without_name(p_node text) IS 'api: a graph node without its result_name';


--
-- Name: without_tail(text, integer); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.without_tail(p_text text, p_bytes integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return convert_from(
    substr(convert_to(p_text, getdatabaseencoding()), 1, octet_length(p_text) - p_bytes),
    getdatabaseencoding());
end
$$;


ALTER FUNCTION df.without_tail(p_text text, p_bytes integer) OWNER TO engine;

--
-- Name: FUNCTION without_tail(p_text text, p_bytes integer); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.without_tail(p_text text, p_bytes integer) IS 'api: a text without its last bytes';


--
-- Name: write_checkpoint(bigint, pg_lsn, xid8[], bigint[], text[], text[], text[], text[], timestamp with time zone[], timestamp with time zone[], bigint[], bigint[], smallint[], text[], timestamp with time zone[], bigint[], uuid[], oid[], text[], uuid[], oid[], uuid[], oid[], bigint[], text[], json, bigint[], pg_lsn[], integer[], bigint[], oid[], text[], bigint[], oid[], bigint[], json); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.write_checkpoint(p_epoch bigint, p_lsn pg_lsn, p_xids xid8[], p_keys bigint[], p_statuses text[], p_quarantined text[], p_results text[], p_errors text[], p_started timestamp with time zone[], p_finished timestamp with time zone[], p_ended bigint[], p_state_keys bigint[], p_versions smallint[], p_states text[], p_wakes timestamp with time zone[], p_dropped bigint[], p_signals uuid[], p_signal_owners oid[], p_signal_takers text[], p_cancels uuid[], p_cancel_owners oid[], p_releases uuid[], p_release_owners oid[], p_waiters bigint[], p_waiter_steps text[], p_inbox json, p_inbox_done bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[], p_shown bigint[], p_shown_owners oid[], p_shown_nodes text[], p_hidden bigint[], p_hidden_owners oid[], p_counts bigint[], p_backlog json, OUT invisible xid8[], OUT gone bigint[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
  v_missing bigint := 0;
  v_rows    bigint;
  v_mark    record;
  v_until   timestamptz := clock_timestamp() + interval '100 milliseconds';
begin
  update df.checkpoint
     set lsn = p_lsn,
         written_at = clock_timestamp(),
         started_total = started_total + p_counts[1],
         completed_total = completed_total + p_counts[2],
         failed_total = failed_total + p_counts[3],
         cancelled_total = cancelled_total + p_counts[4],
         executions_total = executions_total + p_counts[5],
         events_total = events_total + p_counts[6],
         backlog = coalesce(p_backlog, backlog)
   where epoch = p_epoch;
  if not found then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;

  -- before the updates, each of which takes a newer snapshot: what a commit in between made visible, an update may have missed.
  -- a new leader does not know what a state rests on, and runs its next step at once; it looks for starts that wait in the
  -- tables, and the log will not bring them again
  loop
    invisible := array(select x from unnest(p_xids) as x where not pg_visible_in_snapshot(x, pg_current_snapshot()));
    exit when cardinality(invisible) = 0 or (cardinality(p_keys) = 0 and cardinality(p_state_keys) = 0 and p_backlog is null);
    if clock_timestamp() >= v_until then
      raise exception '% transactions are not visible yet', cardinality(invisible) using errcode = 'DF002';
    end if;
    perform pg_sleep(0.0005);
  end loop;

  if cardinality(p_keys) > 0 then
    update df.instances i
       set status = c.status,
           quarantined = c.quarantined,
           result = c.result::json,
           error = c.error::json,
           started_at = coalesce(i.started_at, c.started_at),
           finished_at = c.finished_at,
           updated_at = clock_timestamp()
      from unnest(p_keys, p_statuses, p_quarantined, p_results, p_errors, p_started, p_finished)
        as c(key, status, quarantined, result, error, started_at, finished_at)
     where i.key = any (p_keys) and i.key = c.key;
    get diagnostics v_rows = row_count;
    v_missing := v_missing + cardinality(p_keys) - v_rows;
  end if;

  if cardinality(p_state_keys) > 0 then
    insert into df.states as s (instance_key, version, state, wake_at)
    select c.key, c.version, c.state, c.wake_at
      from unnest(p_state_keys, p_versions, p_states, p_wakes) as c(key, version, state, wake_at)
        on conflict (instance_key) do update
       set version = excluded.version, state = excluded.state, wake_at = excluded.wake_at;
  end if;
  if cardinality(p_dropped) > 0 then
    delete from df.states s where s.instance_key = any (p_dropped);
  end if;

  -- one by one: with both columns given the primary key is the planner's choice; with arrays another index might be
  for v_mark in select * from unnest(p_signals, p_signal_owners, p_signal_takers) as c(event_id, owner, taken_by) loop
    update df.signals s set folded = true, taken_by = coalesce(v_mark.taken_by, s.taken_by)
     where s.owner = v_mark.owner and s.event_id = v_mark.event_id;
    v_missing := v_missing + (not found)::integer;
  end loop;
  for v_mark in select * from unnest(p_cancels, p_cancel_owners) as c(event_id, owner) loop
    update df.cancellations s set folded = true where s.owner = v_mark.owner and s.event_id = v_mark.event_id;
    v_missing := v_missing + (not found)::integer;
  end loop;
  for v_mark in select * from unnest(p_releases, p_release_owners) as c(event_id, owner) loop
    update df.releases s set folded = true where s.owner = v_mark.owner and s.event_id = v_mark.event_id;
    v_missing := v_missing + (not found)::integer;
  end loop;
  if cardinality(p_waiters) > 0 then
    update df.waits w set folded = true
      from unnest(p_waiters, p_waiter_steps) as c(key, step)
     where w.waiter_key = any (p_waiters) and w.waiter_key = c.key and w.waiter_step = c.step;
    get diagnostics v_rows = row_count;
    v_missing := v_missing + cardinality(p_waiters) - v_rows;
  end if;
  if cardinality(p_ended) > 0 then
    insert into df.completions (run_as, instance_key, step, attempt, outcome, result, error, cause)
    select 0, i.parent_key, i.parent_step, 1, a.outcome, a.result, a.error, i.cause
      from df.instances i
     cross join lateral (select p.status from df.instances p where p.key = i.parent_key offset 0) as p
     cross join lateral df.answer(i.id, i.status, i.result, i.error) as a
     where i.key = any (p_ended) and df.is_final(i.status) and not df.is_final(p.status)
     order by i.parent_key, i.parent_step
        on conflict do nothing;
  end if;
  if cardinality(p_ended) > 0 or cardinality(p_waiters) > 0 then
    insert into df.completions (run_as, instance_key, step, attempt, outcome, result, error, cause)
    select 0, w.waiter_key, w.waiter_step, 1, a.outcome, a.result, a.error, w.cause
      from (
        select x.* from df.waits x where x.instance_key = any (p_ended)
        union
        select x.*
          from df.waits x
          join unnest(p_waiters, p_waiter_steps) as c(key, step) on x.waiter_key = c.key and x.waiter_step = c.step
         where x.waiter_key = any (p_waiters)
      ) as w
     cross join lateral (select i.* from df.instances i where i.key = w.instance_key offset 0) as i
     cross join lateral (select v.status from df.instances v where v.key = w.waiter_key offset 0) as v
     cross join lateral df.answer(i.id, i.status, i.result, i.error) as a
     where w.folded and df.is_final(i.status) and not df.is_final(v.status)
     order by w.waiter_key, w.waiter_step
        on conflict do nothing;
  end if;

  if cardinality(p_inbox_done) > 0 then
    delete from df.inbox b
     using unnest(p_inbox_done, p_inbox_upto, p_inbox_ordinals) as c(key, lsn, ordinal)
     where b.instance_key = any (p_inbox_done) and b.instance_key = c.key and (b.lsn, b.ordinal) <= (c.lsn, c.ordinal);
  end if;
  if p_inbox is not null then
    insert into df.inbox (instance_key, lsn, ordinal, kind, row_key, commit_time, xid)
    select c.instance_key, c.lsn, c.ordinal, c.kind, c.row_key, c.commit_time, c.xid
      from json_to_recordset(p_inbox)
        as c(instance_key bigint, lsn pg_lsn, ordinal integer, kind text, row_key text, commit_time timestamptz, xid xid8)
        on conflict do nothing;
  end if;

  if cardinality(p_shown) > 0 then
    insert into df.progress (submitted_by, instance_key, nodes)
    select c.owner::regrole, c.key, c.nodes::json
      from unnest(p_shown, p_shown_owners, p_shown_nodes) as c(key, owner, nodes)
        on conflict (submitted_by, instance_key) do update
       set nodes = excluded.nodes, updated_at = excluded.updated_at;
  end if;
  if cardinality(p_hidden) > 0 then
    delete from df.progress p
     using unnest(p_hidden, p_hidden_owners) as c(key, owner)
     where p.submitted_by = any (p_hidden_owners::regrole[]) and p.instance_key = any (p_hidden)
       and p.submitted_by = c.owner::regrole and p.instance_key = c.key;
  end if;

  if v_missing > 0 then
    if cardinality(invisible) > 0 then
      raise exception '% rows are not visible yet', v_missing using errcode = 'DF002';
    end if;
    gone := array(select k from unnest(p_keys || p_state_keys) as k except select i.key from df.instances i where i.key = any (p_keys || p_state_keys));
    delete from df.states s where s.instance_key = any (gone);
  end if;
end
$$;


ALTER FUNCTION df.write_checkpoint(p_epoch bigint, p_lsn pg_lsn, p_xids xid8[], p_keys bigint[], p_statuses text[], p_quarantined text[], p_results text[], p_errors text[], p_started timestamp with time zone[], p_finished timestamp with time zone[], p_ended bigint[], p_state_keys bigint[], p_versions smallint[], p_states text[], p_wakes timestamp with time zone[], p_dropped bigint[], p_signals uuid[], p_signal_owners oid[], p_signal_takers text[], p_cancels uuid[], p_cancel_owners oid[], p_releases uuid[], p_release_owners oid[], p_waiters bigint[], p_waiter_steps text[], p_inbox json, p_inbox_done bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[], p_shown bigint[], p_shown_owners oid[], p_shown_nodes text[], p_hidden bigint[], p_hidden_owners oid[], p_counts bigint[], p_backlog json, OUT invisible xid8[], OUT gone bigint[]) OWNER TO engine;

--
-- Name: FUNCTION write_checkpoint(p_epoch bigint, p_lsn pg_lsn, p_xids xid8[], p_keys bigint[], p_statuses text[], p_quarantined text[], p_results text[], p_errors text[], p_started timestamp with time zone[], p_finished timestamp with time zone[], p_ended bigint[], p_state_keys bigint[], p_versions smallint[], p_states text[], p_wakes timestamp with time zone[], p_dropped bigint[], p_signals uuid[], p_signal_owners oid[], p_signal_takers text[], p_cancels uuid[], p_cancel_owners oid[], p_releases uuid[], p_release_owners oid[], p_waiters bigint[], p_waiter_steps text[], p_inbox json, p_inbox_done bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[], p_shown bigint[], p_shown_owners oid[], p_shown_nodes text[], p_hidden bigint[], p_hidden_owners oid[], p_counts bigint[], p_backlog json, OUT invisible xid8[], OUT gone bigint[]); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.write_checkpoint(p_epoch bigint, p_lsn pg_lsn, p_xids xid8[], p_keys bigint[], p_statuses text[], p_quarantined text[], p_results text[], p_errors text[], p_started timestamp with time zone[], p_finished timestamp with time zone[], p_ended bigint[], p_state_keys bigint[], p_versions smallint[], p_states text[], p_wakes timestamp with time zone[], p_dropped bigint[], p_signals uuid[], p_signal_owners oid[], p_signal_takers text[], p_cancels uuid[], p_cancel_owners oid[], p_releases uuid[], p_release_owners oid[], p_waiters bigint[], p_waiter_steps text[], p_inbox json, p_inbox_done bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[], p_shown bigint[], p_shown_owners oid[], p_shown_nodes text[], p_hidden bigint[], p_hidden_owners oid[], p_counts bigint[], p_backlog json, OUT invisible xid8[], OUT gone bigint[]) IS 'the engine''s checkpoint: states, statuses, marks and LSN in one transaction';


--
-- Name: zone_name(text); Type: FUNCTION; Schema: df; Owner: engine
--

CREATE FUNCTION df.zone_name(p_zone text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  perform set_config('timezone', p_zone, true);
  return current_setting('timezone');
end
$$;


ALTER FUNCTION df.zone_name(p_zone text) OWNER TO engine;

--
-- Name: FUNCTION zone_name(p_zone text); Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON FUNCTION df.zone_name(p_zone text) IS 'api: a time zone, which must be one, as spelled in pg_timezone_names';


--
-- Name: !>; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.!> (
    FUNCTION = df.if_else,
    LEFTARG = text,
    RIGHTARG = text
);


ALTER OPERATOR public.!> (text, text) OWNER TO engine;

--
-- Name: OPERATOR !> (text, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.!> (text, text) IS 'walflow: and if not, else';


--
-- Name: &; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.& (
    FUNCTION = df."join",
    LEFTARG = text,
    RIGHTARG = text
);


ALTER OPERATOR public.& (text, text) OWNER TO engine;

--
-- Name: OPERATOR & (text, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.& (text, text) IS 'walflow: both at once';


--
-- Name: <~; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.<~ (
    FUNCTION = df.with_undo,
    LEFTARG = text,
    RIGHTARG = text
);


ALTER OPERATOR public.<~ (text, text) OWNER TO engine;

--
-- Name: OPERATOR <~ (text, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.<~ (text, text) IS 'walflow: and how to undo it';


--
-- Name: ?>; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.?> (
    FUNCTION = df.if_then,
    LEFTARG = text,
    RIGHTARG = text
);


ALTER OPERATOR public.?> (text, text) OWNER TO engine;

--
-- Name: OPERATOR ?> (text, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.?> (text, text) IS 'walflow: if it holds, then';


--
-- Name: @>; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.@> (
    FUNCTION = df.loop_forever,
    RIGHTARG = text
);


ALTER OPERATOR public.@> (NONE, text) OWNER TO engine;

--
-- Name: OPERATOR @> (NONE, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.@> (NONE, text) IS 'walflow: again and again';


--
-- Name: |; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.| (
    FUNCTION = df.race,
    LEFTARG = text,
    RIGHTARG = text
);


ALTER OPERATOR public.| (text, text) OWNER TO engine;

--
-- Name: OPERATOR | (text, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.| (text, text) IS 'walflow: both at once, the first to end wins';


--
-- Name: |=>; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.|=> (
    FUNCTION = df."as",
    LEFTARG = text,
    RIGHTARG = text
);


ALTER OPERATOR public.|=> (text, text) OWNER TO engine;

--
-- Name: OPERATOR |=> (text, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.|=> (text, text) IS 'walflow: names a result';


--
-- Name: ~>; Type: OPERATOR; Schema: public; Owner: engine
--

CREATE OPERATOR public.~> (
    FUNCTION = df.seq,
    LEFTARG = text,
    RIGHTARG = text
);


ALTER OPERATOR public.~> (text, text) OWNER TO engine;

--
-- Name: OPERATOR ~> (text, text); Type: COMMENT; Schema: public; Owner: engine
--

COMMENT ON OPERATOR public.~> (text, text) IS 'walflow: a, then b';


--
-- Name: epoch; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.epoch (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    CONSTRAINT epoch_only_row_check CHECK (only_row)
)
WITH (fillfactor='10');


ALTER TABLE df.epoch OWNER TO engine;

--
-- Name: TABLE epoch; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.epoch IS 'Which engine may write. Compared by every step.';


--
-- Name: heartbeats; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.heartbeats (
    epoch bigint NOT NULL,
    event_id uuid DEFAULT gen_random_uuid() NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


ALTER TABLE df.heartbeats OWNER TO engine;

--
-- Name: TABLE heartbeats; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.heartbeats IS 'Inserted and deleted in one transaction: only its trace in the log counts.';


--
-- Name: inbox; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.inbox (
    instance_key bigint NOT NULL,
    lsn pg_lsn NOT NULL,
    ordinal integer NOT NULL,
    kind text NOT NULL,
    row_key text NOT NULL,
    commit_time timestamp with time zone NOT NULL,
    xid xid8 NOT NULL
);


ALTER TABLE df.inbox OWNER TO engine;

--
-- Name: TABLE inbox; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.inbox IS 'Events that could not be folded yet, in log order; the payload is read by its announced key.';


--
-- Name: instance_keys; Type: SEQUENCE; Schema: df; Owner: engine
--

CREATE SEQUENCE df.instance_keys
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


ALTER TABLE df.instance_keys OWNER TO engine;

--
-- Name: SEQUENCE instance_keys; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON SEQUENCE df.instance_keys IS 'Internal keys of instances; read by a SECURITY DEFINER trigger only.';


--
-- Name: migrations; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.migrations (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    applied_by name DEFAULT CURRENT_USER NOT NULL
);


ALTER TABLE df.migrations OWNER TO engine;

--
-- Name: TABLE migrations; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.migrations IS 'What walflow migrate has applied; whoever migrates locks it.';


--
-- Name: nodes; Type: VIEW; Schema: df; Owner: engine
--

CREATE VIEW df.nodes WITH (security_invoker='true') AS
 SELECT n.number AS id,
    i.id AS instance_id,
    n.number AS node_id,
    n.kind AS node_type,
    n.query,
    n.name AS result_name,
    n.lft AS left_node,
    n.rgt AS right_node,
    n.status,
    n.result,
    n.details AS status_details,
    n.inferred AS inferred_status,
    n.ancestor AS inferred_status_from_ancestor_id,
    n.at AS updated_at
   FROM (df.instances i
     CROSS JOIN LATERAL df.node_states(i.key) n(number, kind, query, name, lft, rgt, status, result, details, inferred, ancestor, at))
  WHERE ((i.submitted_by)::oid = ANY (( SELECT df.seen_roles() AS seen_roles)::oid[]));


ALTER TABLE df.nodes OWNER TO engine;

--
-- Name: VIEW nodes; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON VIEW df.nodes IS 'The nodes of all instances that the caller sees. Ask for one instance: each is worked out anew.';


--
-- Name: states; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.states (
    instance_key bigint NOT NULL,
    version smallint NOT NULL,
    state text NOT NULL,
    wake_at timestamp with time zone
)
WITH (fillfactor='50');


ALTER TABLE df.states OWNER TO engine;

--
-- Name: TABLE states; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.states IS 'The machine''s state of each unfinished instance as of df.checkpoint.lsn.';


--
-- Name: COLUMN states.wake_at; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.states.wake_at IS 'Of an instance that only waits, and not for a moment: when its next timer is due (infinity: it has none); it need not be in memory before. Else null.';


--
-- Name: vars; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.vars (
    owner regrole DEFAULT (df.me())::regrole NOT NULL,
    name text NOT NULL,
    value text,
    CONSTRAINT variable_names_are_identifiers CHECK (((name ~ '^[A-Za-z_][A-Za-z0-9_]*$'::text) AND (octet_length(name) <= 200))),
    CONSTRAINT variables_fit CHECK ((octet_length(value) <= 1048576))
);
ALTER TABLE ONLY df.vars ALTER COLUMN owner SET STATISTICS 0;
ALTER TABLE ONLY df.vars ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE ONLY df.vars ALTER COLUMN value SET STATISTICS 0;


ALTER TABLE df.vars OWNER TO engine;

--
-- Name: TABLE vars; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.vars IS 'Variables; an instance takes a snapshot of its submitter''s at the INSERT.';


--
-- Name: COLUMN vars.value; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON COLUMN df.vars.value IS 'NULL removes the row: nobody may DELETE, because whoever may can lock the table against all others.';


--
-- Name: waits; Type: TABLE; Schema: df; Owner: engine
--

CREATE TABLE df.waits (
    instance_key bigint NOT NULL,
    owner oid NOT NULL,
    waiter_key bigint NOT NULL,
    waiter_step text NOT NULL,
    cause uuid,
    folded boolean DEFAULT false NOT NULL,
    event_id uuid DEFAULT gen_random_uuid() NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
)
WITH (fillfactor='80');


ALTER TABLE df.waits OWNER TO engine;

--
-- Name: TABLE waits; Type: COMMENT; Schema: df; Owner: engine
--

COMMENT ON TABLE df.waits IS 'Step waiter_step of instance waiter_key waits for instance instance_key, which is the owner''s.';


--
-- Name: SCHEMA df; Type: ACL; Schema: -; Owner: engine
--

GRANT USAGE ON SCHEMA df TO alice;
GRANT USAGE ON SCHEMA df TO bob;


--
-- Name: SCHEMA public; Type: ACL; Schema: -; Owner: pg_database_owner
--

GRANT CREATE ON SCHEMA public TO engine;


--
-- Name: TYPE listed_instance; Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON TYPE df.listed_instance FROM PUBLIC;


--
-- Name: FUNCTION me(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.me() FROM PUBLIC;
GRANT ALL ON FUNCTION df.me() TO alice;
GRANT ALL ON FUNCTION df.me() TO bob;


--
-- Name: FUNCTION new_id(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.new_id() FROM PUBLIC;
GRANT ALL ON FUNCTION df.new_id() TO alice;
GRANT ALL ON FUNCTION df.new_id() TO bob;


--
-- Name: TABLE completions; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.completions TO alice;
GRANT SELECT ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.instance_key; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(instance_key) ON TABLE df.completions TO alice;
GRANT INSERT(instance_key) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.step; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(step) ON TABLE df.completions TO alice;
GRANT INSERT(step) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.attempt; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(attempt) ON TABLE df.completions TO alice;
GRANT INSERT(attempt) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.repetitions; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(repetitions) ON TABLE df.completions TO alice;
GRANT INSERT(repetitions) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.outcome; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(outcome) ON TABLE df.completions TO alice;
GRANT INSERT(outcome) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.cause; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(cause) ON TABLE df.completions TO alice;
GRANT INSERT(cause) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.started_at; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(started_at) ON TABLE df.completions TO alice;
GRANT INSERT(started_at) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.result; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(result) ON TABLE df.completions TO alice;
GRANT INSERT(result) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.error; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(error) ON TABLE df.completions TO alice;
GRANT INSERT(error) ON TABLE df.completions TO bob;


--
-- Name: COLUMN completions.query; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(query) ON TABLE df.completions TO alice;
GRANT INSERT(query) ON TABLE df.completions TO bob;


--
-- Name: TABLE instances; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.instances TO alice;
GRANT SELECT ON TABLE df.instances TO bob;


--
-- Name: COLUMN instances.id; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(id) ON TABLE df.instances TO alice;
GRANT INSERT(id) ON TABLE df.instances TO bob;


--
-- Name: COLUMN instances.graph; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(graph) ON TABLE df.instances TO alice;
GRANT INSERT(graph) ON TABLE df.instances TO bob;


--
-- Name: COLUMN instances.label; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(label) ON TABLE df.instances TO alice;
GRANT INSERT(label) ON TABLE df.instances TO bob;


--
-- Name: COLUMN instances.input; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(input) ON TABLE df.instances TO alice;
GRANT INSERT(input) ON TABLE df.instances TO bob;


--
-- Name: COLUMN instances.database; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(database) ON TABLE df.instances TO alice;
GRANT INSERT(database) ON TABLE df.instances TO bob;


--
-- Name: FUNCTION engines_completions(p_key bigint, p_event_id uuid); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.engines_completions(p_key bigint, p_event_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION df.engines_completions(p_key bigint, p_event_id uuid) TO alice;
GRANT ALL ON FUNCTION df.engines_completions(p_key bigint, p_event_id uuid) TO bob;


--
-- Name: FUNCTION all_completions(p_key bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.all_completions(p_key bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.all_completions(p_key bigint) TO alice;
GRANT ALL ON FUNCTION df.all_completions(p_key bigint) TO bob;


--
-- Name: FUNCTION answer(p_id text, p_status text, p_result json, p_error json, OUT outcome text, OUT result json, OUT error json); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.answer(p_id text, p_status text, p_result json, p_error json, OUT outcome text, OUT result json, OUT error json) FROM PUBLIC;


--
-- Name: FUNCTION are_visible(p_xids xid8[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.are_visible(p_xids xid8[]) FROM PUBLIC;


--
-- Name: FUNCTION "as"(fut text, name text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df."as"(fut text, name text) FROM PUBLIC;
GRANT ALL ON FUNCTION df."as"(fut text, name text) TO alice;
GRANT ALL ON FUNCTION df."as"(fut text, name text) TO bob;


--
-- Name: FUNCTION as_node(p_text text, p_builder text, p_argument text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.as_node(p_text text, p_builder text, p_argument text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.as_node(p_text text, p_builder text, p_argument text) TO alice;
GRANT ALL ON FUNCTION df.as_node(p_text text, p_builder text, p_argument text) TO bob;


--
-- Name: FUNCTION as_nodes(p_texts text[], p_builder text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.as_nodes(p_texts text[], p_builder text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.as_nodes(p_texts text[], p_builder text) TO alice;
GRANT ALL ON FUNCTION df.as_nodes(p_texts text[], p_builder text) TO bob;


--
-- Name: FUNCTION await_instance(instance_id text, timeout_seconds numeric); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.await_instance(instance_id text, timeout_seconds numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION df.await_instance(instance_id text, timeout_seconds numeric) TO alice;
GRANT ALL ON FUNCTION df.await_instance(instance_id text, timeout_seconds numeric) TO bob;


--
-- Name: FUNCTION begin_waits(p_epoch bigint, p_rows json, OUT skipped integer[], OUT missing integer[], OUT refused json); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.begin_waits(p_epoch bigint, p_rows json, OUT skipped integer[], OUT missing integer[], OUT refused json) FROM PUBLIC;


--
-- Name: FUNCTION branches(p_type text, p_nodes text[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.branches(p_type text, p_nodes text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION df.branches(p_type text, p_nodes text[]) TO alice;
GRANT ALL ON FUNCTION df.branches(p_type text, p_nodes text[]) TO bob;


--
-- Name: FUNCTION break(value text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.break(value text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.break(value text) TO alice;
GRANT ALL ON FUNCTION df.break(value text) TO bob;


--
-- Name: FUNCTION call_child(graph text, label text, options jsonb); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.call_child(graph text, label text, options jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION df.call_child(graph text, label text, options jsonb) TO alice;
GRANT ALL ON FUNCTION df.call_child(graph text, label text, options jsonb) TO bob;


--
-- Name: FUNCTION call_child_flaw(p_query jsonb); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.call_child_flaw(p_query jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION df.call_child_flaw(p_query jsonb) TO alice;
GRANT ALL ON FUNCTION df.call_child_flaw(p_query jsonb) TO bob;


--
-- Name: FUNCTION cancel(instance_id text, reason text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.cancel(instance_id text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.cancel(instance_id text, reason text) TO alice;
GRANT ALL ON FUNCTION df.cancel(instance_id text, reason text) TO bob;


--
-- Name: FUNCTION cancel_children(p_epoch bigint, p_rows json, OUT skipped integer[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.cancel_children(p_epoch bigint, p_rows json, OUT skipped integer[]) FROM PUBLIC;


--
-- Name: FUNCTION catch(fut text, handler text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.catch(fut text, handler text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.catch(fut text, handler text) TO alice;
GRANT ALL ON FUNCTION df.catch(fut text, handler text) TO bob;


--
-- Name: FUNCTION child_header(p_kind text, p_role text, p_branch integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.child_header(p_kind text, p_role text, p_branch integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.child_header(p_kind text, p_role text, p_branch integer) TO alice;
GRANT ALL ON FUNCTION df.child_header(p_kind text, p_role text, p_branch integer) TO bob;


--
-- Name: FUNCTION child_id(p_parent bigint, p_step text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.child_id(p_parent bigint, p_step text) FROM PUBLIC;


--
-- Name: FUNCTION clearvars(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.clearvars() FROM PUBLIC;
GRANT ALL ON FUNCTION df.clearvars() TO alice;
GRANT ALL ON FUNCTION df.clearvars() TO bob;


--
-- Name: FUNCTION commands_check(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.commands_check() FROM PUBLIC;


--
-- Name: FUNCTION commands_guard(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.commands_guard() FROM PUBLIC;


--
-- Name: TABLE cancellations; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.cancellations TO alice;
GRANT SELECT ON TABLE df.cancellations TO bob;


--
-- Name: COLUMN cancellations.owner; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(owner) ON TABLE df.cancellations TO alice;
GRANT INSERT(owner) ON TABLE df.cancellations TO bob;


--
-- Name: COLUMN cancellations.instance_id; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(instance_id) ON TABLE df.cancellations TO alice;
GRANT INSERT(instance_id) ON TABLE df.cancellations TO bob;


--
-- Name: COLUMN cancellations.reason; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(reason) ON TABLE df.cancellations TO alice;
GRANT INSERT(reason) ON TABLE df.cancellations TO bob;


--
-- Name: TABLE releases; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.releases TO alice;
GRANT SELECT ON TABLE df.releases TO bob;


--
-- Name: COLUMN releases.owner; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(owner) ON TABLE df.releases TO alice;
GRANT INSERT(owner) ON TABLE df.releases TO bob;


--
-- Name: COLUMN releases.instance_id; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(instance_id) ON TABLE df.releases TO alice;
GRANT INSERT(instance_id) ON TABLE df.releases TO bob;


--
-- Name: COLUMN releases.reason; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(reason) ON TABLE df.releases TO alice;
GRANT INSERT(reason) ON TABLE df.releases TO bob;


--
-- Name: FUNCTION commands_to(p_key bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.commands_to(p_key bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.commands_to(p_key bigint) TO alice;
GRANT ALL ON FUNCTION df.commands_to(p_key bigint) TO bob;


--
-- Name: FUNCTION compact(p_json jsonb); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.compact(p_json jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION df.compact(p_json jsonb) TO alice;
GRANT ALL ON FUNCTION df.compact(p_json jsonb) TO bob;


--
-- Name: FUNCTION cron_flaw(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.cron_flaw(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.cron_flaw(p_text text) TO alice;
GRANT ALL ON FUNCTION df.cron_flaw(p_text text) TO bob;


--
-- Name: FUNCTION cron_numbers(p_field text, p_low integer, p_high integer, p_names text[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.cron_numbers(p_field text, p_low integer, p_high integer, p_names text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION df.cron_numbers(p_field text, p_low integer, p_high integer, p_names text[]) TO alice;
GRANT ALL ON FUNCTION df.cron_numbers(p_field text, p_low integer, p_high integer, p_names text[]) TO bob;


--
-- Name: FUNCTION draw(p_graph text, p_markers text[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.draw(p_graph text, p_markers text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION df.draw(p_graph text, p_markers text[]) TO alice;
GRANT ALL ON FUNCTION df.draw(p_graph text, p_markers text[]) TO bob;


--
-- Name: FUNCTION draw_instance(p_key bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.draw_instance(p_key bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.draw_instance(p_key bigint) TO alice;
GRANT ALL ON FUNCTION df.draw_instance(p_key bigint) TO bob;


--
-- Name: FUNCTION explain(input text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.explain(input text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.explain(input text) TO alice;
GRANT ALL ON FUNCTION df.explain(input text) TO bob;


--
-- Name: FUNCTION find_key(p_id text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.find_key(p_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.find_key(p_id text) TO alice;
GRANT ALL ON FUNCTION df.find_key(p_id text) TO bob;


--
-- Name: FUNCTION loop_generations(p_key bigint, p_graph text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.loop_generations(p_key bigint, p_graph text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.loop_generations(p_key bigint, p_graph text) TO alice;
GRANT ALL ON FUNCTION df.loop_generations(p_key bigint, p_graph text) TO bob;


--
-- Name: FUNCTION generations(p_key bigint, p_graph text, p_started timestamp with time zone); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.generations(p_key bigint, p_graph text, p_started timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION df.generations(p_key bigint, p_graph text, p_started timestamp with time zone) TO alice;
GRANT ALL ON FUNCTION df.generations(p_key bigint, p_graph text, p_started timestamp with time zone) TO bob;


--
-- Name: FUNCTION getvar(name text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.getvar(name text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.getvar(name text) TO alice;
GRANT ALL ON FUNCTION df.getvar(name text) TO bob;


--
-- Name: FUNCTION grant_usage(p_role regrole, include_http boolean, with_grant boolean); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.grant_usage(p_role regrole, include_http boolean, with_grant boolean) FROM PUBLIC;


--
-- Name: FUNCTION has_reference(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.has_reference(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.has_reference(p_text text) TO alice;
GRANT ALL ON FUNCTION df.has_reference(p_text text) TO bob;


--
-- Name: FUNCTION heartbeat(p_epoch bigint, p_slot text, OUT wal_end pg_lsn, OUT restart_lsn pg_lsn, OUT wal_status text, OUT settings json, OUT now_us bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.heartbeat(p_epoch bigint, p_slot text, OUT wal_end pg_lsn, OUT restart_lsn pg_lsn, OUT wal_status text, OUT settings json, OUT now_us bigint) FROM PUBLIC;


--
-- Name: FUNCTION history(id text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.history(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.history(id text) TO alice;
GRANT ALL ON FUNCTION df.history(id text) TO bob;


--
-- Name: FUNCTION history_of(p_key bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.history_of(p_key bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.history_of(p_key bigint) TO alice;
GRANT ALL ON FUNCTION df.history_of(p_key bigint) TO bob;


--
-- Name: FUNCTION http(url text, method text, body text, headers jsonb, timeout_seconds numeric); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.http(url text, method text, body text, headers jsonb, timeout_seconds numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION df.http(url text, method text, body text, headers jsonb, timeout_seconds numeric) TO alice;
GRANT ALL ON FUNCTION df.http(url text, method text, body text, headers jsonb, timeout_seconds numeric) TO bob;


--
-- Name: FUNCTION http_multipart(url text, method text, parts jsonb, headers jsonb, timeout_seconds numeric); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.http_multipart(url text, method text, parts jsonb, headers jsonb, timeout_seconds numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION df.http_multipart(url text, method text, parts jsonb, headers jsonb, timeout_seconds numeric) TO alice;
GRANT ALL ON FUNCTION df.http_multipart(url text, method text, parts jsonb, headers jsonb, timeout_seconds numeric) TO bob;


--
-- Name: FUNCTION http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION df.http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric) TO alice;
GRANT ALL ON FUNCTION df.http_node(p_builder text, p_type text, p_url text, p_method text, p_content text, p_headers jsonb, p_seconds numeric) TO bob;


--
-- Name: FUNCTION if(condition text, then_branch text, else_branch text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.if(condition text, then_branch text, else_branch text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.if(condition text, then_branch text, else_branch text) TO alice;
GRANT ALL ON FUNCTION df.if(condition text, then_branch text, else_branch text) TO bob;


--
-- Name: FUNCTION if_else(fut text, else_branch text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.if_else(fut text, else_branch text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.if_else(fut text, else_branch text) TO alice;
GRANT ALL ON FUNCTION df.if_else(fut text, else_branch text) TO bob;


--
-- Name: FUNCTION if_rows(result_name text, then_branch text, else_branch text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.if_rows(result_name text, then_branch text, else_branch text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.if_rows(result_name text, then_branch text, else_branch text) TO alice;
GRANT ALL ON FUNCTION df.if_rows(result_name text, then_branch text, else_branch text) TO bob;


--
-- Name: FUNCTION if_then(condition text, then_branch text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.if_then(condition text, then_branch text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.if_then(condition text, then_branch text) TO alice;
GRANT ALL ON FUNCTION df.if_then(condition text, then_branch text) TO bob;


--
-- Name: FUNCTION instance_executions(id text, limit_count integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.instance_executions(id text, limit_count integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.instance_executions(id text, limit_count integer) TO alice;
GRANT ALL ON FUNCTION df.instance_executions(id text, limit_count integer) TO bob;


--
-- Name: FUNCTION instance_info(id text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.instance_info(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.instance_info(id text) TO alice;
GRANT ALL ON FUNCTION df.instance_info(id text) TO bob;


--
-- Name: FUNCTION instance_nodes(id text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.instance_nodes(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.instance_nodes(id text) TO alice;
GRANT ALL ON FUNCTION df.instance_nodes(id text) TO bob;


--
-- Name: FUNCTION instances_guard(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.instances_guard() FROM PUBLIC;


--
-- Name: FUNCTION instances_key(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.instances_key() FROM PUBLIC;


--
-- Name: FUNCTION instances_validate(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.instances_validate() FROM PUBLIC;


--
-- Name: FUNCTION interval_text(p_interval interval, p_builder text, p_argument text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.interval_text(p_interval interval, p_builder text, p_argument text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.interval_text(p_interval interval, p_builder text, p_argument text) TO alice;
GRANT ALL ON FUNCTION df.interval_text(p_interval interval, p_builder text, p_argument text) TO bob;


--
-- Name: FUNCTION is_engine(p_table oid); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_engine(p_table oid) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_engine(p_table oid) TO alice;
GRANT ALL ON FUNCTION df.is_engine(p_table oid) TO bob;


--
-- Name: FUNCTION is_final(p_status text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_final(p_status text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_final(p_status text) TO alice;
GRANT ALL ON FUNCTION df.is_final(p_status text) TO bob;


--
-- Name: FUNCTION is_json(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_json(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_json(p_text text) TO alice;
GRANT ALL ON FUNCTION df.is_json(p_text text) TO bob;


--
-- Name: FUNCTION is_json_scalar(p_token text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_json_scalar(p_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_json_scalar(p_token text) TO alice;
GRANT ALL ON FUNCTION df.is_json_scalar(p_token text) TO bob;


--
-- Name: FUNCTION is_node(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_node(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_node(p_text text) TO alice;
GRANT ALL ON FUNCTION df.is_node(p_text text) TO bob;


--
-- Name: FUNCTION is_seconds(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_seconds(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_seconds(p_text text) TO alice;
GRANT ALL ON FUNCTION df.is_seconds(p_text text) TO bob;


--
-- Name: FUNCTION is_timestamp(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_timestamp(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_timestamp(p_text text) TO alice;
GRANT ALL ON FUNCTION df.is_timestamp(p_text text) TO bob;


--
-- Name: FUNCTION is_true(p_result json); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_true(p_result json) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_true(p_result json) TO alice;
GRANT ALL ON FUNCTION df.is_true(p_result json) TO bob;


--
-- Name: FUNCTION is_zone(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.is_zone(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.is_zone(p_text text) TO alice;
GRANT ALL ON FUNCTION df.is_zone(p_text text) TO bob;


--
-- Name: FUNCTION "join"(a text, b text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df."join"(a text, b text) FROM PUBLIC;
GRANT ALL ON FUNCTION df."join"(a text, b text) TO alice;
GRANT ALL ON FUNCTION df."join"(a text, b text) TO bob;


--
-- Name: FUNCTION join3(a text, b text, c text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.join3(a text, b text, c text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.join3(a text, b text, c text) TO alice;
GRANT ALL ON FUNCTION df.join3(a text, b text, c text) TO bob;


--
-- Name: FUNCTION join_all(VARIADIC futs text[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.join_all(VARIADIC futs text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION df.join_all(VARIADIC futs text[]) TO alice;
GRANT ALL ON FUNCTION df.join_all(VARIADIC futs text[]) TO bob;


--
-- Name: FUNCTION json_text(p_token text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.json_text(p_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.json_text(p_token text) TO alice;
GRANT ALL ON FUNCTION df.json_text(p_token text) TO bob;


--
-- Name: FUNCTION json_token_pattern(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.json_token_pattern() FROM PUBLIC;
GRANT ALL ON FUNCTION df.json_token_pattern() TO alice;
GRANT ALL ON FUNCTION df.json_token_pattern() TO bob;


--
-- Name: FUNCTION list_instances(status_filter text, limit_count integer, label_filter text, after_cursor text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.list_instances(status_filter text, limit_count integer, label_filter text, after_cursor text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.list_instances(status_filter text, limit_count integer, label_filter text, after_cursor text) TO alice;
GRANT ALL ON FUNCTION df.list_instances(status_filter text, limit_count integer, label_filter text, after_cursor text) TO bob;


--
-- Name: FUNCTION loop(body text, condition text, every interval); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.loop(body text, condition text, every interval) FROM PUBLIC;
GRANT ALL ON FUNCTION df.loop(body text, condition text, every interval) TO alice;
GRANT ALL ON FUNCTION df.loop(body text, condition text, every interval) TO bob;


--
-- Name: FUNCTION loop_forever(body text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.loop_forever(body text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.loop_forever(body text) TO alice;
GRANT ALL ON FUNCTION df.loop_forever(body text) TO bob;


--
-- Name: FUNCTION map(items text, body text, max_parallel integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.map(items text, body text, max_parallel integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.map(items text, body text, max_parallel integer) TO alice;
GRANT ALL ON FUNCTION df.map(items text, body text, max_parallel integer) TO bob;


--
-- Name: FUNCTION may_be_count(p_token text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.may_be_count(p_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.may_be_count(p_token text) TO alice;
GRANT ALL ON FUNCTION df.may_be_count(p_token text) TO bob;


--
-- Name: FUNCTION may_be_seconds(p_token text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.may_be_seconds(p_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.may_be_seconds(p_token text) TO alice;
GRANT ALL ON FUNCTION df.may_be_seconds(p_token text) TO bob;


--
-- Name: FUNCTION metrics(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.metrics() FROM PUBLIC;


--
-- Name: FUNCTION my_roles(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.my_roles() FROM PUBLIC;
GRANT ALL ON FUNCTION df.my_roles() TO alice;
GRANT ALL ON FUNCTION df.my_roles() TO bob;


--
-- Name: FUNCTION my_role_keys(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.my_role_keys() FROM PUBLIC;
GRANT ALL ON FUNCTION df.my_role_keys() TO alice;
GRANT ALL ON FUNCTION df.my_role_keys() TO bob;


--
-- Name: FUNCTION needed_text_flaw(p_type text, p_key text, p_token text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.needed_text_flaw(p_type text, p_key text, p_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.needed_text_flaw(p_type text, p_key text, p_token text) TO alice;
GRANT ALL ON FUNCTION df.needed_text_flaw(p_type text, p_key text, p_token text) TO bob;


--
-- Name: FUNCTION node_children_flaw(p_type text, p_has text, p_needs text, p_may text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_children_flaw(p_type text, p_has text, p_needs text, p_may text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_children_flaw(p_type text, p_has text, p_needs text, p_may text) TO alice;
GRANT ALL ON FUNCTION df.node_children_flaw(p_type text, p_has text, p_needs text, p_may text) TO bob;


--
-- Name: FUNCTION node_options_flaw(p_type text, p_query text, p_has text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_options_flaw(p_type text, p_query text, p_has text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_options_flaw(p_type text, p_query text, p_has text) TO alice;
GRANT ALL ON FUNCTION df.node_options_flaw(p_type text, p_query text, p_has text) TO bob;


--
-- Name: FUNCTION node_path(p_parents integer[], p_roles text[], p_node integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_path(p_parents integer[], p_roles text[], p_node integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_path(p_parents integer[], p_roles text[], p_node integer) TO alice;
GRANT ALL ON FUNCTION df.node_path(p_parents integer[], p_roles text[], p_node integer) TO bob;


--
-- Name: FUNCTION node_query_flaw(p_type text, p_kind text, p_query text, p_has text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_query_flaw(p_type text, p_kind text, p_query text, p_has text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_query_flaw(p_type text, p_kind text, p_query text, p_has text) TO alice;
GRANT ALL ON FUNCTION df.node_query_flaw(p_type text, p_kind text, p_query text, p_has text) TO bob;


--
-- Name: FUNCTION node_rules(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_rules() FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_rules() TO alice;
GRANT ALL ON FUNCTION df.node_rules() TO bob;


--
-- Name: FUNCTION node_states(p_key bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_states(p_key bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_states(p_key bigint) TO alice;
GRANT ALL ON FUNCTION df.node_states(p_key bigint) TO bob;


--
-- Name: FUNCTION node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean) TO alice;
GRANT ALL ON FUNCTION df.node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean) TO bob;


--
-- Name: FUNCTION node_type_flaw(p_token text, p_path text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.node_type_flaw(p_token text, p_path text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.node_type_flaw(p_token text, p_path text) TO alice;
GRANT ALL ON FUNCTION df.node_type_flaw(p_token text, p_path text) TO bob;


--
-- Name: FUNCTION not_null(p_value anyelement, p_builder text, p_argument text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.not_null(p_value anyelement, p_builder text, p_argument text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.not_null(p_value anyelement, p_builder text, p_argument text) TO alice;
GRANT ALL ON FUNCTION df.not_null(p_value anyelement, p_builder text, p_argument text) TO bob;


--
-- Name: FUNCTION number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION df.number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]) TO alice;
GRANT ALL ON FUNCTION df.number_nodes(p_graph text, OUT kinds text[], OUT queries text[], OUT names text[], OUT parents integer[], OUT roles text[], OUT lefts integer[], OUT rights integer[], OUT conditions integer[], OUT lasts integer[], OUT levels integer[]) TO bob;


--
-- Name: FUNCTION one_line(p_text text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.one_line(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.one_line(p_text text) TO alice;
GRANT ALL ON FUNCTION df.one_line(p_text text) TO bob;


--
-- Name: FUNCTION options_node(p_type text, p_options text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.options_node(p_type text, p_options text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.options_node(p_type text, p_options text) TO alice;
GRANT ALL ON FUNCTION df.options_node(p_type text, p_options text) TO bob;


--
-- Name: FUNCTION outermost_loop(p_graph text, OUT node integer, OUT last integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.outermost_loop(p_graph text, OUT node integer, OUT last integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.outermost_loop(p_graph text, OUT node integer, OUT last integer) TO alice;
GRANT ALL ON FUNCTION df.outermost_loop(p_graph text, OUT node integer, OUT last integer) TO bob;


--
-- Name: FUNCTION page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer) TO alice;
GRANT ALL ON FUNCTION df.page_of_instances(p_status text, p_label text, p_before timestamp with time zone, p_before_id text, p_count integer) TO bob;


--
-- Name: FUNCTION parsed_root_type(p_graph text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.parsed_root_type(p_graph text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.parsed_root_type(p_graph text) TO alice;
GRANT ALL ON FUNCTION df.parsed_root_type(p_graph text) TO bob;


--
-- Name: FUNCTION path_length(p_level integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.path_length(p_level integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.path_length(p_level integer) TO alice;
GRANT ALL ON FUNCTION df.path_length(p_level integer) TO bob;


--
-- Name: FUNCTION race(a text, b text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.race(a text, b text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.race(a text, b text) TO alice;
GRANT ALL ON FUNCTION df.race(a text, b text) TO bob;


--
-- Name: FUNCTION race_all(VARIADIC futs text[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.race_all(VARIADIC futs text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION df.race_all(VARIADIC futs text[]) TO alice;
GRANT ALL ON FUNCTION df.race_all(VARIADIC futs text[]) TO bob;


--
-- Name: FUNCTION read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text) TO alice;
GRANT ALL ON FUNCTION df.read_graph(p_graph text, OUT parents integer[], OUT roles text[], OUT children text[], OUT types text[], OUT queries text[], OUT names text[], OUT twice integer, OUT twice_key text) TO bob;


--
-- Name: FUNCTION record_completions(p_epoch bigint, p_rows json, OUT skipped integer[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.record_completions(p_epoch bigint, p_rows json, OUT skipped integer[]) FROM PUBLIC;


--
-- Name: FUNCTION refuse_argument(p_builder text, p_flaw text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.refuse_argument(p_builder text, p_flaw text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.refuse_argument(p_builder text, p_flaw text) TO alice;
GRANT ALL ON FUNCTION df.refuse_argument(p_builder text, p_flaw text) TO bob;


--
-- Name: FUNCTION refuse_in_workflow(p_function text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.refuse_in_workflow(p_function text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.refuse_in_workflow(p_function text) TO alice;
GRANT ALL ON FUNCTION df.refuse_in_workflow(p_function text) TO bob;


--
-- Name: FUNCTION refuse_json(p_graph text, p_token integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.refuse_json(p_graph text, p_token integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.refuse_json(p_graph text, p_token integer) TO alice;
GRANT ALL ON FUNCTION df.refuse_json(p_graph text, p_token integer) TO bob;


--
-- Name: FUNCTION refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text) TO alice;
GRANT ALL ON FUNCTION df.refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text) TO bob;


--
-- Name: FUNCTION refuse_owner(p_role regrole); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.refuse_owner(p_role regrole) FROM PUBLIC;


--
-- Name: FUNCTION release(instance_id text, reason text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.release(instance_id text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.release(instance_id text, reason text) TO alice;
GRANT ALL ON FUNCTION df.release(instance_id text, reason text) TO bob;


--
-- Name: FUNCTION require_epoch(p_epoch bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.require_epoch(p_epoch bigint) FROM PUBLIC;


--
-- Name: FUNCTION require_key(p_function text, p_id text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.require_key(p_function text, p_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.require_key(p_function text, p_id text) TO alice;
GRANT ALL ON FUNCTION df.require_key(p_function text, p_id text) TO bob;


--
-- Name: FUNCTION require_limit(p_function text, p_limit integer, p_hint text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.require_limit(p_function text, p_limit integer, p_hint text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.require_limit(p_function text, p_limit integer, p_hint text) TO alice;
GRANT ALL ON FUNCTION df.require_limit(p_function text, p_limit integer, p_hint text) TO bob;


--
-- Name: FUNCTION result(id text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.result(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.result(id text) TO alice;
GRANT ALL ON FUNCTION df.result(id text) TO bob;


--
-- Name: FUNCTION result_name_flaw(p_token text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.result_name_flaw(p_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.result_name_flaw(p_token text) TO alice;
GRANT ALL ON FUNCTION df.result_name_flaw(p_token text) TO bob;


--
-- Name: FUNCTION retry(fut text, max_attempts integer, initial interval, backoff numeric, max_interval interval); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.retry(fut text, max_attempts integer, initial interval, backoff numeric, max_interval interval) FROM PUBLIC;
GRANT ALL ON FUNCTION df.retry(fut text, max_attempts integer, initial interval, backoff numeric, max_interval interval) TO alice;
GRANT ALL ON FUNCTION df.retry(fut text, max_attempts integer, initial interval, backoff numeric, max_interval interval) TO bob;


--
-- Name: FUNCTION revoke_usage(p_role regrole); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.revoke_usage(p_role regrole) FROM PUBLIC;


--
-- Name: FUNCTION root_type(p_graph text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.root_type(p_graph text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.root_type(p_graph text) TO alice;
GRANT ALL ON FUNCTION df.root_type(p_graph text) TO bob;


--
-- Name: FUNCTION seal(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.seal() FROM PUBLIC;


--
-- Name: FUNCTION seconds_text(p_seconds numeric, p_builder text, p_argument text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.seconds_text(p_seconds numeric, p_builder text, p_argument text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.seconds_text(p_seconds numeric, p_builder text, p_argument text) TO alice;
GRANT ALL ON FUNCTION df.seconds_text(p_seconds numeric, p_builder text, p_argument text) TO bob;


--
-- Name: FUNCTION seen_roles(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.seen_roles() FROM PUBLIC;
GRANT ALL ON FUNCTION df.seen_roles() TO alice;
GRANT ALL ON FUNCTION df.seen_roles() TO bob;


--
-- Name: FUNCTION seq(a text, b text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.seq(a text, b text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.seq(a text, b text) TO alice;
GRANT ALL ON FUNCTION df.seq(a text, b text) TO bob;


--
-- Name: FUNCTION seq_all(VARIADIC futs text[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.seq_all(VARIADIC futs text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION df.seq_all(VARIADIC futs text[]) TO alice;
GRANT ALL ON FUNCTION df.seq_all(VARIADIC futs text[]) TO bob;


--
-- Name: TABLE settings; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.settings TO alice;
GRANT SELECT ON TABLE df.settings TO bob;


--
-- Name: FUNCTION setting(p_name text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.setting(p_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.setting(p_name text) TO alice;
GRANT ALL ON FUNCTION df.setting(p_name text) TO bob;


--
-- Name: FUNCTION setvar(name text, value text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.setvar(name text, value text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.setvar(name text, value text) TO alice;
GRANT ALL ON FUNCTION df.setvar(name text, value text) TO bob;


--
-- Name: FUNCTION signal(instance_id text, signal_name text, signal_data jsonb); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.signal(instance_id text, signal_name text, signal_data jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION df.signal(instance_id text, signal_name text, signal_data jsonb) TO alice;
GRANT ALL ON FUNCTION df.signal(instance_id text, signal_name text, signal_data jsonb) TO bob;


--
-- Name: FUNCTION signal(instance_id text, signal_name text, signal_data text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.signal(instance_id text, signal_name text, signal_data text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.signal(instance_id text, signal_name text, signal_data text) TO alice;
GRANT ALL ON FUNCTION df.signal(instance_id text, signal_name text, signal_data text) TO bob;


--
-- Name: TABLE signals; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.signals TO alice;
GRANT SELECT ON TABLE df.signals TO bob;


--
-- Name: COLUMN signals.owner; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(owner) ON TABLE df.signals TO alice;
GRANT INSERT(owner) ON TABLE df.signals TO bob;


--
-- Name: COLUMN signals.instance_id; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(instance_id) ON TABLE df.signals TO alice;
GRANT INSERT(instance_id) ON TABLE df.signals TO bob;


--
-- Name: COLUMN signals.name; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(name) ON TABLE df.signals TO alice;
GRANT INSERT(name) ON TABLE df.signals TO bob;


--
-- Name: COLUMN signals.data; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(data) ON TABLE df.signals TO alice;
GRANT INSERT(data) ON TABLE df.signals TO bob;


--
-- Name: FUNCTION signals_to(p_key bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.signals_to(p_key bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.signals_to(p_key bigint) TO alice;
GRANT ALL ON FUNCTION df.signals_to(p_key bigint) TO bob;


--
-- Name: FUNCTION sleep(seconds bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.sleep(seconds bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.sleep(seconds bigint) TO alice;
GRANT ALL ON FUNCTION df.sleep(seconds bigint) TO bob;


--
-- Name: FUNCTION sleep(duration interval); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.sleep(duration interval) FROM PUBLIC;
GRANT ALL ON FUNCTION df.sleep(duration interval) TO alice;
GRANT ALL ON FUNCTION df.sleep(duration interval) TO bob;


--
-- Name: FUNCTION sleep(duration text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.sleep(duration text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.sleep(duration text) TO alice;
GRANT ALL ON FUNCTION df.sleep(duration text) TO bob;


--
-- Name: FUNCTION sleep_until(until text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.sleep_until(until text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.sleep_until(until text) TO alice;
GRANT ALL ON FUNCTION df.sleep_until(until text) TO bob;


--
-- Name: FUNCTION sleep_until(until timestamp with time zone); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.sleep_until(until timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION df.sleep_until(until timestamp with time zone) TO alice;
GRANT ALL ON FUNCTION df.sleep_until(until timestamp with time zone) TO bob;


--
-- Name: FUNCTION sql(query text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.sql(query text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.sql(query text) TO alice;
GRANT ALL ON FUNCTION df.sql(query text) TO bob;


--
-- Name: FUNCTION start(fut text, label text, database text, transaction_mode text, id text, input jsonb); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.start(fut text, label text, database text, transaction_mode text, id text, input jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION df.start(fut text, label text, database text, transaction_mode text, id text, input jsonb) TO alice;
GRANT ALL ON FUNCTION df.start(fut text, label text, database text, transaction_mode text, id text, input jsonb) TO bob;


--
-- Name: FUNCTION start_children(p_epoch bigint, p_rows json, OUT skipped integer[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.start_children(p_epoch bigint, p_rows json, OUT skipped integer[]) FROM PUBLIC;


--
-- Name: FUNCTION status(id text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.status(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.status(id text) TO alice;
GRANT ALL ON FUNCTION df.status(id text) TO bob;


--
-- Name: FUNCTION step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer) TO alice;
GRANT ALL ON FUNCTION df.step(p_key bigint, p_step text, p_query text, p_rows boolean, p_epoch bigint, p_xids xid8[], p_look boolean, p_instance_id text, p_shown text, p_cause uuid, p_repetitions integer, p_limit bigint, p_attempt integer) TO bob;


--
-- Name: FUNCTION step_path(p_step text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.step_path(p_step text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.step_path(p_step text) TO alice;
GRANT ALL ON FUNCTION df.step_path(p_step text) TO bob;


--
-- Name: TABLE progress; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.progress TO alice;
GRANT SELECT ON TABLE df.progress TO bob;


--
-- Name: FUNCTION step_records(p_key bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.step_records(p_key bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION df.step_records(p_key bigint) TO alice;
GRANT ALL ON FUNCTION df.step_records(p_key bigint) TO bob;


--
-- Name: FUNCTION tail(p_text text, p_bytes integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.tail(p_text text, p_bytes integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.tail(p_text text, p_bytes integer) TO alice;
GRANT ALL ON FUNCTION df.tail(p_text text, p_bytes integer) TO bob;


--
-- Name: FUNCTION take_over(OUT epoch bigint); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.take_over(OUT epoch bigint) FROM PUBLIC;


--
-- Name: FUNCTION timeout(fut text, after interval); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.timeout(fut text, after interval) FROM PUBLIC;
GRANT ALL ON FUNCTION df.timeout(fut text, after interval) TO alice;
GRANT ALL ON FUNCTION df.timeout(fut text, after interval) TO bob;


--
-- Name: FUNCTION unsetvar(name text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.unsetvar(name text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.unsetvar(name text) TO alice;
GRANT ALL ON FUNCTION df.unsetvar(name text) TO bob;


--
-- Name: FUNCTION validate_graph(p_graph text, p_now boolean); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.validate_graph(p_graph text, p_now boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION df.validate_graph(p_graph text, p_now boolean) TO alice;
GRANT ALL ON FUNCTION df.validate_graph(p_graph text, p_now boolean) TO bob;


--
-- Name: FUNCTION vars_removed(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.vars_removed() FROM PUBLIC;


--
-- Name: FUNCTION version(); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.version() FROM PUBLIC;
GRANT ALL ON FUNCTION df.version() TO alice;
GRANT ALL ON FUNCTION df.version() TO bob;


--
-- Name: FUNCTION wait_for_completion(id text, timeout_seconds numeric); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.wait_for_completion(id text, timeout_seconds numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION df.wait_for_completion(id text, timeout_seconds numeric) TO alice;
GRANT ALL ON FUNCTION df.wait_for_completion(id text, timeout_seconds numeric) TO bob;


--
-- Name: FUNCTION wait_for_schedule(cron_expr text, timezone text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.wait_for_schedule(cron_expr text, timezone text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.wait_for_schedule(cron_expr text, timezone text) TO alice;
GRANT ALL ON FUNCTION df.wait_for_schedule(cron_expr text, timezone text) TO bob;


--
-- Name: FUNCTION wait_for_signal(name text, timeout_seconds numeric, fresh boolean); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.wait_for_signal(name text, timeout_seconds numeric, fresh boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION df.wait_for_signal(name text, timeout_seconds numeric, fresh boolean) TO alice;
GRANT ALL ON FUNCTION df.wait_for_signal(name text, timeout_seconds numeric, fresh boolean) TO bob;


--
-- Name: FUNCTION with_undo(fut text, undo text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.with_undo(fut text, undo text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.with_undo(fut text, undo text) TO alice;
GRANT ALL ON FUNCTION df.with_undo(fut text, undo text) TO bob;


--
-- Name: FUNCTION without_name(p_node text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.without_name(p_node text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.without_name(p_node text) TO alice;
GRANT ALL ON FUNCTION df.without_name(p_node text) TO bob;


--
-- Name: FUNCTION without_tail(p_text text, p_bytes integer); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.without_tail(p_text text, p_bytes integer) FROM PUBLIC;
GRANT ALL ON FUNCTION df.without_tail(p_text text, p_bytes integer) TO alice;
GRANT ALL ON FUNCTION df.without_tail(p_text text, p_bytes integer) TO bob;


--
-- Name: FUNCTION write_checkpoint(p_epoch bigint, p_lsn pg_lsn, p_xids xid8[], p_keys bigint[], p_statuses text[], p_quarantined text[], p_results text[], p_errors text[], p_started timestamp with time zone[], p_finished timestamp with time zone[], p_ended bigint[], p_state_keys bigint[], p_versions smallint[], p_states text[], p_wakes timestamp with time zone[], p_dropped bigint[], p_signals uuid[], p_signal_owners oid[], p_signal_takers text[], p_cancels uuid[], p_cancel_owners oid[], p_releases uuid[], p_release_owners oid[], p_waiters bigint[], p_waiter_steps text[], p_inbox json, p_inbox_done bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[], p_shown bigint[], p_shown_owners oid[], p_shown_nodes text[], p_hidden bigint[], p_hidden_owners oid[], p_counts bigint[], p_backlog json, OUT invisible xid8[], OUT gone bigint[]); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.write_checkpoint(p_epoch bigint, p_lsn pg_lsn, p_xids xid8[], p_keys bigint[], p_statuses text[], p_quarantined text[], p_results text[], p_errors text[], p_started timestamp with time zone[], p_finished timestamp with time zone[], p_ended bigint[], p_state_keys bigint[], p_versions smallint[], p_states text[], p_wakes timestamp with time zone[], p_dropped bigint[], p_signals uuid[], p_signal_owners oid[], p_signal_takers text[], p_cancels uuid[], p_cancel_owners oid[], p_releases uuid[], p_release_owners oid[], p_waiters bigint[], p_waiter_steps text[], p_inbox json, p_inbox_done bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[], p_shown bigint[], p_shown_owners oid[], p_shown_nodes text[], p_hidden bigint[], p_hidden_owners oid[], p_counts bigint[], p_backlog json, OUT invisible xid8[], OUT gone bigint[]) FROM PUBLIC;


--
-- Name: FUNCTION zone_name(p_zone text); Type: ACL; Schema: df; Owner: engine
--

REVOKE ALL ON FUNCTION df.zone_name(p_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION df.zone_name(p_zone text) TO alice;
GRANT ALL ON FUNCTION df.zone_name(p_zone text) TO bob;


--
-- Name: TABLE epoch; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.epoch TO alice;
GRANT SELECT ON TABLE df.epoch TO bob;


--
-- Name: TABLE nodes; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.nodes TO alice;
GRANT SELECT ON TABLE df.nodes TO bob;


--
-- Name: TABLE vars; Type: ACL; Schema: df; Owner: engine
--

GRANT SELECT ON TABLE df.vars TO alice;
GRANT SELECT ON TABLE df.vars TO bob;


--
-- Name: COLUMN vars.name; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(name) ON TABLE df.vars TO alice;
GRANT INSERT(name) ON TABLE df.vars TO bob;


--
-- Name: COLUMN vars.value; Type: ACL; Schema: df; Owner: engine
--

GRANT INSERT(value),UPDATE(value) ON TABLE df.vars TO alice;
GRANT INSERT(value),UPDATE(value) ON TABLE df.vars TO bob;


--
-- PostgreSQL database dump complete
--


create table public.ledger (id text, word text);
alter table public.ledger owner to alice;
--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Data for Name: migrations; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.migrations (number, name, checksum, applied_at, applied_by) FROM stdin;
1	tables	ad4d360025d3eba6e5098deb74a2c8d308784b33dbd668b27dd62766f6083d20	2026-11-21 17:12:04.134815+00	engine
2	guards	794a4cbede62d07fabbd86d1e635aa3ed5eb7c2228be88790f41ca13e10f9ef0	2026-11-21 17:12:04.145632+00	engine
3	validation	a42860a24c879b2a64cafce4a19063733d1516a12249ca1261fd4c5f88739a3f	2026-11-21 17:12:04.151863+00	engine
4	builders	8c8e35fcf75b42d19e651bee6aa1ac48dad18249154cc108db3d1a01b8da6ee3	2026-11-21 17:12:04.156592+00	engine
5	control	a654527e4ec4b8a1b3e43ba48778a517978aaca2c6cb19feb5a9797c1c38e5cc	2026-11-21 17:12:04.158849+00	engine
6	step	0bcd482f847cefa67e1c2979c7ef3bbeac3c9ec209128a17a386a35483832ce4	2026-11-21 17:12:04.159685+00	engine
7	engine	8c579c8224ec03744a2bc8fac630306f1508611668798d8c38688e5ed8c70614	2026-11-21 17:12:04.162571+00	engine
8	grants	7917ea9d05d6907581650157fa025548d66ad720b0950df4f550283450780b94	2026-11-21 17:12:04.163381+00	engine
9	publication	23140763ee6479188a44a2938bfd20e2ec3cb47f0c98058da71304564aad3483	2026-11-21 17:12:04.16496+00	engine
10	reading	4873f8b185af24220b6f04d786e7baa1cdb25899ded7be4c4d27f81a81f8446e	2026-11-21 17:12:04.181097+00	engine
11	explain	28b4ebff497dbc1c4144a3e60342579786ca094b5a1a7f9eca4521532ad004a8	2026-11-21 17:12:04.183091+00	engine
\.


--
-- Data for Name: settings; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.settings (name, value, description) FROM stdin;
result_bytes	1048576	largest result of a step, bytes of JSON
composite_result_bytes	16777216	largest array of results of a JOIN, bytes of JSON
superuser_instances	off	may superusers start workflows (their steps run as superuser)
loop_iterations	0	iterations after which a loop fails; 0: no limit
list_limit	1000	largest page of df.list_instances
\.


--
-- PostgreSQL database dump complete
--


--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Data for Name: cancellations; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.cancellations (owner, instance_id, instance_key, reason, sent_by, folded, event_id, recorded_at) FROM stdin;
16386	cancelled	29	Cancelled by user	16386	f	167dcea0-9671-40f6-bfb1-f3376185728a	2026-11-21 17:12:04.084879+00
\.


--
-- Data for Name: checkpoint; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.checkpoint (only_row, epoch, lsn, system_identifier, slot_name, slot_generation, scanning, installation, written_at, started_total, completed_total, failed_total, cancelled_total, executions_total, events_total, backlog) FROM stdin;
t	1	0/24FE418	7710673692471189522	walflow_test1	1	f	db57f4ba-8194-49de-826a-ba886f059475	2026-11-21 17:12:03.98377+00	26	1	0	0	15	43	[]
\.


--
-- Data for Name: completions; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.completions (run_as, instance_key, step, attempt, written_by, repetitions, outcome, cause, event_id, started_at, recorded_at, result, error, query, note) FROM stdin;
16386	1	1	1	16386	0	completed	c78e53c8-0ea7-4e20-97f4-e7449852253b	5ca024fb-a80b-489e-a726-5a59566a8c1d	2026-11-21 17:12:02.921492+00	2026-11-21 17:12:02.923193+00	{"rows":[{"it":"so it was"}],"row_count":1}	\N	\N	\N
16386	2	3	1	16386	0	completed	3f3db2f2-f2d7-4492-ad49-5c454e0f1974	4f0a4f1f-fd23-42ac-9bb3-c32d03c28ab9	2026-11-21 17:12:02.927102+00	2026-11-21 17:12:02.927676+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'then', 'one'	\N
16386	3	3	1	16386	0	completed	ec8d0e43-ba0b-456f-925e-73bf5f7a0f53	cf6884e6-1e1d-4233-8612-b5d88897bcdb	2026-11-21 17:12:02.932329+00	2026-11-21 17:12:02.932757+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'statement', 'one'	\N
16386	4	3	1	16386	0	completed	8ce7f8a4-bb37-4ec8-8a1c-05a609ebb1fd	be447941-4c18-4c24-ab00-cbd01113674b	2026-11-21 17:12:02.936309+00	2026-11-21 17:12:02.936685+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'sleep', 'one'	\N
16386	8	4	1	16386	0	completed	74451fe7-062c-4f87-ad1f-dc1ab3b5d4f4	caf0a5df-9988-434f-a228-780b71e33a89	2026-11-21 17:12:03.055319+00	2026-11-21 17:12:03.064001+00	{"rows":[{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","n":1}],"row_count":1}	\N	\N	\N
16386	11	3	1	16386	0	completed	7bec80f2-5538-4cde-a501-67ef8ecf49d9	6af4338e-b72e-4c71-9a3c-bdd6de36789d	2026-11-21 17:12:03.066752+00	2026-11-21 17:12:03.067038+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'join', 'left'	\N
16386	9	6	1	16386	0	completed	e657b65c-cff6-40ce-9ebe-cb8a98958121	864c1cf0-ccb9-4110-9333-dea915bc5ebc	2026-11-21 17:12:03.058641+00	2026-11-21 17:12:03.068755+00	{"rows":[{"?column?":true}],"row_count":1}	\N	\N	\N
16386	14	3.1	1	16386	0	completed	28291e79-e468-4797-8211-3d45fdbc67c3	02f5997a-4100-4817-91cd-4c9c395e1005	2026-11-21 17:12:03.073494+00	2026-11-21 17:12:03.073825+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'loop', 'body'	\N
16386	13	2	1	16386	0	completed	8cdc1b1c-851e-4f06-a15b-9566f6088e4f	325cadd3-6b04-4642-bb4a-16b17b8ca92c	2026-11-21 17:12:03.074134+00	2026-11-21 17:12:03.074424+00	{"rows":[{"g":1},{"g":2},{"g":3}],"row_count":3}	\N	\N	\N
16386	17	4.1	1	16386	0	completed	76933dc8-ef01-46f8-b96c-d2eb830a3e45	83937305-6311-4c86-9b03-2d8018d4812c	2026-11-21 17:12:03.078829+00	2026-11-21 17:12:03.07907+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'retry', 'tried'	\N
16386	21	5	1	16386	0	completed	64337091-b2bf-48bf-98e9-408bb509b692	edf42724-0e95-497f-bbfd-289d5fada6ec	2026-11-21 17:12:03.086607+00	2026-11-21 17:12:03.086878+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'owed', 'pay'	\N
16386	15	2.1	1	16386	0	completed	42effa95-4973-436b-a248-f5b1ec0c14c0	56797d2f-75fb-421c-9181-3c88de8d448e	2026-11-21 17:12:03.074414+00	2026-11-21 17:12:03.090487+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'pause', 'again'	\N
16386	23	4	1	16386	0	completed	81f5ac35-8cde-40a2-b343-d5f3f9e682ad	0022c95a-8b67-4ab3-82a3-0ddf9d32485f	2026-11-21 17:12:03.096385+00	2026-11-21 17:12:03.098032+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'undoing', 'pay'	\N
16386	15	3.1	1	16386	0	completed	56797d2f-75fb-421c-9181-3c88de8d448e	4626d19d-92aa-486d-af03-28525f1bfd3a	2026-11-21 17:12:03.098396+00	2026-11-21 17:12:03.098828+00	{"rows":[{"?column?":true}],"row_count":1}	\N	\N	\N
16386	20	2	1	16384	0	failed	b6fcb624-c3b4-42cb-8d04-38617de1c668	e4c40a4a-3a53-4bee-abb0-90b2e8024bca	2026-11-21 17:12:03.090521+00	2026-11-21 17:12:03.879331+00	\N	{"message": "division by zero", "code": "22012", "node": 2, "step": "2", "attempt": 1}	\N	\N
16386	3	4	1	16386	0	completed	cf6884e6-1e1d-4233-8612-b5d88897bcdb	7d248dd9-3b29-4aea-b931-b87c740eac23	2026-11-21 17:12:02.93832+00	2026-11-21 17:12:04.098914+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'statement', 'slow' from pg_advisory_xact_lock_shared(7)	\N
16386	7	3	1	16386	0	completed	d52ceeb4-c9cc-4a2b-9457-8cf84f577f41	a9d6dff4-8e55-4c7b-9c73-49c0adbd58ef	2026-11-21 17:12:03.056848+00	2026-11-21 17:12:04.101088+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'stuffed', 'slow' from pg_advisory_xact_lock_shared(7)	\N
16386	6	3	1	16386	0	completed	702193ae-20f3-4504-b07d-154cf1a01635	fdc8b0b0-4b86-45a9-a62e-a0fc12feeac4	2026-11-21 17:12:03.04042+00	2026-11-21 17:12:04.105912+00	{"rows":[],"row_count":0,"affected":1}	\N	insert into public.ledger select 'buffered', 'slow' from pg_advisory_xact_lock_shared(7)	\N
16386	23	6	1	16384	0	failed	0022c95a-8b67-4ab3-82a3-0ddf9d32485f	fbbd5aa1-a0bd-4d3e-8207-234f3915f154	2026-11-21 17:12:03.882379+00	2026-11-21 17:12:04.31502+00	\N	{"message": "division by zero", "code": "22012", "node": 6, "step": "6", "attempt": 1}	\N	\N
\.


--
-- Data for Name: heartbeats; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.heartbeats (epoch, event_id, recorded_at) FROM stdin;
\.


--
-- Data for Name: inbox; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.inbox (instance_key, lsn, ordinal, kind, row_key, commit_time, xid) FROM stdin;
\.


--
-- Data for Name: instances; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.instances (key, submitted_by, submitter, id, graph, label, input, vars, database, created_xid, created_at, session_role, parent_key, parent_step, parent_id, cause, status, quarantined, pruned, result, error, started_at, finished_at, updated_at, event_id, recorded_at) FROM stdin;
2	alice	16386	then	{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'one'"},"right_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'two'"}}	\N	\N	\N	\N	744	2026-11-21 17:12:02.628015+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.633714+00	\N	2026-11-21 17:12:02.766945+00	3f3db2f2-f2d7-4492-ad49-5c454e0f1974	2026-11-21 17:12:02.628409+00
3	alice	16386	statement	{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'one'"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'slow' from pg_advisory_xact_lock_shared(7)"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'two'"}}	\N	\N	\N	\N	745	2026-11-21 17:12:02.636683+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.638198+00	\N	2026-11-21 17:12:02.948879+00	ec8d0e43-ba0b-456f-925e-73bf5f7a0f53	2026-11-21 17:12:02.63704+00
4	alice	16386	sleep	{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'one'"},"right_node":{"node_type":"SLEEP","query":"5"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'two'"}}	\N	\N	\N	\N	746	2026-11-21 17:12:02.641744+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.643654+00	\N	2026-11-21 17:12:02.948932+00	8ce7f8a4-bb37-4ec8-8a1c-05a609ebb1fd	2026-11-21 17:12:02.642103+00
5	alice	16386	schedule	{"node_type":"THEN","left_node":{"node_type":"WAIT_SCHEDULE","query":"{\\"cron_expr\\":\\"* * * * *\\",\\"timezone\\":\\"UTC\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'tick'"}}	\N	\N	\N	\N	747	2026-11-21 17:12:02.651956+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.655781+00	\N	2026-11-21 17:12:02.948939+00	33e0309e-542b-4598-a253-7863d027b1e7	2026-11-21 17:12:02.652392+00
6	alice	16386	buffered	{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'slow' from pg_advisory_xact_lock_shared(7)"},"right_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'two'"}}	\N	\N	\N	\N	748	2026-11-21 17:12:02.661419+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.663333+00	\N	2026-11-21 17:12:02.948944+00	702193ae-20f3-4504-b07d-154cf1a01635	2026-11-21 17:12:02.661681+00
7	alice	16386	stuffed	{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'slow' from pg_advisory_xact_lock_shared(7)"},"right_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}","result_name":"sent"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'two'"}}	\N	\N	\N	\N	749	2026-11-21 17:12:02.665149+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.666612+00	\N	2026-11-21 17:12:02.948949+00	d52ceeb4-c9cc-4a2b-9457-8cf84f577f41	2026-11-21 17:12:02.665379+00
8	alice	16386	named	{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"select repeat('x', 2000) as long, 1 as n","result_name":"big"},"right_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"}},"right_node":{"node_type":"SQL","query":"select 1 / $big.n, length($big.long)"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'after'"}}	\N	\N	\N	\N	750	2026-11-21 17:12:02.676957+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.678568+00	\N	2026-11-21 17:12:02.948954+00	74451fe7-062c-4f87-ad1f-dc1ab3b5d4f4	2026-11-21 17:12:02.677246+00
9	alice	16386	if	{"node_type":"IF","left_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'yes'"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'no'"},"condition_node":{"node_type":"SQL","query":"select true"}}	\N	\N	\N	\N	751	2026-11-21 17:12:02.679558+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.682613+00	\N	2026-11-21 17:12:02.94896+00	e657b65c-cff6-40ce-9ebe-cb8a98958121	2026-11-21 17:12:02.679795+00
10	alice	16386	condition	{"node_type":"IF","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'yes'"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'no'"},"condition_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"}}	\N	\N	\N	\N	752	2026-11-21 17:12:02.689024+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.690369+00	\N	2026-11-21 17:12:02.948965+00	244cbd73-a827-4132-9607-4f91d0a3e477	2026-11-21 17:12:02.689324+00
11	alice	16386	join	{"node_type":"THEN","left_node":{"node_type":"JOIN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'left'"},"right_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'right'"}}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'after'"}}	\N	\N	\N	\N	754	2026-11-21 17:12:02.691504+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.692984+00	\N	2026-11-21 17:12:02.948969+00	7bec80f2-5538-4cde-a501-67ef8ecf49d9	2026-11-21 17:12:02.691817+00
12	alice	16386	race	{"node_type":"THEN","left_node":{"node_type":"RACE","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SLEEP","query":"86400"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'after'"}}	\N	\N	\N	\N	755	2026-11-21 17:12:02.697066+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.698239+00	\N	2026-11-21 17:12:02.948973+00	85f66b21-cc8e-4c58-aa25-c1d83939c2ef	2026-11-21 17:12:02.697243+00
13	alice	16386	map	{"node_type":"MAP","left_node":{"node_type":"SQL","query":"select g from generate_series(1, 3) as g"},"right_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'row'"}},"query":"{\\"max_parallel\\":2}"}	\N	\N	\N	\N	756	2026-11-21 17:12:02.701285+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.70305+00	\N	2026-11-21 17:12:02.948977+00	8cdc1b1c-851e-4f06-a15b-9566f6088e4f	2026-11-21 17:12:02.701476+00
14	alice	16386	loop	{"node_type":"LOOP","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'body'"},"right_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"}},"condition_node":{"node_type":"SQL","query":"select count(*) < 2 from public.ledger where word = 'body'"}}	\N	\N	\N	\N	757	2026-11-21 17:12:02.709293+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.710653+00	\N	2026-11-21 17:12:02.948981+00	28291e79-e468-4797-8211-3d45fdbc67c3	2026-11-21 17:12:02.709491+00
15	alice	16386	pause	{"node_type":"LOOP","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'again'"},"condition_node":{"node_type":"SQL","query":"select count(*) < 2 from public.ledger where word = 'again'"},"query":"{\\"every\\":5}"}	\N	\N	\N	\N	758	2026-11-21 17:12:02.711661+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.712959+00	\N	2026-11-21 17:12:02.948986+00	42effa95-4973-436b-a248-f5b1ec0c14c0	2026-11-21 17:12:02.71182+00
16	alice	16386	break	{"node_type":"THEN","left_node":{"node_type":"LOOP","left_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"BREAK","query":"{\\"break_value\\":1}"}}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'after'"}}	\N	\N	\N	\N	759	2026-11-21 17:12:02.717553+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.718831+00	\N	2026-11-21 17:12:02.948992+00	64605897-550f-457c-b1d2-6641cbc0e5bc	2026-11-21 17:12:02.717737+00
17	alice	16386	retry	{"node_type":"RETRY","left_node":{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'tried'"},"right_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"}},"right_node":{"node_type":"SQL","query":"select 1 / (count(*) - 1) from public.ledger where word = 'tried'"}},"query":"{\\"max_attempts\\":3,\\"initial\\":1,\\"backoff\\":2,\\"max_interval\\":300}"}	\N	\N	\N	\N	760	2026-11-21 17:12:02.720287+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.721811+00	\N	2026-11-21 17:12:02.948997+00	76933dc8-ef01-46f8-b96c-d2eb830a3e45	2026-11-21 17:12:02.720438+00
18	alice	16386	timeout	{"node_type":"TIMEOUT","left_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'in_time'"}},"query":"{\\"seconds\\":86400}"}	\N	\N	\N	\N	761	2026-11-21 17:12:02.722876+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.724149+00	\N	2026-11-21 17:12:02.949001+00	6f7b7f94-2512-4eb9-9b1a-6c9281c525be	2026-11-21 17:12:02.723027+00
19	alice	16386	catch	{"node_type":"CATCH","left_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"select 1/0"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'handled'"}}	\N	\N	\N	\N	762	2026-11-21 17:12:02.724945+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.725977+00	\N	2026-11-21 17:12:02.949005+00	491c2260-7056-4fae-8534-53b0b79594af	2026-11-21 17:12:02.725076+00
20	alice	16386	handler	{"node_type":"CATCH","left_node":{"node_type":"SQL","query":"select 1/0"},"right_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'handled'"}}}	\N	\N	\N	\N	763	2026-11-21 17:12:02.726571+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.72748+00	\N	2026-11-21 17:12:02.94901+00	b6fcb624-c3b4-42cb-8d04-38617de1c668	2026-11-21 17:12:02.726684+00
21	alice	16386	owed	{"node_type":"CATCH","left_node":{"node_type":"THEN","left_node":{"node_type":"THEN","left_node":{"node_type":"UNDO","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'pay'"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'refund'"}},"right_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"}},"right_node":{"node_type":"SQL","query":"select 1/0"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'handled'"}}	\N	\N	\N	\N	764	2026-11-21 17:12:02.728363+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.729297+00	\N	2026-11-21 17:12:02.949014+00	64337091-b2bf-48bf-98e9-408bb509b692	2026-11-21 17:12:02.728481+00
22	alice	16386	doing	{"node_type":"THEN","left_node":{"node_type":"UNDO","left_node":{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'pay'"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'refund'"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'after'"}}	\N	\N	\N	\N	765	2026-11-21 17:12:02.729874+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.730797+00	\N	2026-11-21 17:12:02.949018+00	d2ff40d1-7e2c-42d7-ace9-20b77d115ed7	2026-11-21 17:12:02.729985+00
23	alice	16386	undoing	{"node_type":"CATCH","left_node":{"node_type":"THEN","left_node":{"node_type":"UNDO","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'pay'"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'slow' from pg_advisory_xact_lock_shared(7)"}},"right_node":{"node_type":"SQL","query":"select 1/0"}},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'handled'"}}	\N	\N	\N	\N	766	2026-11-21 17:12:02.731324+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.732242+00	\N	2026-11-21 17:12:02.949036+00	81f5ac35-8cde-40a2-b343-d5f3f9e682ad	2026-11-21 17:12:02.731456+00
24	alice	16386	child	{"node_type":"THEN","left_node":{"node_type":"CALL_CHILD","left_node":{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{of}', 'slow' from pg_advisory_xact_lock_shared(7)"},"right_node":{"node_type":"SQL","query":"select 1"}},"query":"{\\"options\\":{\\"vars\\":{\\"of\\":\\"{sys_instance_id}\\"}}}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'after'"}}	\N	\N	\N	\N	767	2026-11-21 17:12:02.734978+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.737091+00	\N	2026-11-21 17:12:02.94904+00	c395cc76-f320-4da6-8a5f-1a1fbe355050	2026-11-21 17:12:02.735151+00
25	alice	16386	await	{"node_type":"THEN","left_node":{"node_type":"AWAIT_INSTANCE","query":"{\\"instance_id\\":\\"then\\"}"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'after'"}}	\N	\N	\N	\N	768	2026-11-21 17:12:02.738144+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.739402+00	\N	2026-11-21 17:12:02.949044+00	7a5a95f2-c2d6-4998-93fa-21c11d52ed17	2026-11-21 17:12:02.738294+00
26	alice	16386	failing	{"node_type":"THEN","left_node":{"node_type":"SIGNAL","query":"{\\"signal_name\\":\\"gate\\"}"},"right_node":{"node_type":"SQL","query":"select 1/0"}}	\N	\N	\N	\N	769	2026-11-21 17:12:02.740145+00	alice	\N	\N	\N	\N	running	\N	\N	\N	\N	2026-11-21 17:12:02.741191+00	\N	2026-11-21 17:12:02.949048+00	b7d6d161-07f1-45ee-88dd-eb474fb51100	2026-11-21 17:12:02.740273+00
1	alice	16386	finished	select 'so it was' as it	\N	\N	\N	\N	743	2026-11-21 17:12:02.604947+00	alice	\N	\N	\N	\N	completed	\N	\N	{"rows":[{"it":"so it was"}],"row_count":1}	\N	2026-11-21 17:12:02.621424+00	2026-11-21 17:12:02.923496+00	2026-11-21 17:12:03.170539+00	c78e53c8-0ea7-4e20-97f4-e7449852253b	2026-11-21 17:12:02.607479+00
27	alice	16386	~24/2	{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{of}', 'slow' from pg_advisory_xact_lock_shared(7)"},"right_node":{"node_type":"SQL","query":"select 1"}}	\N	\N	{"of": "child"}	\N	794	2026-11-21 17:12:02.749212+00	engine	24	2	child	c395cc76-f320-4da6-8a5f-1a1fbe355050	pending	\N	\N	\N	\N	\N	\N	\N	68b3ce97-f44f-479b-a076-202924cbea85	2026-11-21 17:12:03.787192+00
28	alice	16386	unfolded	{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'one'"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'two'"}}	\N	\N	\N	\N	797	2026-11-21 17:12:04.076804+00	alice	\N	\N	\N	\N	pending	\N	\N	\N	\N	\N	\N	\N	c5d51448-5abc-4ee5-8d7d-dd8033b3a2cc	2026-11-21 17:12:04.077056+00
29	alice	16386	cancelled	{"node_type":"THEN","left_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'one'"},"right_node":{"node_type":"SQL","query":"insert into public.ledger select '{sys_instance_id}', 'two'"}}	\N	\N	\N	\N	798	2026-11-21 17:12:04.07903+00	alice	\N	\N	\N	\N	pending	\N	\N	\N	\N	\N	\N	\N	c4a6eafc-f2e1-41bf-8e3c-88c79264654a	2026-11-21 17:12:04.079169+00
\.


--
-- Data for Name: progress; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.progress (submitted_by, instance_key, nodes, updated_at) FROM stdin;
alice	2	[{"node":1,"step":"1","state":"running"},{"node":4,"step":"4","state":"waiting","signal":"gate"}]	2026-11-21 17:12:02.95771+00
alice	3	[{"node":1,"step":"1","state":"running"},{"node":4,"step":"4","state":"running","attempt":1}]	2026-11-21 17:12:02.95771+00
alice	4	[{"node":1,"step":"1","state":"running"},{"node":4,"step":"4","state":"sleeping","due_us":1795281127936760}]	2026-11-21 17:12:02.95771+00
alice	5	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"sleeping","due_us":1795281180000000}]	2026-11-21 17:12:02.95771+00
alice	6	[{"node":1,"step":"1","state":"running"},{"node":3,"step":"3","state":"running","attempt":1}]	2026-11-21 17:12:02.95771+00
alice	7	[{"node":1,"step":"1","state":"running"},{"node":3,"step":"3","state":"running","attempt":1}]	2026-11-21 17:12:02.95771+00
alice	10	[{"node":1,"step":"1","state":"running"},{"node":4,"step":"4","state":"waiting","signal":"gate"}]	2026-11-21 17:12:02.95771+00
alice	12	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running"},{"node":4,"step":"4","state":"sleeping","due_us":1795367522698239},{"node":3,"step":"3","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	13	[{"node":1,"step":"1","state":"running","items":3,"begun":2},{"node":3,"step":"3.2","state":"running"},{"node":4,"step":"4.2","state":"waiting","signal":"gate"},{"node":3,"step":"3.1","state":"running"},{"node":4,"step":"4.1","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	14	[{"node":1,"step":"1","state":"running","iteration":1},{"node":2,"step":"2.1","state":"running"},{"node":4,"step":"4.1","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	15	[{"node":1,"step":"1","state":"sleeping","iteration":1,"due_us":1795281127712959}]	2026-11-21 17:12:03.194425+00
alice	16	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running","iteration":1},{"node":3,"step":"3.1","state":"running"},{"node":4,"step":"4.1","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	17	[{"node":1,"step":"1","state":"running","attempt":1},{"node":2,"step":"2.1","state":"running"},{"node":5,"step":"5.1","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	18	[{"node":1,"step":"1","state":"running","due_us":1795367522724149},{"node":2,"step":"2","state":"running"},{"node":3,"step":"3","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	19	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running"},{"node":3,"step":"3","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	20	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running","attempt":1}]	2026-11-21 17:12:03.194425+00
alice	21	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running"},{"node":7,"step":"7","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	22	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running"},{"node":3,"step":"3","state":"running"},{"node":4,"step":"4","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	23	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running"},{"node":6,"step":"6","state":"running","attempt":1}]	2026-11-21 17:12:03.194425+00
alice	24	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"waiting","child":"~24/2"}]	2026-11-21 17:12:03.194425+00
alice	25	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"waiting","instance":"then"}]	2026-11-21 17:12:03.194425+00
alice	26	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.194425+00
alice	8	[{"node":1,"step":"1","state":"running"},{"node":5,"step":"5","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.473656+00
alice	11	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running"},{"node":4,"step":"4","state":"running"},{"node":5,"step":"5","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.473656+00
alice	9	[{"node":1,"step":"1","state":"running"},{"node":2,"step":"2","state":"running"},{"node":3,"step":"3","state":"waiting","signal":"gate"}]	2026-11-21 17:12:03.473656+00
\.


--
-- Data for Name: releases; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.releases (owner, instance_id, instance_key, reason, sent_by, folded, event_id, recorded_at) FROM stdin;
\.


--
-- Data for Name: signals; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.signals (owner, instance_id, instance_key, name, data, sent_by, folded, taken_by, event_id, recorded_at) FROM stdin;
16386	buffered	6	gate	{}	16386	t	\N	4a68e073-7a94-429d-b0f1-e85d2cedf92c	2026-11-21 17:12:02.742227+00
16386	stuffed	7	gate	{"long": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}	16386	t	\N	802a8cc7-4cfc-4aea-b033-f0671e6ca820	2026-11-21 17:12:02.744489+00
\.


--
-- Data for Name: states; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.states (instance_key, version, state, wake_at) FROM stdin;
5	1	{"scopes":[[0,{}]],"state":[1,1795281122655781,1795281122655781,{"f":["then",1,[],0,{"f":["schedule",2,[],{"n":1},1795281180000000,"* * * * *","UTC","33e0309e-542b-4598-a253-7863d027b1e7"]}]},null,[],[],[],[],null,[],[],[],[]]}	2026-11-21 17:13:00+00
6	1	{"scopes":[[0,{}]],"state":[2,1795281122743555,1795281122663333,{"f":["then",1,[],0,{"f":["sql",3,[],{"n":1},"702193ae-20f3-4504-b07d-154cf1a01635",1,null]}]},null,[["4a68e073-7a94-429d-b0f1-e85d2cedf92c",1795281122743555,"gate","{}"]],[],[],[],null,[],[],[],[]]}	\N
7	1	{"scopes":[[0,{}]],"state":[2,1795281122744965,1795281122666612,{"f":["then",1,[],0,{"f":["sql",3,[],{"n":1},"d52ceeb4-c9cc-4a2b-9457-8cf84f577f41",1,null]}]},null,[["802a8cc7-4cfc-4aea-b033-f0671e6ca820",1795281122744965,"gate",null]],[],[],[],null,[],[],[],[]]}	\N
10	1	{"scopes":[[0,{}]],"state":[1,1795281122690369,1795281122690369,{"f":["if",1,[],true,4,{"f":["signal",4,[],{"n":1},"gate",null,"244cbd73-a827-4132-9607-4f91d0a3e477"]}]},null,[],[["4",4,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
12	1	{"scopes":[[0,{}]],"state":[1,1795281122698239,1795281122698239,{"f":["then",1,[],0,{"f":["race",2,[],[{"f":["signal",3,[],{"n":1},"gate",null,"85f66b21-cc8e-4c58-aa25-c1d83939c2ef"]},{"f":["sleep",4,[],{"n":1},1795281122698239,1795367522698239,"85f66b21-cc8e-4c58-aa25-c1d83939c2ef"]}],[3,4]]}]},null,[],[["3",3,[],"gate"]],[],[],null,[],[],[],[]]}	2026-11-22 17:12:02.698239+00
2	1	{"scopes":[[0,{}]],"state":[2,1795281122927747,1795281122633714,{"f":["then",1,[],1,{"f":["signal",4,[],{"n":1},"gate",null,"4f0a4f1f-fd23-42ac-9bb3-c32d03c28ab9"]}]},null,[],[["4",4,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
3	1	{"scopes":[[0,{}]],"state":[2,1795281122932834,1795281122638198,{"f":["then",1,[],1,{"f":["sql",4,[],{"n":1},"cf6884e6-1e1d-4233-8612-b5d88897bcdb",1,null]}]},null,[],[],[],[],null,[],[],[],[]]}	\N
4	1	{"scopes":[[0,{}]],"state":[2,1795281122936760,1795281122643654,{"f":["then",1,[],1,{"f":["sleep",4,[],{"n":1},1795281122936760,1795281127936760,"be447941-4c18-4c24-ab00-cbd01113674b"]}]},null,[],[],[],[],null,[],[],[],[]]}	\N
8	1	{"scopes":[[0,{"big":{"r":"4"}}]],"state":[2,1795281123064343,1795281122678568,{"f":["then",1,[],1,{"f":["signal",5,[],{"n":1},"gate",null,"caf0a5df-9988-434f-a228-780b71e33a89"]}]},null,[],[["5",5,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
11	1	{"scopes":[[0,{}],[1,{}],[1,{}]],"state":[2,1795281123067087,1795281122692984,{"f":["then",1,[],0,{"f":["join",2,[],{"n":1},[{"d":[{"v":"{\\"rows\\":[],\\"row_count\\":0,\\"affected\\":1}"},{"n":2}]},{"f":["then",4,[],0,{"f":["signal",5,[],{"n":3},"gate",null,"7bec80f2-5538-4cde-a501-67ef8ecf49d9"]}]}],[3,4],1]}]},null,[],[["5",5,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
9	1	{"scopes":[[0,{}]],"state":[2,1795281123068968,1795281122682613,{"f":["if",1,[],false,2,{"f":["then",2,[],0,{"f":["signal",3,[],{"n":1},"gate",null,"864c1cf0-ccb9-4110-9333-dea915bc5ebc"]}]}]},null,[],[["3",3,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
14	1	{"scopes":[[0,{}]],"state":[2,1795281123073878,1795281122710653,{"f":["loop",1,[],1,1795281122710653,1,true,"body",{"f":["then",2,[1],1,{"f":["signal",4,[1],{"n":1},"gate",null,"02f5997a-4100-4817-91cd-4c9c395e1005"]}]},{"v":"null"},{"n":1},0,""]},null,[],[["4.1",4,[1],"gate"]],[],[],null,[],[],[],[]]}	infinity
13	1	{"scopes":[[0,{}],[1,{"item":{"v":"{\\"rows\\":[{\\"g\\":1}],\\"row_count\\":1}"}}],[1,{"item":{"v":"{\\"rows\\":[{\\"g\\":2}],\\"row_count\\":1}"}}]],"state":[2,1795281123074488,1795281122703050,{"f":["map",1,[],{"n":1},null,{"v":"{\\"rows\\":[{\\"g\\":1},{\\"g\\":2},{\\"g\\":3}],\\"row_count\\":3}"},[{"f":["then",3,[1],0,{"f":["signal",4,[1],{"n":2},"gate",null,"325cadd3-6b04-4642-bb4a-16b17b8ca92c"]}]},{"f":["then",3,[2],0,{"f":["signal",4,[2],{"n":3},"gate",null,"325cadd3-6b04-4642-bb4a-16b17b8ca92c"]}]},null],2,2,false]},null,[],[["4.1",4,[1],"gate"],["4.2",4,[2],"gate"]],[],[],null,[],[],[],[]]}	infinity
16	1	{"scopes":[[0,{}]],"state":[1,1795281122718831,1795281122718831,{"f":["then",1,[],0,{"f":["loop",2,[],1,1795281122718831,1,true,"body",{"f":["then",3,[1],0,{"f":["signal",4,[1],{"n":1},"gate",null,"64605897-550f-457c-b1d2-6641cbc0e5bc"]}]},{"v":"null"},{"n":1},0,""]}]},null,[],[["4.1",4,[1],"gate"]],[],[],null,[],[],[],[]]}	infinity
18	1	{"scopes":[[0,{}]],"state":[1,1795281122724149,1795281122724149,{"f":["timeout",1,[],{"f":["then",2,[],0,{"f":["signal",3,[],{"n":1},"gate",null,"6f7b7f94-2512-4eb9-9b1a-6c9281c525be"]}]},1795367522724149,"6f7b7f94-2512-4eb9-9b1a-6c9281c525be"]},null,[],[["3",3,[],"gate"]],[],[],null,[],[],[],[]]}	2026-11-22 17:12:02.724149+00
19	1	{"scopes":[[0,{}]],"state":[1,1795281122725977,1795281122725977,{"f":["catch",1,[],{"n":1},"trying",{"f":["then",2,[],0,{"f":["signal",3,[],{"n":1},"gate",null,"491c2260-7056-4fae-8534-53b0b79594af"]}]},null,null]},null,[],[["3",3,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
22	1	{"scopes":[[0,{}]],"state":[1,1795281122730797,1795281122730797,{"f":["then",1,[],0,{"f":["undo",2,[],{"f":["then",3,[],0,{"f":["signal",4,[],{"n":1},"gate",null,"d2ff40d1-7e2c-42d7-ace9-20b77d115ed7"]}]}]}]},null,[],[["4",4,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
24	1	{"scopes":[[0,{}]],"state":[1,1795281122737091,1795281122737091,{"f":["then",1,[],0,{"f":["child",2,[],{"n":1},null,false,false,"c395cc76-f320-4da6-8a5f-1a1fbe355050"]}]},null,[],[],[],[],null,[],[],[],[]]}	\N
25	1	{"scopes":[[0,{}]],"state":[1,1795281122739402,1795281122739402,{"f":["then",1,[],0,{"f":["await",2,[],{"n":1},"then",null,"7a5a95f2-c2d6-4998-93fa-21c11d52ed17"]}]},null,[],[],[],[],null,[],[],[],[]]}	\N
26	1	{"scopes":[[0,{}]],"state":[1,1795281122741191,1795281122741191,{"f":["then",1,[],0,{"f":["signal",2,[],{"n":1},"gate",null,"b7d6d161-07f1-45ee-88dd-eb474fb51100"]}]},null,[],[["2",2,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
17	1	{"scopes":[[0,{}]],"state":[2,1795281123079118,1795281122721811,{"f":["retry",1,[],{"n":1},1,"trying",{"f":["then",2,[1],1,{"f":["signal",5,[1],{"n":1},"gate",null,"83937305-6311-4c86-9b03-2d8018d4812c"]}]},null,0,""]},null,[],[["5.1",5,[1],"gate"]],[],[],null,[],[],[],[]]}	infinity
21	1	{"scopes":[[0,{}]],"state":[2,1795281123086930,1795281122729297,{"f":["catch",1,[],{"n":1},"trying",{"f":["then",2,[],1,{"f":["signal",7,[],{"n":1},"gate",null,"edf42724-0e95-497f-bbfd-289d5fada6ec"]}]},null,null]},null,[],[["7",7,[],"gate"]],[],[],null,[[4,[],{"n":1}]],[],[],[]]}	infinity
15	1	{"scopes":[[0,{}]],"state":[3,1795281123098880,1795281122712959,{"f":["loop",1,[],1,1795281122712959,1,false,"pausing",null,{"v":"{\\"rows\\":[],\\"row_count\\":0,\\"affected\\":1}"},{"n":1},1795281127712959,"4626d19d-92aa-486d-af03-28525f1bfd3a"]},null,[],[],[],[],null,[],[],[],[]]}	\N
23	1	{"scopes":[[0,{}]],"state":[2,1795281123098200,1795281122732242,{"f":["catch",1,[],{"n":1},"trying",{"f":["then",2,[],1,{"f":["sql",6,[],{"n":1},"0022c95a-8b67-4ab3-82a3-0ddf9d32485f",1,null]}]},null,null]},null,[],[],[],[],null,[[3,[],{"n":1}]],[],[],[]]}	\N
20	1	{"scopes":[[0,{}],[1,{"error":{"v":"{\\"message\\": \\"division by zero\\", \\"code\\": \\"22012\\", \\"node\\": 2, \\"step\\": \\"2\\", \\"attempt\\": 1}"}}]],"state":[2,1795281123881019,1795281122727480,{"f":["catch",1,[],{"n":1},"handling",{"f":["then",3,[],0,{"f":["signal",4,[],{"n":2},"gate",null,"e4c40a4a-3a53-4bee-abb0-90b2e8024bca"]}]},{"x":["division by zero","22012",2,"2",1,{}]},{"v":"{\\"message\\": \\"division by zero\\", \\"code\\": \\"22012\\", \\"node\\": 2, \\"step\\": \\"2\\", \\"attempt\\": 1}"}]},null,[],[["4",4,[],"gate"]],[],[],null,[],[],[],[]]}	infinity
\.


--
-- Data for Name: vars; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.vars (owner, name, value) FROM stdin;
\.


--
-- Data for Name: waits; Type: TABLE DATA; Schema: df; Owner: engine
--

COPY df.waits (instance_key, owner, waiter_key, waiter_step, cause, folded, event_id, recorded_at) FROM stdin;
\.


--
-- Data for Name: ledger; Type: TABLE DATA; Schema: public; Owner: alice
--

COPY public.ledger (id, word) FROM stdin;
then	one
statement	one
sleep	one
join	left
loop	body
pause	again
retry	tried
owed	pay
undoing	pay
statement	slow
stuffed	slow
buffered	slow
\.


--
-- Name: instance_keys; Type: SEQUENCE SET; Schema: df; Owner: engine
--

SELECT pg_catalog.setval('df.instance_keys', 29, true);


--
-- PostgreSQL database dump complete
--


insert into df.epoch (epoch) values (1);
--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

--
-- Name: waits a_step_waits_once; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.waits
    ADD CONSTRAINT a_step_waits_once PRIMARY KEY (waiter_key, waiter_step);


--
-- Name: cancellations cancellations_are_events; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.cancellations
    ADD CONSTRAINT cancellations_are_events PRIMARY KEY (owner, event_id);


--
-- Name: checkpoint checkpoint_pkey; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.checkpoint
    ADD CONSTRAINT checkpoint_pkey PRIMARY KEY (only_row);


--
-- Name: epoch epoch_pkey; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.epoch
    ADD CONSTRAINT epoch_pkey PRIMARY KEY (only_row);


--
-- Name: inbox events_wait_in_order; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.inbox
    ADD CONSTRAINT events_wait_in_order PRIMARY KEY (instance_key, lsn, ordinal);


--
-- Name: instances instance_keys_are_unique; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.instances
    ADD CONSTRAINT instance_keys_are_unique UNIQUE (key);


--
-- Name: instances instances_are_named_within_their_submitter; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.instances
    ADD CONSTRAINT instances_are_named_within_their_submitter PRIMARY KEY (submitted_by, id);


--
-- Name: migrations migrations_pkey; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (number);


--
-- Name: completions one_key_one_outcome; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.completions
    ADD CONSTRAINT one_key_one_outcome PRIMARY KEY (run_as, instance_key, step, attempt);


--
-- Name: progress progress_belongs_to_an_instance; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.progress
    ADD CONSTRAINT progress_belongs_to_an_instance PRIMARY KEY (submitted_by, instance_key);


--
-- Name: releases releases_are_events; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.releases
    ADD CONSTRAINT releases_are_events PRIMARY KEY (owner, event_id);


--
-- Name: settings settings_pkey; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (name);


--
-- Name: signals signals_are_events; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.signals
    ADD CONSTRAINT signals_are_events PRIMARY KEY (owner, event_id);


--
-- Name: states states_pkey; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.states
    ADD CONSTRAINT states_pkey PRIMARY KEY (instance_key);


--
-- Name: vars variables_are_named_within_their_owner; Type: CONSTRAINT; Schema: df; Owner: engine
--

ALTER TABLE ONLY df.vars
    ADD CONSTRAINT variables_are_named_within_their_owner PRIMARY KEY (owner, name);


--
-- Name: cancellations_of_an_instance; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX cancellations_of_an_instance ON df.cancellations USING btree (owner, instance_id);


--
-- Name: children_of; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX children_of ON df.instances USING btree (submitted_by, parent_key) WHERE (parent_key IS NOT NULL);


--
-- Name: instances_by_time; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX instances_by_time ON df.instances USING btree (submitted_by, created_at, id);


--
-- Name: labelled_instances_by_time; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX labelled_instances_by_time ON df.instances USING btree (submitted_by, label, created_at, id) WHERE (label IS NOT NULL);


--
-- Name: quarantined_instances; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX quarantined_instances ON df.instances USING btree (submitted_by, key) WHERE (quarantined IS NOT NULL);


--
-- Name: releases_of_an_instance; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX releases_of_an_instance ON df.releases USING btree (owner, instance_id);


--
-- Name: signals_to_an_instance; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX signals_to_an_instance ON df.signals USING btree (owner, instance_id);


--
-- Name: sleepers; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX sleepers ON df.states USING btree (wake_at) WHERE (wake_at IS NOT NULL);


--
-- Name: unsuccessful_instances_by_time; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX unsuccessful_instances_by_time ON df.instances USING btree (submitted_by, unsuccessful, created_at, id) WHERE (unsuccessful IS NOT NULL);


--
-- Name: waits_for; Type: INDEX; Schema: df; Owner: engine
--

CREATE INDEX waits_for ON df.waits USING btree (instance_key);


--
-- Name: cancellations 00_guard; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "00_guard" BEFORE INSERT ON df.cancellations FOR EACH ROW EXECUTE FUNCTION df.commands_guard();

ALTER TABLE df.cancellations ENABLE ALWAYS TRIGGER "00_guard";


--
-- Name: instances 00_guard; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "00_guard" BEFORE INSERT ON df.instances FOR EACH ROW EXECUTE FUNCTION df.instances_guard();

ALTER TABLE df.instances ENABLE ALWAYS TRIGGER "00_guard";


--
-- Name: releases 00_guard; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "00_guard" BEFORE INSERT ON df.releases FOR EACH ROW EXECUTE FUNCTION df.commands_guard();

ALTER TABLE df.releases ENABLE ALWAYS TRIGGER "00_guard";


--
-- Name: signals 00_guard; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "00_guard" BEFORE INSERT ON df.signals FOR EACH ROW EXECUTE FUNCTION df.commands_guard();

ALTER TABLE df.signals ENABLE ALWAYS TRIGGER "00_guard";


--
-- Name: vars 00_removed; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "00_removed" AFTER INSERT OR UPDATE ON df.vars FOR EACH ROW WHEN ((new.value IS NULL)) EXECUTE FUNCTION df.vars_removed();

ALTER TABLE df.vars ENABLE ALWAYS TRIGGER "00_removed";


--
-- Name: cancellations 01_check; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "01_check" AFTER INSERT ON df.cancellations REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION df.commands_check();

ALTER TABLE df.cancellations ENABLE ALWAYS TRIGGER "01_check";


--
-- Name: releases 01_check; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "01_check" AFTER INSERT ON df.releases REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION df.commands_check();

ALTER TABLE df.releases ENABLE ALWAYS TRIGGER "01_check";


--
-- Name: signals 01_check; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "01_check" AFTER INSERT ON df.signals REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION df.commands_check();

ALTER TABLE df.signals ENABLE ALWAYS TRIGGER "01_check";


--
-- Name: instances 01_key; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "01_key" BEFORE INSERT ON df.instances FOR EACH ROW EXECUTE FUNCTION df.instances_key();

ALTER TABLE df.instances ENABLE ALWAYS TRIGGER "01_key";


--
-- Name: instances 02_validate; Type: TRIGGER; Schema: df; Owner: engine
--

CREATE TRIGGER "02_validate" AFTER INSERT ON df.instances REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION df.instances_validate();

ALTER TABLE df.instances ENABLE ALWAYS TRIGGER "02_validate";


--
-- Name: cancellations; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.cancellations ENABLE ROW LEVEL SECURITY;

--
-- Name: checkpoint; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.checkpoint ENABLE ROW LEVEL SECURITY;

--
-- Name: completions; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.completions ENABLE ROW LEVEL SECURITY;

--
-- Name: epoch; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.epoch ENABLE ROW LEVEL SECURITY;

--
-- Name: heartbeats; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.heartbeats ENABLE ROW LEVEL SECURITY;

--
-- Name: inbox; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.inbox ENABLE ROW LEVEL SECURITY;

--
-- Name: cancellations insert_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY insert_own ON df.cancellations FOR INSERT WITH CHECK (((sent_by = df.me()) AND pg_has_role(owner, 'USAGE'::text) AND (NOT folded)));


--
-- Name: completions insert_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY insert_own ON df.completions FOR INSERT WITH CHECK (((run_as = df.me()) AND (written_by = run_as)));


--
-- Name: instances insert_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY insert_own ON df.instances FOR INSERT WITH CHECK ((((submitted_by)::oid = df.me()) AND (submitter = df.me()) AND (parent_key IS NULL) AND (status = 'pending'::text)));


--
-- Name: releases insert_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY insert_own ON df.releases FOR INSERT WITH CHECK (((sent_by = df.me()) AND pg_has_role(owner, 'USAGE'::text) AND (NOT folded)));


--
-- Name: signals insert_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY insert_own ON df.signals FOR INSERT WITH CHECK (((sent_by = df.me()) AND pg_has_role(owner, 'USAGE'::text) AND (NOT folded)));


--
-- Name: instances; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.instances ENABLE ROW LEVEL SECURITY;

--
-- Name: migrations; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.migrations ENABLE ROW LEVEL SECURITY;

--
-- Name: vars own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY own ON df.vars USING ((((( SELECT jsonb_build_object((df.me())::integer, true) AS jsonb_build_object))[((owner)::oid)::integer] IS NOT NULL) AND ((owner)::oid = df.me()))) WITH CHECK (((owner)::oid = df.me()));


--
-- Name: progress; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.progress ENABLE ROW LEVEL SECURITY;

--
-- Name: releases; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.releases ENABLE ROW LEVEL SECURITY;

--
-- Name: epoch see_all; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_all ON df.epoch FOR SELECT USING (true);


--
-- Name: settings see_all; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_all ON df.settings FOR SELECT USING (true);


--
-- Name: cancellations see_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_own ON df.cancellations FOR SELECT USING ((((( SELECT df.my_role_keys() AS my_role_keys))[(owner)::integer] IS NOT NULL) AND (owner = ANY (( SELECT df.my_roles() AS my_roles)::oid[]))));


--
-- Name: completions see_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_own ON df.completions FOR SELECT USING ((((( SELECT df.my_role_keys() AS my_role_keys))[(run_as)::integer] IS NOT NULL) AND (run_as = ANY (( SELECT df.my_roles() AS my_roles)::oid[]))));


--
-- Name: instances see_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_own ON df.instances FOR SELECT USING ((((( SELECT df.my_role_keys() AS my_role_keys))[((submitted_by)::oid)::integer] IS NOT NULL) AND ((submitted_by)::oid = ANY (( SELECT df.my_roles() AS my_roles)::oid[]))));


--
-- Name: progress see_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_own ON df.progress FOR SELECT USING ((((( SELECT df.my_role_keys() AS my_role_keys))[((submitted_by)::oid)::integer] IS NOT NULL) AND ((submitted_by)::oid = ANY (( SELECT df.my_roles() AS my_roles)::oid[]))));


--
-- Name: releases see_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_own ON df.releases FOR SELECT USING ((((( SELECT df.my_role_keys() AS my_role_keys))[(owner)::integer] IS NOT NULL) AND (owner = ANY (( SELECT df.my_roles() AS my_roles)::oid[]))));


--
-- Name: signals see_own; Type: POLICY; Schema: df; Owner: engine
--

CREATE POLICY see_own ON df.signals FOR SELECT USING ((((( SELECT df.my_role_keys() AS my_role_keys))[(owner)::integer] IS NOT NULL) AND (owner = ANY (( SELECT df.my_roles() AS my_roles)::oid[]))));


--
-- Name: settings; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.settings ENABLE ROW LEVEL SECURITY;

--
-- Name: signals; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.signals ENABLE ROW LEVEL SECURITY;

--
-- Name: states; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.states ENABLE ROW LEVEL SECURITY;

--
-- Name: vars; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.vars ENABLE ROW LEVEL SECURITY;

--
-- Name: waits; Type: ROW SECURITY; Schema: df; Owner: engine
--

ALTER TABLE df.waits ENABLE ROW LEVEL SECURITY;

--
-- Name: walflow; Type: PUBLICATION; Schema: -; Owner: engine
--

CREATE PUBLICATION walflow WITH (publish = 'insert');


ALTER PUBLICATION walflow OWNER TO engine;

--
-- Name: walflow cancellations; Type: PUBLICATION TABLE; Schema: df; Owner: engine
--

ALTER PUBLICATION walflow ADD TABLE ONLY df.cancellations (owner, instance_id, instance_key, reason, sent_by, event_id, recorded_at);


--
-- Name: walflow completions; Type: PUBLICATION TABLE; Schema: df; Owner: engine
--

ALTER PUBLICATION walflow ADD TABLE ONLY df.completions (run_as, instance_key, step, attempt, written_by, outcome, cause, event_id, recorded_at, result, error);


--
-- Name: walflow heartbeats; Type: PUBLICATION TABLE; Schema: df; Owner: engine
--

ALTER PUBLICATION walflow ADD TABLE ONLY df.heartbeats (epoch, event_id, recorded_at);


--
-- Name: walflow instances; Type: PUBLICATION TABLE; Schema: df; Owner: engine
--

ALTER PUBLICATION walflow ADD TABLE ONLY df.instances (key, submitter, id, graph, label, input, vars, database, parent_key, parent_step, status, event_id, recorded_at);


--
-- Name: walflow releases; Type: PUBLICATION TABLE; Schema: df; Owner: engine
--

ALTER PUBLICATION walflow ADD TABLE ONLY df.releases (owner, instance_id, instance_key, reason, sent_by, event_id, recorded_at);


--
-- Name: walflow signals; Type: PUBLICATION TABLE; Schema: df; Owner: engine
--

ALTER PUBLICATION walflow ADD TABLE ONLY df.signals (owner, instance_id, instance_key, name, data, sent_by, event_id, recorded_at);


--
-- Name: walflow waits; Type: PUBLICATION TABLE; Schema: df; Owner: engine
--

ALTER PUBLICATION walflow ADD TABLE ONLY df.waits (instance_key, owner, waiter_key, waiter_step, event_id, recorded_at);


--
-- PostgreSQL database dump complete
--


