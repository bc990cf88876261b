-- The operators, in the schema that the setting walflow.operators names. Run after every migration, because where they
-- live is a choice and no part of the schema's version; an operator that is there already stays.
do $$
declare
  v_schema   text := current_setting('walflow.operators');
  v_operator record;
  v_there    oid;
begin
  if to_regprocedure('df.with_undo(text,text)') is null then
    return;  -- an upgrade that was told to stop before the builders
  end if;
  for v_operator in
    values ('~>', 'seq', true, 'a, then b'),
           ('|=>', 'as', true, 'names a result'),
           ('&', 'join', true, 'both at once'),
           ('|', 'race', true, 'both at once, the first to end wins'),
           ('?>', 'if_then', true, 'if it holds, then'),
           ('!>', 'if_else', true, 'and if not, else'),
           ('@>', 'loop_forever', false, 'again and again'),
           ('<~', 'with_undo', true, 'and how to undo it')
  loop
    v_there := to_regoperator(format('%I.%s(%s,text)', v_schema, v_operator.column1,
                                     case when v_operator.column3 then 'text' else 'none' end));
    if v_there is not null then
      if not exists (
        select
          from pg_operator o
          join pg_proc p on p.oid = o.oprcode
         where o.oid = v_there and p.pronamespace = 'df'::regnamespace and p.proname = v_operator.column2
      ) then
        raise exception 'operator %.% is there already and is not walflow''s', quote_ident(v_schema), v_operator.column1
          using errcode = 'duplicate_function';
      end if;
      continue;
    end if;
    execute format('create operator %I.%s (function = df.%I, %s rightarg = text)',
                   v_schema, v_operator.column1, v_operator.column2,
                   case when v_operator.column3 then 'leftarg = text,' else '' end);
    execute format('comment on operator %I.%s (%s, text) is %L',
                   v_schema, v_operator.column1, case when v_operator.column3 then 'text' else 'none' end,
                   'walflow: ' || v_operator.column4);
  end loop;
end
$$;
