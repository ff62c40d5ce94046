"""A lane's state on local disk: RocksDB, one folder per lane, disposable.

A shell. The changelogs in Kafka are the truth; this is a copy that knows how far it has read them. Rows and those
positions are written in one batch, so after a crash at any time the copy is an older one, never a torn one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import structlog
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from pipeline import rocks
from pipeline.errors import StoreBroken, StoreLocked
from processor import place
from processor.place import Place

log = structlog.get_logger(__name__)

#: The tables of a lane, by the role of their changelog in topics.yaml.
Table = Literal["seen", "suppressions", "calls", "incidents"]
TABLES: tuple[Table, ...] = ("seen", "suppressions", "calls", "incidents")

_POSITION = b"position:"
_SOURCE = b"source"


#: Bytes that a table of a lane collects in memory before it writes them to a file; a standby needs fewer.
BUFFER, STANDBY_BUFFER = 8 * 1024 * 1024, 4 * 1024 * 1024
#: Bytes of blocks that all lanes of a process keep in memory together.
CACHE_BYTES = 32 * 1024 * 1024
#: Bits of a filter for each row in a file, and the share of a buffer that is a filter for what it holds.
FILTER_BITS, BUFFER_FILTER = 10, 0.1


def open_store(path: Path, buffer: int = BUFFER) -> Store:
    """The store in a folder; one that RocksDB cannot open is discarded first, since the changelogs bring it back.

    buffer  bytes of each table that wait in memory

    Raises StoreLocked if somebody has it open.
    """
    try:
        return Store(path, buffer)
    except Exception as error:  # rocksdict raises nothing narrower
        if rocks.is_locked(error):
            raise StoreLocked(f"{path} is open in another process: give each its own STATE_DIR") from None
        log.warning("store discarded, it cannot be opened", path=str(path), error=str(error))
        discard(path)
        return Store(path, buffer)


class Store:
    """Rows and positions of one lane, for one owner at a time.

    broken  an operation failed: what is on the disk cannot be trusted
    """

    def __init__(self, path: Path, buffer: int, *, disposable: bool = True) -> None:
        """disposable  once it is broken, closing it removes it"""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.broken = False
        self._disposable = disposable
        self._tables: dict[Table, Rdict] = {}
        self._handles: dict[Table, Any] = {}
        self._db = Rdict(str(path), _options(buffer), column_families={table: _options(buffer) for table in TABLES})
        try:
            self._tables.update({table: self._db.get_column_family(table) for table in TABLES})
            self._handles.update({table: self._db.get_column_family_handle(table) for table in TABLES})
        except BaseException:
            # Whoever has the error has its traceback, and so this object.
            self._release()
            raise

    def markers(self, keys: list[bytes]) -> list[bytes | None]:
        """Dedup markers by changelog key, None where there is none."""
        return self._get_many("seen", keys)

    def suppressions(self, addresses: list[bytes]) -> list[bytes | None]:
        """Entries of the suppression list by address, None where nothing is known."""
        return self._get_many("suppressions", addresses)

    def call(self, row: bytes) -> bytes | None:
        """An owed call by its row, None if it is not owed."""
        (found,) = self._get_many("calls", [row])
        return found

    def rows(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        """Every row of a table, in the order of keys."""
        with self._guarded():
            yield from rocks.rows(self._tables[table])

    def first_rows(self, table: Table, most: int, from_key: bytes) -> list[tuple[bytes, bytes]]:
        """The first rows of a table from a key on; fewer than `most` if there are no more, or if they are large."""
        with self._guarded():
            return rocks.first(self._tables[table], most, from_key)

    def _get_many(self, table: Table, keys: list[bytes]) -> list[bytes | None]:
        with self._guarded():
            found: list[bytes | None] = self._tables[table][keys]  # type: ignore[index, assignment]
            return found

    def empty(self) -> bool:
        """Whether nothing was ever processed: an incident may be noted before."""
        with self._guarded():
            return not any(rocks.first(self._tables[table], 1) for table in TABLES if table != "incidents")

    def position(self, topic: str) -> int | None:
        """The offset up to which the changelog is in here; None if never read."""
        known = self.place(topic)
        return None if known is None else known[0].next

    def place(self, topic: str) -> tuple[Place, bool] | None:
        """How far the changelog is in here, and whether a former release wrote that; None if never read."""
        value = self._own(_POSITION + topic.encode())
        return None if value is None else place.decode(value)

    def source(self) -> str:
        """Id of the topic whose events made this state; empty if nobody noted it."""
        value = self._own(_SOURCE)
        return "" if value is None else value.decode()

    def _own(self, key: bytes) -> bytes | None:
        """What stands beside the tables."""
        with self._guarded():
            found: bytes | None = self._db.get(key)
            return found

    def note_source(self, identity: str) -> None:
        """Note that id."""
        with self._guarded():
            self._db[_SOURCE] = identity.encode()

    def write(
        self,
        rows: Mapping[Table, Iterable[tuple[bytes, bytes | None]]],
        places: Mapping[str, Place],
        *,
        drop_markers_below: bytes | None = None,
    ) -> None:
        """Write rows (None deletes) and places by changelog at once; then forget markers below a key."""
        batch = WriteBatch(raw_mode=True)
        if drop_markers_below is not None:
            batch.delete_range(b"", drop_markers_below, self._handles["seen"])
        for table, changed in rows.items():
            batch.set_default_column_family(self._handles[table])
            for key, value in changed:
                if value is None:
                    del batch[key]
                else:
                    batch[key] = value
        batch.set_default_column_family(None)
        for topic, reached in places.items():
            batch[_POSITION + topic.encode()] = place.encode(reached)
        with self._guarded():
            self._db.write(batch)

    def close(self) -> None:
        """Release the folder; idempotent. A store that is broken is discarded."""
        if not self._tables:
            return
        self._release()
        if self.broken and self._disposable:
            discard(self.path)

    def _release(self) -> None:
        for table in self._tables.values():
            self._shut(table)
        self._tables.clear()
        # Each handle keeps the database open, and its lock held.
        self._handles.clear()
        self._shut(self._db)

    def _shut(self, database: Rdict) -> None:
        """Close it. One that failed before raises that again, and is closed all the same."""
        try:
            database.close()
        except Exception as error:  # rocksdict raises nothing narrower
            self.broken = True
            log.warning("a store is broken", path=str(self.path), error=str(error))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # rocksdict raises nothing narrower
            self.broken = True
            raise StoreBroken(f"{self.path}: {error}") from error


def discard(path: Path) -> None:
    """Remove a closed store; the changelogs bring it back."""
    shutil.rmtree(path, ignore_errors=True)


@cache
def _cache() -> Cache:
    return Cache(CACHE_BYTES)


def _options(buffer: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_size(buffer)
    # Most ids are new: a filter answers "certainly not here" without a search in the buffer or reading a block.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(BUFFER_FILTER)
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(FILTER_BITS, False)
    # One for all: each table of each lane would have a cache of its own.
    blocks.set_block_cache(_cache())
    options.set_block_based_table_factory(blocks)
    # RocksDB's own log of its doings, not data: by default it keeps a thousand files of it.
    options.set_keep_log_file_num(2)
    return options
