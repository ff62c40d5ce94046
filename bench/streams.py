"""Kafka Streams for a measurement: its jars, fetched once, and the peer that is compiled against them.

The same version and cache folder as the broker's; `streams.lock` names the jars: see console/jars.py.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from bench import tools
from console import kafka_jars

LOCK = Path(__file__).with_name("streams.lock")
SOURCE = tools.PEERS / "streams" / "Suppressions.java"
MAIN = "Suppressions"
#: Seconds javac may take on a busy machine.
PATIENCE = 120.0


@functools.cache
def class_path(folder: Path) -> str:
    """What `java -cp` needs to run the peer; its classes are put into the folder."""
    jars = ":".join(str(jar) for jar in kafka_jars.class_path(lock=LOCK))
    tools.require("javac")
    # The broker's Java runtime may be older than the compiler that is installed.
    argv = ["javac", "--release", "17", "-Xlint:all", "-Werror", "-cp", jars, "-d", str(folder), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise SystemExit(f"{SOURCE.name} does not compile:\n{done.stdout}{done.stderr}")
    return f"{folder}:{jars}"
