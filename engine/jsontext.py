"""JSON as text: reading it without losing anything.

Results stay the text that the server sent, from the completion to the next step: a number keeps its spelling (`1.`,
`1e400`, a numeric's scale), an object keeps the order of its keys, and two columns of one name stay two. Graphs are
as deep as a chain is long, so they are read without recursion.

Three readers, because three things are wanted. `parse` is fast (the C scanner) and gives up at some depth with
`JsonTooDeep`. `read_tree` and `members` take any depth and refuse exactly what is not JSON by RFC 8259: for what users
write. `members_at` and its kin look for one thing in a large text that the database made, at any depth and at the C
scanner's speed, and read no further than that: they raise `JsonError` for what they meet that is not JSON, and trust
the rest.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final, NoReturn, final

__all__ = [
    "WHITE",
    "JsonError",
    "JsonObject",
    "JsonTooDeep",
    "Nested",
    "Number",
    "Scalar",
    "TreeObject",
    "Value",
    "dumps_string",
    "elements_at",
    "members",
    "members_at",
    "parse",
    "read_tree",
    "skip_white",
    "storable",
    "unstorable",
    "value_at",
]

WHITE: Final = " \t\n\r"
"""What JSON calls white space; nothing else is (`str.strip()` takes off far more)."""


class JsonError(ValueError):
    """The text is not JSON. `position` is the character at which it stops being so."""

    def __init__(self, position: int, what: str = "not valid JSON") -> None:
        super().__init__(f"{what} at character {position}")
        self.position = position


class JsonTooDeep(JsonError):
    """The text nests deeper than the recursive reader goes (about a thousand levels, less inside deep calls)."""

    def __init__(self) -> None:
        super().__init__(0, "JSON is nested too deeply")


@final
class Number(str):
    """A JSON number, as it was spelled."""

    __slots__ = ()


@final
class JsonObject(tuple[tuple[str, "Value"], ...]):
    """An object as the pairs of its keys and values: in order, doubles included."""

    __slots__ = ()

    def first(self, key: str) -> "tuple[Value] | None":
        """The value of the first member of that name, in a tuple of one (null is None as well); None without one."""
        for name, value in self:
            if name == key:
                return (value,)
        return None


@final
class Nested(str):
    """The JSON text of an array or object, exactly as it stood."""

    __slots__ = ()


# Number and Nested are texts too: tell them apart by `type(x) is …`, before asking for str.
Scalar = str | Number | bool | None
Value = Scalar | JsonObject | list["Value"]


def _refuse_constant(name: str) -> NoReturn:
    """NaN and Infinity are Python's own extension; the server writes them as strings."""
    raise JsonError(0, f"{name} is not JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
)


def parse(text: str) -> Value:
    """The value of a JSON text; `JsonError` when it is none, `JsonTooDeep` when it nests too deeply."""
    try:
        value: Value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise JsonError(error.pos) from None
    except RecursionError:
        raise JsonTooDeep from None
    return value


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def unstorable(text: str) -> str | None:
    """The first character of `text` that no PostgreSQL text can hold (NUL, half a surrogate pair), or None."""
    found = _UNSTORABLE.search(text)
    return found.group() if found else None


def storable(text: str) -> str:
    """The text with a replacement character for each that no PostgreSQL text can hold."""
    return _UNSTORABLE.sub("\ufffd", text)


dumps_string: Final[Callable[[str], str]] = json.encoder.encode_basestring
"""A text as a JSON string with its quotes; characters beyond ASCII stay themselves."""


# --- any depth ------------------------------------------------------------------------------------------------------


@final
class TreeObject(dict[str, object]):
    """An object as `read_tree` gives it: the last member of a name, and in `doubled` a name that came twice."""

    __slots__ = ("doubled",)

    def __init__(self) -> None:
        super().__init__()
        self.doubled: set[str] = set()


# A key is one token with its colon, so that the grammar has five states and no lookahead. Possessive quantifiers:
# a megabyte of string must not be scanned twice.
_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?:
        (?P<key>"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+"[ \t\n\r]*+:)
      | (?P<string>"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+")
      | (?P<object>\{) | (?P<object_end>\}) | (?P<array>\[) | (?P<array_end>\]) | (?P<comma>,)
      | (?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)
      | (?P<word>true|false|null)
      | (?P<end>\Z)
      | (?P<bad>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS: Final = {"true": True, "false": False, "null": None}

_VALUE = frozenset({"string", "object", "array", "number", "word"})
_FIRST_ITEM = _VALUE | {"array_end"}
_KEY = frozenset({"key"})
_FIRST_KEY = _KEY | {"object_end"}
_AFTER_MEMBER = frozenset({"comma", "object_end"})
_AFTER_ITEM = frozenset({"comma", "array_end"})
_END = frozenset({"end"})


def _tokens(text: str) -> Iterator[tuple[str, re.Match[str]]]:
    """The tokens of a JSON text, each one that the grammar allows at its place, the end included."""
    open_objects: list[bool] = []
    expected = _VALUE
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup or "bad"
        if kind not in expected:
            raise JsonError(token.start(token.lastindex or 0))
        yield kind, token
        if kind == "end":
            return
        if kind == "key":
            expected = _VALUE
        elif kind == "comma":
            expected = _KEY if open_objects[-1] else _VALUE
        elif kind == "object" or kind == "array":
            open_objects.append(kind == "object")
            expected = _FIRST_KEY if kind == "object" else _FIRST_ITEM
        else:
            if kind == "object_end" or kind == "array_end":
                open_objects.pop()
            expected = (_AFTER_MEMBER if open_objects[-1] else _AFTER_ITEM) if open_objects else _END


def _string(body: str) -> str:
    """The text of a string token that has its quotes."""
    return str(json.loads(body)) if "\\" in body else body[1:-1]


def _key(token: str) -> str:
    return _string(token[:-1].rstrip(WHITE))


def _scalar(kind: str, body: str) -> Scalar:
    if kind == "string":
        return _string(body)
    return Number(body) if kind == "number" else _WORDS[body]


_OPENED: Final[dict[str, type[TreeObject] | type[list[object]]]] = {"object": TreeObject, "array": list}


def read_tree(text: str) -> object:
    """The value of a JSON text of any depth: TreeObject, list, str, Number, bool or None. `JsonError` when none."""
    top: list[object] = []
    stack: list[tuple[TreeObject | list[object], str]] = []
    container: TreeObject | list[object] = top
    key = ""
    for kind, token in _tokens(text):
        if kind == "key":
            key = _key(token["key"])
        elif kind == "object_end" or kind == "array_end":
            container, key = stack.pop()
        elif kind in _VALUE:
            opened: TreeObject | list[object] | None = _OPENED[kind]() if kind in _OPENED else None
            value = _scalar(kind, token[kind]) if opened is None else opened
            if isinstance(container, list):
                container.append(value)
            else:
                if key in container:
                    container.doubled.add(key)
                container[key] = value
            if opened is not None:
                stack.append((container, key))
                container = opened
    return top[0]


def members(text: str) -> list[tuple[str, str]]:
    """The members of a JSON object as (key, JSON text of the value), in order, doubles included.

    `JsonError` when the text is not JSON, or not an object.
    """
    found: list[tuple[str, str]] = []
    depth = start = 0
    key: str | None = None
    for kind, token in _tokens(text):
        if depth == 0 and kind != "object" and kind != "end":
            raise JsonError(0, "not a JSON object")
        if depth == 1 and kind in _AFTER_MEMBER and key is not None:
            found.append((key, text[start : token.start(kind)].strip(WHITE)))
        if depth == 1 and kind == "key":
            key, start = _key(token["key"]), token.end()
        depth += (kind == "object" or kind == "array") - (kind == "object_end" or kind == "array_end")
    return found


# --- a part of a text -----------------------------------------------------------------------------------------------

_WHITE = re.compile(r"[ \t\n\r]*+")
# The C scanner that JSONDecoder itself calls. raw_decode would do, but for a fifth more time.
_scan: Final[Callable[[str, int], tuple[Value, int]]] = vars(_decoder)["scan_once"]


def skip_white(text: str, position: int) -> int:
    """The position of the next character that is not white space, or the end."""
    found = _WHITE.match(text, position)
    assert found is not None
    return found.end()


def value_at(text: str, position: int) -> tuple[Scalar | Nested, int]:
    """The value that begins at this position, and where it ends; an array or object stays text."""
    try:
        value, end = _scan(text, position)
    except StopIteration:
        raise JsonError(position) from None
    except json.JSONDecodeError as error:
        raise JsonError(error.pos) from None
    except RecursionError:
        end = _end_of_nested(text, position)
        return Nested(text[position:end]), end
    if isinstance(value, list | JsonObject):
        return Nested(text[position:end]), end
    return value, end


def _end_of_nested(text: str, position: int) -> int:
    """Where the array or object at this position ends, however deep it is. Looks at brackets only."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        kind = token.lastgroup
        depth += (kind == "object" or kind == "array") - (kind == "object_end" or kind == "array_end")
        if depth == 0:
            return token.end()
    raise JsonError(len(text))


def members_at(text: str, position: int) -> Iterator[tuple[str, int]]:
    """Name and position of the value of each member of the object at this position, doubles included.

    A value is read over only when the next member is asked for.
    """
    position = skip_white(text, position + 1)
    while not text.startswith("}", position):
        key, position = value_at(text, position)
        position = skip_white(text, position)
        if type(key) is not str or not text.startswith(":", position):
            raise JsonError(position)
        position = skip_white(text, position + 1)
        yield key, position
        position = _after_value(text, position, "}")


def elements_at(text: str, position: int) -> Iterator[int]:
    """The position of each element of the array at this position."""
    position = skip_white(text, position + 1)
    while not text.startswith("]", position):
        yield position
        position = _after_value(text, position, "]")


def _after_value(text: str, position: int, closing: str) -> int:
    """From a value to the next one, or to the closing bracket."""
    position = skip_white(text, value_at(text, position)[1])
    if text.startswith(",", position):
        return skip_white(text, position + 1)
    if not text.startswith(closing, position):
        raise JsonError(position)
    return position
