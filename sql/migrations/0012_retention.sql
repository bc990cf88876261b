-- What is removed, and when: finished instances after their time (DESIGN.md §3, Retention), and the early history of loops that
-- go on for ever. Only the engine calls these; engine/upkeep.py says how often.
--
-- Each removal is in two parts. The first looks, and answers with the position of the log and the transaction id that are next
-- *after* what it saw. The second, once a checkpoint has passed that position and the server has been told so, removes what is
-- still as it was seen. By then every row that was visible to the first part has been folded, by whomever it was for, and the
-- states say so: that an instance has ended, and that its parent took in its answer. What the first part saw is repeated
-- under a lock by the second, which takes locks in the order of sql/README.md.
--
-- A completion guards its key: without it a statement of its step that is still under way could commit a second time. So
-- nothing goes while a backend of its role may still be at work from before (`df.roles_at_work`).

insert into df.settings (name, value, description) values
  ('loop_history', '10000', 'iterations of a running loop whose history is kept; 0: all');

-- Vacuum in time, and often a little rather than seldom much. By default a table is vacuumed when a fifth of it is dead: of
-- thirty million finished instances six million, and of states only after a burst has made the table several times as large as
-- what lives in it. (Under a steady load every update of these tables stays on its page and is cleaned up by the next one
-- there: bench/upkeep.py; vacuum has only what was deleted.) Inserts count, too, so that freezing is spread over the days.
alter table df.instances set (
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_scale_factor = 0.05);
alter table df.completions set (
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_scale_factor = 0.05,
  toast.autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_vacuum_threshold = 5000);
alter table df.states set (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
  toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 500);
alter table df.progress set (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
  toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 500);
alter table df.signals set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table df.inbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
-- One page each, which every step, checkpoint or heartbeat reads: cutting off empty pages would lock all of these out for nothing.
alter table df.epoch set (vacuum_truncate = off);
alter table df.checkpoint set (vacuum_truncate = off);
alter table df.heartbeats set (vacuum_truncate = off);

-- Has a checkpoint passed this position, and the server been told? Only then is nothing before it sent or folded again.
create function df.is_confirmed(p_slot text, p_seen pg_lsn)
  returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(
    (select not c.scanning and c.lsn >= p_seen and s.confirmed_flush_lsn >= p_seen
       from df.checkpoint c
       join pg_replication_slots s on s.slot_name = c.slot_name
      where c.slot_name = p_slot),
    false);
end;
comment on function df.is_confirmed(text, pg_lsn) is 'whether everything before a position of the log is folded for good';

-- The step connections that there are, of whatever engine.
create function df.step_backends()
  returns integer[]
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(array_agg(a.pid), '{}')
    from pg_stat_activity a
   where a.datname = current_database()
     and a.application_name = 'walflow';
end;
comment on function df.step_backends() is 'process ids of the step connections';

-- Roles of which a backend may still run a step from before a look: one of the step connections that were there then (of an
-- earlier engine, or one that this engine has closed and the server not yet: it may hold a statement in its buffer), or a
-- transaction that is as old, whatever it calls itself. p_known: those in which the engine knows of nothing but steps that
-- no row has answered. What was opened since runs nothing older: whoever does not lead any more is told so by df.step.
create function df.roles_at_work(p_xid xid8, p_backends integer[], p_known integer[])
  returns oid[]
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(array_agg(distinct a.usesysid), '{}')
    from pg_stat_activity a
   where a.datname = current_database()
     and a.pid <> all (p_known)
     and (a.application_name = 'walflow' and a.pid = any (p_backends)
          or greatest(age(a.backend_xid), age(a.backend_xmin)) >= age(p_xid::xid));
end;
comment on function df.roles_at_work(xid8, integer[], integer[]) is 'roles of which an old backend may still run a step';

-- --- finished instances -----------------------------------------------------------------------------------------------

-- Looks at the p_looks instances that follow p_after in the order of their keys, which is about that of their starts: no index
-- on the time of the end is needed, which every end would have to pay for. `ended`: those that follow are too young. (What is of
-- a time to come was started while the clock was wrong, and must not end every pass for years.)
create function df.find_finished(
  p_older_than interval,
  p_after      bigint,
  p_looks      integer,
  out keys     bigint[],
  out after    bigint,
  out ended    boolean,
  out seen     pg_lsn,
  out xid      xid8,
  out backends integer[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off  -- what must be read whole has a forbidding cost then, for which it would be compiled, for a third of a second
as $$
declare
  v_until timestamptz := clock_timestamp() - p_older_than;
begin
  select coalesce(array_agg(l.key order by l.key) filter (where l.due), '{}'),
         coalesce(max(l.key) filter (where not l.young), p_after),
         count(*) < p_looks or (array_agg(l.young order by l.key desc))[1]
    into keys, after, ended
    from (
      select i.key,
             i.recorded_at >= v_until and i.recorded_at <= clock_timestamp() as young,
             df.is_final(i.status) and i.finished_at < v_until as due
        from df.instances i
       where i.key > p_after
       order by i.key
       limit p_looks) as l;
  xid := pg_snapshot_xmax(pg_current_snapshot());
  backends := df.step_backends();
  seen := pg_current_wal_insert_lsn();
end
$$;
comment on function df.find_finished(interval, bigint, integer) is 'finished instances whose time is over, as of a position of the log';

-- Removes those of p_keys that nothing refers to any more, p_rows rows at most. `removed` is null as long as p_seen is not
-- confirmed. `rest`: of these there is more than p_rows; call again. `busy`: a backend of their role may be at work.
create function df.remove_finished(
  p_epoch      bigint,
  p_slot       text,
  p_keys       bigint[],
  p_seen       pg_lsn,
  p_xid        xid8,
  p_older_than interval,
  p_backends   integer[],
  p_known      integer[],
  p_rows       integer,
  out removed integer,
  out rest    bigint[],
  out busy    bigint[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan  -- tables without statistics: one plan, by indexes, whatever the arrays hold
  set enable_seqscan = off
  set jit = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
declare
  c_commands constant text[] := array['signals', 'cancellations', 'releases'];
  v_roles   oid[];
  v_runners oid[];
  v_keys    bigint[];
  v_table   text;
  v_room    integer := p_rows;
  v_rows    integer;
begin
  if (select e.epoch from df.epoch e) <> p_epoch then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;
  if not df.is_confirmed(p_slot, p_seen) then
    return;
  end if;
  v_roles := df.roles_at_work(p_xid, p_backends, p_known);

  -- whoever begins to wait for one of them locks it, too
  v_keys := array(
    select i.key
      from df.instances i
     where i.key = any (p_keys)
       and df.is_final(i.status)
       and i.finished_at < clock_timestamp() - p_older_than
       and i.quarantined is null
     order by i.key
       for update skip locked);
  v_keys := array(
    select i.key
      from df.instances i
     where i.key = any (v_keys)
       and not exists (select from df.states s where s.instance_key = i.key)
       -- its parent has folded how it ended
       and not exists (
         select
           from df.instances p
          where p.key = i.parent_key
            and (p.quarantined is not null or exists (select from df.inbox b where b.instance_key = p.key)))
       -- whoever waits for it has been answered
       and not exists (
         select
           from df.waits w
          where w.instance_key = i.key
            and (not w.folded
                 or not exists (
                      select
                        from df.completions c
                       where c.run_as = 0 and c.instance_key = w.waiter_key and c.step = w.waiter_step and c.attempt = 1)
                    and exists (select from df.instances v where v.key = w.waiter_key and not df.is_final(v.status))))
       -- no mark is owed to a row of its own
       and not exists (select from df.waits w where w.waiter_key = i.key and not w.folded)
       and not exists (
         select from df.signals s
          where s.owner = i.submitter and s.instance_id = i.id and coalesce(s.instance_key, i.key) = i.key and not s.folded)
       and not exists (
         select from df.cancellations s
          where s.owner = i.submitter and s.instance_id = i.id and coalesce(s.instance_key, i.key) = i.key and not s.folded)
       and not exists (
         select from df.releases s
          where s.owner = i.submitter and s.instance_id = i.id and coalesce(s.instance_key, i.key) = i.key and not s.folded));
  busy := array(select i.key from df.instances i where i.key = any (v_keys) and i.submitter = any (v_roles));
  v_keys := array(select k from unnest(v_keys) as k where k <> all (busy));
  removed := 0;
  rest := '{}';
  if cardinality(v_keys) = 0 then
    return;
  end if;

  foreach v_table in array c_commands loop
    execute format($delete$
      delete from df.%I c
       where c.ctid = any (array(
         select s.ctid
           from df.instances i
           join df.%I s on s.owner = i.submitter and s.instance_id = i.id and coalesce(s.instance_key, i.key) = i.key
          where i.key = any ($1)
          limit $2))
      $delete$, v_table, v_table)
      using v_keys, v_room;
    get diagnostics v_rows = row_count;
    v_room := v_room - v_rows;
  end loop;
  delete from df.waits d
   where d.ctid = any (array(
     select w.ctid from unnest(v_keys) as k join df.waits w on w.instance_key = k
     union
     select w.ctid from unnest(v_keys) as k join df.waits w on w.waiter_key = k
      limit v_room));
  get diagnostics v_rows = row_count;
  v_room := v_room - v_rows;

  -- whoever inserted them: what a stranger left under an instance goes with it
  with recursive runners as (
    (select c.run_as from df.completions c order by c.run_as limit 1)
    union all
    select (select c.run_as from df.completions c where c.run_as > r.run_as order by c.run_as limit 1)
      from runners r
     where r.run_as is not null
  )
  select array_agg(r.run_as) into v_runners from runners r where r.run_as is not null;
  delete from df.completions d
   where d.ctid = any (array(
     select c.ctid
       from unnest(v_keys) as k
      cross join unnest(v_runners) as r
       join df.completions c on c.run_as = r and c.instance_key = k
      limit v_room));
  get diagnostics v_rows = row_count;
  v_room := v_room - v_rows;

  if v_room <= 0 then
    rest := array(
      select i.key
        from df.instances i
       where i.key = any (v_keys)
         and (exists (
                select
                  from unnest(v_runners) as r
                  join df.completions c on c.run_as = r and c.instance_key = i.key)
              or exists (select from df.waits w where w.instance_key = i.key)
              or exists (select from df.waits w where w.waiter_key = i.key)
              or exists (select from df.signals s where s.owner = i.submitter and s.instance_id = i.id)
              or exists (select from df.cancellations s where s.owner = i.submitter and s.instance_id = i.id)
              or exists (select from df.releases s where s.owner = i.submitter and s.instance_id = i.id)));
    v_keys := array(select k from unnest(v_keys) as k where k <> all (rest));
  end if;
  delete from df.inbox b where b.instance_key = any (v_keys);
  delete from df.progress p
   using df.instances i
   where i.key = any (v_keys) and p.submitted_by = i.submitted_by and p.instance_key = i.key;
  delete from df.instances i where i.key = any (v_keys);
  get diagnostics removed = row_count;
end
$$;
comment on function df.remove_finished is 'removes finished instances with everything of theirs';

-- --- loops ------------------------------------------------------------------------------------------------------------

-- The steps that a state names: of results that it refers to, of what it waits for, of what it keeps for later.
create function df.steps_named(p_state text)
  returns setof text
  language sql immutable
  set search_path = pg_catalog, pg_temp
begin atomic
  select m[1] from regexp_matches(p_state, '"([0-9]+(?:\.[0-9]+)*)"', 'g') as m;
end;
comment on function df.steps_named(text) is 'the steps that the text of a state names';

-- Steps of iterations that are more than p_kept behind that of their loop, p_limit at most, none that the state names. An open
-- loop stands in the state as ["loop", node, indices, iteration, …] (engine/codec.py, engine/nodes/loop.py).
create function df.steps_of_old_iterations(p_key bigint, p_state text, p_kept bigint, p_limit integer)
  returns text[]
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_instance record;
  v_loop     text[];
  v_indices  bigint[];
  v_depth    integer;
  v_upto     bigint;
  v_first    bigint;
  v_last     bigint;
  v_steps    text[] := '{}';
begin
  for v_loop in select regexp_matches(p_state, '\["loop",([0-9]+),\[([0-9,]*)\],([0-9]+),', 'g') loop
    v_upto := v_loop[3]::bigint - p_kept;
    continue when v_upto <= 0;
    if v_instance is null then
      select i.submitter, i.id, (df.number_nodes(i.graph)).lasts into v_instance from df.instances i where i.key = p_key;
      exit when not found;
    end if;
    v_first := v_loop[1];
    v_last := v_instance.lasts[v_first];
    v_indices := string_to_array(v_loop[2], ',')::bigint[];
    v_depth := cardinality(v_indices);
    v_steps := v_steps || array(
      select s.step
        from (
          select c.step from df.completions c where c.run_as in (0, v_instance.submitter) and c.instance_key = p_key
          union
          select g.taken_by
            from df.signals g
           where g.owner = v_instance.submitter and g.instance_id = v_instance.id and g.instance_key = p_key and g.folded
        ) as s
       cross join lateral (
               select case when s.step ~ '^[1-9][0-9]{0,8}(\.[1-9][0-9]{0,8})+$' then string_to_array(s.step, '.')::bigint[] end as key
             ) as k
       where k.key[1] between v_first and v_last
         and k.key[2 : 1 + v_depth] = v_indices
         and k.key[2 + v_depth] <= v_upto
      except
      select df.steps_named(p_state)
       limit p_limit - cardinality(v_steps));
  end loop;
  return v_steps;
end
$$;
comment on function df.steps_of_old_iterations(bigint, text, bigint, integer) is 'steps of a running loop whose history is not kept any more';

-- Looks at the p_looks states that follow p_after, up to the first instance of which something can be removed: `key`, `steps`.
create function df.find_old_iterations(
  p_after bigint,
  p_looks integer,
  p_limit integer,
  out key      bigint,
  out steps    text[],
  out after    bigint,
  out ended    boolean,
  out seen     pg_lsn,
  out xid      xid8,
  out backends integer[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_kept  text := df.setting('loop_history');
  v_state record;
  v_looks integer := 0;
begin
  after := p_after;
  ended := true;
  -- what somebody mistyped there removes nothing
  if v_kept is null or v_kept !~ '^[0-9]{1,18}$' or v_kept::bigint = 0 then
    return;
  end if;
  for v_state in
    select s.instance_key, s.state
      from df.states s
     where s.instance_key > p_after
     order by s.instance_key
     limit p_looks
  loop
    v_looks := v_looks + 1;
    after := v_state.instance_key;
    if strpos(v_state.state, '["loop",') > 0 then
      steps := df.steps_of_old_iterations(after, v_state.state, v_kept::bigint, p_limit);
      if cardinality(steps) > 0 then
        key := after;
        exit;
      end if;
    end if;
  end loop;
  ended := key is null and v_looks < p_looks;
  xid := pg_snapshot_xmax(pg_current_snapshot());
  backends := df.step_backends();
  seen := pg_current_wal_insert_lsn();
end
$$;
comment on function df.find_old_iterations(bigint, integer, integer) is 'the next running loop with history beyond the limit, as of a position of the log';

-- Removes the completions, taken signals and answered waits of these steps. What is at or below the confirmed position has been
-- folded, and neither the log nor a table scan needs it again, unless the state names it. Null: not now.
create function df.remove_old_iterations(
  p_epoch    bigint,
  p_slot     text,
  p_key      bigint,
  p_steps    text[],
  p_seen     pg_lsn,
  p_xid      xid8,
  p_backends integer[],
  p_known    integer[],
  out removed integer
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
as $$
declare
  v_instance record;
  v_state    text;
  v_steps    text[];
  v_rows     integer;
begin
  if (select e.epoch from df.epoch e) <> p_epoch then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;
  if not df.is_confirmed(p_slot, p_seen) then
    return;
  end if;
  select i.submitter, i.id into v_instance
    from df.instances i
   where i.key = p_key
     and not df.is_final(i.status)
     and i.quarantined is null
     and i.submitter <> all (df.roles_at_work(p_xid, p_backends, p_known))
     for no key update skip locked;
  if not found or exists (select from df.inbox b where b.instance_key = p_key) then
    return;
  end if;
  select s.state into v_state from df.states s where s.instance_key = p_key;
  if not found then
    return;
  end if;
  v_steps := array(select unnest(p_steps) except select df.steps_named(v_state));

  delete from df.signals s
   where s.owner = v_instance.submitter and s.instance_id = v_instance.id and s.instance_key = p_key
     and s.folded and s.taken_by = any (v_steps)
     and strpos(v_state, s.event_id::text) = 0;
  get diagnostics removed = row_count;
  delete from df.waits w where w.waiter_key = p_key and w.waiter_step = any (v_steps) and w.folded;
  delete from df.completions c
   where c.run_as in (0, v_instance.submitter) and c.instance_key = p_key and c.step = any (v_steps);
  get diagnostics v_rows = row_count;
  removed := removed + v_rows;
  update df.instances i set pruned = coalesce(i.pruned, 0) + removed where i.key = p_key and removed > 0;
end
$$;
comment on function df.remove_old_iterations is 'removes the history of early iterations of a running loop';
