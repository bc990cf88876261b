-- The step wrapper: one round trip runs the statement and inserts its completion, in one transaction
-- ("A step's effects and its completion commit together").
--
-- SECURITY INVOKER, called by the engine on a connection logged in as the submitter. It pins no search_path, because the
-- statement must run under the role's own; so every name and operator in it is qualified. It answers
--   ok         the statement ran and the completion is inserted; the transaction's end decides
--   invisible  a transaction that the step was caused by is not visible yet; nothing ran (A row may arrive before it can be seen)
--   exists     the key is taken already; nothing ran (One key, one outcome)
--   fenced     another engine leads; nothing ran (A stale engine cannot harm)
-- These are answers and not errors so that the statement itself, which runs later, can forge none of them.
--
-- p_rows: the statement returns rows. Guessed by the engine: `for … in execute` refuses everything else with 42P11 before
-- anything ran, and the engine then calls again with false, after a Parse has shown that it is one statement.
create function df.step(
  p_key         bigint,
  p_step        text,
  p_query       text,
  p_rows        boolean,
  p_epoch       bigint,
  p_xids        xid8[],
  p_look        boolean,
  p_instance_id text,
  p_shown       text,
  p_cause       uuid,
  p_repetitions integer,
  p_limit       bigint,
  p_attempt     integer default 1
)
  returns text
  language plpgsql
as $$
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
comment on function df.step(bigint, text, text, boolean, bigint, xid8[], boolean, text, text, uuid, integer, bigint, integer)
  is 'api: runs one SQL step as the current role and records its completion; called by the engine';
