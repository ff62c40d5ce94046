"""Asks the services for their metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping

from console import metrics
from console.fetch import fetch
from console.metrics import Rates, Source, Totals

#: Seconds between two looks.
EVERY = 2.0


def ask(services: Mapping[str, str]) -> list[Source]:
    """The metrics of those services (name to URL) that answer."""
    answers = fetch([f"{url}/metrics" for url in services.values()])
    now = time.monotonic()
    found = [(name, answers[f"{url}/metrics"]) for name, url in services.items()]
    return [
        Source(name, now, metrics.parse(answer.body.decode(errors="replace")))
        for name, answer in found
        if answer is not None and answer.status == 200
    ]


class Numbers:
    """What they said last; None before the first answer."""

    def __init__(self, services: Mapping[str, str]) -> None:
        self.totals: Totals | None = None
        self.rates: Rates | None = None
        self._services = services
        self._sources: list[Source] = []
        self._next = 0.0

    def look(self) -> None:
        """Ask again, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        if sources := ask(self._services):
            self.totals, self.rates = metrics.totals(sources), metrics.rates(self._sources, sources)
            self._sources = sources
