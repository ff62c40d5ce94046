"""A lane's store on a real disk: closed it is free, and broken it is thrown away, because Kafka can bring it back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.errors import StoreBroken, StoreLocked
from processor.place import Place
from processor.store import Store, open_store
from tests.damage import flip, largest_table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # A folder whose name could be taken for a word of RocksDB's.
    return tmp_path / "blocks" / "lane-0"


def fill(store: Store) -> None:
    rows = [(n.to_bytes(20, "big"), os.urandom(16)) for n in range(20_000)]
    store.write({"seen": rows, "suppressions": [(b"a@x.io", b"{}")]}, {"changelog": Place(7)})


def test_what_was_written_is_there_after_a_reopening_with_its_position(path: Path) -> None:
    store = open_store(path)
    fill(store)
    store.close()
    again = open_store(path)
    assert again.suppressions([b"a@x.io", b"b@x.io"]) == [b"{}", None]
    assert again.markers([(5).to_bytes(20, "big")])[0] is not None
    assert (again.position("changelog"), again.position("other")) == (7, None)
    again.close()


def test_markers_below_a_key_are_dropped_and_none_deletes_a_row(path: Path) -> None:
    store = open_store(path)
    fill(store)
    store.write({"suppressions": [(b"a@x.io", None)]}, {}, drop_markers_below=(10).to_bytes(20, "big"))
    keys = [n.to_bytes(20, "big") for n in (9, 10)]
    assert [marker is not None for marker in store.markers(keys)] == [False, True]
    assert store.suppressions([b"a@x.io"]) == [None]
    store.close()


def test_a_closed_store_can_be_opened_again_while_somebody_still_holds_the_object(path: Path) -> None:
    held = [open_store(path)]
    held[0].close()
    held[0].close()
    held.append(open_store(path))
    held[1].close()


def test_an_open_store_is_locked_and_stays_whole(path: Path) -> None:
    store = open_store(path)
    fill(store)
    with pytest.raises(StoreLocked):
        open_store(path)
    assert not store.empty()
    store.close()


def test_a_new_store_is_empty(path: Path) -> None:
    store = open_store(path)
    assert store.empty()
    store.write({"seen": [(b"k", b"v")]}, {})
    assert not store.empty()
    store.close()


def damage(path: Path, pattern: str) -> None:
    files = list(path.glob(pattern))
    assert files
    for file in files:
        file.write_bytes(os.urandom(max(file.stat().st_size, 64)))


def test_a_store_that_cannot_be_opened_is_begun_anew(path: Path) -> None:
    store = open_store(path)
    fill(store)
    store.close()
    damage(path, "MANIFEST-*")
    again = open_store(path)
    assert again.empty()
    again.close()


def test_a_store_that_cannot_be_read_is_discarded_when_it_is_closed(path: Path) -> None:
    store = open_store(path)
    fill(store)
    store.close()
    reopened = open_store(path)  # writes what is in memory to table files
    reopened.close()
    store = open_store(path)
    damage(path, "*.sst")
    with pytest.raises(StoreBroken):
        store.markers([n.to_bytes(20, "big") for n in range(0, 20_000, 50)])
    store.close()
    again = open_store(path)
    assert again.empty()
    again.close()


def test_a_walk_that_meets_a_damaged_block_does_not_pass_for_a_whole_one(path: Path) -> None:
    store = open_store(path)
    store.write({"calls": [(number.to_bytes(8, "big"), os.urandom(100)) for number in range(20_000)]}, {})
    store.close()
    open_store(path).close()  # writes what is in memory to table files
    flip(largest_table(path))  # one block of it cannot be read any more
    store = open_store(path)
    with pytest.raises(StoreBroken, match="block checksum mismatch"):
        list(store.rows("calls"))
    store.close()
    again = open_store(path)
    assert again.empty()
    again.close()


def test_a_store_whose_files_cannot_be_merged_is_discarded_when_it_is_closed(path: Path) -> None:
    # RocksDB merges four files of a table in the background. Once that has failed, each write and each close fails.
    def another_file(store: Store) -> None:
        store.write({"calls": [(number.to_bytes(8, "big"), os.urandom(100)) for number in range(1_000)]}, {})

    def write_until_it_fails(store: Store) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            another_file(store)

    for _ in range(3):
        store = open_store(path)
        another_file(store)
        store.close()
    for file in path.glob("*.sst"):
        flip(file)
    # With so small a buffer the fourth file is written while the store is open, not when it is closed.
    store = open_store(path, buffer=64 * 1024)
    with pytest.raises(StoreBroken, match="block checksum mismatch"):
        write_until_it_fails(store)
    store.close()
    again = open_store(path)
    assert again.empty()
    again.close()
