"""The settings: one table of them, read from flags, variables and a TOML file, in that order of precedence.

`SETTINGS` is the only list. Flags (`--step-connections`), variables (`WALFLOW_STEP_CONNECTIONS`) and keys of the file
(`step_connections`) are made from it, and so are the help texts and the errors. `load` reports everything that is wrong
at once, as a ConfigError; no error text contains a value that may be a secret.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from engine.durations import DurationError, parse_seconds
from engine.errors import ConfigError

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
Traces: TypeAlias = Literal["off", "otlp"]

PREFIX: Final = "WALFLOW_"
CONFIG_VARIABLE: Final = "WALFLOW_CONFIG"
MASK: Final = "********"
MASKED_KEYWORDS: Final = frozenset({"password", "sslpassword", "oauth_client_secret"})
LONGEST_DURATION: Final = timedelta(days=36_500)

# Kubernetes puts such variables into every container beside a Service whose name begins with "walflow".
KUBERNETES_VARIABLE: Final = re.compile(
    r"WALFLOW_(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


NOWHERE: Final = "off"
"""As the setting listen: an engine without metrics and health over HTTP. It leads and runs workflows as any other."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What OPERATING.md calls the settings, checked and with their defaults resolved."""

    dsn: str
    """The engine's role, straight to the server; empty: libpq's own environment."""
    replication_dsn: str
    """The role with REPLICATION."""
    step_dsn: str
    """Where steps log in; without user and password unless set so."""
    step_passfile: Path | None
    """Passwords of the submitting roles, in libpq's format."""
    slot: str
    publication: str
    listen: str
    """host:port of metrics and health, or `off`."""
    step_connections: int
    """Connections for steps in all."""
    step_connections_per_role: int
    admission: int
    """Instances in memory at most."""
    grace: timedelta
    """How long steps in flight may go on after SIGTERM."""
    retention: timedelta
    """Age at which finished instances are removed; zero keeps them."""
    log_format: LogFormat
    log_level: LogLevel
    traces: Traces
    """Where OpenTelemetry spans go."""

    @property
    def listen_address(self) -> tuple[str, int] | None:
        """Host and port of `listen`; None when it is off."""
        return None if self.listen == NOWHERE else split_address(self.listen)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One line of OPERATING.md's table. `parse` takes text and raises ValueError with what would have been right."""

    name: str
    parse: Callable[[str], Any]
    default: str
    """The text of the default; or a description in parentheses, when it depends on other things."""
    help: str

    @property
    def flag(self) -> str:
        """As an option of the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def shown_default(self) -> str:
        """For people."""
        return self.default.strip("()") or "none"

    @property
    def variable(self) -> str:
        """As a variable of the environment."""
        return f"{PREFIX}{self.name.upper()}"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Settings, and where each came from (`default`, a flag, a variable or `key of file`)."""

    settings: Settings
    sources: Mapping[str, str]


# -- parsers: text to value, ValueError says what would have been right ----------------------------------------------


def parse_dsn(text: str) -> str:
    """A libpq connection string or URI, unchanged but for white space around it: a line end would be part of a URI's dbname."""
    text = text.strip()
    try:
        conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        # libpq's own message quotes from the string, which may hold a password
        raise ValueError("a libpq connection string or URI, such as postgresql://user@host/dbname") from None
    return text


def parse_path(text: str) -> Path | None:
    """A file that can be read; empty is none."""
    if not text:
        return None
    path = Path(text)
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from None
    return path


def parse_passfile(text: str) -> Path | None:
    """A passfile that libpq will read: it ignores one that others may read, and every login fails for want of a password."""
    path = parse_path(text)
    if path is not None and (path.is_file() and path.stat().st_mode & 0o077):
        raise ValueError(f"a file that its owner alone may read, or libpq ignores it: chmod 0600 {path}")
    return path


def parse_slot_name(text: str) -> str:
    """What PostgreSQL accepts as the name of a slot."""
    if not re.fullmatch(r"[a-z0-9_]{1,63}", text):
        raise ValueError("at most 63 lower-case letters, digits and underscores")
    return text


def parse_identifier(text: str) -> str:
    """A name in PostgreSQL, as it is stored."""
    if not text or len(text.encode()) > 63 or "\0" in text:
        raise ValueError("a name of 1 to 63 bytes")
    return text


def split_address(text: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `:port` (all interfaces)."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"host:port, such as 127.0.0.1:9464, or {NOWHERE}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)


def parse_address(text: str) -> str:
    """An address to listen on, unchanged; `off` or nothing: none."""
    if text in ("", NOWHERE):
        return NOWHERE
    split_address(text)
    return text


def parse_count(text: str) -> int:
    """A whole number from 1 to a million."""
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= 1_000_000:
        raise ValueError("a whole number from 1 to 1000000")
    return int(text)


def parse_duration(text: str) -> timedelta:
    """A number with its unit. Only zero may stand alone: `retention = 30` is not thirty seconds in anybody's mind."""
    expected = "a duration with its unit, such as 500ms, 10s, 5m, 2h or 30d; or 0"
    try:
        seconds = parse_seconds(text)
    except DurationError:
        raise ValueError(expected) from None
    if (seconds and re.fullmatch(r"[\d.eE+-]+", text.strip())) or seconds > LONGEST_DURATION.total_seconds():
        raise ValueError(expected)
    return timedelta(seconds=seconds)


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return parse


def parse_traces(text: str) -> str:
    """`off`, or `otlp` where OpenTelemetry is installed."""
    one_of("off", "otlp")(text)
    if text == "otlp" and importlib.util.find_spec("opentelemetry") is None:
        raise ValueError("off, unless OpenTelemetry is installed: pip install 'walflow[traces]'")
    return text


SETTINGS: Final[Sequence[Setting]] = (
    Setting(
        name="dsn",
        parse=parse_dsn,
        default="(libpq's environment)",
        help="The engine's role, straight to the server: no transaction pooler.",
    ),
    Setting(
        name="replication_dsn",
        parse=parse_dsn,
        default="(dsn)",
        help="The role with REPLICATION, when it is another one (recommended).",
    ),
    Setting(
        name="step_dsn",
        parse=parse_dsn,
        default="(dsn without user and password)",
        help="Where steps log in as the submitting role.",
    ),
    Setting(
        name="step_passfile",
        parse=parse_passfile,
        default="",
        help="Passwords of the submitting roles, in libpq's passfile format.",
    ),
    Setting(name="slot", parse=parse_slot_name, default="walflow", help="The replication slot."),
    Setting(name="publication", parse=parse_identifier, default="walflow", help="The publication."),
    Setting(
        name="listen",
        parse=parse_address,
        default="127.0.0.1:9464",
        help="HTTP address of metrics and health; off: none.",
    ),
    Setting(name="step_connections", parse=parse_count, default="32", help="Connections for steps, in all."),
    Setting(name="step_connections_per_role", parse=parse_count, default="16", help="Connections for steps, a role."),
    Setting(name="admission", parse=parse_count, default="10000", help="Instances in memory at most."),
    Setting(
        name="grace", parse=parse_duration, default="10s", help="How long steps in flight may go on after SIGTERM."
    ),
    Setting(
        name="retention",
        parse=parse_duration,
        default="30d",
        help="Age at which finished instances and their history are removed; 0 keeps them.",
    ),
    Setting(
        name="log_format", parse=one_of("text", "json"), default="(text on a terminal, else json)", help="text or json."
    ),
    Setting(
        name="log_level",
        parse=one_of("debug", "info", "warning", "error"),
        default="info",
        help="debug, info, warning or error.",
    ),
    Setting(
        name="traces",
        parse=parse_traces,
        default="off",
        help="off or otlp: OpenTelemetry spans, as its own variables say (OTEL_EXPORTER_OTLP_ENDPOINT …).",
    ),
)
BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """A setting's text and where it stood."""

    text: str
    source: str


def load(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    config: Path | None = None,
    *,
    terminal: bool | None = None,
) -> Loaded:
    """Read and check all settings. `flags` are by setting name, None for those not given; `config` is --config's file.

    `terminal` says whether the log goes to one (default: whether stderr is). Raises ConfigError.
    """
    problems: list[str] = []
    path = config or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    given = _from_file(path, problems) if path else {}
    given |= _from_environment(environment, problems)
    given |= {name: _Given(text, BY_NAME[name].flag) for name, text in flags.items() if text is not None}
    values = _parse(given, problems)
    if problems:
        raise ConfigError("\n".join([*problems, "", "valid settings:", *_valid_settings()]))
    _fill_defaults(values, environment, sys.stderr.isatty() if terminal is None else terminal)
    sources = {name: given[name].source if name in given else "default" for name in BY_NAME}
    return Loaded(settings=Settings(**values), sources=sources)


def _from_file(path: Path, problems: list[str]) -> dict[str, _Given]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return {}
    given = {}
    for name, value in content.items():
        if name not in BY_NAME:
            problems.append(f"{path}: there is no setting {name!r}")
        elif isinstance(value, bool) or not isinstance(value, str | int):
            problems.append(f"{path}: {name} must be a string or a whole number")
        else:
            given[name] = _Given(str(value), f"{name} in {path}")
    return given


def _from_environment(environment: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    given = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or KUBERNETES_VARIABLE.fullmatch(variable):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in BY_NAME and BY_NAME[name].variable == variable:
            given[name] = _Given(text, variable)
        else:
            problems.append(f"{variable}: there is no setting {name!r}")
    return given


def _parse(given: Mapping[str, _Given], problems: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, found in given.items():
        try:
            values[name] = BY_NAME[name].parse(found.text)
        except ValueError as error:
            shown = "" if name.endswith("dsn") else f" {found.text!r} is no good:"
            problems.append(f"{found.source}:{shown} it must be {error}")
    return values


def _fill_defaults(values: dict[str, Any], environment: Mapping[str, str], terminal: bool) -> None:
    for setting in SETTINGS:
        if not setting.default.startswith("("):
            values.setdefault(setting.name, setting.parse(setting.default))
    dsn = _with_password(values.get("dsn", ""), environment.get("PGPASSWORD"))
    values["dsn"] = dsn
    values.setdefault("replication_dsn", dsn)
    values.setdefault("step_dsn", without_credentials(dsn))
    values.setdefault("log_format", "text" if terminal else "json")


def _with_password(dsn: str, password: str | None) -> str:
    """Put PGPASSWORD where it belongs, so that the caller can take it out of the environment.

    Left there, libpq would send the engine's password for every submitting role, and never look into step_passfile.
    """
    if password is None or "password" in conninfo_to_dict(dsn):
        return dsn
    return make_conninfo(dsn, password=password)


def without_credentials(dsn: str) -> str:
    """Return the connection string without what says who connects, and without session options: a step's are its role's."""
    kept = conninfo_to_dict(dsn)
    for keyword in ("user", "password", "passfile", "options", "application_name"):
        kept.pop(keyword, None)
    return make_conninfo("", **cast("dict[str, str]", kept))


# -- showing ----------------------------------------------------------------------------------------------------------


def shown(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return (name, value, source) of every setting, secrets masked."""
    return [(name, _shown_value(name, getattr(loaded.settings, name)), loaded.sources[name]) for name in loaded.sources]


def _shown_value(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return shown_duration(value)
    return mask_dsn(str(value)) if name.endswith("dsn") else str(value)


def mask_dsn(dsn: str) -> str:
    """Return the connection string with its secrets masked."""
    parts = conninfo_to_dict(dsn)
    return make_conninfo("", **{key: MASK if key in MASKED_KEYWORDS else str(value) for key, value in parts.items()})


def shown_duration(value: timedelta) -> str:
    """Return a duration as settings are written: `10s`, `30d`, `1.5s`."""
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s" if seconds else "0"


def _valid_settings() -> Iterable[str]:
    width = max(len(setting.name) for setting in SETTINGS)
    for setting in SETTINGS:
        yield f"  {setting.name:{width}}  {setting.help} [{setting.shown_default}]"
