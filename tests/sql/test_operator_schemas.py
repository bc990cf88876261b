"""Where the operators live: public where the installing role may create there, else df, or where it was told."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sql.migrate import MissingPrivilege, OperatorTaken, migrate
from tests.servers import Cluster, Database

NAMES = {"~>", "|=>", "&", "|", "?>", "!>", "@>", "<~"}
SEQUENCE = (
    '{"node_type":"THEN","left_node":{"node_type":"SQL","query":"a"},"right_node":{"node_type":"SQL","query":"b"}}'
)


@pytest.fixture
def empty(server18: Cluster) -> Iterator[Database]:
    """A database without df; the engine's role may create in public."""
    made = server18.database(migrated=False)
    yield made
    made.drop()


def schemas(database: Database) -> dict[str, set[str]]:
    """The names of our operators, by schema."""
    found: dict[str, set[str]] = {}
    rows = database.run(
        "select o.oprnamespace::regnamespace::text, o.oprname from pg_operator o join pg_proc p on p.oid = o.oprcode "
        "where p.pronamespace = 'df'::regnamespace"
    )
    for schema, name in rows:
        found.setdefault(schema, set()).add(name)
    return found


def granted(database: Database) -> str:
    return database.new_role("user")


def test_they_go_to_public_where_the_role_may_create(empty: Database) -> None:
    report = migrate(empty.engine_dsn)
    assert (report.operators_schema, report.warnings) == ("public", ())
    assert schemas(empty) == {"public": NAMES}
    assert empty.run("select 'a' ~> 'b'", role=granted(empty)) == [(SEQUENCE,)]


def test_they_go_to_df_where_it_may_not_and_to_public_once_it_may(empty: Database) -> None:
    empty.run("revoke create on schema public from public, engine")
    report = migrate(empty.engine_dsn)
    assert report.operators_schema == "df"
    assert 'run: grant create on schema public to "engine"; then walflow migrate again' in report.warnings[0]
    user = granted(empty)
    assert empty.run("select 'a' operator(df.~>) 'b'", role=user) == [(SEQUENCE,)]
    with pytest.raises(psycopg.errors.UndefinedFunction):
        empty.run("select 'a'::text ~> 'b'::text", role=user)

    empty.run("grant create on schema public to engine")
    assert migrate(empty.engine_dsn).operators_schema == "public"
    assert empty.run("select 'a' ~> 'b'", role=user) == [(SEQUENCE,)]


def test_they_stay_in_public_when_the_right_to_create_there_is_taken_away(empty: Database) -> None:
    migrate(empty.engine_dsn)
    empty.run("revoke create on schema public from engine")
    assert migrate(empty.engine_dsn).operators_schema == "public"
    assert schemas(empty) == {"public": NAMES}


def test_a_superuser_puts_them_into_pg_catalog_after_the_owner_has_migrated(empty: Database) -> None:
    empty.run("revoke create on schema public from public, engine")
    migrate(empty.engine_dsn)
    with pytest.raises(MissingPrivilege) as caught:
        migrate(empty.engine_dsn, operators="pg_catalog")
    assert caught.value.hint == "Run it once more as a superuser."

    report = migrate(empty.dsn(), operators="pg_catalog")
    assert report.applied == ()
    assert "left out by pg_dump and pg_upgrade" in report.warnings[0]
    assert schemas(empty) == {"df": NAMES, "pg_catalog": NAMES}
    assert empty.run("select 'a' ~> 'b', 5 & 3", role=granted(empty)) == [(SEQUENCE, 1)]


def test_a_schema_that_is_not_there_is_named(empty: Database) -> None:
    with pytest.raises(MissingPrivilege, match="there is no schema Operators for the operators"):
        migrate(empty.engine_dsn, operators="Operators")
    assert empty.run("select to_regnamespace('df')") == [(None,)]


def test_any_schema_can_be_named(empty: Database) -> None:
    empty.run('create schema "Odd name" authorization engine')
    assert migrate(empty.engine_dsn, operators="Odd name").operators_schema == "Odd name"
    assert schemas(empty) == {'"Odd name"': NAMES}


def test_an_operator_of_somebody_else_is_not_taken_for_ours(empty: Database) -> None:
    empty.run("create function public.swallow(text, text) returns text language sql as $$ select 'mine' $$")
    empty.run("create operator public.& (function = public.swallow, leftarg = text, rightarg = text)")
    with pytest.raises(OperatorTaken, match=r"operator public\.& is there already and is not walflow's"):
        migrate(empty.engine_dsn)
    assert empty.run("select to_regnamespace('df')") == [(None,)]
    assert migrate(empty.engine_dsn, operators="df").operators_schema == "df"
