"""What every measurement gets: where it may work, how much it should do, and where its figures go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.results import Sample


class Wrong(SystemExit):
    """The outcome is not what was promised, so that no figure of it is worth anything."""


@dataclass
class Stand:
    """One run on one machine with one Kafka.

    folder     empty, and gone afterwards
    bootstrap  of a Kafka that nobody else uses
    rounds     how often each candidate is measured, in turns
    quick      small inputs and short times, for a look at the ratios
    only       names of candidates to measure; all of them if it is empty
    """

    folder: Path
    bootstrap: str
    rounds: int = 3
    quick: bool = False
    only: frozenset[str] = frozenset()
    say: Callable[[str], None] = lambda line: print(line, flush=True)
    samples: list[Sample] = field(default_factory=list)

    def wants(self, candidate: str) -> bool:
        """Whether this candidate is to be measured."""
        return not self.only or candidate in self.only

    def add(self, section: str, case: str, candidate: str, number: int, figures: dict[str, float]) -> None:
        """Keep the sample of a round, counted from 0, and say it."""
        self.samples.append(Sample(section, case, candidate, number, figures))
        told = ", ".join(
            f"{value:,.0f} {n}" if abs(value) >= 100 else f"{value:.2f} {n}" for n, value in figures.items()
        )
        self.say(f"{section} · {case} · {candidate} · round {number + 1}: {told}")
