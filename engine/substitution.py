"""Filling results and variables into a node's text just before it runs (LANGUAGE.md section 4).

Two passes, on decoded strings. `{name}` is replaced by the raw text of a variable, which is its owner's own text.
Then `$name` is replaced by results, which may hold anything that anybody put into a table: they become values and
never code, in whatever context they stand (sqltext.py). What comes out of either is not looked at again.

Only what a text refers to is read, and of that only the part it refers to. Who fills in several texts at once hands over a
`Reading`: what one of them looked up in a result the next need not look for, and what was read is counted.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Final, Generic, TypeVar

from engine.jsontext import (
    WHITE,
    JsonError,
    Nested,
    Number,
    TreeObject,
    dumps_string,
    elements_at,
    members_at,
    read_tree,
    skip_white,
    storable,
    unstorable,
    value_at,
)
from engine.resulttext import (
    Cell,
    as_json,
    as_text,
    first_row_at,
    member_at,
    rows_at,
    whole,
)
from engine.sqltext import (
    IN_TEXT,
    NOTHING_INSERTED,
    TAG_IN_TEXT,
    Glue,
    Hole,
    Inserted,
    Literal,
    Piece,
    Reference,
    Style,
    cut_sql,
    reference_of,
)

__all__ = ["Reading", "SubstitutionError", "render_json", "render_sql", "render_text"]

MAX_ROWS: Final = 10_000
"""Rows of `$n.*`: what a VALUES list is still good for."""
MAX_CHARACTERS: Final = 16 * 2**20
"""Of a text with its values: a text may name a large result a thousand times."""
MAX_NAMED: Final = 20
"""Fields that an error lists as available."""
CACHED_TEXTS: Final = 512
CACHED_CHARACTERS: Final = 32_768
"""Texts that are kept cut into pieces: how many, and how long one may be. Together they bound the memory."""


class SubstitutionError(Exception):
    """A reference that cannot be filled in. The message names it and says why; it fails the node."""

    def __init__(self, message: str) -> None:
        super().__init__(storable(message))
        self.message = storable(message)


class _Absent(SubstitutionError):
    """There is no row, no value or no such column: what a `?` allows."""


class Reading:
    """What several texts that are filled in at once read: results that were opened, and the characters gone through."""

    __slots__ = ("_characters", "_opened")

    def __init__(self) -> None:
        self._characters = 0
        self._opened: dict[tuple[str, int], _Result] = {}

    def open(self, name: str, text: str) -> "_Result":
        """The result of that name. SubstitutionError when it is not JSON."""
        opened = self._opened.get((name, id(text)))  # which keeps the text, so that nothing else gets its id
        if opened is None:
            opened = self._opened[name, id(text)] = _Result(name, text, self)
        return opened

    def count(self, characters: int) -> None:
        self._characters += characters

    def take(self) -> int:
        """The characters that were gone through since this was asked last."""
        characters, self._characters = self._characters, 0
        return characters


def render_sql(
    text: str, *, variables: Mapping[str, str], names: Mapping[str, str], reading: Reading | None = None
) -> str:
    """A SQL text with its references filled in; the very same object when it has none.

    `names` gives results as JSON texts. SubstitutionError for what cannot be filled in.
    """
    reading = reading or Reading()
    text, inserted = _with_variables(text, variables)
    reading.count(len(text))
    if "$" not in text:
        return text
    if inserted is NOTHING_INSERTED and len(text) <= CACHED_CHARACTERS:
        cut = _cut_sql_cached(text)
    elif any(found["name"] in names for found in _CANDIDATE.finditer(text)):
        cut = _cut_sql(text, inserted)
    else:
        return text
    return _filled(text, cut, _Results(names, reading), _sql_piece)


def render_text(
    text: str, *, variables: Mapping[str, str], names: Mapping[str, str], reading: Reading | None = None
) -> str:
    """A text that is not SQL with its references filled in, the very same object when it has none.

    Plain text takes values as they are; one that begins with `{` or `[` is JSON and stays JSON.
    `names` gives results as JSON texts. SubstitutionError for what cannot be filled in.
    """
    reading = reading or Reading()
    text, inserted = _with_variables(text, variables)
    reading.count(len(text))
    if "$" not in text:
        return text
    keeps = inserted is NOTHING_INSERTED and len(text) <= CACHED_CHARACTERS
    cut = _cut_text_cached(text) if keeps else _cut_text(text, inserted)
    return _filled(text, cut, _Results(names, reading), _text_piece)


_ONE_REFERENCE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|\*))?\??")


def render_json(
    text: str, *, variables: Mapping[str, str], names: Mapping[str, str], reading: Reading | None = None
) -> str:
    """A JSON text with the references in its strings filled in; a string that is one reference becomes that value, with its
    type. Keys stay. SubstitutionError for what cannot be filled in.
    """
    return _json_text(read_tree(text), variables, names, reading or Reading())


def _json_text(value: object, variables: Mapping[str, str], names: Mapping[str, str], reading: Reading) -> str:
    match value:
        case TreeObject():
            parts = (
                f"{dumps_string(key)}:{_json_text(part, variables, names, reading)}" for key, part in value.items()
            )
            return f"{{{','.join(parts)}}}"
        case list():
            return f"[{','.join(_json_text(part, variables, names, reading) for part in value)}]"
        case Number() | None | bool():
            return as_text(value)
        case _:
            assert isinstance(value, str)
    if _ONE_REFERENCE.fullmatch(value):
        alone = f"[{value}]"
        rendered = render_text(alone, variables={}, names=names, reading=reading)
        if rendered != alone:
            return rendered[1:-1]
    return dumps_string(render_text(value, variables=variables, names=names, reading=reading))


# --- the first pass -------------------------------------------------------------------------------------------------

_VARIABLE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*+)\}")


def _with_variables(text: str, variables: Mapping[str, str]) -> tuple[str, Inserted]:
    """The text with its variables filled in, and where that was."""
    if "{" not in text or not variables:
        return text, NOTHING_INSERTED
    parts: list[str] = []
    stretches: list[tuple[int, int]] = []
    kept = length = 0
    for found in _VARIABLE.finditer(text):
        value = variables.get(found[1])
        if value is None:
            continue
        start = length + found.start() - kept
        length = start + len(value)
        _check_length(length)
        parts += (text[kept : found.start()], value)
        stretches.append((start, length))
        kept = found.end()
    if not parts:
        return text, NOTHING_INSERTED
    return "".join((*parts, text[kept:])), Inserted(stretches)


def _check_length(characters: int) -> None:
    if characters > MAX_CHARACTERS:
        raise SubstitutionError(f"the text with its values exceeds the limit of {MAX_CHARACTERS} characters")


# --- the second pass ------------------------------------------------------------------------------------------------

P = TypeVar("P")

_CANDIDATE: Final = re.compile(r"\$(?P<name>[A-Za-z_][A-Za-z0-9_]*+)")


@dataclass(frozen=True, slots=True)
class _Cut(Generic[P]):
    """A text in pieces, and the names that it refers to."""

    pieces: tuple[str | P, ...]
    refers_to: frozenset[str]


def _filled(text: str, cut: _Cut[P], results: "_Results", fill: "Callable[[P, _Results], str]") -> str:
    """The pieces put together, each that is not text as `fill` has it; `text` itself when no name is known."""
    if not any(name in results.names for name in cut.refers_to):
        return text
    parts: list[str] = []
    length = 0
    for piece in cut.pieces:
        part = piece if isinstance(piece, str) else fill(piece, results)
        length += len(part)
        _check_length(length)
        parts.append(part)
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Results:
    """The results that one text may refer to."""

    names: Mapping[str, str]
    reading: Reading
    opened: "dict[str, _Result]" = field(default_factory=dict)

    def get(self, name: str) -> "_Result | None":
        """The result of that name; None for a name that is not known."""
        opened = self.opened.get(name)
        if opened is None and name in self.names:
            opened = self.opened[name] = self.reading.open(name, self.names[name])
        return opened


class _Result:
    """A result that is referred to. Each part of it is looked through once, however often it is referred to."""

    __slots__ = ("_available", "_fields", "_found", "_reading", "_row_texts", "_rows", "name", "text")

    def __init__(self, name: str, text: str, reading: Reading) -> None:
        self.name = name
        self.text = text
        self._reading = reading
        self._fields: dict[str, int] = {}
        self._found: Iterator[int] | None = None
        self._available: str | None = None
        self._row_texts: tuple[str, list[int]] | None = None
        try:
            self._rows = rows_at(text)
        except JsonError as error:
            raise self._broken(error) from None
        reading.count(len(text) if self._rows is None else self._rows)

    @property
    def has_rows(self) -> bool:
        """Whether this is the result of a query, even one that returned no rows."""
        return self._rows is not None

    @property
    def has_any_row(self) -> bool:
        """What if_rows asks."""
        return self._rows is not None and first_row_at(self.text, self._rows) is not None

    def cell(self, reference: Reference) -> Cell:
        """The value of `$n` or `$n.column`, None only where that is no error."""
        try:
            value = self._column(reference.column)
            self._reading.count(len(value) if isinstance(value, str) else 0)
            return value
        except _Absent:
            if reference.optional:
                return None
            raise
        except JsonError as error:
            raise self._broken(error) from None

    def row_texts(self) -> tuple[str, list[int]]:
        """The array of rows as JSON, and where in the result each begins."""
        if self._rows is None:
            raise SubstitutionError(f"${self.name}.*: the result has no rows, only that of a query has")
        if self._row_texts is None:
            try:
                rows, _ = value_at(self.text, self._rows)
                assert isinstance(rows, Nested)
                self._row_texts = rows, list(elements_at(self.text, self._rows))
            except JsonError as error:
                raise self._broken(error) from None
        self._reading.count(len(self._row_texts[0]))  # each time: whoever asks goes through all of it
        return self._row_texts

    def row(self, position: int) -> list[tuple[str, Cell]]:
        """The columns of the row at this position."""
        if not self.text.startswith("{", position):
            raise SubstitutionError(f"${self.name}.*: a row is not an object")
        try:
            return [(key, value_at(self.text, at)[0]) for key, at in members_at(self.text, position)]
        except JsonError as error:
            raise self._broken(error) from None

    def columns_of_none(self) -> list[str]:
        """The names of the columns when there is no row; empty for a statement that returns none."""
        self._reading.count(len(self.text))
        try:
            position = member_at(self.text, skip_white(self.text, 0), "columns")
            if position is None or not self.text.startswith("[", position):
                return []
            names = [value_at(self.text, at)[0] for at in elements_at(self.text, position)]
        except JsonError as error:
            raise self._broken(error) from None
        return [name for name in names if type(name) is str]

    def _column(self, column: str | None) -> Cell:
        start = self._start()
        if column is not None:
            return self._field(start, column)
        if self._rows is None:
            return whole(self.text)
        for _, position in members_at(self.text, start):
            value, _ = value_at(self.text, position)
            if value is None:
                raise _Absent(f"${self.name} is NULL — first column of first row is NULL")
            return value
        raise _Absent(f"${self.name} has no columns — query returned rows without columns")

    def _start(self) -> int:
        """Where the object begins whose members the fields are: the first row, or the result itself."""
        if self._rows is None:
            return skip_white(self.text, 0)
        row = first_row_at(self.text, self._rows)
        if row is None:
            raise _Absent(f"${self.name} has no rows — query returned zero results")
        return row

    def _field(self, start: int, column: str) -> Cell:
        position = self._field_at(start, column)
        if position is None:
            raise _Absent(f"${self.name}.{column}: result has no field '{column}' (available: {self.available(start)})")
        value, _ = value_at(self.text, position)
        if value is None:
            where = f"field '{column}' is NULL" if self._rows is None else f"column '{column}' of first row is NULL"
            raise _Absent(f"${self.name}.{column} is NULL — {where}")
        return value

    def _field_at(self, start: int, column: str) -> int | None:
        """Where a field's value is, its first one. No more is looked through than has not been looked through before."""
        if self._found is None:
            self._found = self._look_through(start)
        while column not in self._fields and next(self._found, None) is not None:
            pass
        return self._fields.get(column)

    def _look_through(self, start: int) -> Iterator[int]:
        """Notes one field after the other; gives what it has gone through."""
        before = start
        for key, position in members_at(self.text, start) if self.text.startswith("{", start) else ():
            self._fields.setdefault(key, position)
            self._reading.count(position - before)
            before = position
            yield position
        self._reading.count(value_at(self.text, before)[1] - before)

    def available(self, start: int) -> str:
        """The fields that there are, the first of them, for an error."""
        if self._available is None:
            members = members_at(self.text, start) if self.text.startswith("{", start) else iter(())
            keys = [key for key, _ in islice(members, MAX_NAMED + 1)]
            shown = ", ".join(keys[:MAX_NAMED])
            self._available = f"{shown}, …" if len(keys) > MAX_NAMED else shown or "none"
        return self._available

    def _broken(self, error: JsonError) -> SubstitutionError:
        return SubstitutionError(f"${self.name}: the result is not valid JSON ({error})")


def _storable_text(text: str, reference: Reference) -> str:
    """The text, if PostgreSQL can hold it."""
    found = unstorable(text)
    if found is not None:
        what = "a NUL character (\\u0000)" if found == "\0" else f"half a surrogate pair (\\u{ord(found):04x})"
        raise SubstitutionError(f"{reference.text} has {what}, which no PostgreSQL text can hold")
    return text


def _as_text(result: _Result, reference: Reference) -> str:
    """What a reference stands for as plain text."""
    text = result.row_texts()[0] if reference.rows else as_text(result.cell(reference))
    return _storable_text(text, reference)


# --- SQL ------------------------------------------------------------------------------------------------------------


def _cut_sql(text: str, inserted: Inserted) -> _Cut[Hole | Literal]:
    pieces = cut_sql(text, inserted)
    return _Cut(pieces, frozenset(reference.name for reference in _references(pieces)))


@lru_cache(maxsize=CACHED_TEXTS)
def _cut_sql_cached(text: str) -> _Cut[Hole | Literal]:
    return _cut_sql(text, NOTHING_INSERTED)


def _references(pieces: Sequence[Piece]) -> Iterator[Reference]:
    for piece in pieces:
        if isinstance(piece, Hole):
            yield piece.reference
        elif isinstance(piece, Literal):
            yield from (part for part in piece.parts if isinstance(part, Reference))


def _sql_piece(piece: Hole | Literal, results: _Results) -> str:
    return _sql_hole(piece, results) if isinstance(piece, Hole) else _sql_literal(piece, results)


def _sql_hole(hole: Hole, results: _Results) -> str:
    reference = hole.reference
    result = results.get(reference.name)
    if result is None:
        return reference.text
    value = _table(result, reference) if reference.rows else _sql_value(result, reference)
    if hole.wrap:
        return f"({value})"
    return f" {value}" if hole.apart else value


def _sql_value(result: _Result, reference: Reference) -> str:
    cell = result.cell(reference)
    if reference.column is None and not result.has_rows and cell is not None:
        cell = Nested(result.text.strip(WHITE))  # whole: quoted JSON, whatever it is
    return _sql_of(cell, reference)


def _sql_of(cell: Cell, reference: Reference) -> str:
    if type(cell) is Number:
        return f"({cell})" if cell.startswith("-") else cell
    if isinstance(cell, str):
        return _quoted(_storable_text(cell, reference))
    return "NULL" if cell is None else as_text(cell)


def _quoted(text: str) -> str:
    """A literal that is the same under any standard_conforming_strings."""
    doubled = text.replace("'", "''")
    if "\\" in text:
        doubled = doubled.replace("\\", "\\\\")
        return f"E'{doubled}'"
    return f"'{doubled}'"


def _sql_literal(literal: Literal, results: _Results) -> str:
    """A literal with its references filled in.

    A plain one becomes an escape string when a value has a backslash, or when its own text has one that
    standard_conforming_strings would read in two ways.
    """
    values = [_literal_value(literal, part, results) for part in literal.parts]
    plain = literal.style is Style.PLAIN or literal.style is Style.NATIONAL
    converts = plain and (literal.ambiguous or any(value is not None and "\\" in value for value in values))
    doubles = converts or literal.style is Style.ESCAPE or literal.style is Style.UNICODE
    parts: list[str] = []
    for part, value in zip(literal.parts, values, strict=True):
        if value is not None:
            doubled = value.replace("'", "''")
            parts.append(doubled.replace("\\", "\\\\") if doubles else doubled)
        elif isinstance(part, Glue):
            parts.append(part.text)
        else:
            own = part.text if isinstance(part, Reference) else part
            parts.append(own.replace("\\", "\\\\") if converts else own)
    return f"{_opening(literal, converts)}{''.join(parts)}{literal.closing}"


def _opening(literal: Literal, converts: bool) -> str:
    if not converts:
        return literal.opening
    return " E'" if literal.style is Style.PLAIN else " nchar E'"  # N'…' is nchar '…', and has no escape form


def _literal_value(literal: Literal, part: str | Reference | Glue, results: _Results) -> str | None:
    """What stands for a part that is a reference to something known; None for any other."""
    result = results.get(part.name) if isinstance(part, Reference) else None
    if result is None:
        return None
    assert isinstance(part, Reference)
    value = _as_text(result, part)
    if literal.style is Style.UNICODE_OWN_ESCAPE:
        raise SubstitutionError(f"{part.text}: nothing is substituted in U&'…' UESCAPE '…'")
    if literal.unfinished:
        raise SubstitutionError(f"{part.text}: an escape in its literal goes on into the value")
    if literal.style is Style.BITS and _HEXADECIMAL.fullmatch(value) is None:
        raise SubstitutionError(f"{part.text}: a value in B'…' or X'…' must be digits of a bit string")
    return value


_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]*")


# --- $n.* -----------------------------------------------------------------------------------------------------------


class _Type(Enum):
    """The types that the columns of `$n.*` have, as a cast spells them."""

    TEXT = "pg_catalog.text"
    NUMERIC = "numeric"
    BOOLEAN = "boolean"


_NUMERIC_WORDS: Final = frozenset({"NaN", "Infinity", "-Infinity"})


def _table(result: _Result, reference: Reference) -> str:
    """The rows as a subquery in parentheses, with a name and names for its columns."""
    _, positions = result.row_texts()
    if len(positions) > MAX_ROWS:
        raise SubstitutionError(f"{reference.text} has {len(positions)} rows, more than the limit of {MAX_ROWS}")
    if not positions:
        columns = result.columns_of_none()
        body = "SELECT " + ", ".join(f"NULL::{_Type.TEXT.value}" for _ in columns) + " WHERE false"
    else:
        rows = [result.row(position) for position in positions]
        columns = [name for name, _ in rows[0]]
        body = "VALUES " + _values(rows, columns, reference)
    if not columns:
        raise SubstitutionError(f"{reference.text}: the result has no columns")
    names = ",".join(_identifier(_storable_text(name, reference)) for name in columns)
    return f"({body}) AS {_identifier(result.name)}({names})"


def _values(rows: Sequence[Sequence[tuple[str, Cell]]], columns: Sequence[str], reference: Reference) -> str:
    if any([name for name, _ in row] != columns for row in rows):
        raise SubstitutionError(f"{reference.text}: the rows differ in their columns")
    types = [_type_of([row[index][1] for row in rows]) for index in range(len(columns))]
    lines: list[str] = []
    for row in rows:
        cells = [_typed(cell, kind, reference) for (_, cell), kind in zip(row, types, strict=True)]
        if not lines:  # the first row's types are the column's
            cells = [f"{cell}::{kind.value}" for cell, kind in zip(cells, types, strict=True)]
        lines.append(f"({','.join(cells)})")
    return ",".join(lines)


def _type_of(cells: Sequence[Cell]) -> _Type:
    """The type that all values of a column have. NaN and the infinities are numbers among numbers."""
    present = [cell for cell in cells if cell is not None]
    if present and all(isinstance(cell, bool) for cell in present):
        return _Type.BOOLEAN
    numbers = [cell for cell in present if type(cell) is Number]
    if numbers and all(type(cell) is Number or cell in _NUMERIC_WORDS for cell in present):
        return _Type.NUMERIC
    return _Type.TEXT


def _typed(cell: Cell, kind: _Type, reference: Reference) -> str:
    if kind is _Type.TEXT and cell is not None:
        return _quoted(_storable_text(as_text(cell), reference))
    return _sql_of(cell, reference)


def _identifier(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


# --- text that is not SQL -------------------------------------------------------------------------------------------


class _Place(Enum):
    """Where in a text that is not SQL a reference stands."""

    PLAIN = "plain"
    JSON = "JSON"
    JSON_STRING = "JSON string"


@dataclass(frozen=True, slots=True)
class _TextHole:
    reference: Reference
    place: _Place


_TEXT_TOKEN: Final = re.compile(rf"(?P<tag>{TAG_IN_TEXT})|(?P<reference>{IN_TEXT})")
_JSON_TOKEN: Final = re.compile(rf'(?P<escape>\\.)|(?P<quote>")|{_TEXT_TOKEN.pattern}', re.DOTALL)


def _cut_text(text: str, inserted: Inserted) -> _Cut[_TextHole]:
    is_json = text.startswith(("{", "["), skip_white(text, 0))
    place = _Place.JSON if is_json else _Place.PLAIN
    pieces: list[str | _TextHole] = []
    kept = 0
    for token in (_JSON_TOKEN if is_json else _TEXT_TOKEN).finditer(text):
        if token.lastgroup == "quote":
            place = _Place.JSON if place is _Place.JSON_STRING else _Place.JSON_STRING
        elif token.lastgroup == "reference" and token.start() not in inserted:
            pieces += (text[kept : token.start()], _TextHole(reference_of(token), place))
            kept = token.end()
    pieces.append(text[kept:])
    names = frozenset(piece.reference.name for piece in pieces if isinstance(piece, _TextHole))
    return _Cut(tuple(pieces), names)


@lru_cache(maxsize=CACHED_TEXTS)
def _cut_text_cached(text: str) -> _Cut[_TextHole]:
    return _cut_text(text, NOTHING_INSERTED)


def _text_piece(hole: _TextHole, results: _Results) -> str:
    reference = hole.reference
    result = results.get(reference.name)
    if result is None:
        return reference.text
    if hole.place is _Place.JSON:
        cell = Nested(result.row_texts()[0]) if reference.rows else result.cell(reference)
        _storable_text(as_text(cell), reference)
        return as_json(cell)
    text = _as_text(result, reference)
    return dumps_string(text)[1:-1] if hole.place is _Place.JSON_STRING else text
