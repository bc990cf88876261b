-- Starting, steering and asking: sugar around the INSERTs and SELECTs that users may make themselves. All SECURITY INVOKER:
-- none of these can do what a plain statement of the caller cannot.

-- Whose instances the caller may look for. Roles with the rights of df's owner see all; the policy lets them.
create function df.seen_roles()
  returns oid[]
  language sql stable
begin atomic
  select case
           when pg_catalog.pg_has_role(n.nspowner, 'USAGE')
             then array(select r.oid from pg_catalog.pg_roles r)
           else df.my_roles()
         end
    from pg_catalog.pg_namespace n
   where n.nspname = 'df';
end;
comment on function df.seen_roles() is 'api: the OIDs of the roles whose instances the caller sees';

-- The instance that an id means: one's own, else the only one that can be seen; null when there is none. Raises when there
-- are several. One index range for each role, and the policy again when the key is looked up.
create function df.find_key(p_id text)
  returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.find_key(text) is 'api: the key of the instance that an id means, null when there is none';

create function df.is_final(p_status text)
  returns boolean
  language sql immutable parallel safe
begin atomic
  select p_status in ('completed', 'failed', 'cancelled');
end;
comment on function df.is_final(text) is 'api: does an instance of this status never change again';

create function df.start(
  fut              text,
  label            text default null,
  database         text default null,
  transaction_mode text default 'caller',
  id               text default null,
  input            jsonb default null
)
  returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.start(text, text, text, text, text, jsonb) is 'api: starts a workflow when this transaction commits; with id, at most once';

-- Inside a step an instance that is not visible yet is waited for; the trigger does it, and refuses what is not there.
create function df.signal(instance_id text, signal_name text, signal_data text default '{}')
  returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.signal(text, text, text) is 'api: sends a signal to an instance when this transaction commits';

create function df.signal(instance_id text, signal_name text, signal_data jsonb)
  returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.signal(instance_id, signal_name, signal_data::text);
end
$$;
comment on function df.signal(text, text, jsonb) is 'api: sends a signal to an instance when this transaction commits';

create function df.cancel(instance_id text, reason text default 'Cancelled by user')
  returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.cancel(text, text) is 'api: cancels an instance when this transaction commits';

create function df.release(instance_id text, reason text default 'Released by user')
  returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.release(text, text) is 'api: lets a quarantined instance go on when this transaction commits';

create function df.status(id text)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select i.status from df.instances i where i.key = df.find_key(status.id));
end
$$;
comment on function df.status(text) is 'api: the status of an instance as of the last checkpoint, null for an unknown id';

create function df.result(id text)
  returns json
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select i.result from df.instances i where i.key = df.find_key(result.id) and i.status = 'completed');
end
$$;
comment on function df.result(text) is 'api: the result of a completed instance, else null';

-- Polls. Refuses to wait where the end could never be seen.
create function df.wait_for_completion(id text, timeout_seconds numeric default 30)
  returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
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
comment on function df.wait_for_completion(text, numeric) is 'api: waits until an instance has ended and returns its status';

-- Variables are read when an instance starts; a step that changed them would change nothing for itself.
create function df.refuse_in_workflow(p_function text)
  returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('df.in_workflow', true) = 'true' then
    raise exception 'df.%() cannot be called inside a workflow - set variables before starting the workflow', p_function
      using errcode = 'object_not_in_prerequisite_state';
  end if;
end
$$;
comment on function df.refuse_in_workflow(text) is 'api: raises inside a step';

create function df.setvar(name text, value text)
  returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
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
$$;
comment on function df.setvar(text, text) is 'api: sets a variable of the caller, {name} in graphs';

create function df.getvar(name text)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select v.value from df.vars v where v.owner = df.me() and v.name = getvar.name);
end
$$;
comment on function df.getvar(text) is 'api: a variable of the caller, null when it is not set';

create function df.unsetvar(name text)
  returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.refuse_in_workflow('unsetvar');
  update df.vars v set value = null where v.owner = df.me() and v.name = unsetvar.name;
end
$$;
comment on function df.unsetvar(text) is 'api: removes a variable of the caller';

create function df.clearvars()
  returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.refuse_in_workflow('clearvars');
  update df.vars v set value = null where v.owner = df.me();
end
$$;
comment on function df.clearvars() is 'api: removes all variables of the caller';

create function df.version()
  returns text
  language sql immutable parallel safe
begin atomic
  select '0.1.0'::text;
end;
comment on function df.version() is 'api: the version of walflow that made this schema';
