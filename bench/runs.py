"""Which papers a run is kept in: read, written, and several of them put together.

Reading and writing are the shell of it; `merged` is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.results import Run
from pipeline.errors import ConfigError


def read(path: Path) -> Run:
    """The run in a JSON file. Raises ConfigError naming the file and what is wrong with it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} holds no run: {error}; `python -m bench --json {path}` makes one") from error


def write(path: Path, run: Run) -> None:
    """Keep a run, for `read` and for people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def merged(runs: Sequence[Run]) -> Run:
    """One run of several: of a section the latest run that measured it counts, and it alone."""
    samples = []
    for place, run in enumerate(runs):
        again = {sample.section for later in runs[place + 1 :] for sample in later.samples}
        samples += [sample for sample in run.samples if sample.section not in again]
    return Run(
        machine={name: value for run in runs for name, value in run.machine.items()},
        versions={name: value for run in runs for name, value in run.versions.items()},
        samples=samples,
        quick=any(run.quick for run in runs),
    )
