"""The machine under random graphs and random interleavings.

`Run` (tests/engine/machinery.py) crashes after every row and checks there that a crash changes no decision, that what is
outstanding is what was asked for and not answered, that nothing is asked for twice or after the end, and that time never
goes back. Here is what happens to it, and how it must end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import machine
from engine.effects import CancelChild, CancelStep, Execute, StartChild
from engine.events import CancelRequested, Completed, Event, Signalled
from engine.frames import parse_step_key, step_key
from engine.limits import UNDO_ATTEMPTS
from engine.resulttext import has_rows
from engine.substitution import SubstitutionError, render_sql, render_text
from engine.truth import is_true
from tests.engine.machinery import (
    ROLE,
    Json,
    Run,
    await_,
    brk,
    catch,
    cell,
    child,
    if_,
    if_rows,
    join,
    loop,
    map_,
    race,
    retry,
    rows,
    schedule,
    seq,
    sleep,
    sql,
    timeout,
    undo,
    wait,
)

NAMES = ("a", "b")
ITERATIONS = 3
"""After which a loop fails, so that every run ends."""

# --- graphs -----------------------------------------------------------------------------------------------------------

names = st.sampled_from((None, None, *NAMES))
queries = st.sampled_from(("select 1", "$a?, $b?", "$a", "'$b.x?'"))
plain_leaves = st.one_of(st.builds(sql, queries, names), st.builds(sleep, st.integers(0, 3), names))
signal_leaves = st.builds(wait, st.sampled_from("st"), st.none() | st.integers(0, 3), fresh=st.booleans(), name=names)


def graphs(
    leaves: st.SearchStrategy[Json],
    *,
    races: bool,
    breaks: bool = False,
    depth: int = 4,
    guards: bool = False,
    loops: bool = True,
) -> st.SearchStrategy[Json]:
    """Graphs up to a depth. `breaks`: inside a loop, with nothing between that runs branches side by side. `guards`: with
    the nodes that stand around others to time, try, catch, undo and repeat them.
    """
    here = leaves | st.builds(brk, st.sampled_from((None, 1, "$a?"))) if breaks else leaves
    if depth == 0:
        return here
    inner = graphs(leaves, races=races, breaks=breaks, depth=depth - 1, guards=guards, loops=loops)
    branch = graphs(leaves, races=races, breaks=breaks and races, depth=depth - 1, guards=guards, loops=loops)
    body = graphs(leaves, races=races, breaks=True, depth=depth - 1, guards=guards, loops=loops)
    apart = graphs(leaves, races=races, depth=depth - 1, guards=guards, loops=loops)
    repeated = st.builds(
        lambda b, c, e, n: loop(b, c, every=e, name=n), body, st.none() | body, st.sampled_from((None, 0, 2)), names
    )
    kinds = [
        here,
        st.builds(lambda items: seq(*items), st.lists(inner, min_size=2, max_size=4)),
        st.builds(lambda branches, name: join(*branches, name=name), st.lists(branch, min_size=1, max_size=3), names),
        st.builds(if_, inner, inner, inner, names),
        st.builds(if_rows, st.sampled_from(NAMES), inner, inner, names),
        *([repeated] if loops else []),
    ]
    if races:
        kinds.append(st.builds(lambda b, name: race(*b, name=name), st.lists(branch, min_size=2, max_size=3), names))
    if guards:
        kinds += [
            st.builds(retry, inner, st.integers(1, 3), name=names),
            st.builds(timeout, inner, st.integers(0, 3), names),
            st.builds(catch, inner, inner, names),
            st.builds(undo, inner, apart, names),
            st.builds(map_, inner | st.sampled_from((*NAMES, "input")), apart, st.integers(1, 3), names),
        ]
    return st.one_of(kinds)


child_leaves = st.builds(
    lambda given, name: child(sql(), name=name, **given),
    st.fixed_dictionaries(
        {},
        optional={
            "on_failure": st.sampled_from(("raise", "return")),
            "on_parent_cancel": st.sampled_from(("cancel", "abandon")),
            "timeout_seconds": st.integers(0, 3),
            "detach": st.booleans(),
            "input": st.sampled_from(("$a?", 1)),
        },
    ),
    names,
)
waiting_leaves = st.one_of(
    child_leaves,
    st.builds(await_, st.just("other"), st.none() | st.integers(0, 3), names),
    st.builds(schedule, st.sampled_from(("* * * * *", "@hourly")), st.just("UTC"), names),
)
any_graph = graphs(plain_leaves | signal_leaves | waiting_leaves, races=True, guards=True)
orderly_graph = graphs(plain_leaves, races=False)
"""Graphs whose end depends on nothing but the outcomes of their steps."""

RESULTS = (cell(0), cell(1), cell(None), cell("t"), rows(), cell("x" * 600), '{"rows":[],"affected":3}')

seeds = st.integers(0, 2**16)


def outcome_of(seed: int, step: str) -> tuple[str, str | None]:
    """What comes of a step: the same whenever it is asked. One in eight fails."""
    draw = hash((seed, *map(int, step.split("."))))
    return ("failed", None) if draw % 8 == 0 else ("completed", RESULTS[draw // 8 % len(RESULTS)])


# --- a world around an instance -----------------------------------------------------------------------------------------


@dataclass
class World:
    """Answers what an instance asks for, in an order that `choices` says; its log is what it did."""

    run: Run
    seed: int
    choices: Iterator[int]
    log: list[Event] = field(default_factory=list)

    def choose(self, options: list[Callable[[], None]]) -> None:
        options[next(self.choices, 0) % len(options)]()

    def give(self, event: Event) -> None:
        self.log.append(event)
        self.run.at_us = event.at_us
        if isinstance(event, Completed):
            self.run.answered.setdefault(event.step, event.result or "null")
        self.run.fold(event)

    def answer(self, step: str) -> None:
        outcome, result = outcome_of(self.seed, step)
        self.give(self.completed(step, outcome, result, ROLE))

    def end(self, step: str) -> None:
        """A child ends, or an instance that is awaited."""
        given = self.run.children.get(step)
        outcome, result = outcome_of(self.seed, step)
        status = "pending" if isinstance(given, StartChild) and given.detach else outcome
        answer = {"instance_id": step, "status": status, "result": result and json.loads(result), "error": None}
        self.give(self.completed(step, "completed", json.dumps(answer), machine.ENGINE))

    def fire(self, step: str) -> None:
        self.run.at_us = max(self.run.at_us, self.run.timers[step].due_us)
        self.give(self.completed(step, "completed", None, machine.ENGINE))

    def give_up(self, step: str) -> None:
        self.give(self.completed(step, "cancelled", None, ROLE))

    def settle(self, step: str) -> list[Callable[[], None]]:
        """Every way in which an abandoned step may end."""
        if isinstance(self.run.draining[step], CancelChild):
            return [lambda: self.end(step)]
        return [lambda: self.answer(step), lambda: self.give_up(step)]

    def completed(self, step: str, outcome: Any, result: str | None, run_as: int) -> Completed:
        error = None if outcome == "completed" else f'{{"message":"{step} {outcome}"}}'
        asked = self.run.open.get(step) or self.run.draining.get(step)
        attempt = asked.attempt if isinstance(asked, Execute | CancelStep) and run_as == ROLE else 1
        return Completed(f"c{len(self.log)}", self.time(), run_as, step, attempt, outcome, result, error)

    def time(self) -> int:
        """Commit times move, and not always forward."""
        return self.run.at_us + next(self.choices, 1) % 7 * 400_000 - 800_000

    def signal(self, name: str) -> None:
        self.give(Signalled(f"s{len(self.log)}", self.time(), name, str(len(self.log))))

    def cancel(self) -> None:
        self.give(CancelRequested(f"x{len(self.log)}", self.time(), "enough"))

    def answers(self) -> list[Callable[[], None]]:
        """Every way to answer something."""
        run = self.run
        return [
            *(lambda step=step: self.answer(step) for step in run.open),
            *(lambda step=step: self.fire(step) for step in run.timers),
            *(lambda step=step: self.end(step) for step in {**run.children, **run.awaits}),
            *(way for step in run.draining for way in self.settle(step)),
        ]

    def noise(self) -> list[Callable[[], None]]:
        """Rows that must change nothing."""
        if any(node.undoing for node in self.run.subject.graph.nodes):
            return []  # what an undo may yet ask for is kept, not ignored
        known = [*self.run.answered, *self.run.open, *self.run.timers, *self.run.draining]
        return [
            *(lambda step=step: self.ignored(step, ROLE + 1) for step in known[-2:]),
            *(lambda step=step: self.ignored(step, ROLE) for step in [*self.run.answered][-1:]),
        ]

    def ignored(self, step: str, run_as: int) -> None:
        before = self.run.state
        event = self.completed(step, "completed", cell("forged"), run_as)
        after, effects = machine.fold(self.run.subject, before, event)
        assert after is before
        assert effects == ()

    def live(self) -> None:
        """Until nothing is left to answer."""
        signals, cancellations = 6, 1
        while answers := self.answers():
            options = answers * 3 + self.noise()
            if signals:
                options += [lambda: self.signal("s"), lambda: self.signal("t")]
            if cancellations and next(self.choices, 1) % 40 == 0:
                options += [self.cancel]
            before = len(self.log)
            self.choose(options)
            for event in self.log[before:]:
                signals -= isinstance(event, Signalled)
                cancellations -= isinstance(event, CancelRequested)


def finished(run: Run) -> bool:
    return run.status != "running"


# --- properties -----------------------------------------------------------------------------------------------------------


@given(any_graph, seeds, st.lists(seeds, max_size=120), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_an_instance_ends_or_waits_for_signals_whatever_happens_and_however_often_it_crashes(
    graph: Json, seed: int, choices: list[int], early_signals: int
) -> None:
    world = World(Run(graph, loop_iterations=ITERATIONS), seed, iter(choices))
    for number in range(early_signals):
        world.signal("st"[number % 2])
    world.run.start()
    world.live()
    waits = 0
    while not finished(world.run):
        names = {wait.name for wait in world.run.state.waits.values()}
        assert names, "it waits for nothing and has not ended"
        world.signal(min(names))
        world.live()
        waits += 1
    note(f"{world.run.status}, {min(len(world.log) // 10 * 10, 50)} rows or more")
    assert world.run.state.ending is not None
    for event in world.log:
        assert machine.fold(world.run.subject, world.run.state, event) == (world.run.state, ())


class Scanned(World):
    """After each row a scan brings all again that came before it."""

    def give(self, event: Event) -> None:
        super().give(event)
        state = self.run.state
        for earlier in self.log:
            if isinstance(earlier, Completed):
                after, effects = machine.fold(self.run.subject, state, earlier)
                assert (after.root, after.unwinding, effects) == (state.root, state.unwinding, ()), earlier


maps = st.builds(
    map_,
    st.sampled_from((retry(sql()), loop(sql(), sql()), undo(sql(), sql()))),
    graphs(plain_leaves | signal_leaves | waiting_leaves, races=True, depth=1),
    st.integers(1, 3),
)
"""Of items with keys that look like those of rows."""


@given(any_graph | maps, seeds, st.lists(seeds, max_size=60))
@settings(max_examples=200, deadline=None)
def test_what_was_folded_and_is_brought_again_moves_nothing(graph: Json, seed: int, choices: list[int]) -> None:
    world = Scanned(Run(graph, loop_iterations=ITERATIONS), seed, iter(choices))
    world.run.start()
    world.live()


@given(any_graph, seeds, st.lists(seeds, max_size=80))
@settings(max_examples=100, deadline=None)
def test_the_same_log_folds_to_the_same_states_and_effects(graph: Json, seed: int, choices: list[int]) -> None:
    world = World(Run(graph, loop_iterations=ITERATIONS), seed, iter(choices))
    world.run.start()
    world.live()
    again = Run(graph, loop_iterations=ITERATIONS)
    again.answered = world.run.answered
    again.start()
    for event in world.log:
        again.at_us = event.at_us
        again.fold(event)
    assert (again.state, again.log, again.finish) == (world.run.state, world.run.log, world.run.finish)


@given(any_graph, seeds, st.lists(seeds, max_size=60), seeds)
@settings(max_examples=100, deadline=None)
def test_cancelling_at_any_moment_ends_an_instance_once_every_key_is_answered(
    graph: Json, seed: int, choices: list[int], moment: int
) -> None:
    world = World(Run(graph, loop_iterations=ITERATIONS), seed, iter(choices))
    world.run.start()
    for _ in range(moment % 12):
        if answers := world.answers():
            world.choose(answers)
    ending = world.run.state.ending
    if finished(world.run):
        return
    world.cancel()
    while not finished(world.run):
        if not (answers := world.answers()):
            world.signal(min({wait.name for wait in world.run.state.waits.values()}))  # in an undo
        else:
            world.choose(answers)
    if not world.run.state.undo_failures:
        assert world.run.status == ("cancelled" if ending is None else ending.status)


# --- undo -------------------------------------------------------------------------------------------------------------------

paid_leaves = st.builds(lambda: undo(sql("do"), sql("undo")))
undo_graph = graphs(
    st.one_of(paid_leaves, paid_leaves, plain_leaves, signal_leaves), races=True, guards=True, loops=False
)


@given(undo_graph, seeds, st.lists(seeds, max_size=120), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_what_was_done_by_an_instance_that_fails_is_undone_exactly_once(
    graph: Json, seed: int, choices: list[int], early_signals: int
) -> None:
    world = World(Run(graph), seed, iter(choices))
    for number in range(early_signals):
        world.signal("st"[number % 2])
    world.run.start()
    world.live()
    while not finished(world.run):
        world.signal(min({wait.name for wait in world.run.state.waits.values()}))
        world.live()
    nodes = world.run.subject.graph.nodes
    done: Counter[str] = Counter()
    undone: Counter[str] = Counter()
    for event in world.log:
        if isinstance(event, Completed) and event.outcome == "completed" and event.run_as == ROLE:
            key = parse_step_key(event.step)
            assert key is not None
            query = nodes[key[0] - 1].query
            # what an undo does within itself is undone only if that undo fails
            if query == "do" and not nodes[key[0] - 1].undoing:
                done[step_key(key[0] + 1, key[1])] += 1
            elif query == "undo" and event.step in done:
                undone[event.step] += 1
    failed = (
        {f["step"] for f in json.loads(world.run.finish.error or "{}").get("undo", [])} if world.run.finish else set()
    )
    # what failed inside a catch was told to its handler, whatever became of that
    given_up = (
        e for e in world.log if isinstance(e, Completed) and e.attempt == UNDO_ATTEMPTS and e.outcome == "failed"
    )
    failed |= {event.step for event in given_up}
    note(f"{world.run.status}, {len(undone)} undone of {len(done)}, {len(failed)} undos failed")
    assert undone <= done
    if world.run.status == "cancelled" and not failed:
        assert undone == done
    if world.run.status == "failed":
        assert {step for step in done if step not in undone} <= failed


# --- a model ----------------------------------------------------------------------------------------------------------------

Names = dict[str, str]
Ended = tuple[str, Names]
"""A result, and the names set on the way to it."""


class NodeFailed(Exception):
    """A node failed."""


class BreakOut(Exception):
    """A BREAK on its way to the innermost loop."""

    def __init__(self, value: str, names: Names) -> None:
        super().__init__()
        self.value, self.names = value, names


def numbered(raw: Json, counter: Iterator[int]) -> Json:
    """The graph with each node's number: itself, left, right, condition, extra."""
    found = {**raw, "number": next(counter)}
    for place in ("left_node", "right_node", "condition_node"):
        if place in raw:
            found[place] = numbered(raw[place], counter)
    found["extra_nodes"] = [numbered(extra, counter) for extra in raw.get("extra_nodes", ())]
    return found


@dataclass
class Model:
    """What a graph without races and signals comes to, written down as the language says it."""

    seed: int
    ran: Counter[str] = field(default_factory=Counter)

    def node(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        value, found = getattr(self, node["node_type"].lower())(node, names, at)
        return value, found | ({node["result_name"]: value} if "result_name" in node else {})

    def sql(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        step = step_key(node["number"], at)
        try:
            query = render_sql(node["query"], variables={}, names=names)
        except SubstitutionError:
            raise NodeFailed from None
        self.ran[f"{step}: {query}"] += 1
        _, result = outcome_of(self.seed, step)
        if result is None:
            raise NodeFailed
        return result, {}

    def sleep(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        return f'{{"slept":true,"seconds":{node["query"]}}}', {}

    def then(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        _, before = self.node(node["left_node"], names, at)
        value, after = self.onwards(node["right_node"], names, before, at)
        return value, before | after

    def join(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        ended: list[Ended | None] = []
        for branch in [
            node["left_node"],
            *([node["right_node"]] if "right_node" in node else []),
            *node["extra_nodes"],
        ]:
            try:
                ended.append(self.node(branch, names, at))
            except NodeFailed:
                ended.append(None)
        merged: Names = {}
        for branch_ended in ended:
            if branch_ended is None:
                raise NodeFailed
            merged |= branch_ended[1]
        return f"[{','.join(one[0] for one in ended if one)}]", merged

    def if_(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        if "condition_node" in node:
            value, before = self.node(node["condition_node"], names, at)
            truth = is_true(value)
        else:
            asked = names.get(json.loads(node["query"])["result_name"])
            if asked is None:
                raise NodeFailed
            truth, before = has_rows(asked), {}
        value, after = self.onwards(node["left_node" if truth else "right_node"], names, before, at)
        return value, before | after

    def loop(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        found: Names = {}
        for iteration in range(1, ITERATIONS + 1):
            try:
                value, new = self.node(node["left_node"], names | found, (*at, iteration))
                found |= new
                if "condition_node" in node:
                    truth, new = self.node(node["condition_node"], names | found, (*at, iteration))
                    found |= new
                    if not is_true(truth):
                        return value, found
            except BreakOut as out:
                return out.value, found | out.names
        raise NodeFailed

    def break_(self, node: Json, names: Names, at: tuple[int, ...]) -> Ended:
        value = json.loads(node["query"])["break_value"] if "query" in node else None
        if not isinstance(value, str):
            raise BreakOut(json.dumps(value), {})
        text = render_text(value, variables={}, names=names)
        try:
            json.loads(text)
        except ValueError:
            text = json.dumps(text)
        raise BreakOut(text, {})

    def onwards(self, node: Json, names: Names, before: Names, at: tuple[int, ...]) -> Ended:
        """A node after others that set `before`, which a break takes along."""
        try:
            return self.node(node, names | before, at)
        except BreakOut as out:
            raise BreakOut(out.value, before | out.names) from None

    def __getattr__(self, kind: str) -> Any:
        return getattr(self, {"if": "if_", "break": "break_"}[kind])


def modelled(graph: Json, seed: int) -> tuple[str | None, Counter[str]]:
    """The result, None for a failure, and every statement that ran."""
    model = Model(seed)
    try:
        value, _ = model.node(numbered(graph, count(1)), {"input": "null"}, ())
    except NodeFailed:
        return None, model.ran
    return value, model.ran


@given(orderly_graph, seeds, st.lists(seeds, max_size=80))
@settings(max_examples=200, deadline=None)
def test_a_graph_without_races_comes_to_what_the_model_says_in_whatever_order_its_steps_end(
    graph: Json, seed: int, choices: list[int]
) -> None:
    run = Run(graph, loop_iterations=ITERATIONS).start()
    world = World(run, seed, iter(choices))
    while answers := world.answers():
        world.choose(answers)
    result, ran = modelled(graph, seed)
    assert Counter(run.log) == ran
    assert run.finish is not None
    assert run.finish.result == result
    assert run.status == ("failed" if result is None else "completed")


# --- a scan does not know the order of the log ------------------------------------------------------------------------------


@given(orderly_graph, seeds, st.lists(seeds, max_size=40), st.randoms(use_true_random=False), seeds)
@settings(max_examples=100, deadline=None)
def test_completions_in_any_order_come_to_the_same_end(
    graph: Json, seed: int, choices: list[int], shuffled: Random, before_start: int
) -> None:
    first = Run(graph, loop_iterations=ITERATIONS).start()
    world = World(first, seed, iter(choices))
    while answers := world.answers():
        world.choose(answers)
    shuffled.shuffle(world.log)
    again = World(Run(graph, loop_iterations=ITERATIONS), seed, iter(()))
    again.run.answered = dict(first.answered)
    early = before_start % (len(world.log) + 1)
    for place, event in enumerate(world.log):
        if place == early:
            again.run.start()
        again.give(event)
    if early == len(world.log):
        again.run.start()
    assert not again.run.open, "nothing that ran is run again"
    while answers := again.answers():  # a pause that the first time there was no need of
        again.choose(answers)
    assert again.run.finish == first.finish
    assert Counter(again.run.log) <= Counter(first.log)


@given(graphs(plain_leaves, races=True), seeds, st.lists(seeds, max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_log_whose_start_comes_last_decides_races_as_before(graph: Json, seed: int, choices: list[int]) -> None:
    first = Run(graph, loop_iterations=ITERATIONS).start()
    world = World(first, seed, iter(choices))
    while answers := world.answers():
        world.choose(answers)
    again = World(Run(graph, loop_iterations=ITERATIONS), seed, iter(()))
    again.run.answered = dict(first.answered)
    for event in world.log:
        again.give(event)
    again.run.start(at=0)
    assert again.run.log == []
    assert again.run.finish == first.finish
