-- Who may use df. `df.grant_usage(role)` is all that a role needs; without USAGE on the schema nothing in it can be reached.
--
-- No role is ever granted UPDATE, DELETE or TRUNCATE on a whole table: each of them is also the right to LOCK TABLE in any mode,
-- and so to stop everybody else.

-- Raises for a role that these functions are not for.
create function df.refuse_owner(p_role regrole)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_role = (select n.nspowner from pg_namespace n where n.nspname = 'df') then
    raise exception 'role % owns schema df', p_role using errcode = 'invalid_parameter_value',
      hint = 'The owner has every right, and cannot start workflows.';
  end if;
end
$$;
comment on function df.refuse_owner(regrole) is 'raises for the owner of df';

-- With with_grant the role may grant in turn, with this same function.
create function df.grant_usage(p_role regrole, include_http boolean default false, with_grant boolean default false)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.grant_usage(regrole, boolean, boolean) is 'lets a role start, signal, cancel and read its own workflows';

-- Only what the caller granted can be revoked by the caller; what is left then is an error, not silence.
create function df.revoke_usage(p_role regrole)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.revoke_usage(regrole) is 'takes back what df.grant_usage gave; running workflows of the role fail at their next step';

-- Runs after every migration: nothing is PUBLIC's, and every role that has df gets what is new in it.
create function df.seal()
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
comment on function df.seal() is 'run by walflow migrate after the migrations';
