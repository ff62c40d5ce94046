"""Which Kafka the local one is, and where its jars are: `kafka_jars.lock` names them, `jars` has them.

Whoever changes VERSION runs `make lock-jars`, which writes the lock file again.
"""

from __future__ import annotations

import os
from pathlib import Path

from console import jars
from console.jars import Progress, silent

#: Not a newer one: from 4.1 to 4.3.1 a broker that starts again may end a transaction without writing its markers
#: (KAFKA-20734), and nothing that was committed after it is read any more. See docs/decisions/0015.
VERSION = "4.0.2"
#: The jars of the broker and of its tools.
LOCK = Path(__file__).with_name("kafka_jars.lock")


def default_cache() -> Path:
    """`postlog` in the user's cache folder, which survives a checkout."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "postlog"


def class_path(progress: Progress = silent, *, lock: Path = LOCK) -> list[Path]:
    """Kafka's jars, fetched if this is the first time; all of them are compared with the lock file.

    Raises BrokerStartFailed if they cannot be fetched or kept.
    """
    return jars.class_path(lock, default_cache() / f"kafka-{VERSION}", progress)
