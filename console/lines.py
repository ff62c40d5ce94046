"""A file of deliveries: one body per line, as NexusProMail posts it.

Pure. A line is sent byte for byte as it stands there, because the signature is over the bytes.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.contract import explain
from pipeline.errors import PostlogError

Text = Annotated[str, Meta(min_length=1)]


class Data(msgspec.Struct):
    """What the event is about; other fields pass unseen."""

    email: Text


class Body(msgspec.Struct):
    """What every delivery has; other fields pass unseen."""

    id: Text
    type: Text
    data: Data


_decoder = msgspec.json.Decoder(Body)


def body(line: bytes, number: int, *, check: bool) -> bytes | None:
    """The body in a line, None if the line is blank; number is its place in the file, counted from 1.

    Raises PostlogError naming the line, the field and the reason, unless `check` is off.
    """
    # Some programs write a byte order mark at the start of a file.
    text = (line.removeprefix(BOM_UTF8) if number == 1 else line).strip()
    if text and check:
        try:
            _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PostlogError(
                f"line {number}: {explain(error)}. "
                'A line is one delivery: {"id": "…", "type": "…", "data": {"email": "…"}}; '
                "--unchecked sends it as it is."
            ) from None
    return text or None


def bodies(lines: Iterable[bytes], *, check: bool) -> Iterator[bytes]:
    """The bodies of all lines that are not blank. Raises PostlogError as `body` does."""
    for number, line in enumerate(lines, start=1):
        found = body(line, number, check=check)
        if found is not None:
            yield found
