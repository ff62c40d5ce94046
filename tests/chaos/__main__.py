"""`make chaos`: break everything for real, and check that the promise was kept.

python -m tests.chaos --seed 1 --seconds 1200
python -m tests.chaos --negative         three broken builds, each of which the checker has to catch
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from tests.chaos import broken
from tests.chaos.run import Report, run

#: What shows each broken build soonest.
REVEALED_BY = {
    "ack": "kill:ingress,all_away",
    "offset": "kill:processor,kill:processor-2",
    "rows": "kill:processor,kill:processor-2",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed plans the same faults")
    parser.add_argument("--seconds", type=float, default=1200.0, help="how long there are faults [1200]")
    parser.add_argument("--rate", type=float, default=100.0, help="new events per second [100]")
    parser.add_argument("--only", default="", help="kinds of faults: kill:ingress,cut [all]")
    parser.add_argument("--build", choices=sorted(broken.BUILDS), default="", help="a build that breaks the promise")
    parser.add_argument("--negative", action="store_true", help="run all three of them, each of which has to fail")
    parser.add_argument("--runs", type=int, default=1, help="runs with seeds that follow each other [1]")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the logs and the state of all runs")
    parser.add_argument("--json", type=Path, help="where to write the reports")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    # That brokers cannot be reached is what this is about.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    reports = []
    if asked.negative:
        for build in broken.BUILDS:
            reports.append(_run(asked.seed, asked.seconds, asked.rate, build, REVEALED_BY[build], asked.keep))
        good = not any(report.verdict.kept for report in reports)
    else:
        for seed in range(asked.seed, asked.seed + asked.runs):
            reports.append(_run(seed, asked.seconds, asked.rate, asked.build, asked.only, asked.keep))
        good = all(report.passed for report in reports)
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(reports)))
    return 0 if good else 1


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where a run has its state and logs; a new one in `keep`, which stays, or one that goes with the context."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="postlog-chaos-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield Path(tempfile.mkdtemp(prefix="run-", dir=keep))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _run(seed: int, seconds: float, rate: float, build: str, only: str, keep: Path | None) -> Report:
    with _folder(keep) as folder:
        report = asyncio.run(run(folder, seed=seed, seconds=seconds, rate=rate, build=build, only=only, say=_say))
    lines = [*(report.log if not report.passed else []), *report.lines()]
    print("\n".join(lines), "", sep="\n", flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
