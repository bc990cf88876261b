"""The kinds of nodes, a module each. Importing this package registers them all."""

from engine.nodes import branch, jump, loop, parallel, race, sequence, signal, sleep, statement

__all__ = ["branch", "jump", "loop", "parallel", "race", "sequence", "signal", "sleep", "statement"]
