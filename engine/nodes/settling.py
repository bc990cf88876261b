"""What CATCH and RETRY do when their left node ends: pass it on, but settle a failure first.

While it settles nothing of left can commit any more, and what left owes is undone; `Frame.unwound` goes on from there. Of an
abandoned one nothing goes on: it has neither failed nor completed, and whatever it was racing may still complete.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.frames import STOPPED, Done, Failed, Fold, Frame, Outcome, Result, finish


def tried(
    fold: Fold, frame: Frame, indices: tuple[int, ...], outcome: Outcome, settling: Callable[[Failed], Frame]
) -> Result:
    """How `frame` goes on after its left node, which ran under `indices`, has ended; `settling` is the frame meanwhile."""
    node = fold.graph.node(frame.node)
    if isinstance(outcome, Done):
        return finish(node, outcome.value, outcome.names)
    if not isinstance(outcome, Failed):
        return outcome
    if fold.closed:
        return STOPPED
    assert node.left is not None
    fold.unwind(fold.scope(node.left, indices), outcome.failure, (frame.node, frame.indices))
    return settling(outcome)
