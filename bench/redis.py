"""A Redis of a measurement's own, on a free port."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console import processes

#: Seconds it may take to answer its first PING.
PATIENCE = 20.0


@contextmanager
def running(folder: Path) -> Iterator[int]:
    """A server that appends every write to a file and syncs it every second, as Redis recommends; its port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = processes.free_port()
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
        "appendonly": "yes",
        "protected-mode": "no",
    }
    argv = ["redis-server", *[word for name, value in options.items() for word in (f"--{name}", str(value))]]
    process = processes.start(argv, env={"PATH": os.environ["PATH"]}, output=folder / "redis.log")
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"Redis did not start:\n{(folder / 'redis.log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield port
    finally:
        processes.stop(process, 10)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
