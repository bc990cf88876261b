-- Builders: text in, graph text out. They touch no table and look at no more of a graph than its first characters.
--
-- plpgsql and not inlinable SQL: PostgreSQL would copy an inlined argument into every place that it is used in, which
-- took 13 s for a thousand nodes. Not STRICT, so that a NULL is an error that says where. Nested texts are never parsed:
-- a graph of a thousand steps is built in a thousand concatenations. The same expression gives the same bytes, always:
-- keys stand in the order node_type, left_node, right_node, condition_node, extra_nodes, query, result_name, without
-- white space, absent when there is nothing to say.
--
-- String literals with a backslash are written E'…', which means the same under any standard_conforming_strings.

-- The node that an argument means. Raises for NULL, with the builder's and the argument's name.
create function df.as_node(p_text text, p_builder text, p_argument text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_text is null then
    raise exception 'df.%: argument % is NULL', p_builder, p_argument
      using errcode = 'null_value_not_allowed', hint = '|| with a NULL gives NULL.';
  elsif df.is_node(p_text) then
    return p_text;
  end if;
  return '{"node_type":"SQL","query":' || to_json(p_text) || '}';
end
$$;
comment on function df.as_node(text, text, text) is 'api: the graph node that a builder''s argument means';

-- Raises for a NULL where a value is expected that is no node.
create function df.not_null(p_value anyelement, p_builder text, p_argument text)
  returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_value is null then
    raise exception 'df.%: argument % is NULL', p_builder, p_argument using errcode = 'null_value_not_allowed';
  end if;
end
$$;
comment on function df.not_null(anyelement, text, text) is 'api: raises for a builder''s argument that is NULL';

-- A query that is a JSON object, as the node has it: a string. Takes the object's text.
create function df.options_node(p_type text, p_options text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"' || p_type || '","query":' || to_json(p_options) || '}';
end
$$;
comment on function df.options_node(text, text) is 'api: a graph node with options';

-- A number of seconds as graphs have it, to the microsecond. Raises for what no wait can be.
create function df.seconds_text(p_seconds numeric, p_builder text, p_argument text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_seconds is null then
    raise exception 'df.%: argument % is NULL', p_builder, p_argument using errcode = 'null_value_not_allowed';
  elsif not p_seconds between 0 and 10000000000 then
    raise exception 'df.%: argument % must be from 0 to 10000000000 seconds, not %',
        p_builder, p_argument, left(p_seconds::text, 60)
      using errcode = 'invalid_parameter_value';
  end if;
  return trim_scale(round(p_seconds, 6))::text;
end
$$;
comment on function df.seconds_text(numeric, text, text) is 'api: a number of seconds as graphs have it';

create function df.interval_text(p_interval interval, p_builder text, p_argument text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.seconds_text(extract(epoch from p_interval), p_builder, p_argument);
end
$$;
comment on function df.interval_text(interval, text, text) is 'api: an interval in seconds as graphs have it: a month is 30 days';

-- Operands of a list, each a node; of one only when there is nothing else.
create function df.as_nodes(p_texts text[], p_builder text)
  returns text[]
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes text[] := '{}';
  v_text  text;
begin
  if coalesce(cardinality(p_texts), 0) = 0 then
    raise exception 'df.%: needs at least one argument', p_builder using errcode = 'invalid_parameter_value';
  end if;
  foreach v_text in array p_texts loop
    v_nodes[cardinality(v_nodes) + 1] := df.as_node(v_text, p_builder, (cardinality(v_nodes) + 1)::text);
  end loop;
  return v_nodes;
end
$$;
comment on function df.as_nodes(text[], text) is 'api: the graph nodes that a builder''s arguments mean';

-- Branches as JOIN and RACE have them. Two at least.
create function df.branches(p_type text, p_nodes text[])
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"' || p_type || '","left_node":' || p_nodes[1] || ',"right_node":' || p_nodes[2]
    || case when cardinality(p_nodes) > 2 then ',"extra_nodes":[' || array_to_string(p_nodes[3:], ',') || ']' else '' end
    || '}';
end
$$;
comment on function df.branches(text, text[]) is 'api: a graph node with branches';

create function df.sql(query text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(query, 'sql', 'query');
  return '{"node_type":"SQL","query":' || to_json(query) || '}';
end
$$;
comment on function df.sql(text) is 'api: a step that runs one SQL statement';

create function df.seq(a text, b text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"THEN","left_node":' || df.as_node(a, 'seq', 'a') || ',"right_node":' || df.as_node(b, 'seq', 'b') || '}';
end
$$;
comment on function df.seq(text, text) is 'api: a, then b; operator ~>';

create function df.seq_all(variadic futs text[])
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes constant text[] := df.as_nodes(futs, 'seq_all');
  v_last  constant integer := cardinality(v_nodes);
begin
  if v_last = 1 then
    return v_nodes[1];
  end if;
  return repeat('{"node_type":"THEN","left_node":', v_last - 1) || v_nodes[1]
    || ',"right_node":' || array_to_string(v_nodes[2:], '},"right_node":') || '}';
end
$$;
comment on function df.seq_all(text[]) is 'api: one after the other';

-- A node without the result_name that it has somewhere else than at its end, where builders put it. Parses: for nodes that
-- people wrote. Any other node comes back as it is.
create function df.without_name(p_node text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from json_object_keys(p_node::json) as k where k = 'result_name') then
    return p_node;
  end if;
  return (
    select '{' || string_agg(to_json(m.key) || ':' || m.value, ',' order by m.ordinality) || '}'
      from json_each(p_node::json) with ordinality as m
     where m.key <> 'result_name'
  );
end
$$;
comment on function df.without_name(text) is 'api: a graph node without its result_name';

-- The last bytes of a text, as ASCII for patterns, and a text without its last bytes (which must be ASCII). In bytes because
-- left() and right() count the characters of the whole text: 1.5 ms for each name in a chain of a thousand.
create function df.tail(p_text text, p_bytes integer)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(substr(convert_to(p_text, getdatabaseencoding()), greatest(octet_length(p_text) - p_bytes, 0) + 1), 'escape');
end
$$;
comment on function df.tail(text, integer) is 'api: the last bytes of a text';

create function df.without_tail(p_text text, p_bytes integer)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return convert_from(
    substr(convert_to(p_text, getdatabaseencoding()), 1, octet_length(p_text) - p_bytes),
    getdatabaseencoding());
end
$$;
comment on function df.without_tail(text, integer) is 'api: a text without its last bytes';

-- The name goes to the end of the node's text and replaces one that is there. A name elsewhere can only be in a node that
-- people wrote; they write short ones, so longer texts are not parsed for it (and the INSERT refuses a node with two names).
create function df."as"(fut text, name text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  c_short_bytes constant integer := 20000;
  v_node  text := df.as_node(fut, 'as', 'fut');
  v_tail  text;
  v_end   text;   -- what stays behind the name: the mark of c ?> t, and the brace
begin
  perform df.not_null(name, 'as', 'name');
  if name !~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    raise exception 'df.as: result name ''%'' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*',
        case when length(name) > 60 then left(name, 60) || '…' else name end
      using errcode = 'invalid_parameter_value';
  end if;
  if df.tail(v_node, 1) <> '}' then
    v_node := rtrim(v_node, E' \t\n\r');
  end if;
  v_tail := df.tail(v_node, 300);
  v_end := substring(v_tail from '(?:,"then_length":[0-9]+)?[}]$');
  if v_end is null then
    raise exception 'df.as: argument fut begins like a node and does not end like one: …%', right(v_node, 30)
      using errcode = 'invalid_parameter_value', hint = '|| binds like ~>: put parentheses around concatenations.';
  end if;
  v_tail := substring(v_tail from ',"result_name":"[A-Za-z_][A-Za-z0-9_]*"(?:,"then_length":[0-9]+)?[}]$');
  if v_tail is null and octet_length(v_node) <= c_short_bytes and strpos(v_node, '"result_name"') > 0 then
    v_node := df.without_name(v_node);
  end if;
  return df.without_tail(v_node, length(coalesce(v_tail, v_end))) || ',"result_name":"' || name || '"' || v_end;
end
$$;
comment on function df."as"(text, text) is 'api: names the result of a node; operator |=>';

create function df."join"(a text, b text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.branches('JOIN', array[df.as_node(a, 'join', 'a'), df.as_node(b, 'join', 'b')]);
end
$$;
comment on function df."join"(text, text) is 'api: both at once; operator &';

create function df.join3(a text, b text, c text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.branches('JOIN', array[df.as_node(a, 'join3', 'a'), df.as_node(b, 'join3', 'b'), df.as_node(c, 'join3', 'c')]);
end
$$;
comment on function df.join3(text, text, text) is 'api: all three at once';

-- Of one: still an array, of one result.
create function df.join_all(variadic futs text[])
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes constant text[] := df.as_nodes(futs, 'join_all');
begin
  if cardinality(v_nodes) = 1 then
    return '{"node_type":"JOIN","left_node":' || v_nodes[1] || '}';
  end if;
  return df.branches('JOIN', v_nodes);
end
$$;
comment on function df.join_all(text[]) is 'api: all at once';

create function df.race(a text, b text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.branches('RACE', array[df.as_node(a, 'race', 'a'), df.as_node(b, 'race', 'b')]);
end
$$;
comment on function df.race(text, text) is 'api: both at once, the first to end wins; operator |';

create function df.race_all(variadic futs text[])
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_nodes constant text[] := df.as_nodes(futs, 'race_all');
begin
  if cardinality(v_nodes) = 1 then
    return v_nodes[1];
  end if;
  return df.branches('RACE', v_nodes);
end
$$;
comment on function df.race_all(text[]) is 'api: all at once, the first to end wins';

create function df."if"(condition text, then_branch text, else_branch text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"IF","left_node":' || df.as_node(then_branch, 'if', 'then_branch')
    || ',"right_node":' || df.as_node(else_branch, 'if', 'else_branch')
    || ',"condition_node":' || df.as_node(condition, 'if', 'condition') || '}';
end
$$;
comment on function df."if"(text, text, text) is 'api: one branch or the other; operators ?> and !>';

-- c ?> t is an IF that lacks its right_node. It goes between the two children that are there, and where the first ends
-- cannot be seen without parsing; so its length is noted at the end, as a key that !> takes off again.
create function df.if_then(condition text, then_branch text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_then constant text := df.as_node(then_branch, 'if', 'then_branch');
begin
  return '{"node_type":"IF","left_node":' || v_then || ',"condition_node":' || df.as_node(condition, 'if', 'condition')
    || ',"then_length":' || length(v_then) || '}';
end
$$;
comment on function df.if_then(text, text) is 'api: operator ?>, to be completed by !>';

create function df.if_else(fut text, else_branch text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  c_start constant text := '{"node_type":"IF","left_node":';
  c_short_bytes constant integer := 20000;
  v_else  constant text := df.as_node(else_branch, 'if', 'else_branch');
  v_half  constant text := rtrim(fut, E' \t\n\r');
  v_mark  constant text := substring(right(v_half, 40) from ',"then_length":[0-9]{1,9}[}]$');
  v_then  integer;   -- where the then branch ends
begin
  if starts_with(v_half, c_start) and v_mark is not null then
    v_then := length(c_start) + substring(v_mark from '[0-9]+')::integer;
    if substr(v_half, v_then + 1, 18) = ',"condition_node":' then
      return left(v_half, v_then) || ',"right_node":' || v_else
        || substr(left(v_half, - length(v_mark)), v_then + 1) || '}';
    end if;
  end if;
  -- an IF without else that somebody wrote: short, so that parsing it costs nothing
  if df.is_node(v_half) and octet_length(v_half) <= c_short_bytes and df.is_json(v_half) then
    if v_half::json ->> 'node_type' = 'IF' and v_half::json ->> 'right_node' is null then
      return left(v_half, -1) || ',"right_node":' || v_else || '}';
    end if;
  end if;
  raise exception 'Invalid if-then-else: left side of !> must be a ?> expression'
    using errcode = 'invalid_parameter_value', hint = 'Operators have one precedence, left to right: c ?> t !> e.';
end
$$;
comment on function df.if_else(text, text) is 'api: operator !>, which completes ?>';

create function df.if_rows(result_name text, then_branch text, else_branch text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(result_name, 'if_rows', 'result_name');
  if result_name !~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    raise exception 'df.if_rows: result name ''%'' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*',
        case when length(result_name) > 60 then left(result_name, 60) || '…' else result_name end
      using errcode = 'invalid_parameter_value';
  end if;
  return '{"node_type":"IF","left_node":' || df.as_node(then_branch, 'if_rows', 'then_branch')
    || ',"right_node":' || df.as_node(else_branch, 'if_rows', 'else_branch')
    || ',"query":' || to_json('{"condition_type":"result_has_rows","result_name":"' || result_name || '"}') || '}';
end
$$;
comment on function df.if_rows(text, text, text) is 'api: one branch if a named result has rows, else the other';

create function df."loop"(body text, condition text default null, every interval default null)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"LOOP","left_node":' || df.as_node(body, 'loop', 'body')
    || case when condition is null then '' else ',"condition_node":' || df.as_node(condition, 'loop', 'condition') end
    || case when every is null then ''
            else ',"query":' || to_json('{"every":' || df.interval_text(every, 'loop', 'every') || '}') end
    || '}';
end
$$;
comment on function df."loop"(text, text, interval) is 'api: body again and again, while condition holds or until a break; operator @>';

-- An operator's function takes what the operator takes, without defaults.
create function df.loop_forever(body text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"LOOP","left_node":' || df.as_node(body, 'loop', 'body') || '}';
end
$$;
comment on function df.loop_forever(text) is 'api: operator @>';

-- Is this JSON? No handler for the cast's error, which parallel workers cannot have: strings become one sign and all other
-- scalars another, and containers of signs become signs, innermost first. Deeper than a thousand levels counts as no JSON.
create function df.is_json(p_text text)
  returns boolean
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_text text := p_text;
  v_next text;
begin
  if p_text ~ E'[\\u0001-\\u0008\\u000b\\u000c\\u000e-\\u001f]' then
    return false;
  end if;
  v_text := regexp_replace(v_text, E'"(?:[^"\\\\\\u0001-\\u001f]|\\\\(?:["\\\\/bfnrt]|u[0-9A-Fa-f]{4}))*"', E'\x01', 'g');
  v_text := regexp_replace(v_text, E'-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null', E'\x02', 'g');
  v_text := translate(v_text, E' \t\n\r', '');
  for v_level in 1 .. 1000 loop
    v_next := regexp_replace(
      v_text,
      E'\\[(?:[\x01\x02](?:,[\x01\x02])*)?\\]|\\{(?:\x01:[\x01\x02](?:,\x01:[\x01\x02])*)?\\}',
      E'\x02', 'g');
    exit when v_next = v_text;
    v_text := v_next;
  end loop;
  return v_text in (E'\x01', E'\x02');
end
$$;
comment on function df.is_json(text) is 'api: is a text JSON';

-- A value that is not JSON, or not yet for the references in it, is a string; the engine looks again once they are filled in.
create function df."break"(value text default null)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if value is null then
    return '{"node_type":"BREAK"}';
  end if;
  return df.options_node('BREAK',
    '{"break_value":' || case when df.is_json(value) then btrim(value, E' \t\n\r') else to_json(value)::text end || '}');
end
$$;
comment on function df."break"(text) is 'api: ends the innermost loop, with a value';

create function df.sleep(seconds bigint)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.options_node('SLEEP', df.seconds_text(seconds, 'sleep', 'seconds'));
end
$$;
comment on function df.sleep(bigint) is 'api: waits for so many seconds';

create function df.sleep(duration interval)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.options_node('SLEEP', df.interval_text(duration, 'sleep', 'duration'));
end
$$;
comment on function df.sleep(interval) is 'api: waits for an interval; a month is 30 days';

-- Seconds, an interval, or a text that becomes one of them once its references are filled in. Stable, because how an
-- interval is read is the session's choice; sleep_until(text) too: 'tomorrow' must not be folded into a cached plan.
create function df.sleep(duration text)
  returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if df.has_reference(duration) then
    return df.options_node('SLEEP', duration);
  elsif btrim(duration, E' \t\n\r') ~ '^-?[0-9]+([.][0-9]+)?$' then
    return df.options_node('SLEEP', df.seconds_text(duration::numeric, 'sleep', 'duration'));
  elsif length(duration) > 200 then
    perform df.refuse_argument('sleep', format('argument duration is no interval: ''%s…''', left(duration, 60)));
  end if;
  return df.options_node('SLEEP', df.interval_text(duration::interval, 'sleep', 'duration'));
end
$$;
comment on function df.sleep(text) is 'api: waits for seconds or an interval, which may be a reference';

create function df.sleep_until(until timestamptz)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(until, 'sleep_until', 'until');
  if not isfinite(until) or until < '0001-01-02 00:00:00+00' or until > '9999-12-30 00:00:00+00' then
    raise exception 'df.sleep_until: argument until must be in the years 1 to 9999, not %', until
      using errcode = 'invalid_parameter_value';
  end if;
  return df.options_node('SLEEP', '{"until":"' || to_char(until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}');
end
$$;
comment on function df.sleep_until(timestamptz) is 'api: waits until a time';

create function df.sleep_until(until text)
  returns text
  language plpgsql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if df.has_reference(until) then
    return df.options_node('SLEEP', '{"until":' || to_json(until) || '}');
  elsif length(until) > 200 then
    perform df.refuse_argument('sleep_until', format('argument until is no time: ''%s…''', left(until, 60)));
  end if;
  return df.sleep_until(until::timestamptz);
end
$$;
comment on function df.sleep_until(text) is 'api: waits until a time, which may be a reference';

create function df.wait_for_signal(name text, timeout_seconds numeric default null, fresh boolean default false)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(name, 'wait_for_signal', 'name');
  return df.options_node('SIGNAL',
    '{"signal_name":' || to_json(name)
    || case when timeout_seconds is null then ''
            else ',"timeout_seconds":' || df.seconds_text(timeout_seconds, 'wait_for_signal', 'timeout_seconds') end
    || case when fresh then ',"fresh":true' else '' end || '}');
end
$$;
comment on function df.wait_for_signal(text, numeric, boolean) is 'api: waits for a signal, at most so long';

-- JSON without white space: jsonb prints a blank after each comma and colon.
create function df.compact(p_json jsonb)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return regexp_replace(p_json::text, E'("(?:[^"\\\\]|\\\\.)*")|([,:]) ', E'\\1\\2', 'g');
end
$$;
comment on function df.compact(jsonb) is 'api: JSON as graphs have it, without white space';

-- Raises what a flaw function found, as the builder's own words.
create function df.refuse_argument(p_builder text, p_flaw text)
  returns void
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  if p_flaw is not null then
    raise exception 'df.%: %', p_builder, p_flaw using errcode = 'invalid_parameter_value';
  end if;
end
$$;
comment on function df.refuse_argument(text, text) is 'api: raises what is wrong with a builder''s argument';

-- A zone as pg_timezone_names spells it. Reading that view takes milliseconds; the setting TimeZone takes a name in any case
-- and gives it back in the right one within microseconds. What is set in here ends with the function, as its own `set` says.
-- Not parallel safe: settings cannot change in a parallel worker.
create function df.zone_name(p_zone text)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
as $$
begin
  perform set_config('timezone', p_zone, true);
  return current_setting('timezone');
end
$$;
comment on function df.zone_name(text) is 'api: a time zone, which must be one, as spelled in pg_timezone_names';

create function df.wait_for_schedule(cron_expr text, timezone text default 'UTC')
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_zone text := timezone;
begin
  perform df.not_null(cron_expr, 'wait_for_schedule', 'cron_expr');
  perform df.not_null(timezone, 'wait_for_schedule', 'timezone');
  if not df.has_reference(cron_expr) then
    perform df.refuse_argument('wait_for_schedule', df.cron_flaw(cron_expr));
  end if;
  if not df.has_reference(timezone) then
    if not df.is_zone(timezone) then
      perform df.refuse_argument('wait_for_schedule', format('timezone ''%s'' is not known', left(timezone, 60)));
    end if;
    v_zone := df.zone_name(timezone);
  end if;
  return df.options_node('WAIT_SCHEDULE', '{"cron_expr":' || to_json(cron_expr) || ',"timezone":' || to_json(v_zone) || '}');
end
$$;
comment on function df.wait_for_schedule(text, text) is 'api: waits for the next tick of a cron expression; the zone may be in any case';

-- What HTTP requests have in common; the members that follow url and method are the builder's own.
create function df.http_node(
  p_builder text,
  p_type    text,
  p_url     text,
  p_method  text,
  p_content text,
  p_headers jsonb,
  p_seconds numeric
)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(p_url, p_builder, 'url');
  perform df.not_null(p_method, p_builder, 'method');
  if btrim(p_url, E' \t\n\r') = '' then
    perform df.refuse_argument(p_builder, 'argument url is empty');
  elsif p_method !~ '^[A-Za-z]{1,20}$' and not df.has_reference(p_method) then
    perform df.refuse_argument(p_builder, format('method ''%s'' is not a word', left(p_method, 60)));
  elsif jsonb_typeof(p_headers) not in ('object', 'null') then
    perform df.refuse_argument(p_builder, 'headers is not a JSON object');
  end if;
  return df.options_node(p_type,
    '{"url":' || to_json(p_url) || ',"method":' || to_json(p_method) || p_content
    || case when coalesce(p_headers, '{}') in ('{}', 'null') then '' else ',"headers":' || df.compact(p_headers) end
    || ',"timeout_seconds":' || df.seconds_text(p_seconds, p_builder, 'timeout_seconds') || '}');
end
$$;
comment on function df.http_node(text, text, text, text, text, jsonb, numeric) is 'api: a graph node that sends an HTTP request';

create function df.http(
  url             text,
  method          text default 'POST',
  body            text default null,
  headers         jsonb default null,
  timeout_seconds numeric default 30
)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return df.http_node('http', 'HTTP', url, method, coalesce(',"body":' || to_json(body), ''), headers, timeout_seconds);
end
$$;
comment on function df.http(text, text, text, jsonb, numeric) is 'api: an HTTP request';

create function df.http_multipart(
  url             text,
  method          text default 'POST',
  parts           jsonb default null,
  headers         jsonb default null,
  timeout_seconds numeric default 30
)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
begin
  perform df.not_null(parts, 'http_multipart', 'parts');
  if jsonb_typeof(parts) <> 'array' then
    perform df.refuse_argument('http_multipart', 'parts is not a JSON array');
  elsif jsonb_array_length(parts) = 0 then
    perform df.refuse_argument('http_multipart', 'needs at least one part');
  end if;
  for v_part in
    select p.value, p.ordinality from jsonb_array_elements(parts) with ordinality as p
  loop
    if jsonb_typeof(v_part.value) <> 'object'
      or jsonb_typeof(v_part.value -> 'name') is distinct from 'string'
      or jsonb_typeof(v_part.value -> 'data_b64') is distinct from 'string'
      or jsonb_typeof(v_part.value -> 'filename') not in ('string', 'null')
      or jsonb_typeof(v_part.value -> 'content_type') not in ('string', 'null')
    then
      perform df.refuse_argument('http_multipart',
        format('part %s is not {"name":…,"data_b64":…}, with strings for "filename" and "content_type" if they are there',
               v_part.ordinality));
    end if;
  end loop;
  return df.http_node('http_multipart', 'HTTP_MULTIPART', url, method, ',"parts":' || df.compact(parts), headers, timeout_seconds);
end
$$;
comment on function df.http_multipart(text, text, jsonb, jsonb, numeric) is 'api: an HTTP request with parts, as forms send them';

create function df.call_child(graph text, label text default null, options jsonb default null)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_query constant text := concat_ws(',',
    '"label":' || to_json(nullif(label, '')),
    case when options not in ('{}', 'null') then '"options":' || df.compact(options) end);
begin
  if octet_length(label) > 1000 and not df.has_reference(label) then
    perform df.refuse_argument('call_child', 'argument label is longer than 1000 bytes');
  end if;
  if options <> 'null' then
    perform df.refuse_argument('call_child', df.call_child_flaw(jsonb_build_object('options', options::text)));
  end if;
  return '{"node_type":"CALL_CHILD","left_node":' || df.as_node(graph, 'call_child', 'graph')
    || case when v_query = '' then '' else ',"query":' || to_json('{' || v_query || '}') end || '}';
end
$$;
comment on function df.call_child(text, text, jsonb) is 'api: starts an instance as part of this one and waits for its end';

create function df.await_instance(instance_id text, timeout_seconds numeric default null)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(instance_id, 'await_instance', 'instance_id');
  if instance_id !~ '^[A-Za-z0-9~][A-Za-z0-9._:/-]*$' and not df.has_reference(instance_id) then
    perform df.refuse_argument('await_instance', format('instance_id ''%s'' is not the id of an instance', left(instance_id, 60)));
  end if;
  return df.options_node('AWAIT_INSTANCE',
    '{"instance_id":' || to_json(instance_id)
    || case when timeout_seconds is null then ''
            else ',"timeout_seconds":' || df.seconds_text(timeout_seconds, 'await_instance', 'timeout_seconds') end || '}');
end
$$;
comment on function df.await_instance(text, numeric) is 'api: waits for the end of another instance, at most so long';

create function df.map(items text, body text, max_parallel integer default 10)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(max_parallel, 'map', 'max_parallel');
  if max_parallel not between 1 and 10000 then
    perform df.refuse_argument('map', format('argument max_parallel must be from 1 to 10000, not %s', max_parallel));
  end if;
  if items ~ '^[A-Za-z_][A-Za-z0-9_]*$' then
    return '{"node_type":"MAP","right_node":' || df.as_node(body, 'map', 'body')
      || ',"query":' || to_json('{"items":"' || items || '","max_parallel":' || max_parallel || '}') || '}';
  end if;
  return '{"node_type":"MAP","left_node":' || df.as_node(items, 'map', 'items')
    || ',"right_node":' || df.as_node(body, 'map', 'body')
    || ',"query":' || to_json('{"max_parallel":' || max_parallel || '}') || '}';
end
$$;
comment on function df.map(text, text, integer) is 'api: body once for each row of a step or of a named result';

create function df.retry(
  fut          text,
  max_attempts integer,
  initial      interval default '1 second',
  backoff      numeric default 2,
  max_interval interval default '5 minutes'
)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform df.not_null(max_attempts, 'retry', 'max_attempts');
  perform df.not_null(backoff, 'retry', 'backoff');
  if max_attempts not between 1 and 10000 then
    perform df.refuse_argument('retry', format('argument max_attempts must be from 1 to 10000, not %s', max_attempts));
  elsif backoff not between 1 and 1000 then
    perform df.refuse_argument('retry', format('argument backoff must be from 1 to 1000, not %s', left(backoff::text, 60)));
  end if;
  return '{"node_type":"RETRY","left_node":' || df.as_node(fut, 'retry', 'fut')
    || ',"query":' || to_json(
         '{"max_attempts":' || max_attempts
         || ',"initial":' || df.interval_text(initial, 'retry', 'initial')
         || ',"backoff":' || trim_scale(round(backoff, 6))
         || ',"max_interval":' || df.interval_text(max_interval, 'retry', 'max_interval') || '}')
    || '}';
end
$$;
comment on function df.retry(text, integer, interval, numeric, interval) is 'api: tries a node again when it fails';

create function df.timeout(fut text, after interval)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"TIMEOUT","left_node":' || df.as_node(fut, 'timeout', 'fut')
    || ',"query":' || to_json('{"seconds":' || df.interval_text(after, 'timeout', 'after') || '}') || '}';
end
$$;
comment on function df.timeout(text, interval) is 'api: a node fails when it takes longer';

create function df.catch(fut text, handler text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"CATCH","left_node":' || df.as_node(fut, 'catch', 'fut')
    || ',"right_node":' || df.as_node(handler, 'catch', 'handler') || '}';
end
$$;
comment on function df.catch(text, text) is 'api: handler runs when a node fails';

create function df.with_undo(fut text, undo text)
  returns text
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"node_type":"UNDO","left_node":' || df.as_node(fut, 'with_undo', 'fut')
    || ',"right_node":' || df.as_node(undo, 'with_undo', 'undo') || '}';
end
$$;
comment on function df.with_undo(text, text) is 'api: once a node has completed, undo is owed; operator <~';
