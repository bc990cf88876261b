"""States as text, for `df.states`. Versioned: a newer engine reads what an older one wrote.

A state is JSON. A tree of frames becomes nested lists; scopes, which frames share, are written once and referred to by
place; a long result of a step is written as the step's key, since its completion holds the text. The base scope (what the
instance was given) is not written.

==============  ======================================================
`{"f": […]}`    a frame: its tag, then its fields in order
`{"n": i}`      scope i; 0 is the base scope
`{"v": text}`   a result, JSON text
`{"r": step}`   a result that the completion of `step` holds
`{"d": […]}`    Done, `{"x": […]}` Failed, `{"b": […]}` Broke
==============  ======================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from engine.errors import Failure
from engine.events import Completed, Signalled
from engine.frames import FRAMES, Broke, Done, Failed, Frame, Wait
from engine.limits import INLINE_VALUE_CHARACTERS
from engine.machine import Ending, State
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
        None if state.ending is None else [state.ending.status, state.ending.result, state.ending.error],
        [[s.event_id, s.at_us, s.name, s.data] for s in state.signals],
        [[step, w.node, list(w.indices), w.name] for step, w in state.waits.items()],
        list(state.draining.items()),
        [_completed(c) for c in state.stash.values()],
        state.cancelled,
    ]
    return _encode_json({"scopes": writer.scopes, "state": body})


def _completed(c: Completed) -> list[Any]:
    return [c.event_id, c.at_us, c.run_as, c.step, c.attempt, c.outcome, c.result, c.error]


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
        if isinstance(value, Failed):
            f = value.failure
            return {"x": [f.message, f.code, f.node, f.step, f.attempt, json.dumps(f.more)]}
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
    """A stored state, read but not yet made whole: `references` are the steps whose results it needs."""

    def __init__(self, version: int, text: str) -> None:
        if version != VERSION:
            raise CodecError(f"state of version {version}; this engine reads {VERSION}")
        try:
            self._raw = json.loads(text)
            self.references: frozenset[str] = frozenset(_references(self._raw))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CodecError(f"state is not readable: {error!r}") from error

    def state(self, base: Names, results: Mapping[str, str]) -> State:
        """The state over the subject's own scope `base`, with `results` the JSON texts of the completions referred to."""
        missing = self.references - results.keys()
        if missing:
            raise CodecError(f"completions are missing that the state refers to: {', '.join(sorted(missing)[:5])}")
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


class _Reader:
    def __init__(self, base: Names, results: Mapping[str, str], scopes: list[Any]) -> None:
        self._results = results
        self._scopes = [base]
        for parent, own in scopes:
            within = None if parent is None else self._scopes[parent]
            self._scopes.append(Names({name: self.value(value) for name, value in own.items()}, within))

    def state(self, raw: list[Any]) -> State:
        folds, at_us, started_us, root, ending, signals, waits, draining, stash, cancelled = raw
        frame = self.any(root)
        if frame is not None and not isinstance(frame, Frame):
            raise CodecError(f"the root is {type(frame).__name__}, not a frame")
        return State(
            folds=folds,
            at_us=at_us,
            started_us=started_us,
            root=frame,
            ending=None if ending is None else Ending(*ending),
            finished=ending is not None and not draining,
            signals=tuple(Signalled(*s) for s in signals),
            waits={step: Wait(node, tuple(indices), name) for step, node, indices, name in waits},
            draining=dict(draining),
            stash={c[3]: Completed(*c) for c in stash},
            cancelled=cancelled,
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
            case "x":
                message, code, number, step, attempt, more = body
                return Failed(Failure(message, code, number, step, attempt, json.loads(more)))
            case _:
                raise CodecError(f"unknown part {kind!r}")
