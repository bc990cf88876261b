"""How an instance is drawn: its graph as a tree, with what its completions and signals say about each node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from engine.demo.stage import Stage
from engine.graph import Graph, Kind, Node, Signal, Sleep, parse_graph
from engine.truth import is_true

FINAL: Final = ("completed", "failed", "cancelled")
QUERY_CHARACTERS: Final = 72
STYLES: Final = {"✓": "green", "✗": "red", "⊘": "dim", "⏳": "yellow", "○": "dim"}
STATUS_STYLES: Final = {"completed": "bold green", "failed": "bold red", "running": "bold yellow"}

_INSTANCE: Final = """
select key, graph, status, created_at, coalesce(finished_at, clock_timestamp())
  from df.instances
 where id = %s
"""
_COMPLETIONS: Final = """
select step, outcome, recorded_at, result::text
  from df.completions
 where instance_key = %s
 order by recorded_at
"""
_SIGNALS: Final = "select name, data::text, recorded_at from df.signals where instance_id = %s order by recorded_at"


@dataclass
class Deeds:
    """What is known of one node: how often it ended in which way and how it was judged, and when last."""

    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    truths: dict[bool, int] = field(default_factory=lambda: defaultdict(int))
    last_seconds: float = 0.0
    note: str = ""

    @property
    def count(self) -> int:
        """How often the node ended."""
        return sum(self.outcomes.values())

    def add(self, outcome: str, seconds: float, truth: bool) -> None:
        """It ended once more, `seconds` after the instance's start."""
        self.outcomes[outcome] += 1
        self.truths[truth] += 1
        self.last_seconds = seconds


@dataclass(frozen=True)
class Story:
    """One instance at one moment."""

    id: str
    status: str
    seconds: float
    graph: Graph
    deeds: dict[int, Deeds]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    # --- how far it is ----------------------------------------------------------------------------------------------

    def done(self, number: int) -> int:
        """How often a node has ended well."""
        node = self.graph.node(number)
        match node.kind:
            case Kind.THEN:
                assert node.right is not None
                return self.done(node.right)
            case Kind.JOIN:
                return min(self.done(branch) for branch in node.branches)
            case Kind.RACE | Kind.IF:
                return sum(self.done(branch) for branch in node.branches)
            case Kind.LOOP:
                return self._judged(node, False)
            case _:
                return self.deeds[number].outcomes["completed"]

    def _judged(self, node: Node, truth: bool) -> int:
        """How often the condition of a node came out like this; never, where it has none."""
        return self.deeds[node.condition].truths[truth] if node.condition is not None else 0

    def _children(self, node: Node, begun: int) -> Iterable[tuple[str, int | None, int]]:
        """The children of a node that began so often: what to call each, its number, and how often it began."""
        if node.kind is Kind.IF:
            return [
                ("condition: ", node.condition, begun),
                ("then: ", node.left, self._judged(node, True)),
                ("else: ", node.right, self._judged(node, False)),
            ]
        if node.kind is Kind.LOOP:
            assert node.left is not None
            return [
                ("", node.left, begun + self._judged(node, True)),
                ("while: ", node.condition, self.done(node.left)),
            ]
        return [(f"branch {i}: ", branch, begun) for i, branch in enumerate(node.branches, 1)]

    # --- the picture -------------------------------------------------------------------------------------------------

    def draw(self) -> RenderableType:
        """The graph as a tree."""
        status = (self.status, STATUS_STYLES.get(self.status, ""))
        tree = Tree(Text.assemble((self.id, "bold"), "  ", status, f"  {self.seconds:.3f} s"), guide_style="dim")
        self._grow(tree, 1, begun=0 if self.status == "pending" else 1)
        return tree

    def _grow(self, tree: Tree, number: int, *, begun: int, place: str = "") -> None:
        """Draws a node that began so often."""
        node = self.graph.node(number)
        if node.kind is Kind.THEN:
            tree = tree.add(Text(place.rstrip(), style="dim")) if place else tree
            for item in self.graph.chain(number):
                self._grow(tree, item.node, begun=begun)
                begun = self.done(item.node)
        elif node.kind in (Kind.SQL, Kind.SLEEP, Kind.SIGNAL):
            tree.add(self._leaf(node, begun, place))
        else:
            inner = tree.add(Text.assemble((place, "dim"), what(node)))
            for inner_place, child, times in self._children(node, begun):
                if child is not None:
                    self._grow(inner, child, begun=times, place=inner_place)

    def _leaf(self, node: Node, begun: int, place: str) -> Text:
        deeds = self.deeds[node.number]
        mark = self._mark(deeds, begun)
        parts = [(f"{mark} ", STYLES[mark])]
        if deeds.count:
            parts.append((f"{deeds.last_seconds:.3f} s  ", "cyan"))
        if deeds.count > 1:
            parts.append((f"{deeds.count} times  ", "bold"))
        parts += [(place, "dim"), (what(node), "dim" if mark in "○⊘" else "")]
        if deeds.note:
            parts.append((f"  {deeds.note}", "cyan"))
        return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")

    def _mark(self, deeds: Deeds, begun: int) -> str:
        """✓ done, ✗ failed, ⊘ cancelled or passed by, ⏳ under way, ○ not reached."""
        if deeds.outcomes["failed"]:
            return "✗"
        if not self.over and deeds.count < begun:
            return "⏳"
        if deeds.outcomes["completed"]:
            return "✓"
        return "⊘" if self.over or deeds.count else "○"


def what(node: Node) -> str:
    """A node in a few words."""
    match node.kind, node.spec:
        case Kind.SQL, _:
            told = " ".join((node.query or "").split())
            told = told if len(told) <= QUERY_CHARACTERS else told[: QUERY_CHARACTERS - 1] + "…"
        case Kind.SLEEP, Sleep(seconds=seconds):
            told = f"SLEEP {seconds:g}s" if seconds is not None else "SLEEP"
        case Kind.SIGNAL, Signal(name=name, timeout_seconds=timeout):
            told = f"SIGNAL '{name}'" + (f" ({timeout:g}s)" if timeout is not None else "")
        case Kind.JOIN | Kind.RACE, _:
            told = f"{node.kind} ({len(node.branches)})"
        case Kind.LOOP, _:
            told = "LOOP" if node.condition is None else "LOOP (while)"
        case kind, _:
            told = str(kind)
    return f"{told}  |=> '{node.result_name}'" if node.result_name else told


def story(stage: Stage, instance_id: str) -> Story | None:
    """What the tables say of an instance now; None when there is none."""
    found = stage.look(_INSTANCE, instance_id)
    if not found:
        return None
    key, text, status, created, ended = found[0]
    graph = parse_graph(text)
    deeds: dict[int, Deeds] = defaultdict(Deeds)
    for step, outcome, at, result in stage.look(_COMPLETIONS, key):
        number = int(step.split(".")[0])
        deeds[number].add(outcome, _since(created, at), truth=result is not None and is_true(result))
        if graph.node(number).kind is Kind.SIGNAL:
            deeds[number].note = "timed out"
    for name, data, at in stage.look(_SIGNALS, instance_id):
        _signalled(graph, deeds, name, data, _since(created, at))
    return Story(instance_id, status, _since(created, ended), graph, deeds)


def _signalled(graph: Graph, deeds: dict[int, Deeds], name: str, data: str, seconds: float) -> None:
    for node in graph.nodes:
        if isinstance(node.spec, Signal) and node.spec.name == name and not deeds[node.number].count:
            deeds[node.number].add("completed", seconds, truth=True)
            deeds[node.number].note = data
            return


def _since(start: datetime, moment: datetime) -> float:
    return max(0.0, (moment - start).total_seconds())


def draw_all(stories: Iterable[Story]) -> RenderableType:
    """Several instances, one under the other."""
    return Group(*(told.draw() for told in stories))
