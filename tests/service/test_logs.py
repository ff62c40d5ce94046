"""Lines of a log whose disk is full: they are lost, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: A process whose files may not grow beyond a few bytes, as on a full disk; it must get to its last line.
SCRIPT = """
import logging, resource, signal, structlog
from pipeline import logs
from pipeline.settings import Settings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
logs.configure(Settings(), "tested")
for _ in range(100):
    structlog.get_logger().warning("a line that is written by us", why="x" * 100)
    logging.getLogger("library").warning("a line of a library %d", 1)
print("got to the end", flush=True)
"""


def test_a_line_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    output = tmp_path / "log"
    with output.open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=log, timeout=30, check=False
        )
    assert done.stdout == b"got to the end\n"
    assert 0 < output.stat().st_size <= 100
    assert done.returncode == 0
