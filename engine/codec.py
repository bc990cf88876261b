"""States as text, for `df.states`. Versioned: a newer engine reads what an older one wrote.

A state is JSON. A tree of frames becomes nested lists; scopes, which frames share, are written once and referred to by
place; a long result of a step is written as the step's key, since its completion holds the text, and of a signal whose data
is long only the row is named. The base scope (what the instance was given) is not written.

==============  ======================================================
`{"f": […]}`    a frame: its tag, then its fields in order
`{"n": i}`      scope i; 0 is the base scope
`{"v": text}`   a result, JSON text
`{"r": step}`   a result that the completion of `step` holds
`{"d": […]}`    Done, `{"x": […]}` Failed, `{"b": […]}` Broke, `{"s": 0}` Stopped
==============  ======================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, Final

from engine.buffer import buffered
from engine.errors import Failure
from engine.events import Completed, Signalled
from engine.frames import (
    FRAMES,
    STOPPED,
    Broke,
    Done,
    Failed,
    Frame,
    Owed,
    Scope,
    Stopped,
    Unwinding,
    Wait,
)
from engine.limits import INLINE_VALUE_CHARACTERS
from engine.machine import ENGINE, Ending, State
from engine.values import Names, Value

VERSION = 1
"""Grows when the meaning of a stored state changes; every older version stays readable."""


_encode_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class CodecError(ValueError):
    """A stored state that this engine cannot read."""


def encode(state: State, base: Names) -> str:
    """The text of `state`, in version `VERSION`. `base` is the subject's own scope."""
    writer = _Writer(base)
    body = [
        state.folds,
        state.at_us,
        state.started_us,
        writer.any(state.root),
        None if state.ending is None else [state.ending.status, state.ending.result, _failure(state.ending.failure)],
        # the row has what is long
        [
            [s.event_id, s.at_us, s.name, s.data if len(s.data) <= INLINE_VALUE_CHARACTERS else None]
            for s in state.signals
        ],
        [[step, w.node, list(w.indices), w.name] for step, w in state.waits.items()],
        [[step, attempt, cause] for (step, attempt), cause in state.draining.items()],
        [_completed(c) for c in state.stash.values()],
        state.cancelled,
        [_owed(writer, owed) for owed in state.owed],
        writer.any(state.ghosts),
        [_unwinding(writer, u) for u in state.unwinding],
        [_failure(f.failure) for f in state.undo_failures],
    ]
    return _encode_json({"scopes": writer.scopes, "state": body})


def _failure(f: Failure | None) -> list[Any] | None:
    return None if f is None else [f.message, f.code, f.node, f.step, f.attempt, f.more]


def _owed(writer: _Writer, owed: Owed | None) -> list[Any] | None:
    return None if owed is None else [owed.node, list(owed.indices), writer.any(owed.names)]


def _unwinding(writer: _Writer, u: Unwinding) -> list[Any]:
    return [
        [u.scope.first, u.scope.last, list(u.scope.indices)],
        _failure(u.error.failure),
        None if u.waiter is None else [u.waiter[0], list(u.waiter[1])],
        [_owed(writer, owed) for owed in u.entries],
        _owed(writer, u.running),
        writer.any(u.inner),
        [_failure(f.failure) for f in u.failures],
    ]


def _completed(c: Completed) -> list[Any]:
    result: Any = c.result
    if result is not None and len(result) > INLINE_VALUE_CHARACTERS and c.run_as != ENGINE and c.attempt == 1:
        result = {"r": c.step}
    return [c.event_id, c.at_us, c.run_as, c.step, c.attempt, c.outcome, result, c.error]


_PLAIN: Final = frozenset({int, str, bool, type(None)})


_READ_FIELDS: Final[dict[type[Frame], Callable[[Frame], tuple[Any, ...]]]] = {}


def _fields(frame: Frame) -> tuple[Any, ...]:
    """All fields of a frame, in order (each has at least node and indices)."""
    read = _READ_FIELDS.get(type(frame))
    if read is None:
        names = (field.name for field in fields(frame))  # type: ignore[arg-type]
        read = _READ_FIELDS[type(frame)] = attrgetter(*names)
    return read(frame)


class _Writer:
    """Encodes values; scopes are collected in the order in which the ones they lie in are complete."""

    def __init__(self, base: Names) -> None:
        self.scopes: list[Any] = []
        self._places: dict[int, int] = {id(base): 0}
        self._alive: list[Names] = [base]

    def any(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is Names:
            return {"n": self.scope(value)}
        if kind is tuple:
            return [self.any(item) for item in value]
        if isinstance(value, Frame):
            return {"f": [value.tag, *(self.any(part) for part in _fields(value))]}
        if isinstance(value, Value):
            return self.value(value)
        if isinstance(value, Done | Broke):
            return {"d" if isinstance(value, Done) else "b": [self.any(value.value), self.any(value.names)]}
        if isinstance(value, Stopped):
            return {"s": 0}
        if isinstance(value, Failed):
            return {"x": _failure(value.failure)}
        raise AssertionError(f"a state cannot hold {value!r}")

    def value(self, value: Value) -> dict[str, str]:
        if value.step is not None and len(value.text) > INLINE_VALUE_CHARACTERS:
            return {"r": value.step}
        return {"v": value.text}

    def scope(self, names: Names) -> int:
        place = self._places.get(id(names))
        if place is None:
            parent = None if names.parent is None else self.scope(names.parent)
            self.scopes.append([parent, {name: self.value(value) for name, value in names.own.items()}])
            place = self._places[id(names)] = len(self.scopes)
            self._alive.append(names)
        return place


class Stored:
    """A stored state, read but not yet made whole: `references` are the steps whose results it needs, `signals` the events of
    the signals whose data it needs.
    """

    def __init__(self, version: int, text: str) -> None:
        if version != VERSION:
            raise CodecError(f"state of version {version}; this engine reads {VERSION}")
        try:
            self._raw = json.loads(text)
            self.references: frozenset[str] = frozenset(_references(self._raw))
            self.signals: frozenset[str] = frozenset(_long_signals(self._raw))
        except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
            raise CodecError(f"state is not readable: {error!r}") from error

    def state(self, base: Names, results: Mapping[str, str]) -> State:
        """The state over the subject's own scope `base`, with `results` the JSON texts that it refers to: of completions by
        step, of signals by event.
        """
        for what, wanted in (("completions", self.references), ("signals", self.signals)):
            missing = wanted - results.keys()
            if missing:
                raise CodecError(f"{what} are missing that the state refers to: {', '.join(sorted(missing)[:5])}")
        try:
            return _Reader(base, results, self._raw["scopes"]).state(self._raw["state"])
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise CodecError(f"state is not readable: {error!r}") from error


def _references(raw: Any) -> Iterator[str]:
    todo = [raw["scopes"], raw["state"]]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if item.keys() == {"r"} and isinstance(item["r"], str):
                yield item["r"]
            else:
                todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _long_signals(raw: Any) -> Iterator[str]:
    return (event_id for event_id, _, _, data in raw["state"][5] if data is None)


class _Reader:
    def __init__(self, base: Names, results: Mapping[str, str], scopes: list[Any]) -> None:
        self._results = results
        self._scopes = [base]
        for parent, own in scopes:
            within = None if parent is None else self._scopes[parent]
            self._scopes.append(Names({name: self.value(value) for name, value in own.items()}, within))

    def state(self, raw: list[Any]) -> State:
        folds, at_us, started_us, root, ending, signals, waits, draining, stash, cancelled, *undo = raw
        owed, ghosts, unwinding, undo_failures = undo
        frame = self.any(root)
        if frame is not None and not isinstance(frame, Frame):
            raise CodecError(f"the root is {type(frame).__name__}, not a frame")
        return State(
            folds=folds,
            at_us=at_us,
            started_us=started_us,
            root=frame,
            ending=None if ending is None else Ending(ending[0], ending[1], ending[2] and Failure(*ending[2])),
            finished=ending is not None and not draining and not unwinding,
            signals=buffered(self.signal(*s) for s in signals),
            waits={step: Wait(node, tuple(indices), name) for step, node, indices, name in waits},
            draining={(step, attempt): cause for step, attempt, cause in draining},
            stash={(c[3], c[4]): self.completed(*c) for c in stash},
            cancelled=cancelled,
            owed=tuple(self.owed(o) for o in owed),
            ghosts=self.any(ghosts),
            unwinding=tuple(self.unwinding(u) for u in unwinding),
            undo_failures=tuple(Failed(Failure(*f)) for f in undo_failures),
        )

    def signal(self, event_id: str, at_us: int, name: str, data: str | None) -> Signalled:
        return Signalled(event_id, at_us, name, self._results[event_id] if data is None else data)

    def completed(self, *given: Any) -> Completed:
        event = Completed(*given)
        return replace(event, result=self._results[event.step]) if isinstance(event.result, dict) else event

    def owed(self, raw: list[Any]) -> Owed:
        return Owed(raw[0], tuple(raw[1]), self.any(raw[2]))

    def unwinding(self, raw: list[Any]) -> Unwinding:
        (first, last, indices), error, waiter, entries, running, inner, failures = raw
        return Unwinding(
            scope=Scope(first, last, tuple(indices)),
            error=Failed(Failure(*error)),
            waiter=None if waiter is None else (waiter[0], tuple(waiter[1])),
            entries=tuple(self.owed(o) for o in entries),
            running=None if running is None else self.owed(running),
            inner=self.any(inner),
            failures=tuple(Failed(Failure(*f)) for f in failures),
        )

    def value(self, raw: dict[str, str]) -> Value:
        return Value(self._results[raw["r"]], raw["r"]) if "r" in raw else Value(raw["v"])

    def any(self, raw: Any) -> Any:
        if isinstance(raw, list):
            return tuple(self.any(item) for item in raw)
        if not isinstance(raw, dict):
            return raw
        ((kind, body),) = raw.items()
        match kind:
            case "f":
                return FRAMES[body[0]](*(self.any(item) for item in body[1:]))
            case "n":
                return self._scopes[body]
            case "v" | "r":
                return self.value(raw)
            case "d":
                return Done(self.any(body[0]), self.any(body[1]))
            case "b":
                return Broke(self.any(body[0]), self.any(body[1]))
            case "s":
                return STOPPED
            case "x":
                return Failed(Failure(*body))
            case _:
                raise CodecError(f"unknown part {kind!r}")
