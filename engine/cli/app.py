"""All commands put together, and what came of one turned into an exit code. Errors go to stderr as what, where and what to do."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Annotated, Final, NoReturn

import psycopg
import typer
from rich.padding import Padding
from rich.text import Text

from engine import signals
from engine.cli import dev, doctor, listing, migrate, output, reading, run, showing, starting, steering
from engine.cli.exits import Exit
from engine.cli.top import command as top
from engine.embedded import EmbeddedError
from engine.errors import ConfigError, Fenced, Unfit
from metrics.collect import walflow_version
from metrics.exposition import AddressUnusable
from sql.migrate import MigrateError

UNWRITABLE: Final = (errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EDQUOT)

app = typer.Typer(
    name="walflow",
    help="Durable workflows that start when your transaction commits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command("list", epilog=listing.EXAMPLE)(listing.list_command)
app.command("show", epilog=showing.EXAMPLE)(showing.show)
app.command("explain", epilog=reading.EXPLAIN_EXAMPLE)(reading.explain)
app.command("history", epilog=reading.HISTORY_EXAMPLE)(reading.history_command)
app.command("start", epilog=starting.EXAMPLE)(starting.start)
app.command("signal", epilog=steering.SIGNAL_EXAMPLE)(steering.signal_command)
app.command("cancel", epilog=steering.CANCEL_EXAMPLE)(steering.cancel)
app.command("retry", epilog=steering.RETRY_EXAMPLE)(steering.retry)
app.command("top", epilog=top.EXAMPLE)(top.top)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("migrate", epilog=migrate.EXAMPLE)(migrate.migrate_command)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.command("dev", epilog=dev.EXAMPLE)(dev.dev)


def main() -> NoReturn:
    """The console script."""
    signals.heed_as_first_process()
    sys.exit(_outcome())


def _outcome() -> int:
    try:
        try:
            app(prog_name="walflow", standalone_mode=True)
        finally:
            sys.stdout.flush()  # here a closed pipe is an error of ours to handle, later the interpreter's to complain about
    except SystemExit as end:
        return _code(end)
    except (ConfigError, AddressUnusable) as error:
        return _complain(error, Exit.USAGE)
    except Fenced as error:
        return _complain(error, Exit.FENCED)
    except (Unfit, MigrateError, EmbeddedError, psycopg.OperationalError) as error:
        return _complain(error, Exit.UNFIT)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:
        if output.is_closed_pipe(error):
            output.leave_pipe()
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            output.let_go()
            return _complain(Unfit(f"the output cannot be written: {error.strerror}"), Exit.USAGE)
        traceback.print_exc()
        print("walflow: this is a bug; please report it with the lines above", file=sys.stderr)
        return Exit.BUG
    return Exit.OK


def _code(end: SystemExit) -> int:
    """What the library of commands ended with; a closed pipe and Ctrl-C are not its failures."""
    cause: BaseException | None = end
    while cause is not None:
        if output.is_closed_pipe(cause):
            return Exit.OK
        if isinstance(cause, KeyboardInterrupt):
            return Exit.INTERRUPTED
        cause = cause.__context__
    return end.code if isinstance(end.code, int) else Exit.OK if end.code is None else Exit.BUG


def _complain(error: Exception, code: Exit) -> int:
    """Say what happened and what to do; the hint is the error's own."""
    beside = output.stderr()
    beside.put(Text(f"walflow: {error}"))
    if hint := getattr(error, "hint", None):
        beside.put(Padding(Text(f"what to do: {hint}"), (0, 0, 0, 2)))
    return code


def _version(wanted: bool) -> None:
    if wanted:
        print(f"walflow {walflow_version()}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Durable workflows that start when your transaction commits."""
