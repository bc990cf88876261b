-- Who may use df. `df.grant_usage(role)` is all that a role needs; without USAGE on the schema nothing in it can be reached.

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
  execute format('grant usage on schema df to %s%s', v_role, v_option);
  execute format('grant select on df.instances, df.signals, df.cancellations, df.releases, df.completions, df.vars, df.settings, df.progress, df.epoch to %s%s', v_role, v_option);
  execute format('grant insert (id, graph, label, input, database) on df.instances to %s%s', v_role, v_option);
  execute format('grant insert (owner, instance_id, name, data) on df.signals to %s%s', v_role, v_option);
  execute format('grant insert (owner, instance_id, reason) on df.cancellations, df.releases to %s%s', v_role, v_option);
  execute format('grant insert (instance_key, step, attempt, outcome, result, error, cause, repetitions, started_at, query) on df.completions to %s%s', v_role, v_option);
  execute format('grant insert (name, value), update (value), delete on df.vars to %s%s', v_role, v_option);
  for v_api in
    select p.oid::regprocedure as signature
      from pg_proc p
     where p.pronamespace = 'df'::regnamespace
       and obj_description(p.oid, 'pg_proc') like 'api: %'
  loop
    execute format('grant execute on function %s to %s%s', v_api.signature, v_role, v_option);
  end loop;
end
$$;
comment on function df.grant_usage(regrole, boolean, boolean) is 'lets a role start, signal, cancel and read its own workflows';

create function df.revoke_usage(p_role regrole)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('revoke all on all tables in schema df from %s cascade', p_role);
  execute format('revoke all on all functions in schema df from %s cascade', p_role);
  execute format('revoke all on schema df from %s cascade', p_role);
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
  revoke execute on all functions in schema df from public;
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
