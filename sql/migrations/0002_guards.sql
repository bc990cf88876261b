-- Who may write what: triggers that set every column which is not the user's, and row-level security.
-- Authority is current_user in a BEFORE ROW trigger (ROLES.md rule 1); nothing a row claims about its writer is believed.

-- A limit or switch of df.settings. SECURITY INVOKER: every df role may read the table.
create function df.setting(p_name text)
  returns text
  language sql stable parallel safe
  set search_path = pg_catalog, pg_temp
begin atomic
  select s.value from df.settings s where s.name = p_name;
end;
comment on function df.setting(text) is 'api: the value of a row of df.settings';

-- Is the current role the owner of the trigger's table, that is, the engine?
create function df.is_engine(p_table oid)
  returns boolean
  language sql stable parallel safe
  set search_path = pg_catalog, pg_temp
begin atomic
  select c.relowner = df.me() from pg_catalog.pg_class c where c.oid = p_table;
end;
comment on function df.is_engine(oid) is 'api: does the current role own this table';

-- The key comes from a sequence that is nobody's; hence SECURITY DEFINER. The guard ran before it: submitted_by is the role that
-- inserts, and its variables are its own to read (under row-level security this costs twice as much, a tenth of a start).
create function df.instances_key()
  returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
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

create function df.instances_guard()
  returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
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
$$;
create trigger "00_guard" before insert on df.instances for each row execute function df.instances_guard();
create trigger "01_key" before insert on df.instances for each row execute function df.instances_key();

-- Whose instance a command means, decided and recorded here so that a replay decides the same: one's own instance
-- of that id, else the only one that may be seen, else provisionally oneself (the statement trigger looks again).
create function df.commands_guard()
  returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
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

-- A start and its signal may stand in one WITH, in either order: only at the statement's end is every row there.
-- Inside a step the instance's own row may be committed and not visible yet: wait for it, at most five seconds.
create function df.commands_check()
  returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
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

create trigger "00_guard" before insert on df.signals for each row execute function df.commands_guard();
create trigger "00_guard" before insert on df.cancellations for each row execute function df.commands_guard();
create trigger "00_guard" before insert on df.releases for each row execute function df.commands_guard();
create trigger "01_check" after insert on df.signals
  referencing new table as new_rows for each statement execute function df.commands_check();
create trigger "01_check" after insert on df.cancellations
  referencing new table as new_rows for each statement execute function df.commands_check();
create trigger "01_check" after insert on df.releases
  referencing new table as new_rows for each statement execute function df.commands_check();

-- A variable without a value is removed. SECURITY DEFINER because no user has DELETE on any table: LOCK TABLE takes any
-- privilege on the whole table that writes for ACCESS EXCLUSIVE, and every start reads this one.
create function df.vars_removed()
  returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  delete from df.vars v where v.owner = new.owner and v.name = new.name and v.value is null;
  return null;
end
$$;
create trigger "00_removed" after insert or update on df.vars
  for each row when (new.value is null) execute function df.vars_removed();

-- session_replication_role = replica, or a subscription, must not get around the guards.
alter table df.instances enable always trigger "00_guard";
alter table df.instances enable always trigger "01_key";
alter table df.signals enable always trigger "00_guard";
alter table df.cancellations enable always trigger "00_guard";
alter table df.releases enable always trigger "00_guard";
alter table df.signals enable always trigger "01_check";
alter table df.cancellations enable always trigger "01_check";
alter table df.releases enable always trigger "01_check";
alter table df.vars enable always trigger "00_removed";

alter table df.instances enable row level security;
alter table df.signals enable row level security;
alter table df.cancellations enable row level security;
alter table df.releases enable row level security;
alter table df.completions enable row level security;
alter table df.vars enable row level security;
alter table df.progress enable row level security;

-- Nothing of the caller's may run on a row before it is known that the row is the caller's: a condition of leakproof
-- operators, `label < any ('{m}') or (select pg_sleep(1)) is null`, told everything by the time it took, row by row
-- (ROLES.md rule 9). The planner orders conditions by their cost and keeps the policy's in front only among equals. A call
-- costs something, even pg_has_role, and `label is null` nothing at all. A subscript costs nothing either; so the first
-- condition of each policy looks the owner's OID up in an object that is made once a query. The second finds rows by index.
create policy insert_own on df.instances for insert
  with check (submitted_by = df.me() and submitter = df.me() and parent_key is null and status = 'pending');
create policy see_own on df.instances for select
  using ((select df.my_role_keys())[submitted_by::oid::int4] is not null and submitted_by = any ((select df.my_roles())::oid[]));

create policy insert_own on df.signals for insert
  with check (sent_by = df.me() and pg_has_role(owner, 'USAGE') and not folded);
create policy see_own on df.signals for select
  using ((select df.my_role_keys())[owner::int4] is not null and owner = any ((select df.my_roles())::oid[]));
create policy insert_own on df.cancellations for insert
  with check (sent_by = df.me() and pg_has_role(owner, 'USAGE') and not folded);
create policy see_own on df.cancellations for select
  using ((select df.my_role_keys())[owner::int4] is not null and owner = any ((select df.my_roles())::oid[]));
create policy insert_own on df.releases for insert
  with check (sent_by = df.me() and pg_has_role(owner, 'USAGE') and not folded);
create policy see_own on df.releases for select
  using ((select df.my_role_keys())[owner::int4] is not null and owner = any ((select df.my_roles())::oid[]));

-- No lookup here: whatever a stranger inserts stands under the stranger's own key, and the fold ignores it.
create policy insert_own on df.completions for insert
  with check (run_as = df.me() and written_by = run_as);
create policy see_own on df.completions for select
  using ((select df.my_role_keys())[run_as::int4] is not null and run_as = any ((select df.my_roles())::oid[]));

create policy own on df.vars
  using ((select jsonb_build_object(df.me()::int4, true))[owner::oid::int4] is not null and owner = df.me())
  with check (owner = df.me());
create policy see_own on df.progress for select
  using ((select df.my_role_keys())[submitted_by::oid::int4] is not null and submitted_by = any ((select df.my_roles())::oid[]));

-- Estimates leak values through a plain EXPLAIN: no statistics on what users may read and others own.
do $$
declare
  v_column record;
begin
  for v_column in
    select c.oid::regclass as tab, a.attname
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relnamespace = 'df'::regnamespace
       and c.relkind = 'r'
       and c.relrowsecurity
  loop
    execute format('alter table %s alter column %I set statistics 0', v_column.tab, v_column.attname);
  end loop;
end
$$;

-- All other tables, too: pg_read_all_data and pg_write_all_data go past every grant, and here they end. What these tables
-- hold is the engine's alone; it owns them, and so no policy keeps it out.
alter table df.settings enable row level security;
alter table df.epoch enable row level security;
alter table df.waits enable row level security;
alter table df.heartbeats enable row level security;
alter table df.checkpoint enable row level security;
alter table df.states enable row level security;
alter table df.inbox enable row level security;
alter table df.migrations enable row level security;
create policy see_all on df.settings for select using (true);
create policy see_all on df.epoch for select using (true);
