-- Reading: lists, the state of each node, histories. All SECURITY INVOKER under row-level security, but for df.metrics and
-- df.engines_completions, which say why. Each looks up one index range for every role whose instances the caller sees, never
-- relying on the policy alone.
--
-- What an index on df.instances costs: every checkpoint updates the status, and stays HOT only while no column of any index
-- changes. So no index has the status in it. df.instances.unsuccessful is null in all that goes well, and the few rows that
-- fail or are cancelled pay for their place in its index. What is unfinished has a row in df.progress as soon as it is
-- older than a moment; what is younger is among the newest.

-- A column that is null until an instance fails or is cancelled, so that finding these costs the others nothing.
alter table df.instances
  add column unsuccessful text generated always as (case when status in ('failed', 'cancelled') then status end) stored;
alter table df.instances alter column unsuccessful set statistics 0;
comment on column df.instances.unsuccessful is 'The status where it is failed or cancelled.';

-- Half of each page is left for the two updates that an instance usually sees: at 70 % four in ten of them found no room and paid
-- for a place in every index. With these indexes and this room a workflow costs less log than before.
alter table df.instances set (fillfactor = 50);

create index instances_by_time on df.instances (submitted_by, created_at, id);
create index unsuccessful_instances_by_time on df.instances (submitted_by, unsuccessful, created_at, id) where unsuccessful is not null;
create index labelled_instances_by_time on df.instances (submitted_by, label, created_at, id) where label is not null;
create index quarantined_instances on df.instances (submitted_by, key) where quarantined is not null;
create index signals_to_an_instance on df.signals (owner, instance_id);
create index cancellations_of_an_instance on df.cancellations (owner, instance_id);
create index releases_of_an_instance on df.releases (owner, instance_id);

-- The key of an instance that has to be there.
create function df.require_key(p_function text, p_id text)
  returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.require_key(text, text) is 'api: the key of the instance that an id means; raises when there is none';

-- Raises for a number of rows that nobody may ask for at once.
create function df.require_limit(p_function text, p_limit integer, p_hint text)
  returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_most integer := df.setting('list_limit')::integer;
begin
  if p_limit is null or not p_limit between 1 and v_most then
    raise exception 'df.%: limit_count must be from 1 to %, not %', p_function, v_most, coalesce(p_limit::text, 'NULL')
      using errcode = 'invalid_parameter_value', hint = p_hint;
  end if;
end
$$;
comment on function df.require_limit(text, integer, text) is 'api: raises for a limit_count that is none';

-- --- what was sent to an instance -------------------------------------------------------------------------------------

-- What came before the instance's row has no key.
create function df.signals_to(p_key bigint)
  returns setof df.signals
  language sql stable
begin atomic
  select s.*
    from df.instances i
    join df.signals s on s.owner = i.submitter and s.instance_id = i.id and (s.instance_key is null or s.instance_key = i.key)
   where i.key = p_key;
end;
comment on function df.signals_to(bigint) is 'api: the signals of an instance';

create function df.commands_to(p_key bigint)
  returns table (kind text, reason text, sent_by oid, folded boolean, at timestamptz)
  language sql stable
begin atomic
  select 'cancellation', c.reason, c.sent_by, c.folded, c.recorded_at
    from df.instances i
    join df.cancellations c on c.owner = i.submitter and c.instance_id = i.id and (c.instance_key is null or c.instance_key = i.key)
   where i.key = p_key
  union all
  select 'release', r.reason, r.sent_by, r.folded, r.recorded_at
    from df.instances i
    join df.releases r on r.owner = i.submitter and r.instance_id = i.id and (r.instance_key is null or r.instance_key = i.key)
   where i.key = p_key;
end;
comment on function df.commands_to(bigint) is 'api: the cancellations and releases of an instance';

-- --- graphs -----------------------------------------------------------------------------------------------------------

-- The nodes of a graph by their numbers: pre-order, itself, left, right, condition, extra, as in step keys. The texts are
-- those of a valid graph; of one that is not, whatever is there.
create function df.number_nodes(
  p_graph        text,
  out kinds      text[],
  out queries    text[],
  out names      text[],
  out parents    integer[],
  out roles      text[],     -- L R C X, root
  out lefts      integer[],
  out rights     integer[],
  out conditions integer[],
  out lasts      integer[],  -- the highest number in the node's subtree
  out levels     integer[]   -- repeating nodes around it: as many indices its step keys have
)
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
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
comment on function df.number_nodes(text) is 'api: the nodes of a graph by their numbers';

-- A step key as text that sorts as its indices do, without the node; null where it is not the engine's kind of key.
create function df.step_path(p_step text)
  returns text
  language sql immutable parallel safe
begin atomic
  select case
           when p_step operator(pg_catalog.!~) '^[1-9][0-9]{0,8}(\.[1-9][0-9]{0,8})*$' then null
           when pg_catalog.strpos(p_step, '.') = 0 then ''
           else (select pg_catalog.string_agg(pg_catalog.lpad(x.part, 10, '0'), '.' order by x.n)
                   from pg_catalog.string_to_table(p_step, '.') with ordinality as x(part, n)
                  where x.n > 1)
         end;
end;
comment on function df.step_path(text) is 'api: the indices of a step key, as text that sorts as they do';

-- How long the path of a step is that has so many indices. Inlined.
create function df.path_length(p_level integer)
  returns integer
  language sql immutable parallel safe
begin atomic
  select greatest(11 * p_level - 1, 0);
end;
comment on function df.path_length(integer) is 'api: the length of a step path with so many indices';

-- --- the state of each node -------------------------------------------------------------------------------------------

-- The engine's own completions (timers, children, requests) stand under run_as 0, which is nobody's to read: a policy that let
-- owners see them would have to look the instance up, and conditions of the caller's would run before it. So whoever shows the
-- instance's event_id gets them: it is random, and to be read only in the instance's row. SECURITY DEFINER for that reason.
create function df.engines_completions(p_key bigint, p_event_id uuid)
  returns setof df.completions
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
begin atomic
  select c.*
    from df.instances i
    join df.completions c on c.run_as = 0 and c.instance_key = i.key
   where i.key = p_key and i.event_id = p_event_id;
end;
comment on function df.engines_completions(bigint, uuid) is 'api: what the engine itself completed in an instance, for who knows its event_id';

-- Everything that was completed in an instance.
create function df.all_completions(p_key bigint)
  returns setof df.completions
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select c.*
    from df.instances i
    join df.completions c on c.run_as = i.submitter and c.instance_key = i.key
   where i.key = p_key
  union all
  select c.*
    from df.instances i
   cross join lateral df.engines_completions(i.key, i.event_id) as c
   where i.key = p_key;
end;
comment on function df.all_completions(bigint) is 'api: everything that was completed in an instance';

-- What is known of each step of an instance, one row a record: completions, signals that were taken, children, open frames.
-- The engine ignores completions whose run_as is not the one that the node prescribes, and so does this.
create function df.step_records(p_key bigint)
  returns table (
    node    integer,
    step    text,
    path    text,
    source  integer,  -- 1 an open frame, 2 a child, 3 a signal taken, 4 a completion
    attempt integer,
    outcome text,
    result  json,
    error   json,
    details jsonb,
    at      timestamptz
  )
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  with i as materialized (
    select n.key, n.submitted_by, n.submitter, n.id from df.instances n where n.key = p_key
  )
  select (split_part(r.step, '.', 1))::integer, r.step, df.step_path(r.step), r.source, r.attempt, r.outcome, r.result, r.error,
         r.details, r.at
    from (
      select c.step, 4 as source, c.attempt, c.outcome, c.result, c.error,
             jsonb_strip_nulls(jsonb_build_object(
               'run_as', c.run_as::int8, 'repetitions', nullif(c.repetitions, 0), 'started_at', c.started_at,
               'duration_ms', round(extract(epoch from c.recorded_at - c.started_at) * 1000, 3), 'note', c.note)) as details,
             c.recorded_at as at
        from df.all_completions(p_key) c
      union all
      select s.taken_by, 3, null, 'completed',
             json_build_object('signal_name', s.name, 'timed_out', false, 'data', s.data), null,
             jsonb_build_object('sent_by', quote_ident((select a.rolname from pg_roles a where a.oid = s.sent_by))),
             s.recorded_at
        from df.signals_to(p_key) s
       where s.taken_by is not null
      union all
      select c.parent_step, 2, null, 'running', null, null, jsonb_build_object('child', c.id), c.created_at
        from i join df.instances c on c.submitter = i.submitter and c.parent_key = i.key
       where c.parent_key is not null and c.submitted_by = i.submitted_by
      union all
      select f.frame ->> 'step', 1, null, 'running', null, null,
             (f.frame - 'node' - 'step' - 'due_us')
               || case when f.frame ? 'due_us'
                       then jsonb_build_object('due', to_timestamp((f.frame ->> 'due_us')::numeric / 1000000))
                       else '{}' end,
             p.updated_at
        from i
        join df.progress p on p.submitted_by = i.submitted_by and p.instance_key = i.key
       cross join jsonb_array_elements(p.nodes::jsonb) as f(frame)
    ) as r
   where r.step ~ '^[1-9][0-9]{0,8}(\.[1-9][0-9]{0,8})*$';
end;
comment on function df.step_records(bigint) is 'api: what is known of the steps of an instance';

-- Is a result true? LANGUAGE.md section 5.
create function df.is_true(p_result json)
  returns boolean
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
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
$$;
comment on function df.is_true(json) is 'api: is a result true';

-- One row a node. Three passes over the numbered nodes: upwards, which iteration is the current one and how far a node with
-- children has come by these; downwards, what follows for those that left no record from what became of their ancestors.
-- status is null where nothing is known of a node itself.
create function df.node_states(p_key bigint)
  returns table (
    number    integer,
    kind      text,
    query     text,
    name      text,
    lft       integer,
    rgt       integer,
    status    text,
    result    json,
    details   jsonb,
    inferred  text,
    ancestor  integer,
    at        timestamptz
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
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
$$;
comment on function df.node_states(bigint) is 'api: what is known, and what follows, of each node of an instance';

create function df.instance_nodes(id text)
  returns table (
    node_id                           integer,
    node_type                         text,
    query                             text,
    result_name                       text,
    left_node                         integer,
    right_node                        integer,
    status                            text,
    result                            json,
    status_details                    jsonb,
    inferred_status                   text,
    inferred_status_from_ancestor_id  integer,
    updated_at                        timestamptz
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select * from df.node_states(df.require_key('instance_nodes', instance_nodes.id)) as n order by n.number;
end
$$;
comment on function df.instance_nodes(text) is 'api: the nodes of an instance and what has become of them, as of the last checkpoint';

create view df.nodes with (security_invoker = true) as
  select n.number as id, i.id as instance_id, n.number as node_id, n.kind as node_type, n.query, n.name as result_name,
         n.lft as left_node, n.rgt as right_node, n.status, n.result, n.details as status_details,
         n.inferred as inferred_status, n.ancestor as inferred_status_from_ancestor_id, n.at as updated_at
    from df.instances i
   cross join lateral df.node_states(i.key) as n
   where i.submitted_by = any ((select df.seen_roles())::oid[]);
comment on view df.nodes is 'The nodes of all instances that the caller sees. Ask for one instance: each is worked out anew.';

-- --- lists ------------------------------------------------------------------------------------------------------------

-- The type of a graph's root, whatever the order of its keys. A graph that was written past the validation spoils no list.
create function df.parsed_root_type(p_graph text)
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (df.number_nodes(p_graph)).kinds[1];
exception
  when invalid_parameter_value then
    return null;
end
$$;
comment on function df.parsed_root_type(text) is 'api: the node_type of a graph''s root, null when it is no graph';

-- The type of a graph's root: what list_instances calls the function. Not pinned, so that it is inlined: bound at its creation,
-- and of a graph as the builders write it only the beginning is read.
create function df.root_type(p_graph text)
  returns text
  language sql immutable parallel safe
begin atomic
  select case
           when pg_catalog.starts_with(p_graph, '{"node_type":"')
             then pg_catalog.split_part(pg_catalog.substr(p_graph, 15, 40), '"', 1)
           when df.is_node(p_graph) then df.parsed_root_type(p_graph)
           else 'SQL'
         end;
end;
comment on function df.root_type(text) is 'api: the node_type of a graph''s root';

-- The first LOOP of a graph that no other repeating node runs, and the last node inside it; no row when there is none.
create function df.outermost_loop(p_graph text, out node integer, out last integer)
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
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
comment on function df.outermost_loop(text) is 'api: the outermost loop of a graph';

-- How many generations of the outermost loop an instance with one has begun.
create function df.loop_generations(p_key bigint, p_graph text)
  returns integer
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.loop_generations(bigint, text) is 'api: how many generations of its outermost loop an instance has begun';

-- The same of any instance: 1 without a loop, 0 before it has started. Inlined.
create function df.generations(p_key bigint, p_graph text, p_started timestamptz)
  returns integer
  language sql stable
begin atomic
  select case
           when p_started is null then 0
           when pg_catalog.strpos(p_graph, 'LOOP') = 0 then 1
           else df.loop_generations(p_key, p_graph)
         end;
end;
comment on function df.generations(bigint, text, timestamptz) is 'api: how many generations of its outermost loop an instance has begun, 1 without a loop';

create type df.listed_instance as (key bigint, created_at timestamptz, id text, label text, status text);
comment on type df.listed_instance is 'What df.page_of_instances sorts by.';

-- The keys of a page of instances, newest first. Which index is read depends on what is asked for; each is read newest first
-- for every role, whatever the planner thinks, which has no statistics. What is unfinished has no index: it has a row in df.progress as soon as it is older than a moment, and what
-- has none yet, or waits to be admitted, is looked for among the newest.
create function df.page_of_instances(p_status text, p_label text, p_before timestamptz, p_before_id text, p_count integer)
  returns table (key bigint, created_at timestamptz, id text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
as $$
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
comment on function df.page_of_instances(text, text, timestamptz, text, integer) is 'api: the keys of a page of df.list_instances';

-- The cursor is the place of a page's last row: microseconds and id. next_cursor is the same in all rows of a page, and null
-- in the last one.
create function df.list_instances(
  status_filter text default null,
  limit_count   integer default 100,
  label_filter  text default null,
  after_cursor  text default null
)
  returns table (
    instance_id     text,
    label           text,
    function_name   text,
    status          text,
    execution_count integer,
    output          json,
    created_at      timestamptz,
    completed_at    timestamptz,
    next_cursor     text
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
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
$$;
comment on function df.list_instances(text, integer, text, text) is
  'api: instances, newest first. Of more than 5,000, those pending or running for less than a moment may be missing under status_filter.';

create function df.instance_info(id text)
  returns table (
    instance_id          text,
    label                text,
    function_name        text,
    function_version     text,
    current_execution_id integer,
    status               text,
    output               json
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select i.id, i.label, df.root_type(i.graph), df.version(), df.generations(i.key, i.graph, i.started_at), i.status,
           coalesce(i.result, i.error)
      from df.instances i
     where i.key = df.require_key('instance_info', instance_info.id);
end
$$;
comment on function df.instance_info(text) is 'api: one instance at a glance';

-- Newest first. What is before the loop counts to the first generation, what is after it to the last.
create function df.instance_executions(id text, limit_count integer default 5)
  returns table (
    execution_id integer,
    status       text,
    event_count  bigint,
    duration_ms  bigint,
    output       json
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.instance_executions(text, integer) is
  'api: the generations of an instance''s outermost loop, newest first, as far as their history is kept; one without a loop';

-- --- histories --------------------------------------------------------------------------------------------------------

-- What happened, in order. `who` is a role: whose instance it is, who signalled, who cancelled. `query` is what ran.
create function df.history_of(p_key bigint)
  returns table (
    number      bigint,
    at          timestamptz,
    event       text,
    node_id     integer,
    node_type   text,
    step        text,
    attempt     integer,
    repetitions integer,
    query       text,
    outcome     text,
    result      json,
    error       json,
    started_at  timestamptz,
    duration_ms numeric,
    who         text,
    note        text
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.history_of(bigint) is 'api: what happened in the instance of a key, in order';

create function df.history(id text)
  returns table (
    number      bigint,
    at          timestamptz,
    event       text,
    node_id     integer,
    node_type   text,
    step        text,
    attempt     integer,
    repetitions integer,
    query       text,
    outcome     text,
    result      json,
    error       json,
    started_at  timestamptz,
    duration_ms numeric,
    who         text,
    note        text
  )
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query select * from df.history_of(df.require_key('history', history.id)) as h order by h.number;
end
$$;
comment on function df.history(text) is 'api: what happened in an instance, in order';

-- --- totals -----------------------------------------------------------------------------------------------------------

-- Over all roles, so it is granted by itself: grant execute on function df.metrics() to …, besides usage on the schema.
-- SECURITY DEFINER because df.checkpoint is nobody's to read; it takes no argument, and what it tells is numbers.
create function df.metrics()
  returns table (
    total_instances     bigint,
    running_instances   bigint,
    completed_instances bigint,
    failed_instances    bigint,
    total_executions    bigint,
    total_events        bigint
  )
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
begin atomic
  select c.started_total, c.started_total - c.completed_total - c.failed_total - c.cancelled_total, c.completed_total, c.failed_total,
         c.executions_total, c.events_total
    from df.checkpoint c;
end;
comment on function df.metrics() is 'totals over all roles since the installation, as of the last checkpoint; granted by itself';
