"""The console blocks of docs/command-line.md: run as they stand there, on a terminal of 80 columns, and compared or written anew.

    python -m tests.cli.documents

writes what the commands say today into the document. Lines that begin with `$ ` are commands; a file has what stands below `cat`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.cli.commands import environment_of
from tests.cli.terminal import Terminal
from tests.servers import Cluster, Database, wait_until
from tests.workflows import World, world

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "command-line.md"
BLOCK: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_THE_ENGINE: Final = ("doctor", "migrate")
"""Commands that want the engine's role."""
LINES: Final = 100
# what differs from run to run, and what stands for it where two runs are compared
VARYING: Final = (
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\d\d:\d\d:\d\d UTC", "TIME"),
    (r"just now|(?<!\w)\d+[smhd] ago", "AGO"),
    (r"[+]?(?<![\w$])\d+(?:\.\d+)?(?:ms|s|m|h|d)(?: \d\d[smh])?(?!\w)", "SPAN"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"[0-9A-F]+/[0-9A-F]+", "LSN"),
    (r"\d+(?:\.\d+)? [kMGT]?B\b", "SIZE"),
    (r"\d+(?:\.\d+)?k?/s", "RATE"),
    (r"(?<=start )-|(?<=signal )-|(?<=run )-|(?<=p99 )-|(?<=late )-|(?<=wait )-|(?<=checkpoints )-", "SPAN"),
    (r"\d+ (?=busy|idle|connecting|roles|running|pending)", "N "),
    (r"(?<=epoch )\d+|(?<=in flight )\d+|(?<=backend )\d+", "N"),
    (r"PostgreSQL \d+\.\d+|version \d+|\(\d+ of \d+ in use\)", "VERSION"),
    (r"[▁▂▃▄▅▆▇█]+", ""),
    (r"[ \n]+", " "),
)


def comparable(text: str) -> str:
    """What two runs must agree on; where lines are broken and columns begin depends on what varies."""
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return text


class Reader:
    """Whoever follows the document, command by command, in a directory of their own."""

    def __init__(self, here: World, directory: Path) -> None:
        self._here = here
        here.run("select df.revoke_usage('bob')")  # the reader has one role
        self._directory = directory

    def block(self, text: str) -> str:
        """The block with what its commands say now."""
        lines = []
        for command, below in _commands(text):
            lines += [f"$ {command}", *self._run(command, below)]
        return "".join(f"{line}\n" for line in lines)

    def _run(self, command: str, below: list[str]) -> list[str]:
        database = self._here.database
        if command.startswith("cat "):
            (self._directory / command.removeprefix("cat ")).write_text("\n".join(below) + "\n")
            return below
        if command.startswith("psql -c "):
            self._here.run(command.removeprefix("psql -c ").strip("'"))
            return []
        of_the_engine = any(f"walflow {word}" in command for word in OF_THE_ENGINE)
        environment = {
            **environment_of(database),
            **({"WALFLOW_DSN": database.engine_dsn} if of_the_engine else {}),
            "WALFLOW_SLOT": database.slot,
        }
        line = command.replace("walflow top", f"walflow top --url http://127.0.0.1:{self._here.engine.port}")
        line = line.replace("walflow ", f"{sys.executable} -m engine ")
        with Terminal(shell=f"cd {self._directory}; {line}", lines=LINES, environment=environment) as terminal:
            terminal.end()
            said = terminal.text
        self._settle()
        return [row.rstrip() for row in self._named(said).splitlines()]

    def _settle(self) -> None:
        """Until all is as still as it was when somebody typed the next command."""
        wait_until(
            lambda: (
                not self._here.run(
                    "select 1 from df.instances i left join df.progress p on p.instance_key = i.key "
                    "where i.status in ('pending', 'running') and (p.instance_key is null or exists ("
                    "  select from df.cancellations c where c.instance_key = i.key)) "
                    "union all select 1 from df.signals where not folded or taken_by is null "
                    "union all select 1 from df.instances where status = 'running' and id in (select instance_id from df.signals)"
                )
            )
        )

    def _named(self, text: str) -> str:
        database = self._here.database
        for ours, theirs in ((database.slot, "walflow"), (database.name, "app"), ("alice", "app")):
            text = text.replace(ours, theirs)
        return re.sub(
            r"127\.0\.0\.1:(?!9464)\d+", "127.0.0.1:5432", text.replace(f":{self._here.engine.port}", ":9464")
        )


def _commands(block: str) -> list[tuple[str, list[str]]]:
    """Each command, and the lines below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return found


def as_long_as_shown(database: Database) -> Database:
    """The database with a slot whose name takes no more room on a line than the usual one."""
    database.slot = f"s{database.name}"
    return database


def written_anew(text: str, here: World) -> str:
    """The document with what its commands say now."""
    with tempfile.TemporaryDirectory() as directory:
        reader = Reader(here, Path(directory))
        return BLOCK.sub(lambda block: f"```console\n{reader.block(block[1])}```", text)


def main() -> None:
    """Write the document anew."""
    cluster = Cluster(18).start()
    try:
        database = as_long_as_shown(cluster.database())
        with tempfile.TemporaryDirectory() as directory, world(database, database.engine(Path(directory))) as here:
            here.engine.start()
            DOCUMENT.write_text(written_anew(DOCUMENT.read_text(), here))
        database.drop()
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
