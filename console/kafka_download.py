"""Fetch Kafka's jars and all they depend on from Maven Central, with jgo's resolver.

Only `kafka_jars` calls it, once per Kafka version. What always holds: a file that was cut short does not stay.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import stamina
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext, PythonResolver

from console.kafka_jars import UNWANTED, VERSION, WANTED, Progress
from pipeline.errors import BrokerStartFailed

_TEXT = f"Fetching Apache Kafka {VERSION}, this once"
#: Scopes that a running program needs; `test` and `provided` are not for it.
_SCOPES = ("compile", "runtime")


def fetch(folder: Path, progress: Progress) -> list[Path]:
    """Put the jars below a folder, laid out as Maven lays them out; the class path in order.

    Raises BrokerStartFailed if Maven Central cannot be reached or sends something else than jars.
    """
    try:
        artifacts = _resolve(folder, progress)
        return [_jar(artifact, done, len(artifacts), progress) for done, artifact in enumerate(artifacts)]
    # jgo promises no exception of its own: what escapes it is requests', the XML parser's, or a RuntimeError.
    except Exception as error:
        raise BrokerStartFailed(
            f"Apache Kafka {VERSION} cannot be fetched from {MAVEN_CENTRAL_URL} ({error}). "
            "It is fetched once: connect to the network (HTTPS_PROXY is honoured), then try again"
        ) from error


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


def _resolve(folder: Path, progress: Progress) -> list[Artifact]:
    read = 0

    @contextmanager
    def count(_: str, __: int) -> Iterator[Callable[[int], None]]:
        """jgo's way to tell of each file it fetches: here one of some 90 small ones that say what depends on what."""
        nonlocal read
        read += 1
        progress(_TEXT, read, 0)
        yield lambda _: None

    resolver = _Resolver(progress_callback=count)
    context = MavenContext(
        resolver=resolver, repo_cache=folder, remote_repos={"central": MAVEN_CENTRAL_URL}, timeout=30
    )
    unwanted = [context.project(*name.split(":")) for name in UNWANTED]
    direct, transitive = resolver.resolve([context.create_dependency(name, unwanted) for name in WANTED])
    resolver.progress_callback = None
    return [d.artifact for d in [*direct, *(d for d in transitive if d.scope in _SCOPES)]]


def _jar(artifact: Artifact, done: int, total: int, progress: Progress) -> Path:
    progress(_TEXT, done, total)
    path = artifact.resolve()
    # jgo only logs it when a checksum is wrong.
    if damage := _damage(path):
        raise BrokerStartFailed(f"{path.name} came damaged: {damage}")
    return path


def _damage(jar: Path) -> str | None:
    try:
        with zipfile.ZipFile(jar) as content:
            return content.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
