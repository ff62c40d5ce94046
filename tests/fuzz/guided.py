"""Readers under atheris, which watches what code an input reaches and varies those that reach more.

python -m tests.fuzz.guided READER RUNS SEED FOLDER; `make fuzz` gives it a process of its own, since atheris ends it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ingress", "pipeline", "processor", "alerter", "lookup"]):
    from tests.fuzz.readers import READERS

from tests.fuzz import bodies

#: Bytes of one input: what is larger reaches nothing more.
LARGEST = 4096


def main(reader: str, runs: int, seed: int, folder: Path) -> None:
    """Fuzz one reader. Ends the process: 0 if everything held, otherwise with the input in `folder`."""
    corpus = folder / reader
    corpus.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    for number in range(200):
        (corpus / f"seed-{number}").write_bytes(bodies.body(chance)[:LARGEST])
    options = [
        f"-atheris_runs={runs}",
        f"-seed={seed}",
        f"-max_len={LARGEST}",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([reader, *options, f"-artifact_prefix={folder}/{reader}-", str(corpus)], READERS[reader])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
