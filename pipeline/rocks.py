"""What the errors of a RocksDB mean, and a walk over it that says so when it cannot go on.

A shell over rocksdict. It raises one kind of error for all, so the texts are read here and nowhere else. Its own
`items` ends at a block that cannot be read as if that were the end of the data: what lies behind it would be
forgotten without a word. An iterator keeps the database open and its lock held for as long as anybody has it, a
traceback too; so none lives longer than a step here, and closing a database depends on no collection of garbage.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocksdict import Rdict

#: What is read in one step: rows, and bytes of values.
STEP_ROWS, STEP_BYTES = 1_000, 1024 * 1024


def is_locked(error: Exception) -> bool:
    """Whether RocksDB could not open a database since somebody has it; a corrupt block is no lock."""
    return "/LOCK:" in str(error)  # the file that it names


def is_damage(error: Exception) -> bool:
    """Whether RocksDB found its files damaged or missing; a disk that is full or may not be written is no damage."""
    return str(error).startswith("Corruption: ") or "No such file or directory" in str(error)


def rows(db: Rdict, from_key: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Every row of a database or column family in raw mode, from a key on, in the order of keys.

    A row that is written meanwhile may be among them or not.

    Raises Exception, as rocksdict does, for a block that is damaged, behind the rows before it.
    """
    while True:
        found, damage = _step(db, STEP_ROWS, from_key)
        yield from found
        if damage is not None:
            raise damage
        if not found:
            return
        # The smallest key behind another is itself with a zero byte.
        from_key = found[-1][0] + b"\0"


def first(db: Rdict, most: int, from_key: bytes = b"") -> list[tuple[bytes, bytes]]:
    """The first rows from a key on; fewer than `most` if there are no more, or if they are large.

    Raises Exception, as `rows` does.
    """
    found, damage = _step(db, most, from_key)
    if damage is not None:
        raise damage
    return found


def _step(db: Rdict, most: int, from_key: bytes) -> tuple[list[tuple[bytes, bytes]], Exception | None]:
    """The first rows from a key on, and why there are no more of them if something is damaged."""
    found: list[tuple[bytes, bytes]] = []
    size = 0
    walk = db.iter()
    try:
        walk.seek(from_key)
        while len(found) < most and size < STEP_BYTES and walk.valid():
            key, value = walk.key(), walk.value()
            found.append((key, value))
            size += len(value)
            walk.next()
        walk.status()
    except Exception as damage:  # rocksdict raises nothing narrower
        return found, damage
    finally:
        # A traceback would keep it otherwise.
        del walk
    return found, None
