-- Graphs are checked in the inserting transaction: what cannot run is an error at the INSERT, with a path to the bad node.
--
-- Theory of operation. A chain of ten thousand steps nests ten thousand deep in JSON, deeper than PostgreSQL's own
-- parser goes, so df.validate_graph is its own: one pass of a regular expression cuts the text into tokens, a loop with
-- a stack checks the grammar and notes the nodes (parents before their children), and a second loop over the nodes
-- checks each against its row of df.node_rules(). Only strings and the small queries of leaves meet ::json.
-- engine/graph.py reads the same language; a test holds the two equal.
--
-- Everything here is SECURITY INVOKER and touches no table.

-- Is this text meant as a node? `{` and `"`, with nothing but JSON's white space before and between; all else is SQL.
-- Builders and the INSERT ask this one question. Not pinned: bound at its creation, and inlined where it is called.
create function df.is_node(p_text text)
  returns boolean
  language sql immutable parallel safe
begin atomic
  select pg_catalog.starts_with(p_text, '{"')
      or (pg_catalog.left(p_text, 1) in ('{', ' ', E'\t', E'\n', E'\r')
          and p_text operator(pg_catalog.~) E'^[ \t\n\r]*\\{[ \t\n\r]*"');
end;
comment on function df.is_node(text) is 'api: is a text meant as a graph node (and not as SQL)';

-- One row a node type. To add a type: its row, and the check of its query in df.node_options_flaw.
--   needs, may children: L left_node, R right_node, C condition_node, E extra_nodes (which only come after an R)
--   query      none, text (SQL), options (a JSON object), duration, none|options (either may be)
--   repeats    children that run more than once: each adds an index to step keys
--   opens      children in which a BREAK may stand
--   closes     children out of which no BREAK reaches a loop around this node
create function df.node_rules()
  returns jsonb
  language sql immutable parallel safe
begin atomic
  select pg_catalog.jsonb_object_agg(r.node_type, pg_catalog.to_jsonb(r))
    from (values
      ( 1, 'SQL',            '',   '',   'text',         '',   '',   ''),
      ( 2, 'THEN',           'LR', '',   'none',         '',   '',   ''),
      ( 3, 'JOIN',           'L',  'RE', 'none',         '',   '',   ''),
      ( 4, 'RACE',           'LR', 'E',  'none',         '',   '',   ''),
      ( 5, 'IF',             'LR', 'C',  'none|options', '',   '',   ''),
      ( 6, 'LOOP',           'L',  'C',  'none|options', 'LC', 'LC', ''),
      ( 7, 'BREAK',          '',   '',   'none|options', '',   '',   ''),
      ( 8, 'SLEEP',          '',   '',   'duration',     '',   '',   ''),
      ( 9, 'SIGNAL',         '',   '',   'options',      '',   '',   ''),
      (10, 'WAIT_SCHEDULE',  '',   '',   'options',      '',   '',   ''),
      (11, 'HTTP',           '',   '',   'options',      '',   '',   ''),
      (12, 'HTTP_MULTIPART', '',   '',   'options',      '',   '',   ''),
      (13, 'CALL_CHILD',     'L',  '',   'none|options', '',   '',   'L'),
      (14, 'AWAIT_INSTANCE', '',   '',   'options',      '',   '',   ''),
      (15, 'MAP',            'R',  'L',  'options',      'R',  '',   'R'),
      (16, 'RETRY',          'L',  '',   'options',      'L',  '',   ''),
      (17, 'TIMEOUT',        'L',  '',   'options',      '',   '',   ''),
      (18, 'CATCH',          'LR', '',   'none',         '',   '',   ''),
      (19, 'UNDO',           'LR', '',   'none',         '',   '',   'R')
    ) as r(ordinal, node_type, needs, may, query, repeats, opens, closes);
end;
comment on function df.node_rules() is 'api: the node types and what each may hold';

-- The text of a JSON string token, quotes and all; null when no text can hold it (NUL, half a surrogate pair, a
-- character that the database's encoding lacks). The handler costs a subtransaction, so only \u pays for it.
create function df.json_text(p_token text)
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  if strpos(p_token, '\') = 0 then
    return substr(p_token, 2, length(p_token) - 2);
  elsif strpos(p_token, '\u') = 0 then
    return p_token::jsonb #>> '{}';
  end if;
  begin
    return p_token::jsonb #>> '{}';
  exception
    when untranslatable_character or invalid_text_representation then
      return null;
  end;
end
$$;
comment on function df.json_text(text) is 'api: the text of a JSON string token, null when no text can hold it';

-- Is this the text of a number of seconds, from 0 to ten thousand million (317 years)?
create function df.is_seconds(p_text text)
  returns boolean
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  if p_text !~ '^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?$' or length(p_text) > 400 then
    return false;
  end if;
  return p_text::numeric <= 10000000000;
end
$$;
comment on function df.is_seconds(text) is 'api: is a text a number of seconds that a graph may hold';

-- Does this text have something that substitution may fill in, `{name}` or `$name`?
create function df.has_reference(p_text text)
  returns boolean
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  return p_text ~ '\{[A-Za-z_][A-Za-z0-9_]*\}|\$[A-Za-z_]';
end
$$;
comment on function df.has_reference(text) is 'api: does a text refer to a variable or a result';

-- Is this text a point in time that SLEEP can wait for: ISO 8601, a date, a time of day and an offset (UTC without)?
create function df.is_timestamp(p_text text)
  returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
  set timezone = 'UTC'
as $$
begin
  if p_text !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?( ?(Z|[+-][0-9]{2}(:?[0-9]{2})?))?)?$' then
    return false;
  end if;
  perform p_text::timestamptz;
  return true;
exception
  when datetime_field_overflow or invalid_datetime_format or invalid_time_zone_displacement_value then
    return false;
end
$$;
comment on function df.is_timestamp(text) is 'api: is a text an ISO 8601 time that a graph may hold';

-- Is an option of a node, given as its token or null, absent or a number of seconds? -0 is as good as 0.
create function df.may_be_seconds(p_token text)
  returns boolean
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  return p_token is null or df.is_seconds(regexp_replace(p_token, '^-(?=[0.]+([eE]|$))', ''));
end
$$;
comment on function df.may_be_seconds(text) is 'api: is an option of a graph node absent or a number of seconds';

-- The numbers of one field of a cron expression: `*`, `a` or `a-b`, each with `/step`, in a list; null when it is not valid.
-- `a/step` goes on to the end, and a range may go past it (`22-2`, `fri-mon`). Names stand for the numbers from the lowest on.
create function df.cron_numbers(p_field text, p_low integer, p_high integer, p_names text[] default '{}')
  returns integer[]
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  c_size  constant integer := p_high - p_low + 1;
  v_found integer[] := '{}';
  v_term  text;
  v_read  text[];
  v_ends  integer[];
  v_step  integer;
begin
  foreach v_term in array string_to_array(p_field, ',') loop
    v_read := regexp_match(v_term, '^(\*|[0-9]{1,2}|[A-Za-z]{3})(?:-([0-9]{1,2}|[A-Za-z]{3}))?(?:/([0-9]{1,4}))?$');
    v_step := coalesce(v_read[3]::integer, 1);
    if v_read is null or v_step = 0 or v_read[1] = '*' and v_read[2] is not null then
      return null;
    end if;
    v_ends := '{}';
    for v_end in 1 .. 2 loop
      v_ends[v_end] := case
        when v_read[v_end] = '*' then p_low
        when v_read[v_end] >= 'A' collate "C" then array_position(p_names, lower(v_read[v_end] collate "C")) + p_low - 1
        when v_read[v_end]::integer = 7 and p_names[1] = 'sun' then 0
        when v_read[v_end]::integer between p_low and p_high then v_read[v_end]::integer
      end;
    end loop;
    if v_read[2] is null then
      v_ends[2] := case when v_read[1] = '*' or v_read[3] is not null then p_high else v_ends[1] end;
    end if;
    if v_ends[1] is null or v_ends[2] is null then
      return null;
    end if;
    for v_number in v_ends[1] .. v_ends[2] + case when v_ends[2] < v_ends[1] then c_size else 0 end by v_step loop
      v_found[cardinality(v_found) + 1] := (v_number - p_low) % c_size + p_low;
    end loop;
  end loop;
  return v_found;
end
$$;
comment on function df.cron_numbers(text, integer, integer, text[]) is 'api: the numbers of a field of a cron expression';

-- What is wrong with a cron expression; null when nothing is. engine/schedule.py says what expressions mean.
create function df.cron_flaw(p_text text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  c_shown constant text := left(p_text, 60);
  c_days  constant integer[] := '{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}';
  v_parts text[] := regexp_split_to_array(btrim(p_text, E' \t\n\r'), '[ \t\n\r]+');
  v_field record;
  v_numbers integer[];
  v_days    integer[];
  v_months  integer[];
begin
  if cardinality(v_parts) = 1 then
    v_parts := string_to_array(case lower(v_parts[1] collate "C")
      when '@yearly' then '0 0 1 1 *'
      when '@annually' then '0 0 1 1 *'
      when '@monthly' then '0 0 1 * *'
      when '@weekly' then '0 0 * * 0'
      when '@daily' then '0 0 * * *'
      when '@midnight' then '0 0 * * *'
      when '@hourly' then '0 * * * *'
    end, ' ');
  end if;
  if cardinality(v_parts) is distinct from 5 then
    return format('cron_expr is neither five fields nor a macro such as @daily: ''%s''', c_shown);
  end if;
  for v_field in
    values (1, 'minute', 0, 59, '{}'::text[]),
           (2, 'hour', 0, 23, '{}'),
           (3, 'day of the month', 1, 31, '{}'),
           (4, 'month', 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'),
           (5, 'day of the week', 0, 6, '{sun,mon,tue,wed,thu,fri,sat}')
  loop
    v_numbers := df.cron_numbers(v_parts[v_field.column1], v_field.column3, v_field.column4, v_field.column5);
    if v_numbers is null then
      return format('cron_expr has no valid %s: ''%s''', v_field.column2, c_shown);
    elsif v_field.column1 = 3 then
      v_days := v_numbers;
    elsif v_field.column1 = 4 then
      v_months := v_numbers;
    end if;
  end loop;
  if v_parts[5] ~ '(^|,)\*(/0*1)?(,|$)'
    and (select min(d) from unnest(v_days) as d) > (select max(c_days[m]) from unnest(v_months) as m)
  then
    return format('cron_expr never comes: ''%s''', c_shown);
  end if;
  return null;
end
$$;
comment on function df.cron_flaw(text) is 'api: what is wrong with a cron expression, null when nothing is';

-- Is this a time zone as spelled in pg_timezone_names, case ignored? That view reads hundreds of files, so the server is
-- asked for the one zone. It also knows abbreviations, which have no slash, and rules such as UTC+3, which have a digit.
create function df.is_zone(p_text text)
  returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  c_top constant text[] := '{cet,cst6cdt,cuba,eet,egypt,eire,est,est5edt,gb,gb-eire,gmt,gmt+0,gmt-0,gmt0,greenwich,hongkong,hst,'
    'iceland,iran,israel,jamaica,japan,kwajalein,libya,met,mst,mst7mdt,navajo,nz,nz-chat,poland,portugal,prc,pst8pdt,roc,rok,'
    'singapore,turkey,uct,universal,utc,w-su,wet,zulu}';
  v_key text := lower(p_text collate "C");
begin
  if strpos(v_key, '/') = 0 and v_key <> all (c_top)
    or strpos(v_key, '/') > 0
       and v_key !~ '^((?!posix/|right/)[a-z][a-z_/-]*|etc/gmt([+-]?0|\+[1-9]|\+1[0-2]|-[1-9]|-1[0-4]))$'
  then
    return false;
  end if;
  perform now() at time zone p_text;
  return true;
exception
  when invalid_parameter_value then
    return false;
end
$$;
comment on function df.is_zone(text) is 'api: is a text the name of a time zone';

-- What is wrong with an option that must be a string and may not be empty, given as its token or null; null when nothing is.
create function df.needed_text_flaw(p_type text, p_key text, p_token text)
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  if left(p_token, 1) <> '"' then
    return format('%s is not a string', p_key);
  elsif p_token is null or p_token = '""' then
    return format('%s needs %s %s', p_type, case when p_key ~ '^[aeiou]' then 'an' else 'a' end, p_key);
  end if;
  return null;
end
$$;
comment on function df.needed_text_flaw(text, text, text) is 'api: what is wrong with an option that a graph node needs';

-- Is an option of a node, given as its token or null, absent or a whole number from 1 to 10,000?
create function df.may_be_count(p_token text)
  returns boolean
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  return p_token is null or p_token ~ '^[1-9][0-9]{0,8}$' and p_token::integer <= 10000;
end
$$;
comment on function df.may_be_count(text) is 'api: is an option of a graph node absent or a whole number from 1 to 10000';

-- What is wrong with the options of a CALL_CHILD, given by key as tokens; null when nothing is.
create function df.call_child_flaw(p_query jsonb)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_options jsonb;
  v_keys    text[];
  v_unknown text;
  v_choice  record;
  v_token   text;
begin
  if left(p_query ->> 'label', 1) <> '"' then
    return 'label is not a string';
  elsif p_query ->> 'options' is null then
    return null;
  elsif left(p_query ->> 'options', 1) <> '{' then
    return 'options is not a JSON object';
  end if;
  select array_agg(o.key), jsonb_object_agg(o.key, o.value::text) filter (where json_typeof(o.value) <> 'null'),
         (array_agg(o.key order by o.ordinality)
            filter (where json_typeof(o.value) <> 'null'
                      and o.key not in ('timeout_seconds', 'on_failure', 'inherit_vars', 'vars', 'input', 'on_parent_cancel', 'detach')))[1]
    into v_keys, v_options, v_unknown
    from json_each((p_query ->> 'options')::json) with ordinality as o;
  if exists (select from unnest(v_keys) as k(key) group by k.key having count(*) > 1) then
    return 'options has a key twice';
  elsif v_unknown is not null then
    return format('options has an unknown key ''%s''', left(v_unknown, 60));
  end if;
  v_token := v_options ->> 'timeout_seconds';
  if not df.may_be_seconds(v_token) and not (left(v_token, 1) = '"' and df.has_reference(df.json_text(v_token))) then
    return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
  end if;
  for v_choice in
    values ('on_failure', 'raise', 'return'), ('on_parent_cancel', 'cancel', 'abandon')
  loop
    v_token := v_options ->> v_choice.column1;
    if left(v_token, 1) <> '"' then
      return format('%s is not a string', v_choice.column1);
    elsif df.json_text(v_token) not in (v_choice.column2, v_choice.column3) then
      return format('%s is not ''%s'' or ''%s''', v_choice.column1, v_choice.column2, v_choice.column3);
    end if;
  end loop;
  for v_choice in
    values ('inherit_vars'), ('detach')
  loop
    if v_options ->> v_choice.column1 not in ('true', 'false') then
      return format('%s is not true or false', v_choice.column1);
    end if;
  end loop;
  if left(v_options ->> 'vars', 1) <> '{' then
    return 'vars is not a JSON object';
  end if;
  return null;
end
$$;
comment on function df.call_child_flaw(jsonb) is 'api: what is wrong with the options of a call of a child, null when nothing is';

-- What is wrong with the query of a node whose query is a JSON object; null when nothing is. Takes the letters of the
-- children that are there.
create function df.node_options_flaw(p_type text, p_query text, p_has text)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_json    json;
  v_keys    text[];
  v_options jsonb;  -- key to token, nulls left out: as a token no number is too large for jsonb
  v_text    text;
  v_wrong   text;
begin
  begin
    v_json := p_query;
  exception
    when invalid_text_representation then
      v_json := 'null';
    when statement_too_complex then
      return format('query of %s is nested too deeply', p_type);
  end;
  if json_typeof(v_json) <> 'object' then
    return format('query of %s is not a JSON object', p_type);
  end if;
  begin
    select array_agg(o.key), jsonb_object_agg(o.key, o.value::text) filter (where json_typeof(o.value) <> 'null')
      into v_keys, v_options
      from json_each(v_json) as o;
  exception
    when invalid_text_representation or untranslatable_character then
      return format('query of %s has a character that text cannot hold', p_type);
  end;
  if exists (select from unnest(v_keys) as k(key) group by k.key having count(*) > 1) then
    return format('query of %s has a key twice', p_type);
  end if;

  case p_type
    when 'IF' then
      v_text := v_options ->> 'condition_type';
      if left(v_text, 1) <> '"' then
        return 'condition_type is not a string';
      elsif df.json_text(v_text) is distinct from 'result_has_rows' then
        return 'condition_type is not ''result_has_rows''';
      end if;
      return df.result_name_flaw(coalesce(v_options ->> 'result_name', '""'));
    when 'LOOP' then
      if not df.may_be_seconds(v_options ->> 'every') then
        return 'every is not a number of seconds from 0 to 10000000000';
      end if;
    when 'BREAK' then
      null;  -- break_value may be anything
    when 'SLEEP' then
      v_text := coalesce(v_options ->> 'until', '""');
      if left(v_text, 1) <> '"' then
        return 'until is not a string';
      end if;
      v_text := df.json_text(v_text);
      if v_text = '' then
        return 'SLEEP needs a number of seconds, a text or an until';
      elsif not df.has_reference(v_text) and not df.is_timestamp(v_text) then
        return format('until is neither an ISO 8601 time nor a reference: ''%s''', left(v_text, 60));
      end if;
    when 'SIGNAL' then
      v_wrong := df.needed_text_flaw(p_type, 'signal_name', v_options ->> 'signal_name');
      if v_wrong is not null then
        return v_wrong;
      end if;
      v_text := df.json_text(v_options ->> 'signal_name');
      if octet_length(v_text) > 200 and not df.has_reference(v_text) then
        return 'signal_name is longer than 200 bytes';
      elsif v_options ->> 'fresh' not in ('true', 'false') then
        return 'fresh is not true or false';
      elsif not df.may_be_seconds(v_options ->> 'timeout_seconds') then
        return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
      end if;
    when 'WAIT_SCHEDULE' then
      v_wrong := df.needed_text_flaw(p_type, 'cron_expr', v_options ->> 'cron_expr');
      v_text := coalesce(v_options ->> 'timezone', '"UTC"');
      if v_wrong is not null then
        return v_wrong;
      elsif left(v_text, 1) <> '"' then
        return 'timezone is not a string';
      end if;
      v_text := df.json_text(v_options ->> 'cron_expr');
      v_wrong := case when not df.has_reference(v_text) then df.cron_flaw(v_text) end;
      v_text := coalesce(df.json_text(v_options ->> 'timezone'), 'UTC');
      if v_wrong is not null then
        return v_wrong;
      elsif not df.has_reference(v_text) and not df.is_zone(v_text) then
        return format('timezone ''%s'' is not known', left(v_text, 60));
      end if;
    when 'HTTP', 'HTTP_MULTIPART' then
      if p_type = 'HTTP_MULTIPART' and left(v_options ->> 'parts', 1) <> '[' then
        return 'parts is not a JSON array';
      end if;
      v_wrong := df.needed_text_flaw(p_type, 'url', v_options ->> 'url');
      if v_wrong is not null then
        return v_wrong;
      elsif left(v_options ->> 'method', 1) <> '"' then
        return 'method is not a string';
      elsif left(v_options ->> 'body', 1) <> '"' then
        return 'body is not a string';
      elsif left(v_options ->> 'headers', 1) <> '{' then
        return 'headers is not a JSON object';
      elsif not df.may_be_seconds(v_options ->> 'timeout_seconds') then
        return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
      end if;
    when 'CALL_CHILD' then
      return df.call_child_flaw(v_options);
    when 'AWAIT_INSTANCE' then
      v_wrong := df.needed_text_flaw(p_type, 'instance_id', v_options ->> 'instance_id');
      if v_wrong is not null then
        return v_wrong;
      end if;
      v_text := df.json_text(v_options ->> 'instance_id');
      if v_text !~ '^[A-Za-z0-9~][A-Za-z0-9._:/-]*$' and not df.has_reference(v_text) then
        return format('instance_id ''%s'' is not the id of an instance', left(v_text, 60));
      elsif not df.may_be_seconds(v_options ->> 'timeout_seconds') then
        return 'timeout_seconds is not a number of seconds from 0 to 10000000000';
      end if;
    when 'MAP' then
      v_text := v_options ->> 'items';
      if left(v_text, 1) <> '"' then
        return 'items is not a string';
      elsif v_text is null and strpos(p_has, 'L') = 0 then
        return 'MAP needs a left_node or items';
      elsif v_text is not null and strpos(p_has, 'L') > 0 then
        return 'MAP with items takes no left_node';
      end if;
      v_wrong := case when v_text is not null then df.result_name_flaw(v_text) end;
      if v_wrong is not null then
        return v_wrong;
      elsif not df.may_be_count(v_options ->> 'max_parallel') then
        return 'max_parallel is not a whole number from 1 to 10000';
      end if;
    when 'RETRY' then
      if not df.may_be_count(v_options ->> 'max_attempts') then
        return 'max_attempts is not a whole number from 1 to 10000';
      elsif v_options ->> 'max_attempts' is null then
        return 'RETRY needs a max_attempts';
      elsif not df.may_be_seconds(v_options ->> 'initial') then
        return 'initial is not a number of seconds from 0 to 10000000000';
      elsif not df.may_be_seconds(v_options ->> 'backoff') or (v_options ->> 'backoff')::numeric not between 1 and 1000 then
        return 'backoff is not a number from 1 to 1000';
      elsif not df.may_be_seconds(v_options ->> 'max_interval') then
        return 'max_interval is not a number of seconds from 0 to 10000000000';
      end if;
    when 'TIMEOUT' then
      if not df.may_be_seconds(v_options ->> 'seconds') then
        return 'seconds is not a number of seconds from 0 to 10000000000';
      elsif v_options ->> 'seconds' is null then
        return 'TIMEOUT needs seconds';
      end if;
  end case;
  return null;
end
$$;
comment on function df.node_options_flaw(text, text, text) is 'api: what is wrong with the options of a graph node, null when nothing is';

-- What is wrong with a result's name, given as a token; null when nothing is.
create function df.result_name_flaw(p_token text)
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_name text;
begin
  if p_token ~ '^"[A-Za-z_][A-Za-z0-9_]*"$' then
    return null;
  elsif left(p_token, 1) <> '"' then
    return 'result_name is not a string';
  end if;
  v_name := df.json_text(p_token);
  if v_name is null then
    return 'result_name has a character that text cannot hold';
  elsif v_name ~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    return null;
  end if;
  return format('result name ''%s'' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*',
                case when length(v_name) > 60 then left(v_name, 60) || '…' else v_name end);
end
$$;
comment on function df.result_name_flaw(text) is 'api: what is wrong with a result''s name, given as a JSON token';

-- What is wrong with a node's query, given as its decoded text or null; null when nothing is.
create function df.node_query_flaw(p_type text, p_kind text, p_query text, p_has text)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_trimmed text := btrim(p_query, E' \t\n\r');
begin
  case
    when p_query is null and p_kind like 'none%' then
      return null;
    when p_kind = 'none' then
      return format('%s takes no query', p_type);
    when p_kind = 'options' and p_query is null then
      -- what is missing is said of its options
      return df.node_options_flaw(p_type, '{}', p_has);
    when p_kind like '%options' then
      return df.node_options_flaw(p_type, p_query, p_has);
    when coalesce(v_trimmed, '') = '' then
      return format('%s needs a query', p_type);
    when p_kind = 'text' then
      return null;
    when df.is_node(v_trimmed) then
      return df.node_options_flaw(p_type, v_trimmed, p_has);
    when df.is_seconds(v_trimmed) then
      return null;
    when v_trimmed ~ '^-?[0-9.]+([eE][+-]?[0-9]+)?$' then
      return format('%s is not for a number of seconds from 0 to 10000000000', p_type);
    when not df.has_reference(v_trimmed) then
      return format('%s needs a number of seconds or a reference, not ''%s''', p_type, left(v_trimmed, 60));
    else
      return null;
  end case;
end
$$;
comment on function df.node_query_flaw(text, text, text, text) is 'api: what is wrong with the query of a graph node, null when nothing is';

-- The path of a node for messages: of more than 40 places the middle is left out.
create function df.node_path(p_parents integer[], p_roles text[], p_node integer)
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_node   integer := p_node;
  v_places text[] := '{}';
  v_count  integer := 0;
  v_nth    integer;
begin
  while v_node is not null loop
    v_count := v_count + 1;
    if p_roles[v_node] = 'X' then
      select count(*) into v_nth
        from unnest(p_parents[:v_node - 1], p_roles[:v_node - 1]) as n(parent, role)
       where n.parent = p_parents[v_node] and n.role = 'X';
    end if;
    v_places[v_count] := case p_roles[v_node]
      when 'L' then 'left_node'
      when 'R' then 'right_node'
      when 'C' then 'condition_node'
      when 'X' then format('extra_nodes[%s]', v_nth)
      else 'root'
    end;
    v_node := p_parents[v_node];
  end loop;
  v_places := array(select p.place from unnest(v_places) with ordinality as p(place, n) order by p.n desc);
  if v_count > 40 then
    v_places := v_places[:20] || format('…(%s more)…', v_count - 40) || v_places[v_count - 19:];
  end if;
  return array_to_string(v_places, '.');
end
$$;
comment on function df.node_path(integer[], text[], integer) is 'api: the path of a graph node, for messages';

-- What is wrong with a node's children, given by their letters (e: extra_nodes that is no array); null when nothing is.
create function df.node_children_flaw(p_type text, p_has text, p_needs text, p_may text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_child record;
begin
  for v_child in
    values ('L', 'left_node'), ('R', 'right_node'), ('C', 'condition_node')
  loop
    if strpos(p_needs, v_child.column1) > 0 and strpos(p_has, v_child.column1) = 0 then
      return format('%s needs a %s', p_type, v_child.column2);
    elsif strpos(p_needs || p_may, v_child.column1) = 0 and strpos(p_has, v_child.column1) > 0 then
      return format('%s takes no %s', p_type, v_child.column2);
    end if;
  end loop;
  if strpos(p_has, 'e') > 0 then
    return 'extra_nodes is not an array';
  elsif strpos(p_has, 'E') = 0 then
    return null;
  elsif strpos(p_may, 'E') = 0 then
    return format('%s takes no extra_nodes', p_type);
  elsif strpos(p_has, 'R') = 0 then
    return format('%s with extra_nodes needs a right_node', p_type);
  end if;
  return null;
end
$$;
comment on function df.node_children_flaw(text, text, text, text) is 'api: what is wrong with the children of a graph node, null when nothing is';

-- The tokens of JSON, for regular expressions. A key comes with the brace or comma before it and the colon after it, so
-- that the grammar needs no look-ahead. A string that breaks off is a token without its last quote; escapes, numbers and
-- words are looked at where they are read. The simpler the pattern, the faster: PostgreSQL builds its automaton anew for
-- every token. No character is scanned more than a few times, whatever the text.
create function df.json_token_pattern()
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  c_string constant text := '"(?:[^"\\\u0001-\u001f]|\\.)*';
begin
  return '[{,][ \t\n\r]*' || c_string || '"[ \t\n\r]*:|' || c_string || '"?|[^] \t\n\r"{}[,:]+|[]{}[,:]';
end
$$;
comment on function df.json_token_pattern() is 'api: the pattern that cuts a graph into tokens';

-- Is this token a string, a number or a word of JSON?
create function df.is_json_scalar(p_token text)
  returns boolean
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  return p_token ~ ('^(?:"(?:[^"\\\u0001-\u001f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"'
    || '|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)$');
end
$$;
comment on function df.is_json_scalar(text) is 'api: is a token of a graph a string, a number or a word of JSON';

-- Raises: the graph is not JSON from this token on.
create function df.refuse_json(p_graph text, p_token integer)
  returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_position integer := regexp_instr(p_graph, df.json_token_pattern(), 1, p_token);
begin
  raise exception 'Invalid durable function graph: root: not valid JSON near ''%'' (|| binds like ~>: put parentheses around concatenations)',
      case when v_position > 0 then substr(p_graph, v_position, 30) else right(p_graph, 30) end
    using errcode = 'invalid_parameter_value';
end
$$;
comment on function df.refuse_json(text, integer) is 'api: raises the error for a graph that is not JSON';

-- Reads the JSON of a graph into its nodes, in the order of the text: a parent before its children. Raises, with
-- errcode 22023, what is not JSON and what has too many nodes; says nothing of what the nodes are. A key whose value is
-- null is as good as absent.
create function df.read_graph(
  p_graph       text,
  out parents   integer[],
  out roles     text[],   -- where in the parent, by letter: L R C, X in extra_nodes; root
  out children  text[],   -- the letters of the children that are there, E for extra_nodes; e: extra_nodes is no array
  out types     text[],   -- node_type as a token; empty where something stands in a node's place that is no object
  out queries   text[],   -- query as a token
  out names     text[],   -- result_name as a token
  out twice     integer,  -- the first node with a key that is there twice
  out twice_key text
)
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  c_max_nodes constant integer := 10000;
  -- what is open: a node, by its number; the extra_nodes of one, by its negative; or something whose contents are skipped
  c_object    constant integer := -1000000;
  c_array     constant integer := -1000001;
  v_stack  integer[] := '{}';
  v_top    integer := 0;
  v_inside integer;          -- what is open innermost
  v_state  text := 'value';  -- what may come next: value; item (a value, or the end of the array); close (only the brace);
                             -- member (a comma with a key, or the end); next (a comma, or the end); end
  v_role   text := 'root';   -- what the next value is: a node (root, L, R, C, X), E T Q N, or - (skipped)
  v_token  text;
  v_at     integer := 0;     -- which token
  v_first  text;
  v_key    text;
  v_count  integer := 0;
  v_seen   text[] := '{}';   -- the letters of the keys that are there, null values included
begin
  parents := '{}';
  roles := '{}';
  children := '{}';
  types := '{}';
  queries := '{}';
  names := '{}';
  foreach v_token in array array(select m[1] from regexp_matches(p_graph, df.json_token_pattern(), 'g') as m) loop
    v_at := v_at + 1;
    v_first := left(v_token, 1);
    -- what has no backslash is a good string or key if it is a token at all
    if strpos(v_token, '\') > 0 and not df.is_json_scalar(btrim(v_token, E'{,: \t\n\r')) then
      perform df.refuse_json(p_graph, v_at);
    end if;

    case
      when v_first = ',' and v_state = 'member' and v_token <> ',' then
        null;  -- and the key that comes with it, below

      when v_first = '}' and v_state in ('member', 'close') or v_first = ']' and v_state in ('next', 'item') then
        v_top := v_top - 1;
        v_inside := v_stack[v_top];
        v_state := case when v_inside > 0 or v_inside = c_object then 'member' when v_inside < 0 then 'next' else 'end' end;
        continue;

      when v_token = ',' and v_state = 'next' then
        v_state := 'value';
        v_role := case when v_inside = c_array then '-' else 'X' end;
        continue;

      when v_state <> 'value' and v_state <> 'item'
        or v_first in (',', ':', ']', '}')
        or v_first = '"' and (right(v_token, 1) <> '"' or v_token = '"')
        or v_first not in ('"', '{', '[') and not df.is_json_scalar(v_token)
      then
        perform df.refuse_json(p_graph, v_at);

      else
        -- a value begins
        case
          when v_role in ('L', 'R', 'C', 'X', 'root') then
            if v_token <> 'null' or v_role = 'X' then
              v_count := v_count + 1;
              if v_count > c_max_nodes then
                raise exception 'Invalid durable function graph: root: Graph exceeds maximum of % nodes', c_max_nodes
                  using errcode = 'invalid_parameter_value';
              end if;
              roles[v_count] := v_role;
              children[v_count] := '';
              v_seen[v_count] := '';
              if v_first <> '{' then
                types[v_count] := '';
              end if;
              if v_role = 'X' then
                parents[v_count] := - v_inside;
                if strpos(children[- v_inside], 'E') = 0 then
                  children[- v_inside] := children[- v_inside] || 'E';
                end if;
              elsif v_role = 'root' then
                parents[v_count] := null;
              else
                parents[v_count] := v_inside;
                children[v_inside] := children[v_inside] || v_role;
              end if;
            end if;
          when v_role = '-' or v_token = 'null' then
            null;
          when v_role = 'T' then
            types[v_inside] := v_token;
          when v_role = 'Q' then
            queries[v_inside] := v_token;
          when v_role = 'N' then
            names[v_inside] := v_token;
          when v_role = 'E' and v_first <> '[' then
            children[v_inside] := children[v_inside] || 'e';
          else
            null;  -- extra_nodes, an array
        end case;

        if v_first = '{' then
          v_inside := case when v_role in ('L', 'R', 'X', 'C', 'root') then v_count else c_object end;
          v_top := v_top + 1;
          v_stack[v_top] := v_inside;
          if v_token = '{' then
            v_state := 'close';
            continue;
          end if;
        elsif v_first = '[' then
          v_state := 'item';
          if v_role = 'E' then
            v_inside := - v_inside;
            v_role := 'X';
          else
            v_inside := c_array;
            v_role := '-';
          end if;
          v_top := v_top + 1;
          v_stack[v_top] := v_inside;
          continue;
        else
          v_state := case when v_inside > 0 or v_inside = c_object then 'member' else 'next' end;
          continue;
        end if;
    end case;

    -- the token ends with a key
    v_state := 'value';
    if v_inside = c_object then
      v_role := '-';
      continue;
    end if;
    v_key := btrim(v_token, E'{,: \t\n\r');
    if strpos(v_key, '\') > 0 then
      v_key := '"' || coalesce(df.json_text(v_key), '') || '"';
    end if;
    case v_key
      when '"node_type"' then
        v_role := 'T';
      when '"query"' then
        v_role := 'Q';
      when '"left_node"' then
        v_role := 'L';
      when '"right_node"' then
        v_role := 'R';
      when '"condition_node"' then
        v_role := 'C';
      when '"extra_nodes"' then
        v_role := 'E';
      when '"result_name"' then
        v_role := 'N';
      else
        v_role := '-';
        continue;
    end case;
    if strpos(v_seen[v_inside], v_role) = 0 then
      v_seen[v_inside] := v_seen[v_inside] || v_role;
    elsif twice is null or v_inside < twice or v_inside = twice and v_key < twice_key then
      twice := v_inside;
      twice_key := v_key;
    end if;
  end loop;
  if v_state <> 'end' then
    perform df.refuse_json(p_graph, v_at + 1);
  end if;
end
$$;
comment on function df.read_graph(text) is 'api: the nodes of a graph, not checked yet';

-- Raises, with errcode 22023, what is wrong with a node.
create function df.refuse_node(p_parents integer[], p_roles text[], p_node integer, p_wrong text)
  returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
begin
  raise exception 'Invalid durable function graph: %: %', df.node_path(p_parents, p_roles, p_node), p_wrong
    using errcode = 'invalid_parameter_value';
end
$$;
comment on function df.refuse_node(integer[], text[], integer, text) is 'api: raises the error for a bad graph node';

-- What is wrong with a node_type that names none, given as its token. Raises for a name, because that text has no path.
create function df.node_type_flaw(p_token text, p_path text)
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_name text;
begin
  if p_token is null then
    return 'node_type is missing';
  elsif p_token = '' then
    return 'a node is a JSON object';
  elsif left(p_token, 1) <> '"' then
    return 'node_type is not a string';
  end if;
  v_name := df.json_text(p_token);
  if v_name is null then
    return 'node_type has a character that text cannot hold';
  end if;
  raise exception 'Invalid durable function: Unknown node_type ''%''. Valid types: %',
      left(v_name, 60),
      (select string_agg(r.key, ', ' order by (r.value -> 'ordinal')::integer)
         from jsonb_each(df.node_rules()) as r)
    using errcode = 'invalid_parameter_value', detail = format('The node is %s.', p_path);
end
$$;
comment on function df.node_type_flaw(text, text) is 'api: what is wrong with the type of a graph node';

-- Raises, with errcode 22023, unless the text is a graph that can run. Contract: LANGUAGE.md section 1. `p_now` refuses also
-- what only a later version runs.
create function df.validate_graph(p_graph text, p_now boolean default false)
  returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  c_max_depth   constant integer := 256;
  c_max_repeats constant integer := 32;
  c_rules       constant jsonb := df.node_rules();
  v_parents   integer[];
  v_roles     text[];
  v_children  text[];
  v_types     text[];
  v_queries   text[];
  v_names     text[];
  v_twice     integer;
  v_twice_key text;
  v_kinds   text[] := '{}';
  v_depths  integer[] := '{}';
  v_repeats integer[] := '{}';  -- nodes around the node that repeat it
  v_breaks  text[] := '{}';     -- the letters of the children in which a BREAK may stand
  v_rule    jsonb;
  v_kind    text;
  v_up      integer;
  v_has     text;
  v_open    boolean;            -- may a BREAK stand here
  v_text    text;               -- its query
  v_query   text;               -- what that must be
  v_needs   text;
  v_wrong   text;
begin
  if not df.is_node(p_graph) then
    if btrim(p_graph, E' \t\n\r') = '' then
      perform df.refuse_node('{}', '{root}', 1, 'SQL needs a query');
    end if;
    return;
  end if;

  select g.parents, g.roles, g.children, g.types, g.queries, g.names, g.twice, g.twice_key
    into v_parents, v_roles, v_children, v_types, v_queries, v_names, v_twice, v_twice_key
    from df.read_graph(p_graph) as g;

  for v_node in 1 .. cardinality(v_roles) loop
    v_wrong := null;
    v_kind := btrim(v_types[v_node], '"');
    v_rule := c_rules -> v_kind;
    if v_node = v_twice and v_types[v_node] is distinct from '' then
      perform df.refuse_node(v_parents, v_roles, v_node, format('key ''%s'' is there twice', btrim(v_twice_key, '"')));
    elsif v_rule is null and left(v_types[v_node], 1) = '"' and strpos(v_types[v_node], '\') > 0 then
      v_kind := df.json_text(v_types[v_node]);
      v_rule := c_rules -> v_kind;
    end if;
    if v_rule is null then
      perform df.refuse_node(v_parents, v_roles, v_node,
                             df.node_type_flaw(v_types[v_node], df.node_path(v_parents, v_roles, v_node)));
    end if;
    v_kinds[v_node] := v_kind;

    -- where it stands
    v_up := v_parents[v_node];
    if v_up is null then
      v_depths[v_node] := 1;
      v_repeats[v_node] := 0;
      v_open := false;
    else
      v_depths[v_node] := v_depths[v_up]
        + case when v_kind = 'THEN' and v_roles[v_node] = 'L' and v_kinds[v_up] = 'THEN' then 0 else 1 end;
      v_repeats[v_node] := v_repeats[v_up]
        + case when strpos(c_rules -> v_kinds[v_up] ->> 'repeats', v_roles[v_node]) > 0 then 1 else 0 end;
      v_open := strpos(v_breaks[v_up], v_roles[v_node]) > 0;
    end if;
    v_breaks[v_node] := (v_rule ->> 'opens') || case when v_open then translate('LRCX', v_rule ->> 'closes', '') else '' end;
    if v_depths[v_node] > c_max_depth then
      v_wrong := format('Graph exceeds maximum nesting depth of %s levels', c_max_depth);
    elsif v_repeats[v_node] >= c_max_repeats and v_rule ->> 'repeats' <> '' then
      v_wrong := format('more than %s repeating nodes around one another', c_max_repeats);
    elsif v_kind = 'BREAK' and not v_open then
      v_wrong := 'BREAK outside a loop';
    end if;

    -- what it holds; no function is called for what is usual
    v_text := null;
    v_has := v_children[v_node];
    if v_names[v_node] is not null and v_wrong is null then
      v_wrong := df.result_name_flaw(v_names[v_node]);
    end if;
    if v_queries[v_node] is not null and v_wrong is null then
      v_text := btrim(v_queries[v_node], '"');
      if left(v_queries[v_node], 1) <> '"' then
        v_wrong := 'query is not a string';
      elsif strpos(v_text, '\') > 0 then
        v_text := df.json_text(v_queries[v_node]);
        v_wrong := case when v_text is null then 'query has a character that text cannot hold' end;
      end if;
    end if;
    if v_kind = 'IF' and v_wrong is null then
      if v_text is null and strpos(v_has, 'C') = 0 then
        v_wrong := 'IF needs a condition_node';
      elsif v_text is not null and strpos(v_has, 'C') > 0 then
        v_wrong := 'IF with a query takes no condition_node';
      end if;
    end if;
    v_query := v_rule ->> 'query';
    if v_text is null and not starts_with(v_query, 'none')
      or v_text is not null and (v_query <> 'text' or ltrim(v_text, E' \t\n\r') = '')
    then
      v_wrong := coalesce(v_wrong, df.node_query_flaw(v_kind, v_query, v_text, v_has));
    end if;
    v_needs := v_rule ->> 'needs';
    if translate(v_needs, v_has, '') <> '' or translate(v_has, v_needs, '') <> '' then
      v_wrong := coalesce(v_wrong, df.node_children_flaw(v_kind, v_has, v_needs, v_rule ->> 'may'));
    end if;
    if p_now and starts_with(v_kind, 'HTTP') then
      v_wrong := coalesce(v_wrong, 'HTTP steps are not available in this version of walflow');
    end if;
    if v_wrong is not null then
      perform df.refuse_node(v_parents, v_roles, v_node, v_wrong);
    end if;
  end loop;
end
$$;
comment on function df.validate_graph(text, boolean) is 'api: raises unless a text is a graph that can run';

-- Each distinct graph of a statement is checked once, so that a bulk start stays cheap.
create function df.instances_validate()
  returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_graph text;
begin
  for v_graph in select distinct n.graph from new_rows n loop
    perform df.validate_graph(v_graph, p_now => true);
  end loop;
  return null;
end
$$;
comment on function df.instances_validate() is 'refuses graphs that cannot run, in the transaction that inserts them';

create trigger "02_validate" after insert on df.instances
  referencing new table as new_rows for each statement execute function df.instances_validate();
alter table df.instances enable always trigger "02_validate";
