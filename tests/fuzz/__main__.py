"""`make fuzz`: hostile deliveries and requests over HTTP, and hostile bytes into every reader.

python -m tests.fuzz --seed 1 --http 600000 --runs 500000
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import Progress

from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline.settings import Settings
from tests.e2e.system import running
from tests.fuzz import over_http
from tests.fuzz.over_http import Found
from tests.fuzz.readers import READERS


def say(text: str) -> None:
    """One line as it is."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed makes the same inputs")
    parser.add_argument("--http", type=int, default=600_000, help="inputs over HTTP [600000]")
    parser.add_argument("--runs", type=int, default=200_000, help="inputs for each reader, by coverage [200000]")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    say(f"seed {asked.seed}")
    with tempfile.TemporaryDirectory(prefix="postlog-fuzz-") as folder:
        good = _readers(asked.seed, asked.runs, Path(folder)) if asked.runs else True
        if asked.http:
            found = asyncio.run(_http(asked.seed, asked.http, Path(folder)))
            good = _report(found) and good
    return 0 if good else 1


def _readers(seed: int, runs: int, folder: Path) -> bool:
    """Each reader in a process of its own; what one cannot stand is shown."""
    good = True
    for reader in READERS:
        started = time.monotonic()
        line = [sys.executable, "-m", "tests.fuzz.guided", reader, str(runs), str(seed), str(folder)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        good = good and done.returncode == 0
        held = f"all of them held, {runs / (time.monotonic() - started):,.0f}/s"
        say(f"{reader}: {runs:,} inputs, {held if done.returncode == 0 else done.stdout + done.stderr}")
        for culprit in folder.glob(f"{reader}-*"):
            say(f"{reader}: {culprit.read_bytes()!r}")
    return good


async def _http(seed: int, inputs: int, folder: Path) -> Found:
    with LocalKafka(folder / "kafka") as broker:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap)
        await kafka.apply(settings)
        async with running(settings, folder) as system:
            ingress = over_http.start(system)
            await system.ready(ingress)
            with Progress() as shown:
                task = shown.add_task("over HTTP", total=inputs)
                return await over_http.attack(
                    system, ingress, seed=seed, inputs=inputs, progress=lambda count: shown.advance(task, count)
                )


def _report(found: Found) -> bool:
    for (kind, status), count in sorted(found.answers.items()):
        say(f"{kind:16} {status or 'closed':>6} {count:10,}")
    say(
        f"{found.inputs:,} inputs in {found.seconds:.0f} s; {found.kept.total():,} authentic deliveries were kept; "
        f"the ingress has {found.grown_mib:+.1f} MiB since the first tenth"
    )
    for problem in found.problems[:20]:
        say(f"PROBLEM: {problem}")
    return not found.problems


if __name__ == "__main__":
    sys.exit(main())
