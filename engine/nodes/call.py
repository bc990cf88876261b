"""HTTP and HTTP_MULTIPART: known, and not run in this version; an instance with one is refused at the INSERT."""

from __future__ import annotations

from engine.errors import Failure
from engine.frames import Failed, Fold, Result, entered_by, step_key
from engine.graph import Kind, Node
from engine.values import Names


@entered_by(Kind.HTTP)
@entered_by(Kind.HTTP_MULTIPART)
def enter(fold: Fold, node: Node, indices: tuple[int, ...], names: Names) -> Result:
    message = "HTTP steps are not available in this version of walflow"
    return Failed(Failure(message, "0A000", node.number, step_key(node.number, indices)))
