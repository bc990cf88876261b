"""LANGUAGE.md, section 4: how variables and results get into the texts of nodes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.user import User

NOTHING = "select 1 as a, 2 as b where false"


def rows_after(alice: User, query: str, statement: str) -> Any:
    """The rows of a statement that refers to the result of a query as $x."""
    return alice.rows(f"df.seq(df.as($q${query}$q$, 'x'), $s${statement}$s$)")


def value_after(alice: User, query: str, statement: str) -> Any:
    """The only value of such a statement."""
    (row,) = rows_after(alice, query, statement)
    (value,) = row.values()
    return value


def broken_with(alice: User, query: str, value: str) -> Any:
    """What a break value becomes that refers to the result of a query as $x."""
    return alice.result(f"df.seq(df.as($q${query}$q$, 'x'), df.loop(df.break($b${value}$b$)))")


def error_after(alice: User, query: str, statement: str) -> str:
    """Why a statement fails that refers to the result of a query as $x."""
    return str(alice.error(f"df.seq(df.as($q${query}$q$, 'x'), $s${statement}$s$)")["message"])


def rows_with(user: User, variables: dict[str, str], statement: str) -> Any:
    """The rows of a statement that is started with these variables."""
    with user.transaction():
        for name, value in variables.items():
            user.run("select df.setvar(%s, %s)", [name, value])
        id = user.start(f"$s${statement}$s$")
        user.run("select df.clearvars()")
    end = user.end(id)
    assert end.status == "completed", end
    return end.result["rows"]


# --- two passes -----------------------------------------------------------------------------------------------------


def test_two_passes_over_a_nodes_text_on_decoded_strings_never_on_json_text(alice: User) -> None:
    """Two passes over a node's text just before it runs, on decoded strings, never on JSON text."""
    query = r"select \u0027\u007bsys_label\u007d\u0027 as label, \u0024x as x"
    first = r'{"node_type":"SQL","query":"select \u0027\"\u0027","result_name":"x"}'
    graph = f'{{"node_type":"THEN","left_node":{first},"right_node":{{"node_type":"SQL","query":"{query}"}}}}'
    assert alice.rows(f"$g${graph}$g$, label => 'decoded'") == [{"label": "decoded", "x": '"'}]


def test_what_comes_out_of_a_value_is_not_looked_at_again(alice: User) -> None:
    """What comes out of a value is not looked at again."""
    assert value_after(alice, "select concat(chr(36), 'x ', chr(123), 'sys_label}')", "select $x") == "$x {sys_label}"


# --- first pass: {name} ---------------------------------------------------------------------------------------------


def test_first_the_raw_text_of_a_variable(alice: User) -> None:
    """First `{name}`, in the graph's own text only: raw text of a variable."""
    variables = {"from_where": "from generate_series(1, 9) as n where n > 7"}
    assert rows_with(alice, variables, "select n {from_where}") == [{"n": 8}, {"n": 9}]


def test_a_variable_wherever_exactly_its_name_stands_in_braces_also_inside_json(alice: User) -> None:
    """Wherever exactly `{identifier}` stands and the name is known, also inside JSON."""
    (row,) = rows_with(
        alice, {"v": "7"}, """select '{"a": {v}}'::jsonb -> 'a' as a, '{ v}' as b, '{v }' as c, '{{v}}' as d"""
    )
    assert row == {"a": 7, "b": "{ v}", "c": "{v }", "d": "{7}"}


def test_the_instances_id_and_its_label_empty_without_one(alice: User) -> None:
    """`{sys_instance_id}`, `{sys_label}` (empty without a label)."""
    id = alice.start("'select ''{sys_instance_id}'' as id, ''{sys_label}'' as label'")
    assert alice.end(id).result["rows"] == [{"id": id, "label": ""}]
    assert alice.rows("'select ''{sys_label}'' as label', label => 'my label'") == [{"label": "my label"}]


def test_unknown_variables_stay(alice: User) -> None:
    """Unknown names stay."""
    assert alice.rows("'select ''{unknown} {1} {}'' as v'") == [{"v": "{unknown} {1} {}"}]


# --- second pass: $name ---------------------------------------------------------------------------------------------


def test_the_longest_known_name_first_with_a_word_boundary_on_the_right(alice: User) -> None:
    """Then `$name`: named results, longest known name first, word boundary on the right."""
    graph = "'select 1' |=> 'x' ~> 'select 2' |=> 'x_y' ~> 'select ''$x $x_y $x_yz $x-y'' as v'"
    assert alice.rows(graph) == [{"v": "1 2 $x_yz 1-y"}]


def test_unknown_names_numbers_and_dollar_tags_stay(alice: User) -> None:
    """Unknown names, `$1` and `$name$` (a dollar tag) stay."""
    graph = "'select 1' |=> 'x' ~> 'select $x$ $x $x$ as tag, ''$unknown $1'' as v'"
    assert alice.rows(graph) == [{"tag": " $x ", "v": "$unknown $1"}]


# --- $n -------------------------------------------------------------------------------------------------------------


def test_a_name_is_the_first_column_of_the_first_row(alice: User) -> None:
    """`$n` in SQL: first column of the first row."""
    assert value_after(alice, "values ('a', 1), ('b', 2)", "select $x") == "a"


def test_a_name_elsewhere_is_the_same_unquoted(alice: User) -> None:
    """`$n` elsewhere (URL, body, headers, break value, sleep…): same, unquoted."""
    assert broken_with(alice, "select 'it''s'", "so $x") == "so it's"
    assert alice.result("'select 0.01' |=> 'x' ~> df.sleep('$x')") == {"slept": True, "seconds": 0.01}


def test_a_column_of_a_name_is_that_column(alice: User) -> None:
    """`$n.col`: that column."""
    assert value_after(alice, "select 1 as a, 2 as b", "select $x.b") == 2
    assert broken_with(alice, "select 1 as a, 2 as b", "$x.a and $x.b") == "1 and 2"


def test_a_column_of_a_result_without_rows_is_that_top_level_field(alice: User) -> None:
    """`$n.col` on a result without rows: that top-level field."""
    graph = "df.wait_for_signal('go', 0.01) |=> 'x' ~> 'select $x.timed_out as t, $x.signal_name as n'"
    assert alice.rows(graph) == [{"t": True, "n": "go"}]


@pytest.mark.parametrize(
    ("query", "reference"),
    [
        (NOTHING, "$x?"),
        (NOTHING, "$x.b?"),
        ("select null", "$x?"),
        ("select null as b", "$x.b?"),
        ("select 1", "$x.b?"),
    ],
)
def test_with_a_question_mark_null_where_there_is_no_row_no_value_or_no_such_column(
    alice: User, query: str, reference: str
) -> None:
    """`$n?`, `$n.col?`: NULL where there is no row, no value or no such column; `null` elsewhere."""
    assert value_after(alice, query, f"select {reference} is null") is True
    assert broken_with(alice, query, reference) is None


def test_with_a_question_mark_the_value_where_there_is_one(alice: User) -> None:
    """`$n?`, `$n.col?`: NULL [only] where there is no row, no value or no such column."""
    assert rows_after(alice, "select 1 as a, 2 as b", "select $x? as a, $x.b? as b") == [{"a": 1, "b": 2}]


# --- $n.* -----------------------------------------------------------------------------------------------------------


def test_all_rows_of_a_name_are_a_table(alice: User) -> None:
    """`$n.*` in SQL: `(VALUES …) AS "n"("c1",…)`."""
    query = "select n, 'row ' || n as \"a Word\" from generate_series(1, 2) as n"
    assert rows_after(alice, query, 'select x.n * 10 as n, x."a Word" from $x.*') == [
        {"n": 10, "a Word": "row 1"},
        {"n": 20, "a Word": "row 2"},
    ]


def test_all_rows_of_a_name_are_at_most_ten_thousand(alice: User) -> None:
    """`$n.*` in SQL: at most 10,000 rows."""
    assert value_after(alice, "select generate_series(1, 10000) as n", "select sum(n) from $x.*") == 50_005_000
    assert "10000" in error_after(alice, "select generate_series(1, 10001) as n", "select 1 from $x.*").replace(",", "")


def test_no_rows_of_a_name_are_no_rows_but_the_column_names(alice: User) -> None:
    """`$n.*` in SQL, empty: no rows but the column names."""
    assert rows_after(alice, NOTHING, "select count(a) + count(b) as n from $x.*") == [{"n": 0}]


def test_the_columns_of_all_rows_are_text_numeric_or_boolean(alice: User) -> None:
    """`$n.*` in SQL: columns are text, numeric or boolean: cast."""
    query = "values (1::smallint, 'a'::name, true, date '2020-02-29', '{1}'::int[]), (2.5, null, null, null, null)"
    types = "pg_typeof(column1) as a, pg_typeof(column2) as b, pg_typeof(column3) as c, pg_typeof(column4) as d"
    expected = {"a": "numeric", "b": "text", "c": "boolean", "d": "text", "cast": "2020-02-29"}
    statement = f"select distinct {types}, column4::date as cast from $x.* where column3"
    assert rows_after(alice, query, statement) == [expected]


def test_all_rows_of_a_name_elsewhere_are_a_json_array(alice: User) -> None:
    """`$n.*` elsewhere: JSON array."""
    assert broken_with(alice, "values (1, 'a'), (2, 'b')", '{"rows": $x.*}') == {
        "rows": [{"column1": 1, "column2": "a"}, {"column1": 2, "column2": "b"}]
    }


# --- quoting --------------------------------------------------------------------------------------------------------


def test_strings_are_quoted_with_quotes_doubled(alice: User) -> None:
    """Strings `'…'` with `'` doubled."""
    assert value_after(alice, "select 'it''s; drop table x'", "select $x") == "it's; drop table x"


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_strings_are_safe_under_any_standard_conforming_strings(
    new_user: Callable[[str], User], admin: User, conforming: str
) -> None:
    """And safe under any `standard_conforming_strings`."""
    user = new_user(f"strings_{conforming}")
    admin.run(f"alter role {user.name} set standard_conforming_strings = {conforming}")
    assert value_after(user, "select chr(92) || ''' or true --'", "select $x") == "\\' or true --"


def test_numbers_and_booleans_are_bare_and_negative_numbers_in_parentheses(alice: User) -> None:
    """Numbers and booleans bare (negative numbers in parentheses)."""
    query = "select -3 as n, 1.50 as d, true as t"
    statement = "select 1-$x.n as minus, $x.n ^ 2 as square, pg_typeof($x.d)::text as d, $x.t and not $x.t as t"
    assert rows_after(alice, query, statement) == [{"minus": 4, "square": 9, "d": "numeric", "t": False}]


def test_arrays_and_objects_are_quoted_json(alice: User) -> None:
    """Arrays and objects as quoted JSON."""
    query = """select '{"a": "it''s"}'::json as o, array['b', 'c'] as l"""
    statement = "select $x.o::json ->> 'a' as a, $x.l::json ->> 1 as c"
    assert rows_after(alice, query, statement) == [{"a": "it's", "c": "c"}]


def test_a_result_without_rows_is_substituted_whole_as_quoted_json(alice: User) -> None:
    """A result without `rows` is substituted whole as quoted JSON (`$sig::jsonb->'data'`)."""
    with alice.transaction():
        id = alice.start("df.wait_for_signal('go') |=> 'sig' ~> 'select $sig::jsonb->''data'' as data'")
        alice.run("select df.signal(%s, 'go', %s)", [id, '{"who": "it\'s me"}'])
    assert alice.end(id).result["rows"] == [{"data": {"who": "it's me"}}]


# --- where it stands ------------------------------------------------------------------------------------------------


def test_the_context_is_that_of_the_text_after_the_first_pass(alice: User) -> None:
    """The scanner knows SQL's lexical context (of the text after the first pass)."""
    with alice.transaction():
        alice.run("select df.setvar('quote', '''')")
        id = alice.start("'select ''it''''s'' as s' |=> 'x' ~> 'select {quote}$x{quote} as v'")
        alice.run("select df.clearvars()")
    assert alice.end(id).result["rows"] == [{"v": "it's"}]


def test_a_dollar_that_the_first_pass_put_in_is_not_looked_for(alice: User) -> None:
    """`$` is not looked for inside what that pass put in."""
    with alice.transaction():
        alice.run("select df.setvar('v', '''$x''')")
        id = alice.start("'select 1' |=> 'x' ~> 'select {v} as v'")
        alice.run("select df.clearvars()")
    assert alice.end(id).result["rows"] == [{"v": "$x"}]


@pytest.mark.parametrize("literal", ["'a $x'", "E'a\\x20$x'", "'a'\n' $x'"])
def test_inside_a_literal_the_value_goes_in_without_quotes_of_its_own_escaped_for_that_literal(
    alice: User, literal: str
) -> None:
    """Inside a `'…'` or `E'…'` literal the value goes in without quotes of its own, escaped for that literal."""
    assert value_after(alice, "select concat('''', chr(92), '''; --')", f"select {literal}") == "a '\\'; --"


def test_inside_a_dollar_quoted_string_a_quoted_identifier_or_a_comment_nothing_is_substituted(alice: User) -> None:
    """Inside a dollar-quoted string, a quoted identifier or a comment nothing is substituted."""
    statement = 'select $$ $x $$ as a, $t$ $x $t$ as "$x", 1 as c /* $x */ -- $x'
    query = "select concat('$', '$ \" */', chr(10)) as v"
    assert rows_after(alice, query, statement) == [{"a": " $x ", "$x": " $x ", "c": 1}]


def test_inside_a_json_string_a_value_is_json_escaped(alice: User) -> None:
    """Inside a JSON string of a break value (text that starts with `{` or `[`) a value is JSON-escaped."""
    query = 'select concat(\'", "admin": true, "\', chr(92))'
    assert broken_with(alice, query, '{"a": "<$x>"}') == {"a": '<", "admin": true, "\\>'}


def test_outside_a_json_string_a_value_is_rendered_as_json(alice: User) -> None:
    """Outside a string it is rendered as JSON."""
    query = """select 'text' as s, 1.50 as n, true as t, '{"a": 1}'::json as o"""
    assert broken_with(alice, query, "[$x.s, $x.n, $x.t, $x.o]") == ["text", 1.5, True, {"a": 1}]


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_name_without_rows_fails_the_node(alice: User) -> None:
    """Errors fail the node: `$x has no rows — query returned zero results`."""
    assert error_after(alice, NOTHING, "select $x") == "$x has no rows — query returned zero results"


def test_a_name_that_is_null_fails_the_node(alice: User) -> None:
    """Errors fail the node: `$x is NULL — first column of first row is NULL`."""
    assert error_after(alice, "select null", "select $x") == "$x is NULL — first column of first row is NULL"


def test_a_field_that_is_not_there_fails_the_node(alice: User) -> None:
    """Errors fail the node: `$x.c: result has no field 'c' (available: …)`."""
    expected = "$x.c: result has no field 'c' (available: a, b)"
    assert error_after(alice, "select 1 as a, 2 as b", "select $x.c") == expected


# --- $input, $item, $error ------------------------------------------------------------------------------------------


def test_input_is_the_instances_input(alice: User) -> None:
    """`$input` is the instance's input."""
    graph = "'select $input.n + 1 as n, $input::json ->> ''word'' as word'"
    assert alice.rows(f"""{graph}, input => '{{"n": 41, "word": "it''s"}}'""") == [{"n": 42, "word": "it's"}]


def test_input_is_null_when_none_was_given(alice: User) -> None:
    """`$input` (NULL when none was given)."""
    assert alice.rows("'select $input? is null as n'") == [{"n": True}]


def test_item_is_the_first_column_of_the_row_of_a_map_and_its_columns(alice: User) -> None:
    """`$item` the row of a map (`$item` its first column, `$item.col`)."""
    results = alice.result("df.map('values (1, ''a''), (2, ''b'')', 'select $item as n, $item.column2 as t')")
    assert [result["rows"] for result in results] == [[{"n": 1, "t": "a"}], [{"n": 2, "t": "b"}]]


def test_item_is_an_element_when_items_is_a_json_array(alice: User) -> None:
    """`$item`: an element when items is a JSON array."""
    items = """df.loop(df.break('[{"a": 1}, {"a": 2}]')) |=> 'list'"""
    results = alice.result(f"{items} ~> df.map('list', 'select $item.a as a')")
    assert [result["rows"] for result in results] == [[{"a": 1}], [{"a": 2}]]


def test_error_is_the_error_in_a_handler(alice: User) -> None:
    """`$error` the error in a handler."""
    rows = alice.rows("df.catch('select 1/0', 'select $error.message as m, $error::json ->> ''code'' as c')")
    assert rows == [{"m": "division by zero", "c": "22012"}]


@pytest.mark.parametrize(
    "graph",
    [
        "'select 7' |=> 'input' ~> 'select $input as v', input => '1'",
        "df.map('select 1', 'select 7' |=> 'item' ~> 'select $item as v') |=> 'm' ~> 'select $m::json #> ''{0,rows,0,v}'' as v'",
        "df.catch('select 1/0', 'select 7' |=> 'error' ~> 'select $error as v')",
        "'select 7' |=> 'error' ~> 'select $error as v'",
    ],
)
def test_a_name_that_is_set_hides_them(alice: User, graph: str) -> None:
    """A name set by `|=>` hides them."""
    assert alice.rows(graph) == [{"v": 7}]


# --- results --------------------------------------------------------------------------------------------------------


def test_column_order_is_select_list_order(alice: User) -> None:
    """Column order is select-list order, so results are `json`, not `jsonb`, wherever they are stored."""
    id = alice.start("'select 1 as z, 2 as a, 3 as m'")
    alice.end(id)
    text = alice.value("select result #>> '{rows,0}' from df.instances where id = %s", [id])
    assert text == '{"z":1,"a":2,"m":3}'


def test_numbers_stay_exact(alice: User) -> None:
    """Numbers stay exact (numeric keeps its scale)."""
    id = alice.start("'select 1.500 as n, 12345678901234567890.12345678901234567890 as b, 9007199254740993 as i'")
    alice.end(id)
    text = alice.value("select result #>> '{rows,0}' from df.instances where id = %s", [id])
    assert text == '{"n":1.500,"b":12345678901234567890.12345678901234567890,"i":9007199254740993}'


@pytest.fixture(scope="module")
def mood(alice: User) -> str:
    """An enum."""
    alice.run("create type public.mood as enum ('sad', 'happy')")
    return "public.mood"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("date '2020-02-29'", "2020-02-29"),
        ("timestamp '2020-02-29 12:00'", "2020-02-29T12:00:00"),
        ("timestamptz '2020-02-29 12:00+00'", "2020-02-29T12:00:00+00:00"),
        ("'NaN'::numeric", "NaN"),
        ("'NaN'::float8", "NaN"),
        ("'Infinity'::float4", "Infinity"),
        ("'-Infinity'::float8", "-Infinity"),
        ("'\\x00ff'::bytea", "\\x00ff"),
        ("array[[1, 2], [3, null]]", [[1, 2], [3, None]]),
        ("row(1, 'a')", {"f1": 1, "f2": "a"}),
        ("interval '1 day 2 hours'", "1 day 02:00:00"),
        ("'sad'::public.mood", "sad"),
    ],
)
def test_types_are_those_of_to_json(alice: User, mood: str, expression: str, value: Any) -> None:
    """Types are those of `to_json`: dates ISO 8601, timestamptz with its offset, NaN and ±Infinity as those strings,
    bytea as `\\x…`, arrays, composites, intervals, enums as PostgreSQL renders them.
    """
    assert alice.rows(f"$s$select {expression} as v$s$") == [{"v": value}]


def test_types_are_otherwise_those_of_the_roles_own_settings(new_user: Callable[[str], User], admin: User) -> None:
    """Under the options of ROLES.md rule 16 and otherwise the role's own settings."""
    user = new_user("settings")
    admin.run(f"alter role {user.name} set intervalstyle = 'iso_8601'")
    admin.run(f"alter role {user.name} set bytea_output = 'escape'")
    query = "select interval '1 day' as i, '\\x01'::bytea as b, 0.1::float8 + 0.2 as f"
    assert user.rows(f"$s${query}$s$") == [{"i": "P1D", "b": "\\x01", "f": 0.1 + 0.2}]


def test_no_type_fails_a_step(alice: User) -> None:
    """No type fails a step."""
    values = [
        "point '1,2'", "inet '::1'", "int4range '[1,5)'", "tsvector 'a b'", "bit '101'", "'1'::money",
        "pg_lsn '0/1'", "xid8 '1'", "jsonpath '$.a'", "'a'::\"char\"", "int4multirange '{[1,2)}'", "'pg_class'::regclass",
        "void_out(null)", "array[row(1, null)]", "null",
    ]  # fmt: skip
    assert len(alice.rows(f"$s$values ({', '.join(values)})$s$")[0]) == len(values)


def test_a_result_over_the_limit_fails_its_step_inside_its_own_transaction(alice: User) -> None:
    """A result over `result_bytes` (1 MB) fails its step inside its own transaction, code `54000`."""
    alice.run("create table public.huge (t text)")
    error = alice.error("'insert into public.huge values (repeat(''x'', 1048577)) returning t'")
    assert error["code"] == "54000"
    assert re.fullmatch("result of 1048[0-9]{3} bytes exceeds the limit of 1048576", error["message"])
    assert alice.run("select 1 from public.huge") == []


LARGE = "select repeat(''x'', 1000000)"


@pytest.mark.parametrize(
    "graph",
    [
        f"df.join_all(variadic array_fill('{LARGE}'::text, array[17]))",
        f"df.map('select generate_series(1, 17)', '{LARGE}')",
    ],
)
def test_the_array_of_a_join_or_map_has_a_limit_of_16_mb(alice: User, graph: str) -> None:
    """16 MB for the array of a JOIN or MAP."""
    error = alice.error(graph)
    assert error["code"] == "54000"
    assert re.fullmatch("result of 170[0-9]+ bytes exceeds the limit of 16777216", error["message"])


def test_nothing_is_truncated(alice: User) -> None:
    """Nothing is truncated."""
    assert alice.rows("'select repeat(''x'', 1000000) as t'") == [{"t": "x" * 1_000_000}]
    assert value_after(alice, "select repeat('x', 1000000)", "select length($x)") == 1_000_000


# --- scope ----------------------------------------------------------------------------------------------------------


def test_a_sequence_passes_names_on(alice: User) -> None:
    """A sequence passes names on."""
    assert alice.rows("df.seq_all('select 1' |=> 'a', 'select 2', 'select 3' |=> 'b', 'select $a as a')") == [{"a": 1}]


def test_if_branches_are_visible_afterwards(alice: User) -> None:
    """IF branches are visible afterwards."""
    graph = "df.if('select true' |=> 'c', 'select 1' |=> 'a', 'select 2' |=> 'a') ~> 'select $a as a, $c as c'"
    assert alice.rows(graph) == [{"a": 1, "c": True}]


def test_join_branches_start_from_a_copy(alice: User) -> None:
    """JOIN branches start from a copy."""
    branch = "df.seq_all('select $a + 1' |=> 'a', df.sleep('0.05'), 'select $a as a')"
    results = alice.result(f"'select 1' |=> 'a' ~> df.join({branch}, {branch})")
    assert [result["rows"] for result in results] == [[{"a": 2}], [{"a": 2}]]


def test_join_merges_back_only_the_names_that_branches_set_in_branch_order(alice: User) -> None:
    """And merge back only the names they set, in branch order."""
    start = "df.seq_all('select 0' |=> 'a', 'select 0' |=> 'b', 'select 0' |=> 'c')"
    late = "df.seq_all(df.sleep('0.1'), 'select 1' |=> 'a', 'select 1' |=> 'b')"
    join = f"df.join3({late}, 'select 2' |=> 'b', 'select 3')"
    assert alice.rows(f"df.seq_all({start}, {join}, 'select $a as a, $b as b, $c as c')") == [{"a": 1, "b": 2, "c": 0}]


def test_race_merges_the_winners_names(alice: User) -> None:
    """RACE merges the winner's."""
    start = "df.seq('select 0' |=> 'a', 'select 0' |=> 'b')"
    race = "df.race(df.seq('select 1' |=> 'a', df.sleep(60)), df.seq(df.sleep('0.1'), 'select 2' |=> 'b'))"
    assert alice.rows(f"df.seq_all({start}, {race}, 'select $a as a, $b as b')") == [{"a": 0, "b": 2}]


def test_map_bodies_start_from_a_copy_and_what_they_set_stays_inside(alice: User) -> None:
    """MAP bodies start from a copy and what they set stays inside."""
    body = "df.seq('select $a + $item' |=> 'a', 'select $a as a')"
    graph = (
        f"df.seq_all('select 10' |=> 'a', df.map('values (1), (2)', {body}) |=> 'm', 'select $a as a, $m::json as m')"
    )
    ((row),) = alice.rows(graph)
    assert row["a"] == 10
    assert [result["rows"] for result in row["m"]] == [[{"a": 11}], [{"a": 12}]]


def test_loops_carry_names_from_one_iteration_to_the_next_and_out(alice: User) -> None:
    """Loops carry names from one iteration to the next and out."""
    loop = "df.loop('select $n + 1' |=> 'n', 'select $n < 3')"
    assert alice.rows(f"df.seq_all('select 0' |=> 'n', {loop}, 'select $n as n')") == [{"n": 3}]


def test_each_retry_attempt_starts_from_the_names_as_before_the_node(alice: User) -> None:
    """Each retry attempt starts from the names as before the node."""
    alice.run("create sequence public.tries_with_a_name")
    tries = "df.seq_all('select $n + 1' |=> 'n', 'select 1 / (nextval(''public.tries_with_a_name'') - 1)', 'select $n as n')"
    assert alice.rows(f"'select 0' |=> 'n' ~> df.retry({tries}, 3, interval '0.01 s')") == [{"n": 1}]
