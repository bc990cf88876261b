"""Graphs: what a workflow is to do, parsed once and shared by all instances that have the same text.

A graph is a JSON object describing a node, whose children are nested objects (LANGUAGE.md section 1). Here it becomes
a flat tuple of nodes that refer to one another by number, so that nothing that touches a graph recurses: a chain of
ten thousand THENs nests ten thousand deep in JSON, and is one level to whoever runs it.

Nodes count from 1 in pre-order: itself, left, right, condition, extra. The numbers are half of every step key
(DESIGN.md section 3, *Keys*), so this order must never change.

The database refuses at the INSERT what `parse_graph` refuses; a text that fails here in spite of that was written
past the trigger, and fails its instance alone.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from weakref import WeakValueDictionary

from engine.jsontext import JsonError, TreeObject, dumps_string, read_tree, unstorable
from engine.specs import (
    LOOKS_LIKE_A_NODE,
    SHOWN_CHARACTERS,
    AwaitInstance,
    Break,
    CallChild,
    Http,
    If,
    Kind,
    Loop,
    Map,
    Retry,
    Schedule,
    Signal,
    Sleep,
    Spec,
    SpecError,
    Timeout,
    as_seconds,
    bad_name,
    is_name,
    spec_of,
)

__all__ = [
    "MAX_DEPTH", "MAX_NODES", "MAX_REPEATING", "REPEATING", "SHAPES",
    "AwaitInstance", "Break", "CallChild", "ChainItem", "Graph", "GraphError", "Http", "If", "Kind", "Loop", "Map", "Node",
    "Retry", "Schedule", "Signal", "Sleep", "Spec", "Timeout", "UnknownNodeType", "as_seconds", "graph_of", "parse_graph",
]  # fmt: skip

MAX_DEPTH: Final = 256
"""Levels of a graph; a chain is one. Bounds the frames that one event can touch."""
MAX_NODES: Final = 10_000
"""Nodes of a graph. Bounds what one row can make the engine hold."""
MAX_REPEATING: Final = 32
"""Repeating nodes around one another: each adds an index to the step keys below it, which hold 500 bytes."""
CACHED_NODES: Final = 50_000
"""Nodes of graphs that are kept though no instance has them, about 50 MB; graphs in use are shared anyway."""
CACHED_CHARACTERS: Final = 8_000_000
"""The same for their texts."""

_NEAR_CHARACTERS: Final = 30
_SHOWN_PLACES: Final = 40


class GraphError(ValueError):
    """A graph that cannot run: which node (`root.left_node.extra_nodes[0]`) and what is wrong with it."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"Invalid durable function graph: {path}: {what}")
        self.path = path
        self.what = what


class UnknownNodeType(GraphError):
    """A `node_type` that no version knows; its text has no path."""

    def __init__(self, path: str, name: str) -> None:
        what = f"Unknown node_type '{name[:SHOWN_CHARACTERS]}'. Valid types: {', '.join(SHAPES)}"
        super().__init__(path, what)
        self.args = (f"Invalid durable function: {what}",)


# --- the graph ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. Other nodes are given by number.

    `depth` counts levels as section 1 does, from 1. `loops` are the ancestors that run it more than once, outermost first:
    its step key has an index for each (a loop's condition is inside it too, the items of a MAP are not). `owner` is the
    node whose frame waits for this one: the parent, or the top of the chain when the parent is one of its inner THENs;
    None at the root. `last` is the highest number in its subtree, `undoing` whether it is part of an undo, `has_undo`
    whether there is an UNDO in its subtree.
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
    last: int
    undoing: bool
    has_undo: bool

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

    def text(self, number: int) -> str:
        """The JSON text of a node and all below it, as the builders write it."""
        parts: list[str] = []
        waiting: list[int | str] = [number]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                parts.append(item)
            else:
                waiting.extend(reversed(_pieces(self.node(item))))
        return "".join(parts)

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


def _pieces(node: Node) -> list[int | str]:
    """The text of a node, with the numbers of its children where theirs belong."""
    found: list[int | str] = [f'{{"node_type":"{node.kind}"']
    for key, child in (("left_node", node.left), ("right_node", node.right), ("condition_node", node.condition)):
        if child is not None:
            found += [f',"{key}":', child]
    for place, child in enumerate(node.extra):
        found += ["," if place else ',"extra_nodes":[', child]
    if node.extra:
        found.append("]")
    if node.query is not None:
        found.append(f',"query":{dumps_string(node.query)}')
    if node.result_name is not None:
        found.append(f',"result_name":"{node.result_name}"')
    return [*found, "}"]


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


# Their children; df.node_rules() is the same table for the INSERT. A JOIN of one is what join_all of one builds; an IF's
# condition and a MAP's items are looked at again with the query.
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
    Kind.WAIT_SCHEDULE: _Shape(),
    Kind.HTTP: _Shape(),
    Kind.HTTP_MULTIPART: _Shape(),
    Kind.CALL_CHILD: _Shape(left=_Need.MUST),
    Kind.AWAIT_INSTANCE: _Shape(),
    Kind.MAP: _Shape(left=_Need.MAY, right=_Need.MUST),
    Kind.RETRY: _Shape(left=_Need.MUST),
    Kind.TIMEOUT: _Shape(left=_Need.MUST),
    Kind.CATCH: _Shape(left=_Need.MUST, right=_Need.MUST),
    Kind.UNDO: _Shape(left=_Need.MUST, right=_Need.MUST),
}
# The children that a kind runs more than once, each time under an index more in their step keys.
_REPEATED: Final = {
    Kind.LOOP: frozenset({"left_node", "condition_node"}),
    Kind.MAP: frozenset({"right_node"}),
    Kind.RETRY: frozenset({"left_node"}),
}
REPEATING: Final = frozenset(_REPEATED)
# The children out of which no BREAK reaches a loop around the node.
_CLOSED: Final = {Kind.CALL_CHILD: "left_node", Kind.MAP: "right_node", Kind.UNDO: "right_node"}
_KINDS: Final = {kind.value: kind for kind in Kind}


class _Draft:
    """A node while its children are being numbered."""

    __slots__ = (
        "condition", "depth", "extra", "has_undo", "kind", "last", "left", "loops", "may_break", "name", "number", "owner",
        "parent", "place", "query", "raw", "right", "spec", "undoing",
    )  # fmt: skip

    def __init__(self, raw: object, parent: "_Draft | None", place: str) -> None:
        self.raw: TreeObject
        self.parent = parent
        self.place = place
        self.number = self.last = 0
        self.left: int | None = None
        self.right: int | None = None
        self.condition: int | None = None
        self.extra: list[int] = []
        if not isinstance(raw, TreeObject):
            raise self.wrong("a node is a JSON object")
        self.raw = raw
        self.kind = self._kind()
        self.has_undo = self.kind is Kind.UNDO
        self._place_in_tree(parent)
        self._limit()
        self.name = self._result_name()
        self.query = self._text("query")
        self.spec = self._spec()

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
        return kind

    def _place_in_tree(self, parent: "_Draft | None") -> None:
        """Depth, owner and what is around it follow from the parent's."""
        self.owner: int | None
        self.loops: tuple[int, ...]
        if parent is None:
            self.depth, self.owner, self.loops, self.undoing, self.may_break = 1, None, (), False, False
            return
        inner_left = parent.kind is Kind.THEN and self.place == "left_node"
        continues = inner_left and self.kind is Kind.THEN
        self.depth = parent.depth if continues else parent.depth + 1
        self.owner = parent.owner if _is_inner(parent) else parent.number
        repeated = self.place in _REPEATED.get(parent.kind, ())
        self.loops = (*parent.loops, parent.number) if repeated else parent.loops
        self.undoing = parent.undoing or (parent.kind is Kind.UNDO and self.place == "right_node")
        self.may_break = parent.kind is Kind.LOOP or (parent.may_break and _CLOSED.get(parent.kind) != self.place)

    def _limit(self) -> None:
        if self.depth > MAX_DEPTH:
            raise self.wrong(f"Graph exceeds maximum nesting depth of {MAX_DEPTH} levels")
        if self.kind in REPEATING and len(self.loops) >= MAX_REPEATING:
            raise self.wrong(f"more than {MAX_REPEATING} repeating nodes around one another")
        if self.kind is Kind.BREAK and not self.may_break:
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
        if name is not None and not is_name(name):
            raise self.wrong(bad_name(name))
        return name

    def _spec(self) -> Spec | None:
        places = [place for place in _PLACES if self.raw.get(place) is not None]
        try:
            return spec_of(self.kind, self.query, places)
        except SpecError as error:
            raise self.wrong(str(error)) from None

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
            last=self.last,
            undoing=self.undoing,
            has_undo=self.has_undo,
        )


_PLACES: Final = ("left_node", "right_node", "condition_node")
_KEYS = frozenset({"node_type", "extra_nodes", "query", "result_name", *_PLACES})


def _is_inner(draft: _Draft) -> bool:
    """Whether this is a THEN of a chain other than its top."""
    parent = draft.parent
    return draft.kind is Kind.THEN and draft.place == "left_node" and parent is not None and parent.kind is Kind.THEN


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
        draft.number = draft.last = number
        if parent is not None:
            parent.adopt(draft)
        stack.extend((child, draft, place) for place, child in reversed(draft.children()))
        yield draft


def _sum_up(drafts: list[_Draft]) -> None:
    """What a node says of its subtree, once all of that is known: children come after their parents."""
    for draft in reversed(drafts):
        if draft.parent is not None:
            draft.parent.last = max(draft.parent.last, draft.last)
            draft.parent.has_undo = draft.parent.has_undo or draft.has_undo


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
    if LOOKS_LIKE_A_NODE.match(text):
        raw = _read(text)
    else:
        raw = TreeObject()
        raw.update(node_type="SQL", query=text)
    drafts = list(_drafts(raw))
    _sum_up(drafts)
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
