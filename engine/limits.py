"""Every limit of the machine: name, unit, reason. Limits that the database enforces stand in `df.settings`."""

from __future__ import annotations

STASH_COMPLETIONS = 10_000
"""Completions kept for steps that are not reached yet, an instance. Only a role that forges its own fills it."""

LOOP_PAUSE_US = 1_000_000
"""Between the starts of two iterations of an unconditional loop that waited for nothing, microseconds."""

ERROR_MESSAGE_CHARACTERS = 8_000
"""Of an error's message; a statement can raise any length (200 MB took a process to 1 GB)."""

ERROR_DETAIL_CHARACTERS = 2_000
"""Of an error's detail and of its hint."""

INLINE_VALUE_CHARACTERS = 512
"""A longer result of a step is kept in states by reference to its completion, not copied."""

TRANSIENT_REPETITIONS = 10
"""Repetitions by the engine itself of a step that failed for a transient reason."""

RECURSION = 10_000
"""Python frames: a graph of 256 levels takes about four a level, above the caller's."""

WORK_AT_ONCE = 250_000
"""Nodes that one row may make begin in an instance, and as many in its undos: maps in maps of what ends at once would keep the
engine from all others for hours. Some two seconds; a MAP of `MAP_ITEMS` rows that end at once is within it."""

CHARACTERS_A_NODE = 128
"""Of texts that a node fills in or reads through: so many count as one more node that begins."""

RESULT_LEVELS = 2_000
"""Levels of JSON in the result of an instance. The server's own reader recurses: under the usual max_stack_depth it gives up at
16,000, and a checkpoint with such a result could never be written."""

LONGEST_WAIT_SECONDS = 10_000_000_000
"""Of a duration that a workflow computed, 317 years: any sum with an event's time is still a timestamp."""

UNDO_ATTEMPTS = 10
"""Attempts of a statement in an undo."""

UNDO_PAUSE_US = 500_000
"""Before the second attempt of a statement in an undo, microseconds; doubles with each."""

LONGEST_UNDO_PAUSE_US = 60_000_000
"""Between two attempts of a statement in an undo, microseconds: all of them take four minutes."""

MAP_ITEMS = 100_000
"""Items of one MAP: all of their results are in its state."""

SLEEPER_FRAMES = 100
"""Open nodes of an instance that may be looked through at each checkpoint, to see whether it sleeps."""

SIGNAL_NAME_BYTES = 200
"""Of the name of a signal that is waited for: df.signals takes no longer one."""

INSTANCE_ID_BYTES = 1_000
"""Of the id of an instance that is waited for: none is as long, a child's included."""

UNDO_FAILURES = 20
"""Undo steps that failed for good of which an error tells; of the others it says how many they were."""
