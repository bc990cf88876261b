"""Processes of walflow that are forked off one which has imported everything: a quarter to half a second of processor time less
for each.

What is forked is a process as any other, in a session of its own, with its own environment, streams, signals and exit code; only
the imports it has in common with others. It dies with the process that it was forked off, and that one with the tests.

    python -m tests.warm FD

serves a socket: one line of JSON asks, one answers. `{"arguments": …, "variables": …, "streams": …}` starts a process and gives
its process id; `{"wait": pid}` gives the exit code of one that has ended.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, NoReturn

ROOT: Final = Path(__file__).parent.parent
PR_SET_PDEATHSIG: Final = 1
POSSIBLE: Final = hasattr(os, "pidfd_open")
"""Whether this system can tell of the end of a process that is not ours. Elsewhere each process starts by itself."""


class WarmProcess:
    """What the tests want of subprocess.Popen. `walflow` with these arguments and variables; what it writes is appended to files,
    UTF-8 whatever the variables say.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        *,
        stdin: Path = Path(os.devnull),
        stdout: Path,
        stderr: Path,
    ) -> None:
        self.returncode: int | None = None
        self._name = " ".join(("walflow", *arguments))
        streams = [str(stdin), str(stdout), str(stderr)]
        self.pid: int = _ask({"arguments": list(arguments), "variables": dict(variables), "streams": streams})
        self._ended = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self._name, timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Unless it has ended. Until somebody waits for it nobody else has its process id."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            self.returncode = _ask({"wait": self.pid})
            os.close(self._ended)
        return self.returncode


def run(
    arguments: Sequence[str], variables: Mapping[str, str], stdin: str | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run: a command, to its end, with what it wrote."""
    with tempfile.TemporaryDirectory() as name:
        given, out, err = (Path(name, stream) for stream in ("stdin", "stdout", "stderr"))
        given.write_text(stdin or "")
        process = WarmProcess(arguments, variables, stdin=given, stdout=out, stderr=err)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(["walflow", *arguments], code, out.read_text(), err.read_text())


# --- the side of the tests ------------------------------------------------------------------------------------------------

_lock: Final = threading.Lock()
_ours: list[tuple[socket.socket, Any]] = []


def _ask(question: Mapping[str, object]) -> int:
    """Of this process' own; it is started when it is needed first."""
    with _lock:
        if not _ours:
            _ours.append(_start())
        answers = _ours[0][1]
        answers.write(json.dumps(question).encode() + b"\n")
        answers.flush()
        answer: int = json.loads(answers.readline())
        return answer


def _start() -> tuple[socket.socket, Any]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    answers = ours.makefile("rwb")

    def close() -> None:
        ours.shutdown(socket.SHUT_RDWR)
        process.wait()
        answers.close()
        ours.close()

    atexit.register(close)
    return ours, answers


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# --- the side of the process that is forked -------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Start engines, and say how they ended, until nobody asks any more."""
    for module in ("engine.cli", "engine.runner"):
        import_module(module)
    with socket.socket(fileno=descriptor) as here, here.makefile("rwb") as questions:
        for line in questions:
            question = json.loads(line)
            if "wait" in question:
                answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
            else:
                answer = os.fork()
                if answer == 0:
                    os.close(descriptor)
                    _run(question["arguments"], question["variables"], question["streams"])
            questions.write(json.dumps(answer).encode() + b"\n")
            questions.flush()


def _run(arguments: list[str], variables: Mapping[str, str], streams: list[str]) -> NoReturn:
    """Be `walflow`."""
    code: object = 1
    try:
        os.setsid()
        die_with_parent()
        for descriptor, path in enumerate(streams):
            opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT if descriptor else os.O_RDONLY)
            os.dup2(opened, descriptor)
            os.close(opened)
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            assert isinstance(stream, TextIOWrapper)
            stream.reconfigure(encoding="utf-8")
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = ["walflow", *arguments]
        from engine.cli import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
