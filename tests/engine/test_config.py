"""Settings: where they come from, what is refused, and that no secret is ever shown."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from engine.config import (
    MASK,
    SETTINGS,
    Loaded,
    load,
    mask_dsn,
    parse_duration,
    shown,
    shown_duration,
    split_address,
)
from engine.errors import ConfigError


def loaded(
    flags: dict[str, str | None] | None = None, environment: dict[str, str] | None = None, config: Path | None = None
) -> Loaded:
    return load(flags or {}, environment or {}, config, terminal=False)


def refusal(
    flags: dict[str, str | None] | None = None, environment: dict[str, str] | None = None, config: Path | None = None
) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(flags, environment, config)
    return str(caught.value)


def test_defaults_are_those_of_the_operating_contract() -> None:
    settings = loaded().settings
    assert (settings.slot, settings.publication, settings.listen) == ("walflow", "walflow", "127.0.0.1:9464")
    assert (settings.step_connections, settings.step_connections_per_role, settings.admission) == (32, 16, 10_000)
    assert (settings.grace, settings.retention) == (timedelta(seconds=10), timedelta(days=30))
    assert (settings.log_format, settings.log_level) == ("json", "info")
    assert (settings.dsn, settings.replication_dsn, settings.step_dsn, settings.step_passfile) == ("", "", "", None)


def test_logs_are_text_on_a_terminal() -> None:
    assert load({}, {}, terminal=True).settings.log_format == "text"


def test_a_flag_beats_a_variable_which_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "walflow.toml"
    file.write_text('slot = "from_file"\npublication = "from_file"\nadmission = 3\n')
    found = loaded({"slot": "from_flag"}, {"WALFLOW_SLOT": "from_env", "WALFLOW_PUBLICATION": "from_env"}, file)
    assert found.settings.slot == "from_flag"
    assert found.settings.publication == "from_env"
    assert found.settings.admission == 3
    assert found.sources["slot"] == "--slot"
    assert found.sources["publication"] == "WALFLOW_PUBLICATION"
    assert found.sources["admission"] == f"admission in {file}"
    assert found.sources["grace"] == "default"


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "walflow.toml"
    file.write_text('grace = "1m"\n')
    assert loaded(environment={"WALFLOW_CONFIG": str(file)}).settings.grace == timedelta(minutes=1)


def test_an_unknown_variable_is_refused_with_the_list_of_settings() -> None:
    text = refusal(environment={"WALFLOW_STEP_CONECTIONS": "3"})
    assert "WALFLOW_STEP_CONECTIONS: there is no setting 'step_conections'" in text
    assert all(setting.name in text for setting in SETTINGS)


def test_an_unknown_key_of_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "walflow.toml"
    file.write_text("[walflow]\nslot = 'x'\n")
    assert f"{file}: there is no setting 'walflow'" in refusal(config=file)


def test_a_file_that_is_missing_or_broken_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(config=tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("slot = ")
    assert "cannot be read" in refusal(config=tmp_path / "broken.toml")


def test_everything_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "walflow.toml"
    file.write_text("admission = true\n")
    text = refusal({"grace": "soon"}, {"WALFLOW_LISTEN": "9464"}, file)
    assert "admission must be a string or a whole number" in text
    assert "--grace: 'soon' is no good: it must be a duration with its unit" in text
    assert "WALFLOW_LISTEN: '9464' is no good: it must be host:port" in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("step_connections", "0"),
        ("step_connections", "many"),
        ("step_connections", "-1"),
        ("step_connections", "1.5"),
        ("admission", "9999999"),
        ("slot", "Has-Capitals"),
        ("slot", ""),
        ("publication", ""),
        ("listen", "localhost:99999"),
        ("grace", "-1s"),
        ("grace", "10"),
        ("retention", "1000000d"),
        ("log_format", "xml"),
        ("log_level", "INFO"),
        ("step_passfile", "/nonexistent/passfile"),
        ("dsn", "this is no dsn"),
    ],
)
def test_an_ill_typed_value_is_refused(name: str, text: str) -> None:
    assert f"--{name.replace('_', '-')}:" in refusal({name: text})


@pytest.mark.parametrize("text", ["off", ""])
def test_no_address_to_listen_on_is_a_choice(text: str) -> None:
    settings = loaded({"listen": text}).settings
    assert settings.listen == "off"
    assert settings.listen_address is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_passfile_that_libpq_would_ignore_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    passfile = tmp_path / "passfile"
    passfile.touch(mode=0o600)
    assert loaded({"step_passfile": str(passfile)}).settings.step_passfile == passfile
    passfile.chmod(mode)
    assert f"chmod 0600 {passfile}" in refusal({"step_passfile": str(passfile)})


def test_the_line_end_of_a_file_that_a_dsn_came_from_is_not_part_of_it() -> None:
    assert loaded({"dsn": "postgresql://engine@db/app\n"}).settings.dsn == "postgresql://engine@db/app"


def test_variables_that_kubernetes_makes_for_a_service_are_no_settings() -> None:
    loaded(
        environment={
            "WALFLOW_SERVICE_HOST": "10.0.0.1",
            "WALFLOW_SERVICE_PORT": "9464",
            "WALFLOW_SERVICE_PORT_HTTP": "9464",
            "WALFLOW_PORT": "tcp://10.0.0.1:9464",
            "WALFLOW_PORT_9464_TCP": "tcp://10.0.0.1:9464",
            "WALFLOW_PORT_9464_TCP_ADDR": "10.0.0.1",
            "WALFLOW_METRICS_SERVICE_HOST": "10.0.0.2",
        }
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 0.5), ("10s", 10), ("5m", 300), ("2h", 7200), ("30d", 2_592_000), ("1 h 30 min", 5400), ("0", 0)],
)
def test_durations_have_units(text: str, expected: float) -> None:
    assert parse_duration(text).total_seconds() == expected


@pytest.mark.parametrize("text", ["0", "1.5s", "10s", "5m", "2h", "30d"])
def test_durations_are_shown_as_they_are_written(text: str) -> None:
    assert shown_duration(parse_duration(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:2", ("::1", 2)), (":3", ("0.0.0.0", 3))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected


def test_replication_logs_in_as_the_engine_unless_told_otherwise() -> None:
    assert loaded({"dsn": "user=engine host=db"}).settings.replication_dsn == "user=engine host=db"
    both = loaded({"dsn": "user=engine host=db", "replication_dsn": "user=reader host=db"}).settings
    assert both.replication_dsn == "user=reader host=db"


def test_steps_log_in_without_the_engines_credentials() -> None:
    step_dsn = loaded({"dsn": "postgresql://engine:secret@db:5433/app?sslmode=require"}).settings.step_dsn
    assert "engine" not in step_dsn
    assert "secret" not in step_dsn
    assert {"host=db", "port=5433", "dbname=app", "sslmode=require"} == set(step_dsn.split())


def test_pgpassword_becomes_the_engines_own_and_not_the_steps() -> None:
    settings = loaded({"dsn": "host=db user=engine"}, {"PGPASSWORD": "secret"}).settings
    assert "password=secret" in settings.dsn
    assert "secret" not in settings.step_dsn


@pytest.mark.parametrize(
    "dsn", ["postgresql://engine:hush@db/app", "host=db user=engine password=hush sslpassword=hush"]
)
def test_secrets_are_masked(dsn: str) -> None:
    assert "hush" not in mask_dsn(dsn)
    assert MASK in mask_dsn(dsn)
    rows = shown(loaded({"dsn": dsn}))
    assert "hush" not in str(rows)
    assert [name for name, _, _ in rows] == [setting.name for setting in SETTINGS]


def test_a_broken_dsn_is_not_repeated_in_the_error() -> None:
    assert "hush" not in refusal({"dsn": "password=hush more"})
    assert "hush" not in refusal({"step_dsn": "postgresql://engine:hush@[db/app"})
