"""What one figure of a run is, asked by section, case and candidate; and which case of several is the largest.

Pure. Sections measure as much as time allows, so the size is a part of a case's name (`1,000,000 events`,
`20 million live ids`) and not every candidate has the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bench.results import Figures, Place

Medians = Mapping[Place, Figures]
_SIZE = re.compile(r"\s*([\d,]+(?:\.\d+)?)( million\b)?")


def size(case: str) -> float | None:
    """The number that a case's name begins with: `5 million live ids` → 5e6; None if it begins with none."""
    match = _SIZE.match(case)
    return None if match is None else float(match[1].replace(",", "")) * (1e6 if match[2] else 1)


def cases(found: Medians, section: str, candidate: str, figure: str) -> list[str]:
    """The cases in which this figure of the candidate was measured, from the smallest to the largest."""
    names = [
        case
        for (place, case, who), figures in found.items()
        if (place, who) == (section, candidate) and figure in figures
    ]
    return sorted(names, key=lambda case: size(case) or 0.0)


def value(found: Medians, section: str, case: str, candidate: str, figure: str) -> float | None:
    """A median; None if it was not measured."""
    return found.get((section, case, candidate), {}).get(figure)


def largest(found: Medians, section: str, candidate: str, figure: str) -> tuple[str, float] | None:
    """The largest case of a candidate with its figure; None if it was not measured."""
    names = cases(found, section, candidate, figure)
    return (names[-1], found[section, names[-1], candidate][figure]) if names else None


def quotient(upper: float | None, lower: float | None) -> float | None:
    """How many times the lower one the upper one is; None if either is unknown, or the lower is 0."""
    return None if upper is None or not lower else upper / lower


def text(number: float) -> str:
    """A figure as people read it: three digits that count, thousands with commas."""
    if abs(number) >= 100 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown; the first column is text, the others stand on the right."""
    names = list(head)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
