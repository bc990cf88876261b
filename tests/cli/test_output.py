"""JSON that loses nothing, and streams that cannot say everything."""

from __future__ import annotations

import io
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from engine.cli import output, terminal
from engine.cli.output import Out, Raw, as_json


def test_what_is_json_already_stays_as_it_is() -> None:
    exact = '{"n":1.10, "big":123456789012345678901234567890.5, "a":1, "a":2}'
    assert as_json({"result": Raw(exact), "none": None}) == f'{{"result": {exact}, "none": null}}'


def test_times_are_iso_and_numbers_that_json_has_not_are_null() -> None:
    value = {"at": datetime(2026, 1, 2, tzinfo=UTC), "nan": float("nan"), "yes": True, "list": [1, "ü", ("x",)]}
    assert as_json(value) == (
        '{"at": "2026-01-02T00:00:00.000000Z", "nan": null, "yes": true, "list": [1, "ü", ["x"]]}'
    )


def test_on_a_terminal_it_is_indented_and_means_the_same() -> None:
    value: dict[str, object] = {"a": [1, {"b": None}], "empty": [], "none": {}}
    assert json.loads(as_json(value, indent=2)) == value
    assert as_json(value, indent=2).splitlines()[1] == '  "a": ['


def test_what_an_encoding_cannot_say_is_said_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", newline="\n"))
    out = output.stdout()
    out.put("✓ ⏳ ○ ⊘ ↻ … é")
    out.file.flush()
    assert raw.getvalue() == b"+ > . - @ ... ?\n"


def test_off_a_terminal_no_line_is_broken_and_none_ends_in_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    output.stdout().put("x" * 500 + "   ")
    assert stream.getvalue() == "x" * 500 + "\n"


def test_a_stream_that_nobody_reads_ends_the_command_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    def ended() -> None:
        raise SystemExit(0)

    monkeypatch.setattr("engine.cli.output.leave_pipe", ended)
    with pytest.raises(SystemExit) as end:
        Out(file=Closed()).print("nobody hears this")
    assert end.value.code == 0


@contextmanager
def heeded(number: signal.Signals) -> Iterator[None]:
    """Whoever runs the tests in the background has Ctrl-C ignored."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_must_not_be_left_half_drawn_is_drawn_before_ctrl_c_is_heeded(number: signal.Signals) -> None:
    drawn = False
    with heeded(signal.SIGINT), terminal.stopped_quietly():
        with terminal.undisturbed():
            signal.pthread_kill(threading.get_ident(), number)  # another thread might take what is sent to the process
            drawn = True
        pytest.fail("it goes on")
    assert drawn
