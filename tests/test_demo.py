"""`make demo` as a newcomer runs it: everything ends as it must, and nothing is left behind, also when it is interrupted."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from rich.console import Console

from engine.demo.__main__ import INTERRUPTED, WRONG, _verdict
from engine.demo.screen import Screen
from engine.demo.stage import NotAsItMust
from tests.servers import wait_until

COMMAND = [sys.executable, "-m", "engine.demo", "--fast"]
FAST_SECONDS = 100.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A TMPDIR of its own that every user may enter: root's servers run as somebody else."""
    made = Path(tempfile.mkdtemp(prefix="walflow-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(directory)}


def living(directory: Path) -> list[str]:
    """The command lines of all processes that were started with this TMPDIR."""
    mark = f"TMPDIR={directory}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def left_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_the_demo_ends_as_it_must_and_leaves_nothing(directory: Path) -> None:
    done = subprocess.run(
        COMMAND,
        env=environment(directory),
        capture_output=True,
        text=True,
        timeout=FAST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    assert "✗" not in done.stdout
    assert "\x1b" not in done.stdout, "plain where it is no terminal"
    assert re.search(r"\$ kill -9 \d+", done.stdout)
    assert re.search(r"1000 workflows of three steps in .* steps a second", done.stdout)
    assert left_in(directory) == []
    wait_until(lambda: not living(directory), what=f"no process is left: {living(directory)}")


@pytest.mark.parametrize(
    ("moment", "number"),
    [("PostgreSQL 18", signal.SIGINT), ("2. Approve", signal.SIGTERM), ("$ kill -9", signal.SIGINT)],
)
def test_an_interrupted_demo_leaves_nothing(directory: Path, moment: str, number: signal.Signals) -> None:
    process = subprocess.Popen(
        COMMAND, env=environment(directory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        before = list(takewhile(lambda line: moment not in line, output))
        process.send_signal(number)
        process.send_signal(number)  # people are impatient
        rest = output.read()
    assert process.wait(FAST_SECONDS) == INTERRUPTED, f"{before}\n{rest}"
    assert "Traceback" not in rest
    assert left_in(directory) == []
    wait_until(lambda: not living(directory), what=f"no process is left: {living(directory)}")


INTERRUPTED_IN_A_FINALIZER = """
import signal, sys, time
import engine.demo.__main__ as demo

class Deaf:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def perform(screen, pace):
    Deaf()
    print("not heard yet", flush=True)
    time.sleep(30)

demo._perform = perform
sys.exit(demo.main(["--fast"]))
"""


def test_an_interrupt_that_python_cannot_raise_comes_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IN_A_FINALIZER], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == INTERRUPTED, done.stderr
    assert "not heard yet\n" in done.stdout
    assert "interrupted; nothing is left behind" in done.stdout
    assert done.stderr == ""


def screen(*, terminal: bool = False) -> tuple[Screen, io.StringIO]:
    written = io.StringIO()
    return Screen(console=Console(file=written, width=80, highlight=False, force_terminal=terminal)), written


def test_a_claim_that_does_not_hold_ends_the_demo_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    shown, written = screen()
    shown.check("it holds", holds=True)
    shown.check("one is one", holds=False, seen=2)
    assert _verdict(shown) == WRONG
    assert "✓ it holds\n✗ one is one (seen: 2)\n" in written.getvalue()
    assert "one is one (seen: 2)" in capsys.readouterr().err


def test_what_does_not_come_in_time_is_an_error_after_its_last_picture() -> None:
    shown, written = screen()
    with pytest.raises(NotAsItMust, match=r"not within 0 s: it ends"):
        shown.watch(lambda: ("the picture", False), 0, "it ends")
    assert written.getvalue() == "  the picture\n\n"


def test_a_terminal_shows_sql_in_colour_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*[39][0-7]")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured, written = screen(terminal=True)
    coloured.sql("select 1;")
    assert colour.search(written.getvalue())
    monkeypatch.setenv("NO_COLOR", "1")
    plain, written = screen(terminal=True)
    plain.sql("select 1;")
    plain.check("it holds", holds=True)
    assert not colour.search(written.getvalue())
