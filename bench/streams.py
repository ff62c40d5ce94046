"""Kafka Streams for a measurement: its jars, fetched once, and the peer that is compiled against them.

The same Maven Central, cache folder and version as the broker's: see console.kafka_jars. What always holds: the
folder of jars appears whole or not at all.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext, PythonResolver

from bench import tools
from console.kafka_jars import VERSION, default_cache
from pipeline.errors import ConfigError

WANTED = (
    f"org.apache.kafka:kafka-streams:{VERSION}",
    "com.fasterxml.jackson.core:jackson-databind:2.16.2",  # what Kafka itself asks for
    "org.slf4j:slf4j-simple:1.7.36",
)
SOURCE = tools.PEERS / "streams" / "Suppressions.java"
MAIN = "Suppressions"
#: Seconds javac may take on a busy machine.
PATIENCE = 120.0


@functools.cache
def class_path(folder: Path) -> str:
    """What `java -cp` needs to run the peer; its classes are put into the folder."""
    jars = ":".join(str(jar) for jar in _jars())
    tools.require("javac")
    # The broker's Java runtime may be older than the compiler that is installed.
    argv = ["javac", "--release", "17", "-Xlint:all", "-Werror", "-cp", jars, "-d", str(folder), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise SystemExit(f"{SOURCE.name} does not compile:\n{done.stdout}{done.stderr}")
    return f"{folder}:{jars}"


def _jars() -> list[Path]:
    folder = default_cache() / f"kafka-streams-{VERSION}"
    if not folder.exists():
        print(f"Fetching Kafka Streams {VERSION}, this once", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            _fetch(Path(name), Path(name) / "jars")
            (Path(name) / "jars").rename(folder)
    return sorted(folder.glob("*.jar"))


def _fetch(repository: Path, jars: Path) -> None:
    """Put the jars and all they depend on into a folder that is not there yet."""
    jars.mkdir()
    resolver = PythonResolver()
    context = MavenContext(
        resolver=resolver, repo_cache=repository, remote_repos={"central": MAVEN_CENTRAL_URL}, timeout=30
    )
    try:
        direct, transitive = resolver.resolve([context.create_dependency(name) for name in WANTED])
        for dependency in [*direct, *(d for d in transitive if d.scope in ("compile", "runtime"))]:
            jar = Path(shutil.copy(dependency.artifact.resolve(), jars))
            # jgo only logs it when a checksum is wrong.
            if damaged := zipfile.ZipFile(jar).testzip():
                raise ConfigError(f"{jar.name} came damaged: {damaged}")
    # jgo promises no exception of its own.
    except Exception as error:
        raise ConfigError(f"Kafka Streams {VERSION} cannot be fetched from {MAVEN_CENTRAL_URL}: {error}") from error
