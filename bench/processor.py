"""How fast, and with what, is the processor's work done: by postlog, and by what people would take instead?

Everybody reads the same events, drops what was seen within 48 hours, and keeps the list of suppressed addresses, with
state on disk and in changelogs. From Kafka they come, or where it is the queue from Redis. Slow peers get only the
first events of the same load, in a topic of their own; the figure `events` says how many. A figure counts only once
the outcome was found right.

`make bench-processor` measures postlog alone: `ARGS="--events 500000 --rounds 3"` changes the size, `--all` asks all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench import results, tools, workers
from bench.inputs import LETTERS, Inputs
from bench.results import Figures
from bench.stand import Stand, Wrong
from bench.workers import Task
from console.broker import open_broker

SECTION = "processor"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may be measured.

    full, quick  events it gets at most, so that it takes some 20 s, or 5; None: all of them
    needs        programs
    """

    name: str
    work: Callable[[Task], Awaitable[Figures]]
    full: int | None = None
    quick: int | None = None
    needs: tuple[str, ...] = ()


CANDIDATES = (
    Candidate("postlog", workers.postlog),
    Candidate("postlog (2 processes)", workers.postlog_twice),
    Candidate("stock Faust", workers.faust, 30_000, 10_000),
    Candidate("Quix Streams", workers.quix, 300_000, 50_000),
    Candidate("Kafka Streams (at least once)", workers.streams_at_least_once, 600_000, 200_000, ("javac",)),
    Candidate("Kafka Streams (exactly_once_v2)", workers.streams_exactly_once, 600_000, 200_000, ("javac",)),
    Candidate("Redis worker (Python)", workers.redis_worker, 60_000, 20_000, ("redis-server",)),
    Candidate("Bull worker (Node)", workers.bull_worker, 40_000, 10_000, ("redis-server", "node", "npm")),
)


async def measure(stand: Stand, events: int | None = None) -> None:
    """Every candidate in turn, round after round.

    events  in the load; by default 2,000,000, or 200,000 for a quick look
    """
    total = events or (200_000 if stand.quick else 2_000_000)
    case = f"{total // 1_000_000} million events" if total % 1_000_000 == 0 else f"{total:,} events"
    wanted = [candidate for candidate in CANDIDATES if stand.wants(candidate.name)]
    tools.require(*dict.fromkeys(program for candidate in wanted for program in candidate.needs))
    shared = stand.folder / "processor"
    shared.mkdir()
    inputs = Inputs(stand.bootstrap, shared, stand.say)
    for number in range(stand.rounds):
        for candidate in wanted:
            most = candidate.quick if stand.quick else candidate.full
            figures = await _measured(candidate, inputs, min(most or total, total), shared, number)
            stand.add(SECTION, case, candidate.name, number, figures)


async def _measured(candidate: Candidate, inputs: Inputs, events: int, shared: Path, number: int) -> Figures:
    slug = "-".join("".join(c if c.isalnum() else " " for c in candidate.name.lower()).split())
    folder = shared / f"{slug}-{number}"
    folder.mkdir()
    try:
        task = Task(inputs, events, folder, shared, f"{inputs.run}-{slug}-{number}", number)
        return {**await candidate.work(task), "events": events}
    except Wrong as error:
        raise Wrong(f"{candidate.name}, round {number + 1}: {error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure in rounds, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, help="in the load; default 600000, 200000 with --quick")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small inputs, for a look at the ratios")
    names = [candidate.name for candidate in CANDIDATES]
    parser.add_argument("--only", action="append", choices=names, help="measure this one; may be repeated")
    parser.add_argument("--all", action="store_true", help="measure the peers too")
    options = parser.parse_args()
    only = frozenset() if options.all else frozenset(options.only or ["postlog"])
    if not 0 < options.rounds < LETTERS // 2:
        parser.error(f"--rounds: 1 to {LETTERS // 2 - 1}")
    with (
        tempfile.TemporaryDirectory(prefix="postlog-bench-") as name,
        open_broker(os.environ, Path(name) / "kafka") as bootstrap,
    ):
        stand = Stand(Path(name), bootstrap, options.rounds, options.quick, only)
        asyncio.run(measure(stand, options.events or (None if options.quick else 600_000)))
    for (section, case, candidate), figures in results.medians(stand.samples).items():
        line = ", ".join(f"{value:,.{0 if value >= 100 else 1}f} {name}" for name, value in figures.items())
        print(f"{section}, {case}, {candidate}, median of {options.rounds}: {line}")


if __name__ == "__main__":
    main()
