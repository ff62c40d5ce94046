"""Where Kafka's jars are: fetched once, then taken from a cache that needs no network.

What always holds: the folder of a Kafka version appears whole or not at all, because it is filled beside its place
and renamed into it; two processes that find it missing fetch one after the other, and the second finds it there.
A start trusts it only if every jar still has the size it had. `kafka_download` fetches.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from pipeline.errors import BrokerStartFailed

#: Not a newer one: from 4.1 to 4.3.1 a broker that starts again may end a transaction without writing its markers
#: (KAFKA-20734), and nothing that was committed after it is read any more. See docs/decisions/0015.
VERSION = "4.0.2"
WANTED = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    f"org.apache.kafka:kafka-tools:{VERSION}",
    # Without a binding slf4j drops what the broker says; 1.7 is the line of the slf4j-api that Kafka asks for.
    "org.slf4j:slf4j-simple:1.7.36",
)
#: The tools need it for Kafka Connect's plugin scan alone; left out, with what it brings: 38 jars, 50 MB.
UNWANTED = ("org.apache.kafka:connect-runtime",)

#: Called with what is being done, how many parts are done, and of how many; 0 of 0 while nobody can know.
Progress = Callable[[str, int, int], None]
#: Puts the jars somewhere below a folder; the class path in order. Raises BrokerStartFailed.
Fetch = Callable[[Path, Progress], list[Path]]

_LIST = "class-path.json"


class Jar(msgspec.Struct, frozen=True):
    """A jar of the class path: its place below the version's folder, and its size in bytes."""

    path: str
    size: int


class ClassPath(msgspec.Struct, frozen=True):
    """What was asked for, and the jars that came of it, in order."""

    wanted: list[str]
    unwanted: list[str]
    jars: list[Jar]


def silent(text: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def default_cache() -> Path:
    """`postlog` in the user's cache folder, which survives a checkout."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "postlog"


def class_path(progress: Progress = silent, *, cache: Path | None = None, fetch: Fetch | None = None) -> list[Path]:
    """Kafka's jars, fetched if this is the first time.

    Raises BrokerStartFailed if they cannot be fetched or kept.
    """
    folder = (cache or default_cache()) / f"kafka-{VERSION}"
    try:
        return _cached(folder) or _fetched(folder, progress, fetch or _from_maven_central)
    except OSError as error:
        raise BrokerStartFailed(
            f"Kafka's jars cannot be kept in {folder} ({error}): make room, or set XDG_CACHE_HOME to another place"
        ) from error


def _cached(folder: Path) -> list[Path] | None:
    """The jars of an earlier fetch, or None unless all of them are there as they were."""
    try:
        found = msgspec.json.decode((folder / _LIST).read_bytes(), type=ClassPath)
        whole = all((folder / jar.path).stat().st_size == jar.size for jar in found.jars)
    except (OSError, msgspec.MsgspecError):
        return None
    current = (found.wanted, found.unwanted) == (list(WANTED), list(UNWANTED))
    return [folder / jar.path for jar in found.jars] if whole and current else None


def _fetched(folder: Path, progress: Progress, fetch: Fetch) -> list[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        # The kernel lets go of it when its holder ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        jars = _cached(folder)
        if jars is None:
            _fill(folder, progress, fetch)
            jars = _cached(folder)
    if jars is None:
        raise BrokerStartFailed(f"something changes {folder} while it is filled: look who, then try again")
    return jars


def _fill(folder: Path, progress: Progress, fetch: Fetch) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    jars = [Jar(str(path.relative_to(partial)), path.stat().st_size) for path in fetch(partial, progress)]
    found = ClassPath(list(WANTED), list(UNWANTED), jars)
    (partial / _LIST).write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _from_maven_central(folder: Path, progress: Progress) -> list[Path]:
    # Not at the top: it takes a fifth of a second, and a start from the cache has no use for it.
    from console import kafka_download

    return kafka_download.fetch(folder, progress)
