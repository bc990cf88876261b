-- Watching from SQL: the same figures that /metrics has, for psql, postgres_exporter and whoever has no Prometheus, and what an
-- engine asks for them. All of it is found by keys and by indexes that are there anyway, and each look is bounded.
--
-- Numbers over all roles are granted by themselves (df.grant_monitoring), as df.metrics is. Labels, ids and errors are shown by
-- df.failing under row-level security, to whoever may see the instances.

-- --- fencing ------------------------------------------------------------------------------------------------------------

-- An engine that finds itself fenced ends, and nobody asks it for its metrics any more. So it is counted here, and shown by
-- whoever is there.
alter table df.epoch add column fenced bigint not null default 0;
comment on column df.epoch.epoch is 'The number of the present leadership.';
comment on column df.epoch.fenced is 'How many engines ended because they found another one''s epoch.';

create function df.count_fenced()
  returns void
  language sql
  set search_path = pg_catalog, pg_temp
begin atomic
  update df.epoch set fenced = fenced + 1;
end;
comment on function df.count_fenced() is 'an engine found that another one leads, and ends';

-- --- bounded looks --------------------------------------------------------------------------------------------------------

-- When the oldest start was recorded that still waits to be begun; null when none does. Never older than true.
--
-- No index knows the status, because every end of an instance would pay for it. Starts wait for one of two reasons. For want of
-- room: the checkpoint knows, submitter by submitter, above which key. Or nobody has read them yet: these are the newest rows.
-- Keys are drawn in the order of time, so going back from the newest in steps that double, and then halve, finds where that
-- begins; among rows that were folded in another order than recorded it finds one that waits, if not the very first.
create function df.oldest_pending()
  returns timestamptz
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
as $$
declare
  c_submitters constant integer := 20;
  c_looks      constant integer := 2000;
  v_oldest timestamptz;
  v_key    bigint;
  v_step   bigint := 1;  -- as long as nothing is known below
  v_below  bigint;  -- what lies at or below it has been begun, as far as is known
  v_probe  bigint;
  v_row    record;
  v_one    record;
begin
  for v_one in
    select (b.of ->> 0)::oid as submitter, (b.of ->> 1)::bigint as after, (b.of ->> 2)::bigint as last
      from df.checkpoint c
     cross join lateral json_array_elements(c.backlog) as b(of)
     order by 2
     limit c_submitters
  loop
    v_oldest := least(v_oldest, (
      select min(n.recorded_at)
        from (
          select i.submitter, i.status, i.quarantined, i.recorded_at
            from df.instances i
           where i.key > v_one.after and i.key <= v_one.last
           order by i.key
           limit c_looks) as n
       where n.submitter = v_one.submitter and n.status = 'pending' and n.quarantined is null));
  end loop;

  -- of the newest, the oldest that waits
  select n.key, n.recorded_at into v_row
    from (select i.key, i.recorded_at, i.status, i.quarantined from df.instances i order by i.key desc limit c_looks) as n
   where n.status = 'pending' and n.quarantined is null
   order by n.key
   limit 1;
  if not found then
    return v_oldest;
  end if;
  v_key := v_row.key;
  v_oldest := least(v_oldest, v_row.recorded_at);
  while v_below is null or v_key - v_below > 1 loop
    v_probe := case when v_below is null then greatest(0, v_key - v_step) else v_below + (v_key - v_below) / 2 end;
    select i.key, i.recorded_at, i.status, i.quarantined into v_row
      from df.instances i
     where i.key <= v_probe and i.key > coalesce(v_below, 0)
     order by i.key desc
     limit 1;
    if found and v_row.status = 'pending' and v_row.quarantined is null then
      v_key := v_row.key;
      v_oldest := least(v_oldest, v_row.recorded_at);
      v_step := v_step * 2;
    else
      v_below := v_probe;
    end if;
  end loop;
  return v_oldest;
end
$$;
comment on function df.oldest_pending() is 'when the oldest start was recorded that still waits; null: none does';

create function df.count_quarantined()
  returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
begin atomic
  select count(*) from (select from df.instances i where i.quarantined is not null limit 10000) as q;
end;
comment on function df.count_quarantined() is 'how many instances are quarantined; no more than 10,000 are counted';

-- What every engine shows, the leader at each heartbeat and a standby as often.
create function df.watch(
  out fenced                 bigint,
  out oldest_pending_seconds double precision,
  out quarantined            bigint
)
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select e.fenced,
         coalesce(greatest(0, extract(epoch from clock_timestamp() - df.oldest_pending())), 0)::double precision,
         df.count_quarantined()
    from df.epoch e;
end;
comment on function df.watch() is 'what an engine asks for its metrics';

-- --- for people and exporters -----------------------------------------------------------------------------------------------

-- SECURITY DEFINER because df.checkpoint and df.states are nobody's to read. It takes no argument, and what it tells is numbers
-- over all roles. The oldest unfinished instance is the first state by key; whoever only waits says in wake_at until when.
create function df.figures()
  returns table (
    slot                     name,
    slot_active              boolean,
    wal_status               text,
    retained_bytes           bigint,
    lag_bytes                bigint,
    epoch                    bigint,
    fenced                   bigint,
    checkpoint_age           interval,
    oldest_pending           interval,
    oldest_unfinished        interval,
    overdue                  interval,
    unfinished               bigint,
    quarantined              bigint,
    step_connections         bigint,
    connections              bigint,
    max_connections          integer
  )
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set jit = off
begin atomic
  select c.slot_name::name,
         coalesce(s.active, false),
         s.wal_status,
         case when s.restart_lsn is not null then greatest(0, pg_wal_lsn_diff(w.at, s.restart_lsn))::bigint end,
         case when s.confirmed_flush_lsn is not null then greatest(0, pg_wal_lsn_diff(w.at, s.confirmed_flush_lsn))::bigint end,
         e.epoch,
         e.fenced,
         greatest(interval '0', clock_timestamp() - c.written_at),
         greatest(interval '0', clock_timestamp() - df.oldest_pending()),
         greatest(interval '0', clock_timestamp() - (
           select i.recorded_at
             from (select t.instance_key from df.states t order by t.instance_key limit 1) as f
             join df.instances i on i.key = f.instance_key)),
         greatest(interval '0', clock_timestamp() - (select t.wake_at from df.states t where t.wake_at is not null order by t.wake_at limit 1)),
         c.started_total - c.completed_total - c.failed_total - c.cancelled_total,
         df.count_quarantined(),
         cardinality(df.step_backends()),
         -- in pg_stat_activity other roles' backends do not say what they are
         (select sum(d.numbackends) from pg_stat_database d)::bigint,
         current_setting('max_connections')::integer
    from df.checkpoint c
   cross join df.epoch e
   cross join lateral (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end) as w(at)
    left join pg_replication_slots s on s.slot_name = c.slot_name;
end;
comment on function df.figures() is 'how walflow is, in one row of numbers over all roles; granted by df.grant_monitoring';

create view df.health with (security_invoker = true) as
  select f.* from df.figures() as f;
comment on view df.health is 'How walflow is, in one row: for DBAs; granted by df.grant_monitoring.';
comment on column df.health.slot is 'The replication slot; null before the first leader.';
comment on column df.health.slot_active is 'Whether some engine reads it.';
comment on column df.health.wal_status is 'What the server says of it: reserved, extended, unreserved, lost; null: there is no slot.';
comment on column df.health.retained_bytes is 'WAL that the server keeps for it.';
comment on column df.health.lag_bytes is 'WAL that no checkpoint holds yet.';
comment on column df.health.epoch is 'How many leaderships there were.';
comment on column df.health.fenced is 'How many engines ended because they found another one''s epoch.';
comment on column df.health.checkpoint_age is 'Since the last checkpoint: half a minute at most while an engine leads.';
comment on column df.health.oldest_pending is 'How long the oldest start has waited to be begun; 0: none waits.';
comment on column df.health.oldest_unfinished is 'How long ago the oldest unfinished instance was started; 0: there is none.';
comment on column df.health.overdue is 'How long the most overdue timer of a sleeping instance has been due; 0: none is.';
comment on column df.health.unfinished is 'Instances begun and not ended.';
comment on column df.health.quarantined is 'Instances set aside, 10,000 at most.';
comment on column df.health.step_connections is 'Connections for steps to this database.';
comment on column df.health.connections is 'Connections to all databases of the server.';
comment on column df.health.max_connections is 'How many the server allows.';

-- One row a figure, as exporters want them. The names begin with walflow_db_: an engine's own begin with walflow_, and whoever
-- scrapes both must not find them added up.
create function df.samples()
  returns table (name text, labels jsonb, value double precision, help text)
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select s.name, s.labels, s.value, s.help
    from df.figures() as f
   cross join df.metrics() as m
   cross join lateral (values
     ('walflow_db_slot_active', '{}'::jsonb, f.slot_active::integer::double precision, '1 while some engine reads the slot, else 0.'),
     ('walflow_db_slot_wal_status', jsonb_build_object('status', coalesce(f.wal_status, 'missing')), 1, 'The slot''s wal_status, or missing.'),
     ('walflow_db_slot_retained_wal_bytes', '{}', f.retained_bytes, 'WAL that the server keeps for the slot.'),
     ('walflow_db_lag_bytes', '{}', f.lag_bytes, 'WAL that no checkpoint holds yet.'),
     ('walflow_db_epoch', '{}', f.epoch, 'How many leaderships there were.'),
     ('walflow_db_fenced_total', '{}', f.fenced, 'Engines that ended because they found another one''s epoch.'),
     ('walflow_db_checkpoint_age_seconds', '{}', extract(epoch from f.checkpoint_age), 'Since the last checkpoint.'),
     ('walflow_db_oldest_pending_seconds', '{}', extract(epoch from f.oldest_pending), 'Age of the oldest start that still waits; 0: none does.'),
     ('walflow_db_oldest_unfinished_seconds', '{}', extract(epoch from f.oldest_unfinished), 'Age of the oldest unfinished instance; 0: there is none.'),
     ('walflow_db_overdue_seconds', '{}', extract(epoch from f.overdue), 'How long the most overdue timer of a sleeping instance has been due.'),
     ('walflow_db_instances_unfinished', '{}', f.unfinished, 'Instances begun and not ended.'),
     ('walflow_db_instances_quarantined', '{}', f.quarantined, 'Instances set aside.'),
     ('walflow_db_instances_started_total', '{}', m.total_instances, 'Instances begun since the installation.'),
     ('walflow_db_instances_finished_total', '{"status": "completed"}', m.completed_instances, 'Instances ended since the installation.'),
     ('walflow_db_instances_finished_total', '{"status": "failed"}', m.failed_instances, 'Instances ended since the installation.'),
     ('walflow_db_instances_finished_total', '{"status": "cancelled"}', m.total_instances - m.running_instances - m.completed_instances - m.failed_instances, 'Instances ended since the installation.'),
     ('walflow_db_executions_total', '{}', m.total_executions, 'Steps that ended since the installation.'),
     ('walflow_db_events_total', '{}', m.total_events, 'Rows folded since the installation.'),
     ('walflow_db_step_connections', '{}', f.step_connections, 'Connections for steps to this database.'),
     ('walflow_db_connections', '{}', f.connections, 'Connections to all databases of the server.'),
     ('walflow_db_max_connections', '{}', f.max_connections, 'How many connections the server allows.')
   ) as s(name, labels, value, help)
   where s.value is not null;
end;
comment on function df.samples() is 'the figures of df.health and df.metrics, one row each: name, labels, value, help; granted by df.grant_monitoring';

-- Which workflows fail, by their label, as far as the caller may see them. Of each role the 1,000 failed instances that were
-- started last are looked at.
create function df.failing(since interval default '1 hour')
  returns table (
    submitted_by regrole,
    label        text,
    failed       bigint,
    last_at      timestamptz,
    last_id      text,
    last_error   text
  )
  language sql stable
  set search_path = pg_catalog, pg_temp
begin atomic
  select f.submitted_by, f.label, count(*), max(f.finished_at),
         (array_agg(f.id order by f.finished_at desc))[1],
         (array_agg(f.error ->> 'message' order by f.finished_at desc))[1]
    from unnest(df.seen_roles()) as r(oid)
   cross join lateral (
     select i.submitted_by, i.label, i.finished_at, i.id, i.error
       from df.instances i
      where i.submitted_by = r.oid::regrole and i.unsuccessful = 'failed'
      order by i.created_at desc
      limit 1000) as f
   where f.finished_at >= now() - failing.since
   group by f.submitted_by, f.label
   order by 3 desc, 1, 2;
end;
comment on function df.failing(interval) is 'api: which workflows failed lately, by label';

-- --- who may ----------------------------------------------------------------------------------------------------------------

-- For a role that watches and starts nothing: an exporter's, a DBA's, pg_monitor.
create function df.grant_monitoring(p_role regrole)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.refuse_owner(p_role);
  execute format('grant usage on schema df to %s', p_role);
  execute format('grant execute on function df.figures(), df.samples(), df.metrics() to %s', p_role);
  execute format('grant select on df.health to %s', p_role);
end
$$;
comment on function df.grant_monitoring(regrole) is 'lets a role read df.health, df.samples and df.metrics, which are numbers over all roles, and nothing else; df.revoke_usage takes it back';

-- As before, but a role that only watches gets what is new for those, not the right to start workflows.
create or replace function df.seal()
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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
    select a.grantee::regrole as name, bool_or(a.is_grantable) as with_grant,
           exists (
             select
               from pg_attribute t
              cross join lateral aclexplode(t.attacl) as c
              where t.attrelid = 'df.instances'::regclass and c.grantee = a.grantee and c.privilege_type = 'INSERT') as starts,
           exists (
             select
               from pg_proc p
              cross join lateral aclexplode(p.proacl) as c
              where p.oid = 'df.figures()'::regprocedure and c.grantee = a.grantee) as watches
      from pg_namespace n, aclexplode(n.nspacl) as a
     where n.nspname = 'df'
       and a.privilege_type = 'USAGE'
       and a.grantee <> n.nspowner
       and a.grantee <> 0
     group by a.grantee
  loop
    if v_role.starts then
      perform df.grant_usage(v_role.name, false, v_role.with_grant);
    end if;
    if v_role.watches then
      perform df.grant_monitoring(v_role.name);
    end if;
  end loop;
end
$$;
