"""The lines of a list file as UTF-8, whatever program wrote it.

A mark at the beginning says that it is UTF-16, as Excel's "Unicode text" is. Without one a file is taken for UTF-8,
and bytes that are none stay as they are, so that the line that has them can be named.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PostlogError

#: Bytes that are looked at to tell how a file is written.
_HEAD = 64 * 1024
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def opened(file: Path) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The file's encoding and its lines with their ends. Raises PostlogError naming the file and the cure."""
    with io.BufferedReader(io.FileIO(file), _HEAD) as source:
        head = source.peek(_HEAD)
        # First, since one mark begins with the other.
        if head.startswith(_UTF_32):
            raise PostlogError(f"{file}: is UTF-32: save it as UTF-8")
        if head.startswith(_UTF_16):
            with io.TextIOWrapper(source, "utf-16", newline="") as text:
                yield "UTF-16", _encoded(file, text)
        elif b"\0" in head:
            raise PostlogError(f"{file}: holds zero bytes, as UTF-16 without its mark does: save it as UTF-8")
        elif b"\r" in head and b"\n" not in head:
            with io.TextIOWrapper(source, "utf-8-sig", errors="surrogateescape", newline="") as text:
                yield "UTF-8", _encoded(file, text)
        else:
            if head.startswith(codecs.BOM_UTF8):
                source.seek(len(codecs.BOM_UTF8))
            yield "UTF-8", source


def _encoded(file: Path, text: Iterable[str]) -> Iterator[bytes]:
    """The lines in UTF-8. Raises PostlogError where the text is none."""
    number = 0
    try:
        for line in text:
            number += 1
            yield line.encode(errors="surrogateescape")
    except UnicodeError as error:
        raise PostlogError(f"{file}: is no whole UTF-16 behind line {number}: {error}") from None
