"""A broker for tests and benchmarks: the one that is named, else a local process while it is needed.

`postlog up` follows the same order and keeps the process itself, because it starts it again (`system.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from console.jars import Progress, silent
from console.local_kafka import LocalKafka
from pipeline.errors import BrokerStartFailed

VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"


@contextmanager
def open_broker(
    environ: Mapping[str, str],
    folder: Path,
    *,
    progress: Progress = silent,
    container: str = "not tried; start one yourself and name it in the variable",
) -> Iterator[str]:
    """Bootstrap servers: KAFKA_BOOTSTRAP_SERVERS if it is set, else those of a local Kafka while the context lasts.

    folder     where the local Kafka keeps its data from one time to the next
    container  what became of that way, for the message: whoever wants it tries it first

    Raises BrokerStartFailed naming every way and what stopped it. Whether named brokers answer is not asked here:
    every service does.
    """
    named = environ.get(VARIABLE, "").strip()
    if named:
        yield named
        return
    local = LocalKafka(folder)
    try:
        local.start(progress)
    except BrokerStartFailed as error:
        raise BrokerStartFailed(
            "no way to a Kafka broker is open:\n"
            f"  {VARIABLE}: not set; name a running broker there\n"
            f"  container: {container}\n"
            f"  local process: {error}"
        ) from error
    try:
        yield local.bootstrap
    finally:
        local.stop()
