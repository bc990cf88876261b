"""`python -m engine.demo [--fast]`: exit 0 when everything ended as it must, 1 with what did not, 130 when interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType
from typing import Final, NoReturn

import psycopg

from engine.demo.scenes import DEFAULT, FAST, Pace, Play
from engine.demo.screen import Screen
from engine.demo.stage import NotAsItMust, Stage
from engine.embedded import EmbeddedError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AS_IT_MUST: Final = 0
WRONG: Final = 1
INTERRUPTED: Final = 130
AGAIN_SECONDS: Final = 0.05


class Interrupted(BaseException):
    """A signal to stop. No KeyboardInterrupt: where one has passed through an `exec`, as dataclasses do in an import, Python
    kills itself in the end, although it was caught.
    """


def main(arguments: list[str] | None = None) -> int:
    """Shows the demo; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.demo",
        description="Real workflows on an embedded PostgreSQL, one through a killed engine.",
    )
    parser.add_argument("--fast", action="store_true", help="shorter waits, for use as a test")
    pace = FAST if parser.parse_args(arguments).fast else DEFAULT
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    sys.unraisablehook = _again
    screen = Screen()
    try:
        _perform(screen, pace)
    except Interrupted:
        screen.line("\ninterrupted; nothing is left behind", "bold")
        return INTERRUPTED
    return _verdict(screen)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Cleans up, whichever signal it was; further ones must not disturb that."""
    for further in SIGNALS:
        signal.signal(further, signal.SIG_IGN)
    raise Interrupted


def _again(ignored: sys.UnraisableHookArgs) -> None:
    """Where Python cannot raise (a finalizer, a hook of fork) it drops the interrupt: here it comes again, a moment later."""
    if not issubclass(ignored.exc_type, Interrupted):
        sys.__unraisablehook__(ignored)
        return
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _perform(screen: Screen, pace: Pace) -> None:
    began = time.monotonic()
    screen.line("walflow: durable workflows that start when your transaction commits", "bold")
    try:
        with screen.busy("starting an embedded PostgreSQL …"):
            stage = Stage()
        with stage:
            _play(stage, screen, pace)
    except EmbeddedError as error:
        screen.check(str(error), False)
    screen.line(f"\nserver and engine are stopped and removed; all of it took {time.monotonic() - began:.1f} s", "dim")


def _play(stage: Stage, screen: Screen, pace: Pace) -> None:
    try:
        with screen.busy("starting the engine …"):
            seconds = stage.start_engine()
        screen.line(f"PostgreSQL {stage.server_version} with schema df; the engine leads after {seconds:.1f} s", "dim")
        Play(stage, screen, pace).run()
    except (NotAsItMust, psycopg.Error) as error:
        screen.check(str(error).strip(), False)
        screen.line(f"\nthe end of the engine's log:\n{stage.engine_log()}", "dim")


def _verdict(screen: Screen) -> int:
    if not screen.failures:
        screen.line(f"all {screen.checks} checks hold", "bold green")
        return AS_IT_MUST
    print(f"walflow demo: {len(screen.failures)} of {screen.checks} checks do not hold:", file=sys.stderr)
    for failure in screen.failures:
        print(f"  {failure}", file=sys.stderr)
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
