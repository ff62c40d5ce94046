"""`make bench`: measure postlog and its peers, section by section, and write what came out.

Each section has a Kafka of its own in a temporary folder. One that fails is said, what it measured before is kept,
and the others still run. After each the JSON is written, so a run that is broken off loses no section that was
finished.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench import capacity, report, runs
from bench.results import Run, Sample
from bench.stand import Stand
from bench.tools import ROOT
from console.local_kafka import LocalKafka
from pipeline.errors import PostlogError

SECTIONS = ("ingress", "processor", "end_to_end", "state", "lookup", "idle", "scaling")
#: How often each candidate is measured; once where once takes minutes, over millions of events.
ROUNDS, LONG = 3, {"state", "scaling"}
#: Seconds a section may take; what takes longer is stuck.
PATIENCE = 4 * 3600.0
DOCS = ROOT / "docs"


def main() -> int:
    """Measure, or read what was measured; write. The exit code: 1 if a section failed, 2 if the command is wrong."""
    options = _options()
    # A polite stop ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.given:
            run, failed = runs.merged([runs.read(path) for path in options.given]), list[str]()
            if options.json:
                runs.write(options.json, run)
        else:
            run, failed = _measured(options)
        if options.write:
            write_papers(run, DOCS)
    except PostlogError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", type=_sections, default=SECTIONS, help=f"some of {','.join(SECTIONS)}")
    parser.add_argument("--only", type=_names, default=frozenset(), help="candidates, comma-separated [all]")
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"how often each candidate is measured [{ROUNDS}; 1 in {' and '.join(sorted(LONG))}]",
    )
    parser.add_argument("--quick", action="store_true", help="small inputs and few seconds each: ratios only")
    parser.add_argument("--json", type=Path, help="where the run is kept [.data/bench.json]")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md, its pictures, and docs/capacity.md"
    )
    parser.add_argument(
        "--from",
        dest="given",
        type=Path,
        action="append",
        metavar="FILE",
        help="measure nothing, take this run; of a section in several the last one counts",
    )
    return parser.parse_args()


def _names(words: str) -> frozenset[str]:
    return frozenset(word.strip() for word in words.split(",") if word.strip())


def _sections(words: str) -> tuple[str, ...]:
    asked = {name.replace(" ", "_") for name in _names(words)}
    if unknown := asked - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return tuple(name for name in SECTIONS if name in asked)


def _measured(options: argparse.Namespace) -> tuple[Run, list[str]]:
    """The run, and the sections that failed."""
    facts = importlib.import_module("bench.machine")
    machine, versions = facts.machine(), facts.versions()
    path = options.json or ROOT / ".data" / "bench.json"
    began = time.monotonic()
    samples: list[Sample] = []
    failed: list[str] = []
    for number, name in enumerate(options.sections):
        print(f"[{_elapsed(began)}] {name}, section {number + 1} of {len(options.sections)}", flush=True)
        found, well = _section(name, options)
        samples += found
        if not well:
            failed.append(name)
        run = Run(machine, versions, samples, options.quick)
        runs.write(path, run)
    print(f"[{_elapsed(began)}] {len(samples)} samples are in {path}", flush=True)
    if failed:
        print(f"FAILED: {', '.join(failed)}", flush=True)
    return run, failed


def _section(name: str, options: argparse.Namespace) -> tuple[list[Sample], bool]:
    """What a section measured, and whether it came to its end."""
    began = time.monotonic()
    samples: list[Sample] = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="postlog-bench-", ignore_cleanup_errors=True) as folder,
            LocalKafka(Path(folder) / "kafka") as broker,
        ):
            work = Path(folder) / "work"
            work.mkdir()
            stand = Stand(
                folder=work,
                bootstrap=broker.bootstrap,
                rounds=options.rounds or (1 if name in LONG else ROUNDS),
                quick=options.quick,
                only=options.only,
                say=lambda line: print(f"[{_elapsed(began)}] {line}", flush=True),
                samples=samples,
            )
            asyncio.run(_bounded(name, stand))
    # Wrong is a SystemExit, so that a section that is run by itself ends with it.
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        print(f"[{_elapsed(began)}] {name} FAILED: {error!r}", flush=True)
        return samples, False
    return samples, True


async def _bounded(name: str, stand: Stand) -> None:
    async with asyncio.timeout(PATIENCE):
        await importlib.import_module(f"bench.{name}").measure(stand)


def _elapsed(began: float) -> str:
    seconds = int(time.monotonic() - began)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def write_papers(run: Run, docs: Path) -> None:
    """docs/benchmarks.md with its pictures and its figures, and what follows from them in docs/capacity.md."""
    runs.write(docs / "benchmarks.json", run)
    (docs / "benchmarks.md").write_text(report.document(run))
    folder = docs / report.PICTURES
    folder.mkdir(exist_ok=True)
    drawn = report.pictures(run)
    for path in folder.glob("*.svg"):
        if path.name not in drawn:
            path.unlink()
    for name, picture in drawn.items():
        (folder / name).write_text(picture)
    capacity.rewrite(docs / "capacity.md", run)
    print(f"wrote {docs / 'benchmarks.md'}, {len(drawn)} pictures and {docs / 'capacity.md'}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
