"""Alerts: promtool checks them and runs their unit tests, and each has its runbook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from engine.config import BY_NAME

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
UNIT_TESTS: Final = ROOT / "deploy" / "prometheus" / "rules.test.yml"
RUNBOOKS: Final = ROOT / "deploy" / "runbooks"
WANTED: Final = """
WalflowSlotRetainsTooMuch WalflowSlotLost WalflowSlotInactive WalflowLag WalflowNoLeader WalflowTwoLeaders WalflowOldestPending
WalflowTimersLate WalflowStepsFail WalflowQuarantined WalflowEventLoopLag WalflowConnectionsExhausted WalflowHeartbeatMissing
"""


def alerts() -> list[dict[str, Any]]:
    """All alerts as they stand in the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule]


def promtool(*arguments: str) -> str:
    """What promtool says. Where it is missing the test is left out, loudly; CI has it."""
    found = shutil.which("promtool")
    if found is None:
        missing = "promtool is missing, so the alerts are NOT tested: apt-get install prometheus"
        if os.environ.get("CI") or os.environ.get("LEAVE_NO_TEST_OUT"):
            pytest.fail(missing)
        pytest.skip(missing)
    done = subprocess.run(
        [found, *arguments], cwd=RULES.parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


each_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES.name)


def test_every_rule_fires_when_it_should_and_keeps_quiet_when_it_nearly_would() -> None:
    assert "SUCCESS" in promtool("test", "rules", UNIT_TESTS.name)


def test_promtool_finds_nothing_wrong_with_the_example_of_a_configuration() -> None:
    said = promtool("check", "config", "prometheus.yml")
    assert f"{len(alerts())} rules found" in said
    [job] = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [BY_NAME["listen"].default]}]


def test_every_trouble_has_an_alert() -> None:
    assert {alert["alert"] for alert in alerts()} >= set(WANTED.split())


@each_alert
def test_an_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(alert: dict[str, Any]) -> None:
    cases: Counter[bool] = Counter()
    for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for one in test["alert_rule_test"]:
            if one["alertname"] == alert["alert"]:
                cases[bool(one["exp_alerts"])] += 1
    assert cases[True]
    assert cases[False]


@each_alert
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert re.fullmatch(r"[A-Z\"{].*\.", alert["annotations"]["summary"])
    page = ROOT / alert["annotations"]["runbook_url"]
    assert page.parent == RUNBOOKS
    text = page.read_text()
    assert text.startswith(f"# {alert['alert']}\n")
    for heading in ("See more", "What to do", "It is over when"):
        assert f"\n## {heading}\n" in text


def test_no_runbook_is_of_no_alert() -> None:
    named = {Path(alert["annotations"]["runbook_url"]).name for alert in alerts()}
    assert {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"} == named
