-- What the engine writes. Nobody else is granted these.
--
-- Few rows of many are touched, all found by keys, and a session keeps its plans, also those made while the tables were empty:
-- then going through a whole table, or all of an index, is as cheap as looking one key up. So no plan is left to choose from.
-- What is read is a lateral subquery with an OFFSET, which is not taken apart; what is updated is named by arrays of keys
-- besides the join, which is by hash.

-- The end of an instance as a completion of whoever waits for it: the parent's step, or an await_instance. The texts of result
-- and error stay what they are. One that does not fit into a completion with all around it is told as a failure.
create function df.answer(
  p_id     text,
  p_status text,
  p_result json,
  p_error  json,
  out outcome text,
  out result  json,
  out error   json
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.answer(text, text, json, json) is 'the completion that tells of an instance''s end';

-- A checkpoint at p_lsn, one transaction, one round trip. Raises DF001 when another engine leads (nothing is written)
-- and DF002 when rows that it meant to change are not visible yet (it is repeated; see DESIGN.md §3 Visibility). A status is
-- written only when every transaction before it is visible: whoever sees an instance completed sees all that it did.
-- Rows that are missing although every transaction of p_xids is visible are gone: they come back as `gone`.
-- Whoever waits for an instance that is finished with it is answered: a parent's step, and waits that are marked.
-- Answers with the transactions of p_xids that are not visible to it: all others need no waiting for any more.
create function df.write_checkpoint(
  p_epoch        bigint,
  p_lsn          pg_lsn,
  p_xids         xid8[],
  -- instances whose status changed
  p_keys         bigint[],
  p_statuses     text[],
  p_quarantined  text[],
  p_results      text[],
  p_errors       text[],
  p_started      timestamptz[],
  p_finished     timestamptz[],
  -- those of them that have ended and that somebody waits for
  p_ended        bigint[],
  -- states to keep and to drop
  p_state_keys   bigint[],
  p_versions     smallint[],
  p_states       text[],
  p_wakes        timestamptz[],
  p_dropped      bigint[],
  -- marks on commands
  p_signals      uuid[], p_signal_owners oid[], p_signal_takers text[],
  p_cancels      uuid[], p_cancel_owners oid[],
  p_releases     uuid[], p_release_owners oid[],
  p_waiters      bigint[], p_waiter_steps text[],
  -- events set aside, and taken back
  p_inbox        json,
  p_inbox_done   bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[],
  -- what live views show, and of whom they show nothing more
  p_shown        bigint[], p_shown_owners oid[], p_shown_nodes text[],
  p_hidden       bigint[], p_hidden_owners oid[],
  -- added to the totals: started, completed, failed, cancelled, executions, events
  p_counts       bigint[],
  -- starts that wait for admission; null: as before
  p_backlog      json,
  out invisible  xid8[],
  out gone       bigint[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set enable_nestloop = off
  set enable_mergejoin = off
as $$
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
comment on function df.write_checkpoint is 'the engine''s checkpoint: states, statuses, marks and LSN in one transaction';

-- How what the engine inserts begins: an engine that was replaced writes nothing any more.
create function df.require_epoch(p_epoch bigint)
  returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (select e.epoch from df.epoch e) <> p_epoch then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;
end
$$;
comment on function df.require_epoch(bigint) is 'raises DF001 when another engine leads';

-- What a row is caused by must be visible before it is written, so that whoever sees it sees that too. By the caller's snapshot.
create function df.are_visible(p_xids xid8[])
  returns boolean
  language sql stable
begin atomic
  select not exists (select from unnest(p_xids) as x where not pg_visible_in_snapshot(x, pg_current_snapshot()));
end;
comment on function df.are_visible(xid8[]) is 'whether all of these transactions are visible';

-- How attempts ended that the engine decides: failures, cancellations, fired timers. One statement for many.
-- Skipped, for the caller to repeat: a timer that is not due by the database''s clock, and what was caused by a transaction
-- that is not visible yet. A key that is taken stays as it is ("One key, one outcome"). Answers with the ordinals skipped.
-- The timer of a wait for an instance tells what its status is. In the order of keys, as whoever else inserts several: so
-- nobody waits for somebody who waits for him.
create function df.record_completions(
  p_epoch   bigint,
  p_rows    json,
  out skipped integer[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
as $$
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
comment on function df.record_completions is 'the engine''s own completions';

create function df.child_id(p_parent bigint, p_step text)
  returns text
  language sql immutable
  set search_path = pg_catalog, pg_temp
begin atomic
  select '~' || p_parent || '/' || p_step;
end;
comment on function df.child_id(bigint, text) is 'the id of the child that a step starts';

-- Children, each under the id that its parent's step gives it, so that it starts once; the parent's row says whose it is.
-- A detached one answers its parent's step at once. Skipped, for the caller to repeat: what was caused by a transaction that is
-- not visible yet. Answers with the ordinals skipped.
create function df.start_children(
  p_epoch   bigint,
  p_rows    json,
  out skipped integer[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
as $$
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
comment on function df.start_children is 'the engine''s rows in df.instances';

-- Giving up on a child means taking its id: one that is not there yet is inserted cancelled, with its parent's answer, and so
-- never begins. One that runs gets a cancellation, and answers when it has ended. Answers with the ordinals skipped, as above.
create function df.cancel_children(
  p_epoch   bigint,
  p_rows    json,
  out skipped integer[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
as $$
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
comment on function df.cancel_children is 'the engine''s cancellations of children';

-- Waits for other instances. The id is looked up under the submitter's rights: his own instance of that id, else the only one
-- of a role whose rights he has. Answers with the ordinals skipped (as above), those for which there is no such instance
-- (yet), and those that are refused, with the reason.
create function df.begin_waits(
  p_epoch   bigint,
  p_rows    json,
  out skipped integer[],
  out missing integer[],
  out refused json
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
as $$
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
comment on function df.begin_waits is 'the engine''s waits for instances';

-- Inserted and deleted in one transaction, so that the table stays empty and the log shows the row.
-- Answers with what an idle leader wants to know, so that it needs no other statement.
create function df.heartbeat(
  p_epoch bigint,
  p_slot  text,
  out wal_end pg_lsn,
  out restart_lsn pg_lsn,
  out wal_status text,
  out settings json,
  out now_us bigint
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.heartbeat is 'the end-to-end probe';

-- Taking over: whoever holds the slot bumps the epoch, in both places, in one transaction.
create function df.take_over(out epoch bigint)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  update df.checkpoint c set epoch = c.epoch + 1 returning c.epoch into strict take_over.epoch;
  update df.epoch e set epoch = take_over.epoch;
end
$$;
comment on function df.take_over is 'a new leader''s epoch';
