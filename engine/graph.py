"""Graphs: what a workflow is to do, parsed once and shared by all instances that have the same text.

A graph is a JSON object describing a node, whose children are nested objects (LANGUAGE.md section 1). Here it becomes
a flat tuple of nodes that refer to one another by number, so that nothing that touches a graph recurses: a chain of
ten thousand THENs nests ten thousand deep in JSON, and is one level to whoever runs it.

Nodes count from 1 in pre-order: itself, left, right, condition, extra. The numbers are half of every step key
(DESIGN.md section 3, *Keys*), so this order must never change.

The database refuses at the INSERT what `parse_graph` refuses; a text that fails here in spite of that was written
past the trigger, and fails its instance alone.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Final
from weakref import WeakValueDictionary

from engine.jsontext import WHITE, JsonError, Number, TreeObject, members, read_tree, unstorable

MAX_DEPTH: Final = 256
"""Levels of a graph; a chain is one. Bounds the frames that one event can touch."""
MAX_NODES: Final = 10_000
"""Nodes of a graph. Bounds what one row can make the engine hold."""
MAX_REPEATING: Final = 32
"""Repeating nodes around one another: each adds an index to the step keys below it, which hold 500 bytes."""
MAX_SECONDS: Final = 10**10
"""The longest wait, 317 years: any sum with the time of an event is still a timestamp, here and in PostgreSQL."""
MAX_SIGNAL_NAME_BYTES: Final = 200
"""Of a signal's name, as df.signals takes it."""
CACHED_NODES: Final = 50_000
"""Nodes of graphs that are kept though no instance has them, about 50 MB; graphs in use are shared anyway."""
CACHED_CHARACTERS: Final = 8_000_000
"""The same for their texts."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|\$[A-Za-z_]")
_LOOKS_LIKE_A_NODE = re.compile(r'[ \t\n\r]*\{[ \t\n\r]*"')
_NEAR_CHARACTERS: Final = 30
_SHOWN_CHARACTERS: Final = 60
_SHOWN_PLACES: Final = 40


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


class GraphError(ValueError):
    """A graph that cannot run: which node (`root.left_node.extra_nodes[0]`) and what is wrong with it."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"Invalid durable function graph: {path}: {what}")
        self.path = path
        self.what = what


class UnknownNodeType(GraphError):
    """A `node_type` that no version knows; its text has no path."""

    def __init__(self, path: str, name: str) -> None:
        what = f"Unknown node_type '{name[:_SHOWN_CHARACTERS]}'. Valid types: {', '.join(SHAPES)}"
        super().__init__(path, what)
        self.args = (f"Invalid durable function: {what}",)


# --- what a node's query says ---------------------------------------------------------------------------------------


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


Spec = Sleep | Signal | If | Loop | Break


# --- the graph ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. Other nodes are given by number.

    `depth` counts levels as section 1 does, from 1. `loops` are the ancestors that run their body more than once,
    outermost first; a loop's condition is inside it too. `owner` is the node whose frame waits for this one: the
    parent, or the top of the chain when the parent is one of its inner THENs; None at the root.
    """

    number: int
    kind: Kind
    query: str | None
    spec: Spec | None
    result_name: str | None
    left: int | None
    right: int | None
    condition: int | None
    extra: tuple[int, ...]
    parent: int | None
    owner: int | None
    depth: int
    loops: tuple[int, ...]

    @property
    def branches(self) -> tuple[int, ...]:
        """Left, right and extra, those that are there: the branches of a JOIN or RACE in their order."""
        return tuple(child for child in (self.left, self.right) if child is not None) + self.extra


@dataclass(frozen=True, slots=True)
class ChainItem:
    """A step of a chain: the node that runs, and the names that its result takes besides the node's own."""

    node: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Graph:
    """A valid graph. `nodes[n - 1]` is node n; the root is node 1. Compared by identity: texts are what is equal."""

    nodes: tuple[Node, ...]
    _chains: dict[int, tuple[ChainItem, ...]] = field(default_factory=dict, init=False, repr=False)

    def node(self, number: int) -> Node:
        return self.nodes[number - 1]

    def route(self, number: int) -> tuple[int, ...]:
        """The nodes from the root down to this one whose frames must be open for it to run.

        The inner THENs of a chain have no frame and are left out: a route is never longer than a graph is deep.
        """
        found = [number]
        owner = self.nodes[number - 1].owner
        while owner is not None:
            found.append(owner)
            owner = self.nodes[owner - 1].owner
        return tuple(reversed(found))

    def chain(self, number: int) -> tuple[ChainItem, ...]:
        """The steps of the chain whose top this THEN is, first to last.

        A result takes the names of the inner THENs that end with it; the name of the top THEN is the chain's own.
        """
        found = self._chains.get(number)
        if found is None:
            found = self._chains[number] = self._read_chain(self.node(number))
        return found

    def _read_chain(self, node: Node) -> tuple[ChainItem, ...]:
        assert node.kind is Kind.THEN
        items: list[ChainItem] = []
        names: tuple[str, ...] = ()
        while node.kind is Kind.THEN:
            assert node.left is not None
            assert node.right is not None
            items.append(ChainItem(node.right, names))
            node = self.node(node.left)
            names = () if node.kind is not Kind.THEN or node.result_name is None else (node.result_name,)
        items.append(ChainItem(node.number, ()))
        return tuple(reversed(items))


# --- parsing --------------------------------------------------------------------------------------------------------


class _Need(Enum):
    """Whether a node has a child in some place."""

    NO = 0
    MAY = 1
    MUST = 2


@dataclass(frozen=True, slots=True)
class _Shape:
    """The children that a kind has. `extra` come only after a right one."""

    left: _Need = _Need.NO
    right: _Need = _Need.NO
    condition: _Need = _Need.NO
    extra: bool = False


# The kinds that this version runs, and their children; df.node_rules() is the same table for the INSERT.
# A JOIN of one is what join_all of one builds; an IF's condition is looked at again with its query.
SHAPES: Final = {
    Kind.SQL: _Shape(),
    Kind.THEN: _Shape(left=_Need.MUST, right=_Need.MUST),
    Kind.JOIN: _Shape(left=_Need.MUST, right=_Need.MAY, extra=True),
    Kind.RACE: _Shape(left=_Need.MUST, right=_Need.MUST, extra=True),
    Kind.IF: _Shape(left=_Need.MUST, right=_Need.MUST, condition=_Need.MAY),
    Kind.LOOP: _Shape(left=_Need.MUST, condition=_Need.MAY),
    Kind.BREAK: _Shape(),
    Kind.SLEEP: _Shape(),
    Kind.SIGNAL: _Shape(),
}
REPEATING: Final = frozenset({Kind.LOOP})
_KINDS: Final = {kind.value: kind for kind in Kind}


class _Draft:
    """A node while its children are being numbered."""

    __slots__ = (
        "condition", "depth", "extra", "kind", "left", "loops", "name", "number", "owner", "parent", "place",
        "query", "raw", "right", "spec",
    )  # fmt: skip

    def __init__(self, raw: object, parent: "_Draft | None", place: str) -> None:
        self.raw: TreeObject
        self.parent = parent
        self.place = place
        self.number = 0
        self.left: int | None = None
        self.right: int | None = None
        self.condition: int | None = None
        self.extra: list[int] = []
        if not isinstance(raw, TreeObject):
            raise self.wrong("a node is a JSON object")
        self.raw = raw
        self.kind = self._kind()
        self._place_in_tree(parent)
        self._limit()
        self.name = self._result_name()
        self.query = self._text("query")
        self.spec = _spec(self)

    @property
    def path(self) -> str:
        places: list[str] = []
        node: _Draft | None = self
        while node is not None:
            places.append(node.place)
            node = node.parent
        places.reverse()
        more = len(places) - _SHOWN_PLACES
        if more > 0:
            half = _SHOWN_PLACES // 2
            places[half:-half] = [f"…({more} more)…"]
        return ".".join(places)

    def wrong(self, what: str) -> GraphError:
        return GraphError(self.path, what)

    def _kind(self) -> Kind:
        for key in sorted(self.raw.doubled & _KEYS):
            raise self.wrong(f"key '{key}' is there twice")
        name = self._text("node_type")
        if name is None:
            raise self.wrong("node_type is missing")
        kind = _KINDS.get(name)
        if kind is None:
            raise UnknownNodeType(self.path, name)
        if kind not in SHAPES:
            raise self.wrong(f"node_type '{name}' is not available in this version of walflow")
        return kind

    def _place_in_tree(self, parent: "_Draft | None") -> None:
        """Depth, owner and loops follow from the parent's."""
        self.owner: int | None
        self.loops: tuple[int, ...]
        if parent is None:
            self.depth, self.owner, self.loops = 1, None, ()
            return
        inner_left = parent.kind is Kind.THEN and self.place == "left_node"
        continues = inner_left and self.kind is Kind.THEN
        self.depth = parent.depth if continues else parent.depth + 1
        self.owner = parent.owner if _is_inner(parent) else parent.number
        self.loops = (*parent.loops, parent.number) if parent.kind in REPEATING else parent.loops

    def _limit(self) -> None:
        if self.depth > MAX_DEPTH:
            raise self.wrong(f"Graph exceeds maximum nesting depth of {MAX_DEPTH} levels")
        if self.kind in REPEATING and len(self.loops) >= MAX_REPEATING:
            raise self.wrong(f"more than {MAX_REPEATING} repeating nodes around one another")
        if self.kind is Kind.BREAK and not self.loops:
            raise self.wrong("BREAK outside a loop")

    def _text(self, key: str) -> str | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if type(value) is not str:
            raise self.wrong(f"{key} is not a string")
        if unstorable(value) is not None:
            raise self.wrong(f"{key} has a character that text cannot hold")
        return value

    def _result_name(self) -> str | None:
        name = self._text("result_name")
        if name is not None and _NAME.fullmatch(name) is None:
            raise self.wrong(_bad_name(name))
        return name

    def children(self) -> list[tuple[str, object]]:
        """(place, raw node) of each child, in the order of their numbers; wrong when one is missing or too many."""
        shape = SHAPES[self.kind]
        wanted = {"left_node": shape.left, "right_node": shape.right, "condition_node": shape.condition}
        found: list[tuple[str, object]] = []
        for place, need in wanted.items():
            raw = self.raw.get(place)
            if raw is None and need is _Need.MUST:
                raise self.wrong(f"{self.kind} needs a {place}")
            if raw is not None and need is _Need.NO:
                raise self.wrong(f"{self.kind} takes no {place}")
            if raw is not None:
                found.append((place, raw))
        return found + self._extra_children(shape)

    def _extra_children(self, shape: _Shape) -> list[tuple[str, object]]:
        extra = self.raw.get("extra_nodes")
        if extra is None or extra == []:
            return []
        if not isinstance(extra, list):
            raise self.wrong("extra_nodes is not an array")
        if not shape.extra:
            raise self.wrong(f"{self.kind} takes no extra_nodes")
        if self.raw.get("right_node") is None:
            raise self.wrong(f"{self.kind} with extra_nodes needs a right_node")
        return [(f"extra_nodes[{index}]", raw) for index, raw in enumerate(extra)]

    def adopt(self, child: "_Draft") -> None:
        """Note the number of a child at its place."""
        match child.place:
            case "left_node":
                self.left = child.number
            case "right_node":
                self.right = child.number
            case "condition_node":
                self.condition = child.number
            case _:
                self.extra.append(child.number)

    def node(self) -> Node:
        return Node(
            number=self.number,
            kind=self.kind,
            query=self.query,
            spec=self.spec,
            result_name=self.name,
            left=self.left,
            right=self.right,
            condition=self.condition,
            extra=tuple(self.extra),
            parent=None if self.parent is None else self.parent.number,
            owner=self.owner,
            depth=self.depth,
            loops=self.loops,
        )


_KEYS = frozenset({"node_type", "left_node", "right_node", "condition_node", "extra_nodes", "query", "result_name"})


def _bad_name(name: str) -> str:
    shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
    return f"result name '{shown}' is not a valid identifier — must match [a-zA-Z_][a-zA-Z0-9_]*"


def _is_inner(draft: _Draft) -> bool:
    """Whether this is a THEN of a chain other than its top."""
    parent = draft.parent
    return draft.kind is Kind.THEN and draft.place == "left_node" and parent is not None and parent.kind is Kind.THEN


def _spec(draft: _Draft) -> Spec | None:
    match draft.kind:
        case Kind.SQL:
            if draft.query is None or not draft.query.strip(WHITE):
                raise draft.wrong("SQL needs a query")
            return None
        case Kind.SLEEP:
            return _sleep(draft)
        case Kind.SIGNAL:
            return _signal(draft)
        case Kind.IF:
            return _if(draft)
        case Kind.LOOP:
            return Loop(every_seconds=_seconds(draft, _options(draft), "every"))
        case Kind.BREAK:
            return Break(value=_options(draft).get("break_value"))
        case _:
            if draft.query is not None:
                raise draft.wrong(f"{draft.kind} takes no query")
            return None


def _options(draft: _Draft) -> dict[str, str]:
    """The members of the node's query, as JSON texts; none when there is no query. Nulls are as good as absent."""
    if draft.query is None:
        return {}
    try:
        pairs = members(draft.query)
    except JsonError:
        raise draft.wrong(f"query of {draft.kind} is not a JSON object") from None
    if _has_unstorable_escape(draft.query):
        raise draft.wrong(f"query of {draft.kind} has a character that text cannot hold")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise draft.wrong(f"query of {draft.kind} has a key twice")
    return {key: value for key, value in found.items() if value != "null"}


_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|u(0000|[dD][89a-fA-F][0-9A-Fa-f]{2})|.)"
)


def _has_unstorable_escape(text: str) -> bool:
    """Whether a JSON text spells, however deep inside, what no PostgreSQL text can hold: NUL or half a surrogate pair."""
    return any(escape[1] is not None for escape in _ESCAPE.finditer(text))


def _string_option(draft: _Draft, options: dict[str, str], key: str) -> str | None:
    if key not in options:
        return None
    value = read_tree(options[key])
    if type(value) is not str:
        raise draft.wrong(f"{key} is not a string")
    return value


def _seconds(draft: _Draft, options: dict[str, str], key: str) -> int | float | None:
    """An option that is a number of seconds, not negative."""
    if key not in options:
        return None
    value = read_tree(options[key])
    seconds = as_seconds(_unsigned_zero(value)) if isinstance(value, Number) else None
    if seconds is None:
        raise draft.wrong(f"{key} is not a number of seconds from 0 to {MAX_SECONDS}")
    return seconds


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


def _sleep(draft: _Draft) -> Sleep:
    query = "" if draft.query is None else draft.query.strip(WHITE)
    if not query:
        raise draft.wrong("SLEEP needs a query")
    if _LOOKS_LIKE_A_NODE.match(query):
        return _sleep_until(draft)
    seconds = as_seconds(query)
    if seconds is not None:
        return Sleep(seconds=seconds)
    if _MEANT_AS_NUMBER.fullmatch(query):
        raise draft.wrong(f"SLEEP is not for a number of seconds from 0 to {MAX_SECONDS}")
    if _REFERENCE.search(query) is None:
        shown = query[:_SHOWN_CHARACTERS]
        raise draft.wrong(f"SLEEP needs a number of seconds or a reference, not '{shown}'")
    return Sleep(text=draft.query)


def _sleep_until(draft: _Draft) -> Sleep:
    until = _string_option(draft, _options(draft), "until")
    if not until:
        raise draft.wrong("SLEEP needs a number of seconds, a text or an until")
    if _REFERENCE.search(until) is None and not _is_timestamp(until):
        shown = until[:_SHOWN_CHARACTERS]
        raise draft.wrong(f"until is neither an ISO 8601 time nor a reference: '{shown}'")
    return Sleep(until=until)


def _signal(draft: _Draft) -> Signal:
    options = _options(draft)
    name = _string_option(draft, options, "signal_name")
    if not name:
        raise draft.wrong("SIGNAL needs a signal_name")
    if len(name.encode()) > MAX_SIGNAL_NAME_BYTES and _REFERENCE.search(name) is None:
        raise draft.wrong(f"signal_name is longer than {MAX_SIGNAL_NAME_BYTES} bytes")
    fresh = options.get("fresh", "false")
    if fresh not in ("true", "false"):
        raise draft.wrong("fresh is not true or false")
    return Signal(name=name, timeout_seconds=_seconds(draft, options, "timeout_seconds"), fresh=fresh == "true")


def _if(draft: _Draft) -> If:
    has_condition = draft.raw.get("condition_node") is not None
    if draft.query is None:
        if not has_condition:
            raise draft.wrong("IF needs a condition_node")
        return If()
    if has_condition:
        raise draft.wrong("IF with a query takes no condition_node")
    options = _options(draft)
    if _string_option(draft, options, "condition_type") != "result_has_rows":
        raise draft.wrong("condition_type is not 'result_has_rows'")
    name = _string_option(draft, options, "result_name")
    if name is None or _NAME.fullmatch(name) is None:
        raise draft.wrong(_bad_name(name or ""))
    return If(result_name=name)


def _drafts(root: object) -> Iterator[_Draft]:
    """The nodes in the order of their numbers, each a draft that its children complete."""
    number = 0
    stack: list[tuple[object, _Draft | None, str]] = [(root, None, "root")]
    while stack:
        raw, parent, place = stack.pop()
        draft = _Draft(raw, parent, place)
        number += 1
        if number > MAX_NODES:
            raise GraphError("root", f"Graph exceeds maximum of {MAX_NODES} nodes")
        draft.number = number
        if parent is not None:
            parent.adopt(draft)
        stack.extend((child, draft, place) for place, child in reversed(draft.children()))
        yield draft


def _read(text: str) -> object:
    try:
        return read_tree(text)
    except JsonError as error:
        near = text[error.position : error.position + _NEAR_CHARACTERS]
        hint = "|| binds like ~>: put parentheses around concatenations"
        raise GraphError("root", f"not valid JSON near '{near}' ({hint})") from None


def parse_graph(text: str) -> Graph:
    """The graph of a text: a node as JSON, or SQL, which becomes one SQL node. `GraphError` when it cannot run."""
    raw: object
    if _LOOKS_LIKE_A_NODE.match(text):
        raw = _read(text)
    else:
        raw = TreeObject()
        raw.update(node_type="SQL", query=text)
    drafts = list(_drafts(raw))
    return Graph(tuple(draft.node() for draft in drafts))


class _Shared:
    """One graph object for all instances of one text, and those last asked for kept though no instance has them.

    Weighed, not counted: anyone may insert a thousand graphs of ten thousand nodes.
    """

    def __init__(self) -> None:
        self._in_use: WeakValueDictionary[str, Graph] = WeakValueDictionary()
        self._kept: OrderedDict[str, Graph] = OrderedDict()
        self._nodes = 0
        self._characters = 0

    def get(self, text: str) -> Graph:
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        graph = self._in_use.get(text)
        if graph is None:
            graph = self._in_use[text] = parse_graph(text)
        self._keep(text, graph)
        return graph

    def _keep(self, text: str, graph: Graph) -> None:
        self._kept[text] = graph
        self._nodes += len(graph.nodes)
        self._characters += len(text)
        while self._nodes > CACHED_NODES or self._characters > CACHED_CHARACTERS:
            gone, dropped = self._kept.popitem(last=False)
            self._nodes -= len(dropped.nodes)
            self._characters -= len(gone)


_shared: Final = _Shared()


def graph_of(text: str) -> Graph:
    """`parse_graph`, with one graph object for all instances of one text."""
    return _shared.get(text)
