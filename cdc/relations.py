"""The tables that a stream has described so far.

pgoutput describes a relation before its first row on each connection, and again whenever its definition may have
changed. Rows then refer to it by oid alone. The cache keeps the *same* object for as long as the description stays
the same, so that readers may key what they derive from it (column positions, say) by identity.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cdc.errors import Problem, PublicationIncomplete


@dataclass(frozen=True, slots=True)
class Relation:
    """A published table: `columns` are the published ones, in the order in which rows carry their values."""

    oid: int
    schema: str
    name: str
    columns: tuple[str, ...]

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def positions(self, names: Iterable[str]) -> tuple[int, ...]:
        """Where each named column stands in a row; others are no concern. Raises PublicationIncomplete."""
        places = {column: place for place, column in enumerate(self.columns)}
        wanted = tuple(names)
        if missing := [name for name in wanted if name not in places]:
            hint = "add the columns to the publication's column list"
            raise PublicationIncomplete(
                [Problem(f"{self.qualified_name} arrives without {name}", hint) for name in missing]
            )
        return tuple(places[name] for name in wanted)


class RelationCache:
    """Relations by oid, as last described by the server."""

    __slots__ = ("_by_oid", "get")

    def __init__(self) -> None:
        self._by_oid: dict[int, Relation] = {}
        # The dict's own method: one call less for every row.
        self.get = self._by_oid.get

    def describe(self, relation: Relation) -> Relation:
        """Remember a description. Returns the object that rows will carry: the old one if nothing changed."""
        known = self._by_oid.get(relation.oid)
        if known == relation:
            return known
        self._by_oid[relation.oid] = relation
        return relation
