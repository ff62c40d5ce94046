"""Walks over a RocksDB on a real disk: whole, in order, and never what keeps a database open."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from pipeline import rocks
from tests.damage import flip, largest_table


def opened(path: Path) -> Rdict:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    return Rdict(str(path), options)


def fill(path: Path, rows: int, size: int = 10) -> list[bytes]:
    """Keys of rows that were written and lie in table files."""
    db, keys = opened(path), [number.to_bytes(4, "big") for number in range(rows)]
    for key in keys:
        db[key] = os.urandom(size)
    db.flush()
    db.close()
    return keys


@pytest.mark.parametrize(("rows", "size"), [(0, 10), (1, 10), (1_000, 10), (2_001, 10), (7, 700_000)])
def test_a_walk_gives_every_row_once_in_order(tmp_path: Path, rows: int, size: int) -> None:
    keys = fill(tmp_path, rows, size)
    db = opened(tmp_path)
    assert [key for key, _ in rocks.rows(db)] == keys
    assert [key for key, _ in rocks.rows(db, b"\0\0\0\3")] == keys[3:]
    assert [key for key, _ in rocks.first(db, 2)] == keys[:2]
    db.close()


def test_a_walk_that_somebody_still_holds_keeps_no_database_open(tmp_path: Path) -> None:
    fill(tmp_path, 2_500)
    db = opened(tmp_path)
    held = rocks.rows(db)
    assert len(list(islice(held, 1_500))) == 1_500
    db.close()
    opened(tmp_path).close()
    with pytest.raises(Exception, match="closed"):
        list(held)


def test_a_walk_gives_what_is_before_a_damaged_block_and_its_error_keeps_no_database_open(tmp_path: Path) -> None:
    keys = fill(tmp_path, 5_000, 100)
    flip(largest_table(tmp_path))
    db = opened(tmp_path)
    found: list[bytes] = []
    with pytest.raises(Exception, match="block checksum mismatch") as error:
        found += [key for key, _ in rocks.rows(db)]
    with pytest.raises(Exception, match="block checksum mismatch"):
        found.extend(key for key, _ in rocks.rows(db))
    assert found == keys[: len(found)]
    assert 2_000 < len(found) < 3_000
    db.close()
    opened(tmp_path).close()
    assert error.tb is not None
