-- A graph as a tree that people read. It is parsed and checked, and nothing in it is run.

-- One line of text: white space is one blank, and what is longer than a screen ends with an ellipsis.
create function df.one_line(p_text text)
  returns text
  language sql immutable parallel safe
begin atomic
  select case when pg_catalog.length(l.line) > 200 then pg_catalog.left(l.line, 199) || '…' else l.line end
    from (select pg_catalog.btrim(pg_catalog.regexp_replace(pg_catalog.left(p_text, 2000), '\s+', ' ', 'g'), ' ') as line) as l;
end;
comment on function df.one_line(text) is 'api: a text shortened to one line';

-- What a node says for itself, without its name and its children.
create function df.node_text(p_kind text, p_query text, p_branches integer, p_has_condition boolean)
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  q         json;
  v_options json;
begin
  if p_kind = 'SQL' then
    return 'SQL: ' || df.one_line(p_query);
  elsif p_kind = 'JOIN' then
    return format('JOIN (%s)', p_branches);
  elsif p_kind in ('THEN', 'RACE', 'CATCH', 'UNDO') then
    return p_kind;
  elsif p_kind = 'SLEEP' then
    return case
      when df.is_node(p_query) then 'SLEEP until ' || df.one_line(p_query::json ->> 'until')
      when df.is_seconds(btrim(p_query, E' \t\n\r')) then 'SLEEP ' || btrim(p_query, E' \t\n\r') || 's'
      else 'SLEEP ' || df.one_line(p_query)
    end;
  end if;
  q := coalesce(p_query, '{}');
  case p_kind
    when 'IF' then
      return 'IF';
    when 'LOOP' then
      return case when p_has_condition then 'LOOP (while)' else 'LOOP (infinite)' end || coalesce(' every ' || (q ->> 'every') || 's', '');
    when 'BREAK' then
      return 'BREAK' || coalesce(' ' || df.one_line(q ->> 'break_value'), '');
    when 'SIGNAL' then
      return format('SIGNAL ''%s''', df.one_line(q ->> 'signal_name'))
        || coalesce(' (' || (q ->> 'timeout_seconds') || 's)', '') || case when q ->> 'fresh' = 'true' then ' fresh' else '' end;
    when 'WAIT_SCHEDULE' then
      return format('WAIT ''%s''', df.one_line(q ->> 'cron_expr')) || coalesce(' (' || nullif(q ->> 'timezone', 'UTC') || ')', '');
    when 'HTTP' then
      return format('HTTP %s %s', coalesce(upper(q ->> 'method'), 'POST'), df.one_line(q ->> 'url'));
    when 'HTTP_MULTIPART' then
      return format('HTTP %s %s (multipart)', coalesce(upper(q ->> 'method'), 'POST'), df.one_line(q ->> 'url'));
    when 'CALL_CHILD' then
      v_options := q -> 'options';
      return 'CALL_CHILD' || coalesce(' ''' || df.one_line(q ->> 'label') || '''', '') || coalesce(' ' || df.one_line(v_options::text), '');
    when 'AWAIT_INSTANCE' then
      return format('AWAIT ''%s''', df.one_line(q ->> 'instance_id')) || coalesce(' (' || (q ->> 'timeout_seconds') || 's)', '');
    when 'MAP' then
      return 'MAP' || coalesce(' $' || (q ->> 'items'), '') || format(' (%s at once)', coalesce(q ->> 'max_parallel', '10'));
    when 'RETRY' then
      return format('RETRY (%s tries)', coalesce(q ->> 'max_attempts', '?'))
        || coalesce(' from ' || (q ->> 'initial') || 's', '') || coalesce(' × ' || (q ->> 'backoff'), '')
        || coalesce(' to ' || (q ->> 'max_interval') || 's', '');
    when 'TIMEOUT' then
      return 'TIMEOUT ' || coalesce(q ->> 'seconds', '?') || 's';
    else
      return p_kind;
  end case;
end
$$;
comment on function df.node_text(text, text, integer, boolean) is 'api: what a graph node says in df.explain';

-- The header over a child. An IF shows its condition first, although it is numbered last.
create function df.child_header(p_kind text, p_role text, p_branch integer)
  returns text
  language sql immutable parallel safe
begin atomic
  select case p_kind
           when 'IF' then case p_role when 'C' then '? condition:' when 'L' then '✓ then:' else '✗ else:' end
           when 'LOOP' then case p_role when 'C' then '? while:' else '↻ body:' end
           when 'JOIN' then '║ branch ' || p_branch::text || ':'
           when 'RACE' then '║ branch ' || p_branch::text || ':'
           when 'MAP' then case p_role when 'L' then '≡ items:' else '↻ body:' end
           when 'RETRY' then '↻ try:'
           when 'TIMEOUT' then '⏱ within:'
           when 'CATCH' then case p_role when 'L' then '▷ try:' else '✗ catch:' end
           when 'UNDO' then case p_role when 'L' then '▷ do:' else '↶ undo:' end
           when 'CALL_CHILD' then '⇉ child:'
         end;
end;
comment on function df.child_header(text, text, integer) is 'api: the header over a child in df.explain';

-- Each node is a line, with its header before it; a THEN is none, so that a chain is flat. Lines are put together in the order
-- of their places, which are the nodes' numbers but for an IF's. p_markers, if given, has one for each node.
create function df.draw(p_graph text, p_markers text[])
  returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  g_kinds      text[];
  g_queries    text[];
  g_names      text[];
  g_parents    integer[];
  g_roles      text[];
  g_rights     integer[];
  g_conditions integer[];
  g_lasts      integer[];
  v_count    integer;
  v_places   integer[];
  v_indents  integer[];
  v_children integer[];
  v_nth      integer[];
  v_headers  text[];   -- headers that wait for the first line below them
  v_suffixes text[];   -- names of the chains that end with the node, and its own
  v_lines    text[];
  v_up       integer;
  v_kind     text;
  v_upper    text;
  v_header   text;
  v_suffix   text;
begin
  select g.kinds, g.queries, g.names, g.parents, g.roles, g.rights, g.conditions, g.lasts
    into g_kinds, g_queries, g_names, g_parents, g_roles, g_rights, g_conditions, g_lasts
    from df.number_nodes(p_graph) as g;
  v_count := cardinality(g_kinds);
  v_places := array_fill(1, array[v_count]);
  v_children := array_fill(0, array[v_count]);
  v_indents := v_children;
  v_nth := v_children;
  v_headers := array_fill(''::text, array[v_count]);
  v_suffixes := v_headers;
  v_lines := v_headers;
  for v_node in 2 .. v_count loop
    v_up := g_parents[v_node];
    v_children[v_up] := v_children[v_up] + 1;
    v_nth[v_node] := v_children[v_up];
  end loop;

  for v_node in 1 .. v_count loop
    v_kind := g_kinds[v_node];
    v_up := g_parents[v_node];
    v_header := '';
    v_suffix := '';
    if v_up is not null then
      v_upper := g_kinds[v_up];
      v_places[v_node] := v_places[v_up] + v_node - v_up;
      if v_upper = 'THEN' then
        v_indents[v_node] := v_indents[v_up];
        if v_node = v_up + 1 then
          v_header := v_headers[v_up];
        end if;
        if v_node = g_rights[v_up] then
          v_suffix := v_suffixes[v_up];
        end if;
      else
        v_indents[v_node] := v_indents[v_up] + 4;
        v_header := repeat(' ', v_indents[v_up] + 2) || df.child_header(v_upper, g_roles[v_node], v_nth[v_node]) || E'\n';
        if v_upper = 'IF' and g_conditions[v_up] is not null then
          v_places[v_node] := case when g_roles[v_node] = 'C' then v_places[v_up] + 1
            else v_places[v_node] + g_lasts[v_up] - g_conditions[v_up] + 1 end;
        end if;
      end if;
    end if;
    if g_names[v_node] is not null then
      v_suffix := ' |=> ''' || g_names[v_node] || '''' || v_suffix;
    end if;
    if v_kind = 'THEN' then
      v_headers[v_node] := v_header;
      v_suffixes[v_node] := v_suffix;
      continue;
    end if;
    v_lines[v_places[v_node]] := v_header || repeat(' ', v_indents[v_node]) || coalesce(p_markers[v_node] || ' ', '')
      || df.node_text(v_kind, g_queries[v_node], v_children[v_node], g_conditions[v_node] is not null)
      || v_suffix;
    if v_kind = 'IF' and g_conditions[v_node] is null then
      v_lines[v_places[v_node]] := v_lines[v_places[v_node]] || E'\n' || repeat(' ', v_indents[v_node] + 2)
        || '? condition: $' || (g_queries[v_node]::json ->> 'result_name') || ' has rows';
    end if;
  end loop;
  return (select string_agg(l.line, E'\n' order by l.n) from unnest(v_lines) with ordinality as l(line, n) where l.line <> '');
end
$$;
comment on function df.draw(text, text[]) is 'api: a graph as a tree of lines';

-- How far an instance has come: ✓ completed, ✗ failed, ⏳ running, ○ still to come, ⊘ cancelled or passed over. Null where the
-- caller sees no instance of that key.
create function df.draw_instance(p_key bigint)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_graph   text;
  v_markers text[];
begin
  select i.graph into v_graph from df.instances i where i.key = p_key;
  if not found then
    return null;
  end if;
  select array_agg(case n.inferred when 'completed' then '✓' when 'failed' then '✗' when 'running' then '⏳'
                                   when 'pending' then '○' else '⊘' end order by n.number)
    into v_markers
    from df.node_states(p_key) as n;
  return df.draw(v_graph, v_markers);
end
$$;
comment on function df.draw_instance(bigint) is 'api: the instance of a key as a tree of lines, with how far it has come';

-- A word that could be an id and no SQL is taken for one, so that a wrong id is an error.
create function df.explain(input text)
  returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  v_key bigint;
begin
  perform df.not_null(input, 'explain', 'input');
  if octet_length(input) <= 200 and input ~ '^[~A-Za-z0-9][A-Za-z0-9._:/-]*$' then
    v_key := df.find_key(input);
    if v_key is null and input ~ '[^A-Za-z]' then
      raise exception 'Instance not found or access denied: %', input using errcode = 'no_data_found';
    end if;
  end if;
  if v_key is null then
    perform df.validate_graph(input);
    return df.draw(input, null);
  end if;
  return df.draw_instance(v_key);
end
$$;
comment on function df.explain(text) is 'api: a graph, SQL or an instance as a text tree; nothing of it is run';
