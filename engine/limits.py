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

LONGEST_WAIT_SECONDS = 10_000_000_000
"""Of a duration that a workflow computed, 317 years: any sum with an event's time is still a timestamp."""
