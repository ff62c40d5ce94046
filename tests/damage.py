"""Damage to a file on a disk, as a test makes it."""

from __future__ import annotations

from pathlib import Path


def flip(file: Path, place: int | None = None) -> None:
    """Turn the bits of one byte: of the one at this place, by default in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 0xFF
    file.write_bytes(content)


def largest_table(path: Path) -> Path:
    """The largest table file of a RocksDB that is closed."""
    return max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
