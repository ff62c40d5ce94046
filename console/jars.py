"""Jars that a lock file names: fetched once, then taken from a cache that needs no network.

What always holds: a jar is used only if its SHA-256 is the locked one, which is compared when it is fetched and again
whenever a class path is made; a jar comes into its place whole; of two processes that miss one the second waits, and
finds it there. `jar_download` fetches, `bench/lock_jars.py` writes lock files.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BrokerStartFailed

#: A line of a lock file, as `sha256sum --check` reads it.
_LINE = re.compile(r"([0-9a-f]{64})  ((?:[A-Za-z0-9][A-Za-z0-9._-]*/)*[A-Za-z0-9][A-Za-z0-9._-]*\.jar)")


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar of the class path: its place in a Maven repository, and so in the cache, and its SHA-256 in hex."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """Its file's name, which says package and version."""
        return self.path.rpartition("/")[2]


#: Called with what is being done, how many parts are done, and of how many; 0 of 0 while nobody can know.
Progress = Callable[[str, int, int], None]
#: Puts jars at their places below a folder. Raises BrokerStartFailed if one cannot be had, or is not the locked one.
Fetch = Callable[[Sequence[Jar], Path, Progress], None]


def silent(text: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def locked(lock: Path) -> list[Jar]:
    """The jars that a lock file names, in the order of the class path. Raises BrokerStartFailed if it is damaged."""
    try:
        written = lock.read_text()
    except (OSError, UnicodeDecodeError):
        written = ""
    lines = [line for line in written.splitlines() if not line.startswith("#")]
    found = [_LINE.fullmatch(line) for line in lines]
    jars = [Jar(match[2], match[1]) for match in found if match]
    if not jars or len(jars) != len(lines):
        raise BrokerStartFailed(f"{lock} is damaged: install postlog again")
    return jars


def class_path(lock: Path, folder: Path, progress: Progress = silent, *, fetch: Fetch | None = None) -> list[Path]:
    """The jars of a lock file, from a folder of the cache; what is missing there, or is another file, is fetched.

    Raises BrokerStartFailed if they cannot be fetched or kept.
    """
    jars = locked(lock)
    try:
        if unlike(jars, folder):
            _mend(jars, folder, progress, fetch or _from_maven_central)
    except OSError as error:
        raise BrokerStartFailed(
            f"jars cannot be kept in {folder} ({error}): make room, or set XDG_CACHE_HOME to another place"
        ) from error
    return [folder / jar.path for jar in jars]


def unlike(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    """Those that are not there as they are locked."""
    return [jar for jar in jars if sha256(folder / jar.path) != jar.sha256]


def sha256(file: Path) -> str | None:
    """The file's SHA-256, None without a file."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _mend(jars: Sequence[Jar], folder: Path, progress: Progress, fetch: Fetch) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as held:
        # The kernel lets go of it when its holder ends, however it ends.
        fcntl.flock(held, fcntl.LOCK_EX)
        wrong = unlike(jars, folder)
        changed = [jar.path for jar in wrong if (folder / jar.path).exists()]
        told = f"damaged or exchanged in {folder}, and not used: {', '.join(changed)}"
        if changed:
            progress(told, 0, 0)
        try:
            fetch(wrong, folder, progress)
        except BrokerStartFailed as error:
            raise BrokerStartFailed(f"{told}. {error}" if changed else str(error)) from error


def _from_maven_central(jars: Sequence[Jar], folder: Path, progress: Progress) -> None:
    # Not at the top: it takes a tenth of a second, and a start from the cache has no use for it.
    from console import jar_download

    jar_download.fetch(jars, folder, progress)
