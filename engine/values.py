"""Results and the names bound to them.

A result stays the JSON text that the database made: numbers keep their digits, rows their column order, and it is
parsed only where something refers to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Value:
    """A result as JSON text; `step` names the completion that holds the same text, if one does."""

    text: str
    step: str | None = field(default=None, compare=False)


NULL = Value("null")


class Names(Mapping[str, str]):
    """An immutable scope: names bound here, over those of the scope around it. Looks up JSON texts.

    A JOIN branch runs in a scope of its own, so that what it set can be told from what it found.
    """

    __slots__ = ("own", "parent")

    def __init__(self, own: Mapping[str, Value], parent: Names | None = None) -> None:
        self.own = own
        self.parent = parent

    def bind(self, name: str, value: Value) -> Names:
        """The same scope with `name` bound (again) to `value`."""
        return Names({**self.own, name: value}, self.parent)

    def merge(self, other: Names) -> Names:
        """The same scope with everything bound that `other`, a scope within it, bound itself."""
        return Names({**self.own, **other.own}, self.parent) if other.own else self

    def nested(self) -> Names:
        """A scope within this one that has set nothing yet."""
        return Names({}, self)

    def value(self, name: str) -> Value | None:
        scope: Names | None = self
        while scope is not None:
            found = scope.own.get(name)
            if found is not None:
                return found
            scope = scope.parent
        return None

    def __getitem__(self, name: str) -> str:
        found = self.value(name)
        if found is None:
            raise KeyError(name)
        return found.text

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.value(name) is not None

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        scope: Names | None = self
        while scope is not None:
            yield from (name for name in scope.own if name not in seen)
            seen.update(scope.own)
            scope = scope.parent

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Names({dict(self.own)!r}, {self.parent!r})"
