"""What a file of a workflow may hold: a graph as JSON, an expression of builders, or SQL that is one step.

Which of them it is shows at its beginning, since no SQL statement begins with a string, with `df.` or with `@>`:

    {"node_type": …      a graph
    'select 1' ~> …      an expression of builders, evaluated by the database; also $$…$$ ~> …, df.seq(…), @> …
    select 1             SQL: one step
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psycopg
from psycopg import sql as pgsql

from engine.cli.session import Asked
from engine.errors import ConfigError

LARGEST_BYTES = 16_777_216  # what df.instances holds
COMMENTS = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
EXPRESSION = re.compile(r"""\(*\s*(?:[eE]?'|\$[A-Za-z_]*\$|@>|"?df"?\s*\.)""")


def text_of(file: str) -> str:
    """A file's text, or standard input's for `-`. Raises ConfigError."""
    name = name_of(file)
    try:
        raw = sys.stdin.buffer.read(LARGEST_BYTES + 1) if file == "-" else Path(file).read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 ({error.reason})"
        raise ConfigError(
            f"{name}: cannot be read: {what}", "Name a file with a workflow, or - for standard input."
        ) from None
    if len(raw) > LARGEST_BYTES:
        raise ConfigError(f"{name}: more than {LARGEST_BYTES} bytes", "A graph may have 16 MB.")
    if not text.strip():
        raise ConfigError(
            f"{name}: there is nothing in it", "Write a graph, an expression such as 'select 1' ~> 'select 2', or SQL."
        )
    return text


def name_of(file: str) -> str:
    """A file for people."""
    return "standard input" if file == "-" else file


def is_expression(text: str) -> bool:
    """Whether the text is an expression of builders rather than a graph."""
    comments = COMMENTS.match(text)
    return EXPRESSION.match(text, comments.end() if comments else 0) is not None


def graph_of(asked: Asked, text: str, where: str) -> str:
    """The graph that a text means. An expression is evaluated by the database, with the user's own search_path."""
    if not is_expression(text):
        return text
    bare = text.strip().removesuffix(";")
    connection = asked.connection
    connection.execute("set local search_path to default")
    try:
        # a parameter makes it one statement, whatever stands in the text
        query = pgsql.SQL("select (\n{}\n)::text where %s").format(pgsql.SQL(bare.replace("%", "%%")))
        [graph] = asked.connection.execute(query, [True]).fetchone() or [None]
    except (psycopg.errors.SyntaxError, psycopg.errors.UndefinedFunction) as error:
        raise ConfigError(f"{where}: {error.diag.message_primary}", _help(error)) from error
    connection.execute("set local search_path = pg_catalog, pg_temp")
    if graph is None:
        raise ConfigError(
            f"{where}: the expression is NULL", "Some part of it is NULL: look at the arguments of its builders."
        )
    return str(graph)


def _help(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.UndefinedFunction):
        return (
            error.diag.message_hint
            or "The operators are in schema public, or in df: set search_path, or use df.seq and the like."
        )
    return "It was taken for an expression of builders, such as 'select 1' ~> 'select 2'; mind the quotes."
