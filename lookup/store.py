"""The list on this machine: one RocksDB per cluster and topic, disposable, since Kafka can rebuild it.

A shell over rocksdict; `lookup.progress` says what the progress means. What always holds: rows and progress change
in one write batch, so whenever the process ends, the progress is that of exactly these rows. A store whose files are
damaged is discarded when it is closed, and the next start reads the list from Kafka.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import structlog
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from lookup import progress as rules
from lookup.answers import LAYOUT, listed
from lookup.progress import Progress
from pipeline import rocks
from pipeline.errors import ConfigError, StoreBroken

log = structlog.get_logger(__name__)

#: Rows and bookkeeping are apart by their first byte.
_ROW = b"a"
_BEHIND_ROWS = b"b"
#: Addresses that were suppressed before the list was begun anew, and that the log has not said that of since.
_CLAIM, _BEHIND_CLAIMS = b"c", b"d"
#: Progress under another layout's name is not found, so that the list is rebuilt.
_PROGRESS = b"progress/%d" % LAYOUT

CACHE_BYTES = 64 * 1024 * 1024


def within(state_dir: Path) -> Path:
    """Where every list lies."""
    return state_dir / "lookup"


def folder(state_dir: Path, cluster_id: str, topic: str) -> Path:
    """Where the list of this topic of this cluster lies: offsets of another one mean nothing there."""
    return within(state_dir) / cluster_id / topic


class Store:
    """Rows by address, as bytes, and how far they have followed the log.

    broken  an operation failed: the process has to end

    Every method but `rows` and `close` raises StoreBroken if RocksDB fails.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the store; one process at a time. One that is damaged is begun anew. Raises ConfigError."""
        self.path = path
        self.broken = False
        self._damaged = False
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        except Exception as error:  # rocksdict raises nothing more precise
            raise ConfigError(
                f"STATE_DIR: {path} cannot be opened ({error}). If another lookup runs on it, give each its own "
                "STATE_DIR; if not, delete that folder: it is rebuilt from Kafka."
            ) from None

    def get(self, key: bytes) -> bytes | None:
        """The row of an address."""
        # The guard of the others would cost each answer 2 µs.
        try:
            value: bytes | None = self._db.get(_ROW + key)
        except Exception as error:  # rocksdict raises nothing more precise
            raise self._failure(error) from error
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows of these addresses, in their order."""
        with self._guarded():
            return cast("list[bytes | None]", self._db.get([_ROW + key for key in keys]))

    def page(self, after: bytes, size: int) -> list[tuple[bytes, bytes]]:
        """At most `size` rows (key, value) behind a key, in key order.

        Whoever reads all of them asks page by page: an iterator kept open for a slow reader would pin files and
        keep the store from closing.
        """
        # The smallest key behind `after` is itself with a zero byte.
        start = _ROW + after + b"\0" if after else _ROW
        with self._guarded():
            rows = rocks.first(self._db, size, start)
        # Bookkeeping sorts behind all rows, so it can only be at the end.
        return [(key[1:], value) for key, value in rows if key < _BEHIND_ROWS]

    def progress(self) -> Progress | None:
        """How far the rows have followed the log; None if there is nothing to go on from."""
        with self._guarded():
            kept = self._db.get(_PROGRESS)
        return rules.decode(kept)

    def apply(self, rows: Mapping[bytes, bytes | None], progress: Progress, confirmed: Iterable[bytes] = ()) -> None:
        """Put rows (None deletes) and the progress they make: all of it or nothing, whenever the process ends.

        confirmed  addresses whose claims are settled
        """
        batch = WriteBatch(raw_mode=True)
        for key in confirmed:
            batch.delete(_CLAIM + key)
        for key, value in rows.items():
            if value is None:
                batch.delete(_ROW + key)
            else:
                batch.put(_ROW + key, value)
        batch.put(_PROGRESS, rules.encode(progress))
        with self._guarded():
            self._db.write(batch)

    def clear(self, progress: Progress) -> None:
        """Delete every row, and begin again with this progress."""
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(_ROW, _BEHIND_ROWS)
        batch.put(_PROGRESS, rules.encode(progress))
        with self._guarded():
            self._db.write(batch)
            # Else `rows` would count the deleted ones too, until RocksDB gets round to it. 0.2 s per million rows.
            self._db.compact_range(None, None)

    def claim(self, after: bytes, size: int) -> bytes:
        """Note which of the next `size` rows behind a key suppress; the last of their keys, empty at the end.

        `clear` then deletes the rows and leaves the claims.
        """
        page = self.page(after, size)
        batch = WriteBatch(raw_mode=True)
        for key, row in page:
            if listed(True, row):
                batch.put(_CLAIM + key, b"")
        with self._guarded():
            self._db.write(batch)
        return page[-1][0] if page else b""

    def claims(self, most: int) -> int:
        """How many claims there are, `most` at most."""
        with self._guarded():
            return sum(key < _BEHIND_CLAIMS for key, _ in rocks.first(self._db, most, _CLAIM))

    def rows(self) -> int:
        """About how many rows there are; cheap."""
        return max(0, (self._db.property_int_value("rocksdb.estimate-num-keys") or 0) - 1)

    def close(self) -> None:
        """Close; nothing is lost without it, but the next start would have to read the write-ahead log.

        A store that is damaged is discarded.
        """
        try:
            self._db.close()
        except Exception as error:  # one that failed before raises that again, and is closed all the same
            self._failure(error)
        if self._damaged:
            self._discard()

    def _open(self) -> Rdict:
        try:
            return Rdict(str(self.path), _options())
        except Exception as error:
            if not rocks.is_damage(error):
                raise
            self._discard(str(error))
            return Rdict(str(self.path), _options())

    def _discard(self, reason: str = "it is damaged") -> None:
        log.error("the local list is discarded and read from Kafka again", folder=str(self.path), reason=reason)
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # rocksdict raises nothing more precise
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StoreBroken:
        self.broken = True
        self._damaged |= rocks.is_damage(error)
        return StoreBroken(f"{self.path}: {error}")


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(CACHE_BYTES))
    # Most addresses that are asked for are not on the list; a filter answers those without reading a block.
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    options.set_keep_log_file_num(2)
    return options
