"""A walk over a RocksDB that says so when it cannot go on.

A shell over rocksdict, whose own `items` ends at a block that cannot be read as if that were the end of the data:
what lies behind it would be forgotten without a word.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocksdict import Rdict


def rows(db: Rdict, from_key: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Every row of a database or column family in raw mode, from a key on, in the order of keys.

    Raises Exception, as rocksdict does, for a block that is damaged.
    """
    found = db.iter()
    found.seek(from_key)
    while found.valid():
        yield found.key(), found.value()
        found.next()
    found.status()
