"""What an engine's /metrics says, as numbers by name and labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from metrics.collect import Metrics
from tests.servers import EngineProcess

Sample = tuple[str, tuple[tuple[str, str], ...]]
Samples = dict[Sample, float]


def samples_of(text: str) -> Samples:
    """Each sample of a page of metrics."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(engine: EngineProcess) -> Samples:
    """What an engine says now; nothing when it does not answer."""
    code, text = engine.get("/metrics")
    return samples_of(text) if code == 200 else {}


NOTHING_HAPPENED: Final = samples_of(generate_latest(Metrics().registry()).decode())


class Moved:
    """Which samples were ever seen with another value than they begin with, on any engine."""

    def __init__(self) -> None:
        self._moved: set[Sample] = set()

    def look(self, *engines: EngineProcess) -> None:
        """Scrape once."""
        for engine in engines:
            self._moved |= {
                sample for sample, value in scrape(engine).items() if value != NOTHING_HAPPENED.get(sample, 0)
            }

    def has(self, names: Iterable[str], **labels: str) -> bool:
        """Whether a sample of one of these names with these labels moved."""
        wanted, among = set(labels.items()), set(names)
        return any(name in among and wanted <= set(given) for name, given in self._moved)
