"""`python -m bench.X`: one measurement by itself, on a Kafka of its own, with its medians at the end."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from bench.results import Figures, Sample, medians
from bench.stand import Stand
from console.local_kafka import LocalKafka


def run(
    measure: Callable[[Stand], Coroutine[Any, Any, None]], about: str | None, *, candidates: Sequence[str]
) -> None:
    """Read the command line, measure, print the medians. about: the measurement's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small inputs and short times")
    parser.add_argument("--rounds", type=int, default=3, help="how often each candidate is measured [3]")
    parser.add_argument("--only", nargs="*", default=[], choices=candidates, help="candidates to measure [all]")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    with (
        tempfile.TemporaryDirectory(prefix="postlog-bench-", ignore_cleanup_errors=True) as name,
        LocalKafka(Path(name) / "kafka") as broker,
    ):
        folder = Path(name) / "stand"
        folder.mkdir()
        stand = Stand(folder, broker.bootstrap, options.rounds, options.quick, frozenset(options.only))
        asyncio.run(measure(stand))
    print("\n".join(["", f"Medians of {options.rounds}:", *lines(stand.samples)]))


def lines(samples: Sequence[Sample]) -> list[str]:
    """The medians, one line for each case and candidate."""
    return [f"{case} · {candidate}: {_told(figures)}" for (_, case, candidate), figures in medians(samples).items()]


def _told(figures: Figures) -> str:
    return ", ".join(f"{value:,.0f} {n}" if abs(value) >= 100 else f"{value:.2f} {n}" for n, value in figures.items())
