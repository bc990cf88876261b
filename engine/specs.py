"""What the nodes of a graph say besides their children: the options in a node's query, read and checked.

`spec_of` reads the query of one node; `engine.graph` calls it for every node and adds the path to what it finds wrong.
df.node_options_flaw checks the same in the database, with the same texts.

What has references (`{name}`, `$name`) is looked at again once they are filled in, so nothing more is asked of it here.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Final

from engine.jsontext import WHITE, JsonError, Number, members, read_tree
from engine.schedule import ScheduleError, parse_cron, zone_of

MAX_SECONDS: Final = 10**10
"""The longest wait, 317 years: any sum with the time of an event is still a timestamp, here and in PostgreSQL."""
MAX_SIGNAL_NAME_BYTES: Final = 200
"""Of a signal's name, as df.signals takes it."""
MAX_TRIES: Final = 10_000
"""Of a RETRY: each adds to the step keys and to the history."""
MAX_BACKOFF: Final = 1_000
"""Of a RETRY, by which each pause is longer than the one before."""
MAX_PARALLEL: Final = 10_000
"""Items of a MAP at work at once."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|\$[A-Za-z_]")
LOOKS_LIKE_A_NODE: Final = re.compile(r'[ \t\n\r]*\{[ \t\n\r]*"')
SHOWN_CHARACTERS: Final = 60


class SpecError(ValueError):
    """What is wrong with a node's query."""


class Kind(StrEnum):
    """Node types, as spelled in a graph's `node_type`."""

    SQL = "SQL"
    THEN = "THEN"
    JOIN = "JOIN"
    RACE = "RACE"
    IF = "IF"
    LOOP = "LOOP"
    BREAK = "BREAK"
    SLEEP = "SLEEP"
    SIGNAL = "SIGNAL"
    WAIT_SCHEDULE = "WAIT_SCHEDULE"
    HTTP = "HTTP"
    HTTP_MULTIPART = "HTTP_MULTIPART"
    CALL_CHILD = "CALL_CHILD"
    AWAIT_INSTANCE = "AWAIT_INSTANCE"
    MAP = "MAP"
    RETRY = "RETRY"
    TIMEOUT = "TIMEOUT"
    CATCH = "CATCH"
    UNDO = "UNDO"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """A pause: of `seconds`, or until a time, or as a text says once its references are filled in (one is given)."""

    seconds: int | float | None = None
    until: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A wait for a signal; `timeout_seconds` None waits for ever, `fresh` passes over signals sent before the wait."""

    name: str
    timeout_seconds: int | float | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class If:
    """A branch; with `result_name` it asks whether that result has rows, and there is no condition node."""

    result_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A loop; `every_seconds` is the distance between starts of iterations, 0 lifts the floor, None keeps it."""

    every_seconds: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The end of the innermost loop; `value` is the JSON text of what the loop results in, None for null."""

    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A wait for the next tick of a cron expression, in a time zone; both may have references."""

    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """An HTTP request. Known to graphs; this version does not send any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallChild:
    """A child instance. `options` is the JSON text of an object, checked but for what has references."""

    label: str | None = None
    options: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitInstance:
    """A wait for the end of another instance; `timeout_seconds` None waits for ever."""

    instance_id: str
    timeout_seconds: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A body for each row of a result: of the one named `items`, or of the left child when that is None."""

    items: str | None = None
    max_parallel: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Tries, and the pauses between them: the first, by what each is longer than the last, and the longest."""

    max_attempts: int
    initial_seconds: int | float = 1
    backoff: int | float = 2
    max_interval_seconds: int | float = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """The time that a node may take."""

    seconds: int | float


Spec = Sleep | Signal | If | Loop | Break | Schedule | Http | CallChild | AwaitInstance | Map | Retry | Timeout


# --- reading --------------------------------------------------------------------------------------------------------


def spec_of(kind: Kind, query: str | None, children: Collection[str]) -> Spec | None:
    """What the query of a node says; `children` are the places that are taken. `SpecError` when it cannot be."""
    if kind is Kind.SQL:
        if query is None or not query.strip(WHITE):
            raise SpecError("SQL needs a query")
        return None
    if kind is Kind.SLEEP:
        return _sleep(query)
    if kind is Kind.IF:
        return _if(query, children)
    read = _READERS.get(kind)
    if read is not None:
        return read(_Options(kind, query, children))
    if query is not None:
        raise SpecError(f"{kind} takes no query")
    return None


class _Options:
    """The members of a node's query, as JSON texts; none when there is no query. Nulls are as good as absent."""

    def __init__(self, kind: Kind, query: str | None, children: Collection[str] = ()) -> None:
        self.kind = kind
        self.children = children
        self.texts: dict[str, str] = {}
        if query is None:
            return
        try:
            pairs = members(query)
        except JsonError:
            raise SpecError(f"query of {kind} is not a JSON object") from None
        if _has_unstorable_escape(query):
            raise SpecError(f"query of {kind} has a character that text cannot hold")
        self._take(pairs, f"query of {kind}")

    def _take(self, pairs: list[tuple[str, str]], whose: str) -> None:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise SpecError(f"{whose} has a key twice")
        self.texts = {key: value for key, value in found.items() if value != "null"}

    def inner(self, key: str) -> "_Options | None":
        """An option that is an object with options of its own."""
        text = self.object(key)
        if text is None:
            return None
        found = _Options(self.kind, None)
        found._take(members(text), key)
        return found

    def text(self, key: str) -> str | None:
        """An option that is a string."""
        if key not in self.texts:
            return None
        value = read_tree(self.texts[key])
        if type(value) is not str:
            raise SpecError(f"{key} is not a string")
        return value

    def needed(self, key: str) -> str:
        """An option that is a string, and not empty."""
        value = self.text(key)
        if not value:
            raise SpecError(f"{self.kind} needs {_article(key)} {key}")
        return value

    def seconds(self, key: str) -> int | float | None:
        """An option that is a number of seconds, not negative."""
        found = self._number(key)
        if key in self.texts and found is None:
            raise SpecError(f"{key} is not a number of seconds from 0 to {MAX_SECONDS}")
        return found

    def factor(self, key: str, most: int) -> int | float | None:
        """An option that is a number from 1."""
        found = self._number(key)
        if key in self.texts and (found is None or not 1 <= Decimal(self.texts[key]) <= most):
            raise SpecError(f"{key} is not a number from 1 to {most}")
        return found

    def count(self, key: str, most: int) -> int | None:
        """An option that is a whole number from 1, spelled with digits only."""
        if key not in self.texts:
            return None
        if _COUNT.fullmatch(self.texts[key]) is None or int(self.texts[key]) > most:
            raise SpecError(f"{key} is not a whole number from 1 to {most}")
        return int(self.texts[key])

    def truth(self, key: str) -> bool:
        value = self.texts.get(key, "false")
        if value not in ("true", "false"):
            raise SpecError(f"{key} is not true or false")
        return value == "true"

    def object(self, key: str) -> str | None:
        value = self.texts.get(key)
        if value is not None and not value.startswith("{"):
            raise SpecError(f"{key} is not a JSON object")
        return value

    def _number(self, key: str) -> int | float | None:
        value = read_tree(self.texts[key]) if key in self.texts else None
        return as_seconds(_unsigned_zero(value)) if isinstance(value, Number) else None


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|u(0000|[dD][89a-fA-F][0-9A-Fa-f]{2})|.)"
)


def _has_unstorable_escape(text: str) -> bool:
    """Whether a JSON text spells, however deep inside, what no PostgreSQL text can hold: NUL or half a surrogate pair."""
    return any(escape[1] is not None for escape in _ESCAPE.finditer(text))


def is_name(text: str) -> bool:
    """Whether a result may have this name."""
    return _NAME.fullmatch(text) is not None


def bad_name(name: str) -> str:
    """What is wrong with a name."""
    shown = name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}…"
    return f"result name '{shown}' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"


def has_reference(text: str) -> bool:
    """Whether a text has something that substitution may fill in."""
    return _REFERENCE.search(text) is not None


# --- kind by kind ---------------------------------------------------------------------------------------------------


_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")
_MEANT_AS_NUMBER = re.compile(r"-?[0-9.]+(?:[eE][+-]?[0-9]+)?")
_NUMBER_CHARACTERS: Final = 400


def as_seconds(text: str) -> int | float | None:
    """The seconds that a number's text means; None when it is no number, negative or over `MAX_SECONDS`."""
    if len(text) > _NUMBER_CHARACTERS or _NUMBER.fullmatch(text) is None:
        return None
    seconds = Decimal(text)
    if seconds > MAX_SECONDS:
        return None
    return int(text) if text.isdigit() else float(seconds)


def _unsigned_zero(number: str) -> str:
    """A JSON number, `-0` as the `0` that jsonb makes of it."""
    is_zero = not re.split("[eE]", number, maxsplit=1)[0].strip("-0.")
    return number.removeprefix("-") if is_zero else number


_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?(?: ?(?:Z|[+-]([0-9]{2})(?::?([0-9]{2}))?))?)?"
)


def _is_timestamp(text: str) -> bool:
    """Whether a text is an ISO 8601 time that timestamptz takes."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return False
    year, month, day, hour, minute, second, fraction, zone_hour, zone_minute = (
        int(part or 0) for part in found.groups()
    )
    try:
        date(year, month, day)
    except ValueError:
        return False
    if hour == 24:  # the end of a day, which timestamptz takes
        return minute == second == fraction == 0 and zone_hour <= 15 and zone_minute <= 59
    return hour < 24 and minute <= 59 and second <= 60 and zone_hour <= 15 and zone_minute <= 59


def _sleep(given: str | None) -> Sleep:
    query = "" if given is None else given.strip(WHITE)
    if not query:
        raise SpecError("SLEEP needs a query")
    if LOOKS_LIKE_A_NODE.match(query):
        return _sleep_until(given)
    seconds = as_seconds(query)
    if seconds is not None:
        return Sleep(seconds=seconds)
    if _MEANT_AS_NUMBER.fullmatch(query):
        raise SpecError(f"SLEEP is not for a number of seconds from 0 to {MAX_SECONDS}")
    if not has_reference(query):
        shown = query[:SHOWN_CHARACTERS]
        raise SpecError(f"SLEEP needs a number of seconds or a reference, not '{shown}'")
    return Sleep(text=given)


def _sleep_until(given: str | None) -> Sleep:
    until = _Options(Kind.SLEEP, given).text("until")
    if not until:
        raise SpecError("SLEEP needs a number of seconds, a text or an until")
    if not has_reference(until) and not _is_timestamp(until):
        shown = until[:SHOWN_CHARACTERS]
        raise SpecError(f"until is neither an ISO 8601 time nor a reference: '{shown}'")
    return Sleep(until=until)


def _if(query: str | None, children: Collection[str]) -> If:
    has_condition = "condition_node" in children
    if query is None:
        if not has_condition:
            raise SpecError("IF needs a condition_node")
        return If()
    if has_condition:
        raise SpecError("IF with a query takes no condition_node")
    options = _Options(Kind.IF, query)
    if options.text("condition_type") != "result_has_rows":
        raise SpecError("condition_type is not 'result_has_rows'")
    name = options.text("result_name") or ""
    if not is_name(name):
        raise SpecError(bad_name(name))
    return If(result_name=name)


def _loop(options: _Options) -> Loop:
    return Loop(every_seconds=options.seconds("every"))


def _break(options: _Options) -> Break:
    return Break(value=options.texts.get("break_value"))


def _signal(options: _Options) -> Signal:
    name = options.needed("signal_name")
    if len(name.encode()) > MAX_SIGNAL_NAME_BYTES and not has_reference(name):
        raise SpecError(f"signal_name is longer than {MAX_SIGNAL_NAME_BYTES} bytes")
    fresh = options.truth("fresh")
    return Signal(name=name, timeout_seconds=options.seconds("timeout_seconds"), fresh=fresh)


def _schedule(options: _Options) -> Schedule:
    cron = options.needed("cron_expr")
    zone = options.text("timezone")
    zone = "UTC" if zone is None else zone
    try:
        if not has_reference(cron):
            parse_cron(cron)
        if not has_reference(zone):
            zone_of(zone)
    except ScheduleError as error:
        raise SpecError(str(error)) from None
    return Schedule(cron=cron, timezone=zone)


def _http(options: _Options) -> Http:
    options.needed("url")
    for key in ("method", "body"):
        options.text(key)
    options.object("headers")
    options.seconds("timeout_seconds")
    return Http()


def _http_multipart(options: _Options) -> Http:
    if not options.texts.get("parts", "[").startswith("["):
        raise SpecError("parts is not a JSON array")
    return _http(options)


def _call_child(options: _Options) -> CallChild:
    label = options.text("label")
    inner = options.inner("options")
    if inner is None:
        return CallChild(label=label)
    for key in inner.texts:
        if key not in _CHILD_OPTIONS:
            raise SpecError(f"options has an unknown key '{key[:SHOWN_CHARACTERS]}'")
    timeout = inner.texts.get("timeout_seconds", "")
    if not (timeout.startswith('"') and has_reference(inner.text("timeout_seconds") or "")):
        inner.seconds("timeout_seconds")
    for key, known in (("on_failure", ("raise", "return")), ("on_parent_cancel", ("cancel", "abandon"))):
        if key in inner.texts and inner.text(key) not in known:
            raise SpecError(f"{key} is not '{known[0]}' or '{known[1]}'")
    inner.truth("inherit_vars")
    inner.truth("detach")
    inner.object("vars")
    return CallChild(label=label, options=options.texts["options"])


_CHILD_OPTIONS = frozenset(
    {"timeout_seconds", "on_failure", "inherit_vars", "vars", "input", "on_parent_cancel", "detach"}
)


def _await_instance(options: _Options) -> AwaitInstance:
    instance_id = options.needed("instance_id")
    if _INSTANCE_ID.fullmatch(instance_id) is None and not has_reference(instance_id):
        raise SpecError(f"instance_id '{instance_id[:SHOWN_CHARACTERS]}' is not the id of an instance")
    return AwaitInstance(instance_id=instance_id, timeout_seconds=options.seconds("timeout_seconds"))


_INSTANCE_ID = re.compile(r"[A-Za-z0-9~][A-Za-z0-9._:/-]*")


def _map(options: _Options) -> Map:
    items = options.text("items")
    if items is None and "left_node" not in options.children:
        raise SpecError("MAP needs a left_node or items")
    if items is not None and "left_node" in options.children:
        raise SpecError("MAP with items takes no left_node")
    if items is not None and not is_name(items):
        raise SpecError(bad_name(items))
    parallel = options.count("max_parallel", MAX_PARALLEL)
    return Map(items=items) if parallel is None else Map(items=items, max_parallel=parallel)


def _retry(options: _Options) -> Retry:
    attempts = options.count("max_attempts", MAX_TRIES)
    if attempts is None:
        raise SpecError("RETRY needs a max_attempts")
    initial = options.seconds("initial")
    backoff = options.factor("backoff", MAX_BACKOFF)
    longest = options.seconds("max_interval")
    return Retry(
        max_attempts=attempts,
        initial_seconds=1 if initial is None else initial,
        backoff=2 if backoff is None else backoff,
        max_interval_seconds=300 if longest is None else longest,
    )


def _timeout(options: _Options) -> Timeout:
    seconds = options.seconds("seconds")
    if seconds is None:
        raise SpecError("TIMEOUT needs seconds")
    return Timeout(seconds=seconds)


_READERS: Final[dict[Kind, Callable[[_Options], Spec]]] = {
    Kind.LOOP: _loop,
    Kind.BREAK: _break,
    Kind.SIGNAL: _signal,
    Kind.WAIT_SCHEDULE: _schedule,
    Kind.HTTP: _http,
    Kind.HTTP_MULTIPART: _http_multipart,
    Kind.CALL_CHILD: _call_child,
    Kind.AWAIT_INSTANCE: _await_instance,
    Kind.MAP: _map,
    Kind.RETRY: _retry,
    Kind.TIMEOUT: _timeout,
}
