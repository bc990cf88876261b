"""BREAK: ends the innermost loop, with a value."""

from __future__ import annotations

from engine.errors import Failure
from engine.frames import Broke, Failed, Fold, Result, entered_by, step_key
from engine.graph import Break, Kind, Node
from engine.jsontext import JsonError, dumps_string, parse
from engine.substitution import SubstitutionError, render_text
from engine.values import NULL, Names, Value


@entered_by(Kind.BREAK)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    assert isinstance(node.spec, Break)
    if node.spec.value is None:
        return Broke(NULL, names)
    try:
        value = break_value(node, node.spec.value, fold, names)
    except (SubstitutionError, JsonError) as error:
        return Failed(Failure(str(error), "substitution", node.number, step_key(node.number, indices)))
    return Broke(Value(value), names)


def break_value(node: Node, raw: str, fold: Fold, names: Names) -> str:
    """The JSON text of a break value with its references filled in: the value if that is JSON, else a JSON string."""
    given = parse(raw)
    text = given if type(given) is str else raw
    rendered = fold.render(render_text, node, text, names)
    if rendered == text:
        return raw
    try:
        parse(rendered)
    except JsonError:
        return dumps_string(rendered)
    return rendered
