"""The time of day of a process, stepped below Python: aiokafka asks for it in C, where no patch of `time` reaches.

libfaketime is loaded before the C library and looks into a file every second or two; Debian has it as `faketime`.
What counts the seconds that pass (the monotonic clock) is not stepped, as on a real machine.
"""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Any

#: Where packages of Linux distributions put the library.
PLACES = ("*/faketime/libfaketime.so.1", "faketime/libfaketime.so.1")

#: For how long it goes by what it saw in the file, whole seconds. If it looked at each question for the time, a
#: processor that opens its lanes would spend most of its time there.
CACHE_SECONDS = "1"


def library() -> Path:
    """The library. Raises RuntimeError, with what to install, if there is none."""
    for place in PLACES:
        for found in sorted(Path("/usr/lib").glob(place)):
            return found
    raise RuntimeError("no libfaketime, which sets the clocks of processes apart (Debian: apt-get install faketime)")


def environment(file: Path) -> dict[str, str]:
    """What makes a process follow the file from its start on; see `step`. Raises RuntimeError as `library` does."""
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": CACHE_SECONDS,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",  # files keep the times that they have
    }


def step(file: Path, seconds: float) -> None:
    """Put whoever follows the file so many seconds ahead of the real time, or behind it, within two seconds."""
    written = file.with_name(f"{file.name}.new")
    written.write_text(f"{seconds:+g}\n")
    # At once, since half of a file would be another time.
    written.replace(file)


def sleep_aside() -> None:
    """Let `time.sleep` wait in another way: libfaketime 0.9.10 takes the end of a sleep for a time of day."""

    def sleep(seconds: Any) -> None:
        select.select([], [], [], float(seconds))

    time.sleep = sleep
