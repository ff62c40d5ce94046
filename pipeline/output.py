"""What is written to a terminal, a pipe or a log that cannot show it.

What always holds: no character ends a process. One that the stream's encoding does not have is written as `\\u00b7`,
which is also how JSON escapes it: a program that reads the output gets the same text.
"""

from __future__ import annotations

import codecs
import os
import sys
from io import TextIOWrapper
from pathlib import Path

_NAME = "postlog-escape"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


def never_fails() -> None:
    """Let standard output and standard error escape what they cannot show. Call it before anything is printed."""
    codecs.register_error(_NAME, _escaped)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # It was closed before we came.
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as we run
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_NAME)
