-- What the engine writes. Nobody else is granted these.

-- A checkpoint at p_lsn, one transaction, one round trip. Raises DF001 when another engine leads (nothing is written)
-- and DF002 when rows that it meant to change are not visible yet (it is repeated; see DESIGN.md §3 Visibility).
-- Rows that are missing although every transaction of p_xids is visible are gone: they come back as `gone`.
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
  -- states to keep and to drop
  p_state_keys   bigint[],
  p_versions     smallint[],
  p_states       text[],
  p_wakes        timestamptz[],
  p_dropped      bigint[],
  -- marks on commands
  p_signals      uuid[], p_signal_owners oid[],
  p_cancels      uuid[], p_cancel_owners oid[],
  p_releases     uuid[], p_release_owners oid[],
  -- events set aside, and taken back
  p_inbox        json,
  p_inbox_done   bigint[], p_inbox_upto pg_lsn[], p_inbox_ordinals integer[],
  out invisible  xid8[],
  out gone       bigint[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_missing bigint := 0;
  v_rows    bigint;
begin
  update df.checkpoint
     set lsn = p_lsn, written_at = clock_timestamp()
   where epoch = p_epoch;
  if not found then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;

  -- before the updates, each of which takes a newer snapshot: what a commit in between made visible, an update may have missed
  invisible := array(select x from unnest(p_xids) as x where not pg_visible_in_snapshot(x, pg_current_snapshot()));

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
     where i.key = c.key;
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

  if cardinality(p_signals) > 0 then
    update df.signals s set folded = true
      from unnest(p_signals, p_signal_owners) as c(event_id, owner)
     where s.owner = c.owner and s.event_id = c.event_id;
    get diagnostics v_rows = row_count;
    v_missing := v_missing + cardinality(p_signals) - v_rows;
  end if;
  if cardinality(p_cancels) > 0 then
    update df.cancellations s set folded = true
      from unnest(p_cancels, p_cancel_owners) as c(event_id, owner)
     where s.owner = c.owner and s.event_id = c.event_id;
    get diagnostics v_rows = row_count;
    v_missing := v_missing + cardinality(p_cancels) - v_rows;
  end if;
  if cardinality(p_releases) > 0 then
    update df.releases s set folded = true
      from unnest(p_releases, p_release_owners) as c(event_id, owner)
     where s.owner = c.owner and s.event_id = c.event_id;
    get diagnostics v_rows = row_count;
    v_missing := v_missing + cardinality(p_releases) - v_rows;
  end if;

  if cardinality(p_inbox_done) > 0 then
    delete from df.inbox b
     using unnest(p_inbox_done, p_inbox_upto, p_inbox_ordinals) as c(key, lsn, ordinal)
     where b.instance_key = c.key and (b.lsn, b.ordinal) <= (c.lsn, c.ordinal);
  end if;
  if p_inbox is not null then
    insert into df.inbox (instance_key, lsn, ordinal, kind, row_key, commit_time, xid)
    select c.instance_key, c.lsn, c.ordinal, c.kind, c.row_key, c.commit_time, c.xid
      from json_to_recordset(p_inbox)
        as c(instance_key bigint, lsn pg_lsn, ordinal integer, kind text, row_key text, commit_time timestamptz, xid xid8)
        on conflict do nothing;
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

-- How attempts ended that the engine decides: failures, cancellations, fired timers. One statement for many.
-- Skipped, for the caller to repeat: a timer that is not due by the database''s clock, and what was caused by a transaction
-- that is not visible yet. A key that is taken stays as it is ("One key, one outcome"). Answers with the ordinals skipped.
create function df.record_completions(
  p_epoch   bigint,
  p_rows    json,
  out skipped integer[]
)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (select e.epoch from df.epoch e) <> p_epoch then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;
  with given as materialized (
    select c.*,
           (c.due is null or clock_timestamp() >= c.due)
             and not exists (select from unnest(c.xids) as x where not pg_visible_in_snapshot(x, pg_current_snapshot())) as ready
      from json_to_recordset(p_rows)
        as c(ordinal integer, run_as oid, key bigint, step text, attempt integer, outcome text, result json, error json,
             cause uuid, query text, note text, repetitions integer, due timestamptz, xids xid8[])
  ), inserted as (
    insert into df.completions (run_as, instance_key, step, attempt, outcome, result, error, cause, query, note, repetitions)
    select g.run_as, g.key, g.step, g.attempt, g.outcome, g.result, g.error, g.cause, g.query, g.note, coalesce(g.repetitions, 0)
      from given g
     where g.ready
        on conflict do nothing
  )
  select array_agg(g.ordinal) into skipped from given g where not g.ready;
end
$$;
comment on function df.record_completions is 'the engine''s own completions';

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
  if (select e.epoch from df.epoch e) <> p_epoch then
    raise exception 'epoch % does not lead any more', p_epoch using errcode = 'DF001';
  end if;
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
