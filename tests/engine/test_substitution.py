"""Substitution: what LANGUAGE.md section 4 says, sentence by sentence."""

import contextlib
import json
from collections.abc import Iterator, Mapping

import pytest

from engine.substitution import MAX_CHARACTERS, MAX_ROWS, SubstitutionError, render_sql, render_text


def row(**columns: object) -> str:
    """The result of a query with one row."""
    return json.dumps({"rows": [columns], "row_count": 1})


RESULTS: dict[str, str] = {
    "x": row(id=7, name="it's", path="C:\\dir", none=None, neg=-5, yes=True, no=False, list=[1, "a'b"], obj={"k": "v"}),
    "xy": row(id="longer"),
    "empty": '{"rows":[],"row_count":0,"columns":["id","a\\"b"]}',
    "done": '{"rows":[],"row_count":0,"affected":3}',
    "two": '{"rows":[{"id":1,"name":"a"},{"id":-2,"name":null}],"row_count":2}',
    "sig": '{"signal_name":"s","timed_out":false,"data":{"by":"o\'neil"}}',
    "branches": '[{"rows":[]}, 1.50]',
    "word": '"done"',
    "number": "1.50",
    "null": "null",
}
VARIABLES = {"table": "orders", "sneaky": "$x", "quote": "'", "sys_instance_id": "id-1", "sys_label": ""}


def sql(text: str, **more: str) -> str:
    return render_sql(text, variables=VARIABLES, names={**RESULTS, **more})


def text(text: str, **more: str) -> str:
    return render_text(text, variables=VARIABLES, names={**RESULTS, **more})


def sql_error(text: str, **more: str) -> str:
    with pytest.raises(SubstitutionError) as caught:
        sql(text, **more)
    assert caught.value.message == str(caught.value)
    return str(caught.value)


# --- the first pass -------------------------------------------------------------------------------------------------


def test_a_variable_is_raw_text_wherever_it_stands() -> None:
    assert sql("select * from {table} -- {table}") == "select * from orders -- orders"
    assert sql("select '{table}', \"{table}\", $${table}$$") == "select 'orders', \"orders\", $$orders$$"
    assert text('{"a":"{table}"}') == '{"a":"orders"}'


def test_the_system_names_are_variables_too() -> None:
    assert sql("select '{sys_instance_id}', '{sys_label}'") == "select 'id-1', ''"


def test_unknown_variables_and_other_braces_stay() -> None:
    same = "select '{unknown} { table } {table-1} {1} {} {table'"
    assert sql(same) is same


def test_what_a_variable_holds_is_not_looked_at_again() -> None:
    assert sql("select {sneaky}, $x", sneaky="5") == "select $x, 7"
    names = {"a": "{b}", "b": "wrong"}
    assert render_sql("{a}", variables=names, names={}) == "{b}"
    assert sql("select '{sneaky} $x', E'{sneaky}', $x") == "select '$x 7', E'$x', 7"
    assert text("{sneaky} $x") == "$x 7"
    assert text('["{sneaky}", $x]') == '["$x", 7]'


def test_a_variable_counts_for_the_lexical_context_of_what_follows() -> None:
    assert sql("select {quote}$x.name{quote}") == "select 'it''s'"
    assert render_sql("{d} $x {d} $x", variables={"d": "$$"}, names=RESULTS) == "$$ $x $$ (7)"


# --- names ----------------------------------------------------------------------------------------------------------


def test_the_longest_known_name_wins_and_ends_with_a_word() -> None:
    assert sql("select $xy, $x, $xyz, $x_") == "select 'longer', 7, $xyz, $x_"
    assert sql("select $xé") == "select $xé"


def test_unknown_names_parameters_and_dollar_tags_stay() -> None:
    same = "select $unknown, $unknown.a, $unknown.*, $1, $12, $x$ $x $x$, $ x"
    assert sql(same) is same
    assert text("$unknown $1 $x$ $ x $unknown.a? $$") == "$unknown $1 $x$ $ x $unknown.a? $$"


def test_names_are_case_sensitive() -> None:
    assert sql("select $X") == "select $X"


def test_a_name_inside_a_word_is_no_reference() -> None:
    assert sql("select a$x, _$x, ä$x, f1$x from $xy") == "select a$x, _$x, ä$x, f1$x from 'longer'"


def test_a_text_without_references_is_returned_as_it_is() -> None:
    for same in ("select 1", "select '{}', '$'", "select E'\\'' || '\\' || $unknown"):
        assert sql(same) is same
        assert text(same) is same


def test_results_that_are_not_referred_to_are_not_even_looked_up() -> None:
    class Watched(Mapping[str, str]):
        asked: list[str] = []  # noqa: RUF012

        def __getitem__(self, name: str) -> str:
            self.asked.append(name)
            return RESULTS[name]

        def __contains__(self, name: object) -> bool:
            return name in RESULTS

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("copied")

        def __len__(self) -> int:
            raise AssertionError("copied")

    watched = Watched()
    render_sql("select $x, $x.name, '$xy'", variables={}, names=watched)
    assert watched.asked == ["x", "xy"]


# --- values in SQL --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("$x", "7"), ("$x.id", "7"), ("$x.name", "'it''s'"), ("$x.path", r"E'C:\\dir'"), ("$x.neg", "(-5)"),
        ("$x.yes", "true"), ("$x.no", "false"), ("$x.list", """'[1, "a''b"]'"""), ("$x.obj", """'{"k": "v"}'"""),
        ("$x?", "7"), ("$x.id?", "7"), ("$x.none?", "NULL"), ("$x.missing?", "NULL"), ("$empty?", "NULL"),
        ("$empty.id?", "NULL"), ("$done?", "NULL"),
        ("$sig", """'{"signal_name":"s","timed_out":false,"data":{"by":"o''neil"}}'"""),
        ("$sig.signal_name", "'s'"), ("$sig.timed_out", "false"), ("$sig.data", """'{"by":"o''neil"}'"""),
        ("$sig.nothing?", "NULL"), ("$branches", """'[{"rows":[]}, 1.50]'"""), ("$word", """'"done"'"""),
        ("$number", "'1.50'"), ("$null", "NULL"), ("$null?", "NULL"),
    ],
)  # fmt: skip
def test_a_reference_in_sql_becomes_a_value(reference: str, value: str) -> None:
    assert sql(f"select {reference}, {reference} from t") == f"select {value}, {value} from t"


@pytest.mark.parametrize("number", ["1.50", "1e400", "0", "-0", "-1.5E-7", "123456789012345678901234567890.10"])
def test_numbers_are_spelled_as_they_came(number: str) -> None:
    expected = f"({number})" if number.startswith("-") else number
    assert sql("select $n", n=f'{{"rows":[{{"a":{number}}}],"row_count":1}}') == f"select {expected}"


def test_of_two_columns_of_one_name_the_first_is_meant() -> None:
    twice = '{"rows":[{"a":1,"b":2,"a":3,"b":4}],"row_count":1}'
    assert sql("select $t, $t.a, $t.b, $t.b", t=twice) == "select 1, 1, 2, 2"


def test_the_values_nan_and_infinity_are_strings() -> None:
    assert sql("select $n::float8", n=row(a="NaN")) == "select 'NaN'::float8"


def test_a_literal_with_a_type_before_it_stays_one() -> None:
    assert sql("select date $x.name, interval $x.name") == "select date 'it''s', interval 'it''s'"


def test_a_query_result_is_one_wherever_its_rows_stand() -> None:
    assert sql("select $r.a", r=' { "row_count" : 1, "rows" : [ { "a" : 5 } ] } ') == "select 5"


def test_a_member_called_rows_that_holds_no_rows_is_like_any_other() -> None:
    for other in ('{"rows":5}', '{"rows":[5]}', '{"rows":{"a":1}}', '{"rows":"x"}'):
        assert sql("select $r", r=other) == f"select '{other}'"
    assert sql("select $r.rows", r='{"rows":5}') == "select 5"


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("$empty", "$empty has no rows — query returned zero results"),
        ("$empty.id", "$empty has no rows — query returned zero results"),
        ("$done", "$done has no rows — query returned zero results"),
        ("$n", "$n is NULL — first column of first row is NULL"),
        ("$x.none", "$x.none is NULL — column 'none' of first row is NULL"),
        ("$xy.c", "$xy.c: result has no field 'c' (available: id)"),
        ("$two.c", "$two.c: result has no field 'c' (available: id, name)"),
        ("$sig.c", "$sig.c: result has no field 'c' (available: signal_name, timed_out, data)"),
        ("$branches.c", "$branches.c: result has no field 'c' (available: none)"),
        ("$word.c", "$word.c: result has no field 'c' (available: none)"),
        ("$f.a", "$f.a is NULL — field 'a' is NULL"),
        ("$bare", "$bare has no columns — query returned rows without columns"),
        ("$sig.*", "$sig.*: the result has no rows, only that of a query has"),
        ("$done.*", "$done.*: the result has no columns"),
        ("$bare.*", "$bare.*: the result has no columns"),
    ],
)
def test_a_reference_that_has_no_value_is_an_error(reference: str, message: str) -> None:
    more = {"n": row(a=None, b=1), "f": '{"a":null}', "bare": '{"rows":[{}],"row_count":1}'}
    assert sql_error(f"select {reference}", **more) == message
    with pytest.raises(SubstitutionError) as caught:
        text(f"see {reference}", **more) if not message.endswith("columns") or reference == "$bare" else sql(
            reference, **more
        )
    assert str(caught.value) == message


def test_the_fields_that_are_there_are_listed_up_to_twenty() -> None:
    many = json.dumps({f"f{number}": number for number in range(30)})
    assert sql_error("select $m.x", m=many).endswith("f18, f19, …)")


def test_nul_and_half_surrogate_pairs_are_errors_everywhere() -> None:
    nul, half = r'{"rows":[{"a":"x\u0000"}]}', r'{"rows":[{"a":"\ud83d x"}]}'
    assert sql_error("select $v", v=nul) == r"$v has a NUL character (\u0000), which no PostgreSQL text can hold"
    assert (
        sql_error("select '$v.a'", v=half)
        == r"$v.a has half a surrogate pair (\ud83d), which no PostgreSQL text can hold"
    )
    assert "NUL" in sql_error("select $v.*", v=nul)
    assert "NUL" in sql_error("select $v.*", v=r'{"rows":[{"a\u0000":1}]}')
    for place in ("$v", "[$v]", '["$v"]'):
        with pytest.raises(SubstitutionError, match="NUL"):
            text(place, v=nul)


def test_a_message_never_holds_what_could_not_be_stored() -> None:
    assert "\0" not in sql_error("select $v.x", v=r'{"a\u0000\ud800":1}')
    sql_error("select $v.x", v=r'{"a\ud800":1}').encode()


def test_a_nested_value_keeps_its_escapes_as_text() -> None:
    assert sql("select $v::json", v=r'{"rows":[{"a":{"n":"\u0000"}}]}') == r"""select E'{"n":"\\u0000"}'::json"""


@pytest.mark.parametrize(
    "result",
    [
        "",
        "nonsense",
        "{",
        "[",
        '{"rows":[',
        '{"rows":[{',
        '{"rows":[{"a"',
        '{"rows":[{"a":}',
        '{"a" 1}',
        "1 2",
        '{"rows":[{"a":1} x',
    ],
)
@pytest.mark.parametrize("reference", ["$v", "$v.a", "$v.*", "$v?"])
def test_a_result_that_is_not_json_is_a_typed_error_or_harmless_text(result: str, reference: str) -> None:
    for render in (sql, text):
        with contextlib.suppress(SubstitutionError):
            assert render(reference, v=result)


def test_depth_is_no_obstacle() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    assert sql("select $d.a, $d.b", d=f'{{"rows":[{{"a":{deep},"b":1}}]}}') == f"select '{deep}', 1"
    assert sql("select $d.*", d=f'{{"rows":[{{"a":{deep}}}]}}').startswith(
        f"select (VALUES ('{deep}'::pg_catalog.text))"
    )
    assert text("$d", d=deep) == deep


def test_a_text_with_its_values_has_a_limit() -> None:
    big = row(a="x" * (MAX_CHARACTERS // 4))
    said = f"the text with its values exceeds the limit of {MAX_CHARACTERS} characters"
    assert sql_error("select $b, $b, $b, $b", b=big) == said
    with pytest.raises(SubstitutionError, match="exceeds the limit"):
        render_text("{v}{v}", variables={"v": "x" * (MAX_CHARACTERS // 2 + 1)}, names={})


# --- $n.* -----------------------------------------------------------------------------------------------------------


def test_rows_become_values_with_the_name_and_the_names_of_the_columns() -> None:
    assert sql("select * from $two.*") == (
        """select * from (VALUES (1::numeric,'a'::pg_catalog.text),((-2),NULL)) AS "two"("id","name")"""
    )


def test_no_rows_keep_the_names_of_the_columns() -> None:
    assert sql("from $empty.*") == (
        'from (SELECT NULL::pg_catalog.text, NULL::pg_catalog.text WHERE false) AS "empty"("id","a""b")'
    )


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        (["1", "2.5", "null"], ["1::numeric", "2.5", "NULL"]),
        (["null", '"NaN"', "1"], ["NULL::numeric", "'NaN'", "1"]),
        (['"NaN"', '"Infinity"'], ["'NaN'::pg_catalog.text", "'Infinity'"]),
        (["true", "null"], ["true::boolean", "NULL"]),
        (["null"], ["NULL::pg_catalog.text"]),
        (["1", '"a\\\\b"', "true", "[1]"], ["'1'::pg_catalog.text", r"E'a\\b'", "'true'", "'[1]'"]),
        (["1", "true"], ["'1'::pg_catalog.text", "'true'"]),
    ],
)
def test_a_column_is_text_numeric_or_boolean(values: list[str], cells: list[str]) -> None:
    result = '{"rows":[' + ",".join(f'{{"c":{value}}}' for value in values) + "]}"
    assert sql("$r.*", r=result) == "(VALUES " + ",".join(f"({cell})" for cell in cells) + ') AS "r"("c")'


def test_at_most_10000_rows_become_values() -> None:
    def result(rows: int) -> str:
        return '{"rows":[' + ",".join(['{"a":1}'] * rows) + f'],"row_count":{rows}}}'

    assert sql("$r.*", r=result(MAX_ROWS)).count("(1") == MAX_ROWS
    assert sql_error("$r.*", r=result(MAX_ROWS + 1)) == "$r.* has 10001 rows, more than the limit of 10000"
    assert text("$r.*", r=result(MAX_ROWS + 1)).startswith('[{"a":1}')


def test_rows_that_nobody_but_a_forger_makes_are_typed_errors() -> None:
    assert sql_error("$r.*", r='{"rows":[{"a":1},{"b":1}]}') == "$r.*: the rows differ in their columns"
    assert sql_error("$r.*", r='{"rows":[{"a":1},5]}') == "$r.*: a row is not an object"


# --- lexical contexts of SQL ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context",
    [
        "$$ $x $$", "$t$ $x $$ $x $t$", "$ä$ $x $ä$", "$x$ $x $x$", '"$x"', '"a""$x"', 'U&"$x"', "-- $x", "--$x.name",
        "/* $x */", "/* /* $x */ $x */", "/* ' */ /* $x */", "/*/ $x */", "/* $x **/", "-- '\n/* $x */", '"\'$x"',
        "/* $x", "$$ $x", '"$x', "a$$b -- $x", "'\\' -- $x",
    ],
)  # fmt: skip
def test_nothing_is_substituted_in_dollar_quotes_quoted_identifiers_and_comments(context: str) -> None:
    same = f"select 1, {context}"
    assert sql(same) is same


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("-- '\n", ""), ("/* ' /* ' */ ' */", ""), ("$$ ' $$, ", ""), ('"\'", ', ""), ("'''', ", ""), ("'--', ", ""),
        ("'/*', ", " -- */"), ("$1, ", ""), ("a--b'\n +", ""), ("1 /", ""), ("a - ", ""), ("E'\\'', ", ""),
        ("e'\\\\', ", ""), ("U&'\\0041', ", ""), ("'$$', ", ", '$$'"), ("f(", ")"),
        ("a[1:", "]"), ("$a$ $b$ $a$, ", ""), ("a$b$c + ", ""),
    ],
)  # fmt: skip
def test_code_goes_on_after_a_comment_a_literal_or_an_identifier(before: str, after: str) -> None:
    assert sql(f"select {before}$x{after}") == f"select {before}7{after}"


@pytest.mark.parametrize(
    ("literal", "filled"),
    [
        ("'$x.name'", "'it''s'"),
        ("'a''$x.name''b'", "'a''it''s''b'"),
        ("'$x.path'", r" E'C:\\dir'"),
        ("'\\d $x.path'", r" E'\\d C:\\dir'"),
        ("E'$x.name'", "E'it''s'"),
        ("e'$x.path'", r"e'C:\\dir'"),
        ("E'\\$x $x.path'", r"E'\$x C:\\dir'"),
        ("E'\\'$x.name'", r"E'\'it''s'"),
        ("E'\\\\$x.path'", r"E'\\C:\\dir'"),
        ("N'$x.name'", "N'it''s'"),
        ("n'$x.path'", r" nchar E'C:\\dir'"),
        ("U&'$x.name $x.path'", r"U&'it''s C:\\dir'"),
        ("u&'\\0041$x'", r"u&'\00417'"),
        ("B'1$x.one'", "B'11'"),
        ("x'f$x'", "x'f7'"),
        ("'$x.neg $x.yes $x.none? $x.list'", """'-5 true null [1, "a''b"]'"""),
        ("'$sig $word $null'", """'{"signal_name":"s","timed_out":false,"data":{"by":"o''neil"}} done null'"""),
        ("'$two.*'", """'[{"id":1,"name":"a"},{"id":-2,"name":null}]'"""),
        ("'$x, $x. $x— «$x» $x$ $unknown'", "'7, 7. 7— «7» $x$ $unknown'"),
        ("'a'\n  '$x.name'", "'a'\n  'it''s'"),
        ("'a' -- '\n  '$x.path'", " E'a' -- '\n  'C:\\\\dir'"),
        ("E'a' \n '\\'$x.name'", "E'a' \n '\\'it''s'"),
        ("'$x.name", "'it''s"),
    ],
)
def test_inside_a_literal_a_value_goes_in_escaped_for_that_literal(literal: str, filled: str) -> None:
    more = {"x": RESULTS["x"].replace('"id": 7', '"id": 7, "one": 1')}
    assert sql(f"select {literal}", **more) == f"select {filled}"


def test_a_bit_string_takes_digits_only() -> None:
    for literal in ("B'$x.name'", "x'$x.neg'", "X'$x.path'"):
        assert "must be digits of a bit string" in sql_error(f"select {literal}")


def test_two_quotes_end_a_bit_string_and_begin_a_literal() -> None:
    assert sql("select B'1''$x.name'") == "select B'1''it''s'"


def test_a_literal_with_an_escape_character_of_its_own_takes_nothing() -> None:
    for between in (" ", "\n", " -- a\n", " /* a */ "):
        assert "UESCAPE" in sql_error(f"select U&'$x'{between}uescape '!'")


@pytest.mark.parametrize(
    "literal", ["E'\\x$x'", "E'\\x4$x'", "E'\\1$x'", "E'\\u00$x'", "U&'\\$x'", "U&'\\00$x'", "U&'\\+00$x'"]
)
def test_an_escape_that_would_go_on_into_the_value_is_an_error(literal: str) -> None:
    assert sql_error(f"select {literal}") == "$x: an escape in its literal goes on into the value"


@pytest.mark.parametrize(
    "literal", ["E'\\x41$x'", "E'\\101$x'", "E'\\\\1$x'", "E'\\u0041$x'", "U&'\\\\$x'", "U&'\\0041$x'"]
)
def test_a_finished_escape_is_not(literal: str) -> None:
    assert sql(f"select {literal}") == f"select {literal.replace('$x', '7')}"


def test_a_literal_that_two_settings_would_read_differently_has_only_one_reading() -> None:
    assert sql(r"select 'C:\', $x") == r"select  E'C:\\', 7"
    assert sql(r"select 'a\''b', $x") == r"select  E'a\\''b', 7"
    assert sql(r"select 'a\$x'") == r"select  E'a\\7'"
    assert sql(r"select '\d', $x") == r"select '\d', 7"


# --- what stands beside a value -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ("E'a'\n$x.name", "E'a'\n('it''s')"),
        ("B'1' -- c\n $x.name", "B'1' -- c\n ('it''s')"),
        ("$x.name\n'a'", "('it''s')\n'a'"),
        ("$x.name -- c\n'a'", "('it''s') -- c\n'a'"),
        ("$x.name'a'", "('it''s')'a'"),
        ("$x?$x.name", "(7)('it''s')"),
        ("$xy.id\n$x.name", "'longer'\n('it''s')"),
        ("5$x", "5(7)"),
        ("5.$x", "5.(7)"),
        ("$1$x", "$1(7)"),
        ("t.$x.yes", "t.(true)"),
        ("$x.yes.a.b", "(true).a.b"),
        ("$x?5", "(7)5"),
        ("$x?a", "(7)a"),
        ("$x..5", "(7)..5"),
        ("U&$x.name", "U& 'it''s'"),
        ("a&$x", "a& 7"),
        ("-$x.neg", "-(-5)"),
        ("$x-1", "7-1"),
        ("$x::int", "7::int"),
        ("($x)", "(7)"),
        ("$x||'a'", "7||'a'"),
        ("$xy ||'a'", "'longer' ||'a'"),
        ("$$a$$$x.name", "$$a$$('it''s')"),
    ],
)
def test_a_value_never_becomes_one_with_what_stands_beside_it(given: str, filled: str) -> None:
    assert sql(f"select {given}") == f"select {filled}"


# --- elsewhere ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ("https://h/$x.id?a=1", "https://h/7a=1"),  # the ? belongs to the reference
        ("$x", "7"),
        ("a $x.name b", "a it's b"),
        ("$x.path", "C:\\dir"),
        ("$x.neg seconds", "-5 seconds"),
        ("$x.yes", "true"),
        ("$x.none? $empty?", "null null"),
        ("$x.obj", '{"k": "v"}'),
        ("$two.*", '[{"id":1,"name":"a"},{"id":-2,"name":null}]'),
        ("$word $number $sig.timed_out", "done 1.50 false"),
        ('don\'t "$x" -- $x $$ $x', 'don\'t "7" -- 7 $$ 7'),
        ("«$x»$x—", "«7»7—"),
    ],
)
def test_in_plain_text_a_value_is_itself(given: str, filled: str) -> None:
    assert text(given) == filled


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ('{"a":$x.name}', '{"a":"it\'s"}'),
        ('{"a":"$x.path"}', '{"a":"C:\\\\dir"}'),
        ('{"a":"<$x.name>"}', '{"a":"<it\'s>"}'),
        ('{"a":$x.path,"b":$x.neg,"c":$x.yes}', '{"a":"C:\\\\dir","b":-5,"c":true}'),
        ('{"a":$x.none?,"b":"$x.none?"}', '{"a":null,"b":"null"}'),
        ('{"a":$x.obj,"b":"$x.obj"}', '{"a":{"k": "v"},"b":"{\\"k\\": \\"v\\"}"}'),
        ("[$two.*]", '[[{"id":1,"name":"a"},{"id":-2,"name":null}]]'),
        ('["$two.*"]', '["[{\\"id\\":1,\\"name\\":\\"a\\"},{\\"id\\":-2,\\"name\\":null}]"]'),
        ('[$word,"$word",$null,$number]', '["done","done",null,1.50]'),
        (' \n["\\"$x.name", $x]', ' \n["\\"it\'s", 7]'),
        ('["\\$x", "\\\\$x"]', '["\\$x", "\\\\7"]'),
        ('{"$xy":1}', '{"longer":1}'),
    ],
)
def test_in_json_a_value_stays_json(given: str, filled: str) -> None:
    assert text(given) == filled


@pytest.mark.parametrize("value", ['"', "\\", '"}, "x": {"', "\n", "\x01", "\u2028", "😀", "</script>"])
def test_no_value_leaves_its_json_string(value: str) -> None:
    given = text('{"a":"<$v>","b":$v}', v=row(a=value))
    assert json.loads(given) == {"a": f"<{value}>", "b": value}


def test_a_value_does_not_decide_what_is_json() -> None:
    assert text("$v", v=row(a="[$x]")) == "[$x]"
    assert text("[{table}]") == "[orders]"


def test_json_or_not_is_seen_after_the_first_pass() -> None:
    assert render_text('{b}"$x.name"]', variables={"b": "["}, names=RESULTS) == '["it\'s"]'
