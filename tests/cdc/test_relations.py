import pytest

from cdc.errors import PublicationIncomplete
from cdc.relations import Relation, RelationCache


def test_a_repeated_description_keeps_the_old_object() -> None:
    cache = RelationCache()
    first = cache.describe(Relation(1, "df", "t", ("a", "b")))
    again = cache.describe(Relation(1, "df", "t", ("a", "b")))
    assert again is first
    assert cache.get(1) is first


def test_a_changed_description_replaces_the_old_object() -> None:
    cache = RelationCache()
    first = cache.describe(Relation(1, "df", "t", ("a", "b")))
    wider = cache.describe(Relation(1, "df", "t", ("a", "b", "c")))
    assert wider is not first
    assert cache.get(1) is wider


def test_columns_are_found_by_name_wherever_they_stand() -> None:
    relation = Relation(1, "df", "t", ("added", "b", "a"))
    assert relation.positions(["a", "b"]) == (2, 1)


def test_every_missing_column_is_named() -> None:
    relation = Relation(1, "df", "t", ("a",))
    with pytest.raises(PublicationIncomplete) as caught:
        relation.positions(["a", "b", "c"])
    assert [problem.what for problem in caught.value.problems] == ["df.t arrives without b", "df.t arrives without c"]
