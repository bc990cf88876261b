"""Writes the rules of deploy/prometheus as the object that the Prometheus operator takes:

    python -m tests.deploy.rules

Run it after any change of deploy/prometheus/rules.yml; a test compares the two.
"""

from __future__ import annotations

import textwrap
from typing import Final

from tests.deploy.manifests import KUSTOMIZE, ROOT

RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
OBJECT: Final = KUSTOMIZE / "components" / "prometheus-rule" / "prometheusrule.yaml"
HEAD: Final = """\
# Made from deploy/prometheus/rules.yml by `python -m tests.deploy.rules`: change that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: walflow
  labels:
    app.kubernetes.io/name: walflow
spec:
"""


def as_object(rules: str) -> str:
    """The rules as they stand, comments and all, below `spec`."""
    return HEAD + textwrap.indent(rules.removeprefix("---\n"), "  ")


if __name__ == "__main__":
    OBJECT.write_text(as_object(RULES.read_text()))
