"""How fast, and how soon, does a server answer? A run of wrk with wrk.lua.

wrk counts what a server that stalls kept from being posted, too: a latency above twice a connection's mean time from
post to post counts as several. So percentiles are no better than a sender would find them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from bench.stand import Wrong
from console import processes

SCRIPT = Path(__file__).with_suffix(".lua")
#: Seconds after which an answer counts as none.
TIMEOUT = 10
#: Seconds that reading the file and ending may take besides.
_PATIENCE = 60.0
_MARK = "measured "


class Answered(msgspec.Struct, frozen=True):
    """What came back.

    requests        answered at all, in `seconds`
    refused         of these, answered 400 or above
    broken          connections or answers that failed or took longer than TIMEOUT
    p50, p99, p999  percentiles of what answers took, in ms
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50: float
    p99: float
    p999: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def read(output: str) -> Answered:
    """What wrk.lua says at the end of wrk's output. Raises Wrong if it says nothing."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            return msgspec.json.decode(line.removeprefix(_MARK), type=Answered)
    raise Wrong(f"wrk said no figures:\n{output[-2000:]}")


def run(url: str, requests: Path, log: Path, *, connections: int, seconds: float, rate: float = 0.0) -> Answered:
    """Make the requests of a file for so many whole seconds: in a closed loop, or so many a second. It blocks.

    log  file for what wrk says
    """
    argv = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds:.0f}s"]
    argv += ["--timeout", f"{TIMEOUT}s", "--script", str(SCRIPT), url, "--", str(requests), "1", f"{rate:.3f}"]
    log.unlink(missing_ok=True)
    process = processes.start(argv, env={"PATH": os.environ["PATH"]}, output=log)
    try:
        process.wait(seconds + _PATIENCE)
    except subprocess.TimeoutExpired:
        raise Wrong(f"wrk did not end within {seconds + _PATIENCE:g} s") from None
    finally:
        processes.stop(process, 5)
    return read(log.read_text())
