"""Which folder a `postlog up` may take for its own, and which files it may delete.

What always holds: only what postlog made is deleted. A folder is ours if it carries our mark. It gets the mark when
it is new or holds nothing that anybody else made.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from console.running import OPTION, SCRATCH, Folder, Running
from pipeline import private
from pipeline.errors import ConfigError

#: Stands in a folder that is ours; it says to people what the folder is.
MARK = "postlog-data"
_MEANING = "The data folder of postlog up. tmp and kafka/tmp in here are deleted at every start.\n"
#: What other parts of postlog make in `.data`, and what a rebuild leaves that was killed.
_MADE_ELSEWHERE = frozenset(
    {"state", "tests", "bench-quick.json"} | {f"suppressions.db{end}" for end in ("", "-journal", "-shm", "-wal")}
)
#: A folder that a command works in which runs without `postlog up`, as `tempfile` names it.
_LEFTOVER = re.compile(rf"{re.escape(SCRATCH)}[a-z0-9_]{{8}}").fullmatch
#: What file systems put into each folder.
_NOBODYS = frozenset({"lost+found"})
#: Names that a message shows.
_MOST_NAMED = 3


def claim(folder: Folder) -> None:
    """Return only if the folder is ours, or is now, and we can work in it.

    Raises ConfigError naming what else is in it, or why it cannot be used.
    """
    private.folder(folder.path, OPTION)
    try:
        _mark(folder)
    except OSError as error:
        raise private.unusable(folder.path, OPTION, error) from None
    for part in (folder.path / "logs", folder.path / "state"):
        private.folder(part, OPTION)


def _mark(folder: Folder) -> None:
    mark = folder.path / MARK
    if mark.exists():
        return
    if foreign := _foreign(folder):
        shown = ", ".join([*foreign[:_MOST_NAMED], *(["…"] if len(foreign) > _MOST_NAMED else [])])
        raise ConfigError(
            f"{folder.path} is not a data folder of postlog, and holds what others made: {shown}. "
            "Give postlog up a folder of its own with --data: a new or an empty one."
        )
    mark.write_text(_MEANING)


def _foreign(folder: Folder) -> list[str]:
    """What is in the folder that postlog did not make, as far as names tell; hidden files are nobody's."""
    if _of_a_former_release(folder):
        return []
    return sorted(
        entry.name
        for entry in folder.path.iterdir()
        if not (
            entry.name.startswith(".")
            or entry.name in _MADE_ELSEWHERE | _NOBODYS
            or (entry == folder.scratch and _only_leftovers(entry))
        )
    )


def _of_a_former_release(folder: Folder) -> bool:
    """Former releases left no mark, but a lock, which is always empty, and one of these."""
    lock, others = folder.lock, (folder.secret, folder.log("ingress"), folder.kafka / "ports.json")
    alone = [entry.name for entry in folder.path.iterdir()] == [lock.name]
    return lock.is_file() and lock.stat().st_size == 0 and (alone or any(other.is_file() for other in others))


def _only_leftovers(scratch: Path) -> bool:
    """Whether this holds nothing but what a killed command left that worked in a folder without `postlog up`."""
    if scratch.is_symlink() or not scratch.is_dir():
        return False
    return all(_LEFTOVER(entry.name) for entry in scratch.iterdir())


def fresh_scratch(folder: Folder) -> None:
    """Empty the scratch folder of a folder that is ours. Raises ConfigError if it is not a folder, but a link."""
    scratch = folder.scratch
    if scratch.is_symlink():
        raise ConfigError(f"{scratch} is a link, and what it leads to is not postlog's to delete: remove the link.")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise private.unusable(scratch, OPTION, error) from None


def require_ready_file(path: Path) -> Path:
    """Where a ready file stands, links followed. Raises ConfigError for what a former start did not write there.

    It is deleted when a start begins and when it ends: a wrong name must not cost anybody a file.
    """
    target = path.resolve()
    if not target.exists():
        return target
    if not target.is_file():
        raise ConfigError(f"--ready-file {path}: is not a plain file")
    try:
        text = target.read_bytes()
        if text.strip():
            msgspec.json.decode(text, type=Running)
    except (OSError, msgspec.MsgspecError):
        raise ConfigError(
            f"--ready-file {path}: holds something else, and would be deleted: name a file that is not there"
        ) from None
    return target
