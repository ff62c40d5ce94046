"""Write the lock files of jars: `make lock-jars`, after the version of Kafka was changed.

What is fetched here is believed, since Maven Central serves it over HTTPS; whoever commits the files looks at what
changed. From then on only these very files are used: see `console/jars.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import stamina
from jgo.maven import Artifact, MavenContext, PythonResolver

from bench import streams
from console import jars, kafka_jars
from console.jar_download import MAVEN_CENTRAL
from console.kafka_jars import VERSION
from pipeline.errors import PostlogError

KAFKA = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    f"org.apache.kafka:kafka-tools:{VERSION}",
    # Without a binding slf4j drops what the broker says; 1.7 is the line of the slf4j-api that Kafka asks for.
    "org.slf4j:slf4j-simple:1.7.36",
)
#: The tools need it for Kafka Connect's plugin scan alone; left out, with what it brings: 38 jars, 50 MB.
UNWANTED = ("org.apache.kafka:connect-runtime",)
STREAMS = (
    f"org.apache.kafka:kafka-streams:{VERSION}",
    "com.fasterxml.jackson.core:jackson-databind:2.16.2",  # what Kafka itself asks for
    "org.slf4j:slf4j-simple:1.7.36",
)
#: Scopes that a running program needs; `test` and `provided` are not for it.
_SCOPES = ("compile", "runtime")
_HEADER = "# Made by `make lock-jars`; checked by console/jars.py. In the order of the class path.\n"


class _Resolver(PythonResolver):
    """jgo's resolver, which asks again after a network error and leaves nothing behind that was cut short."""

    def download(self, artifact: Artifact) -> Path | None:
        # requests' errors are OSErrors.
        for attempt in stamina.retry_context(on=OSError, attempts=4, timeout=120.0):
            with attempt:
                try:
                    return super().download(artifact)
                except BaseException:
                    if artifact.cached_path:
                        artifact.cached_path.unlink(missing_ok=True)
                    raise
        return None


def write(
    lock: Path, wanted: Sequence[str], unwanted: Sequence[str] = (), *, repository: str = MAVEN_CENTRAL
) -> None:
    """Write the lock file of these packages and all they depend on. Raises PostlogError naming a jar that is none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [artifact.resolve() for artifact in _resolve(folder, wanted, unwanted, repository)]
        lines = [f"{jars.sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in found]
        for file in found:
            if not file.read_bytes().startswith(b"PK"):
                raise PostlogError(f"{file.name} is no jar: is there a login page before the network?")
    lock.write_text(_HEADER + "".join(lines))


def _resolve(folder: Path, wanted: Sequence[str], unwanted: Sequence[str], repository: str) -> list[Artifact]:
    resolver = _Resolver()
    context = MavenContext(resolver=resolver, repo_cache=folder, remote_repos={"central": repository}, timeout=30)
    without = [context.project(*name.split(":")) for name in unwanted]
    direct, transitive = resolver.resolve([context.create_dependency(name, without) for name in wanted])
    return [d.artifact for d in [*direct, *(d for d in transitive if d.scope in _SCOPES)]]


if __name__ == "__main__":
    write(kafka_jars.LOCK, KAFKA, UNWANTED)
    write(streams.LOCK, STREAMS)
