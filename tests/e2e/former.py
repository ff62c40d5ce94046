"""A service of a release that had no word for a hard bounce, and knew an address by what is written there.

`python -m tests.e2e.former processor`
"""

from __future__ import annotations

import runpy
import sys
import unicodedata

from pipeline import contract
from pipeline.providers import TYPES

FORGOTTEN = "bounced.hard"


def address(given: str) -> str | None:
    """The key that it gave an address: trimmed, in lower case, composed."""
    text = unicodedata.normalize("NFC", given.strip().lower())
    local, at, domain = text.rpartition("@")
    return text if at and local and domain and text.isprintable() and " " not in text else None


if __name__ == "__main__":
    del TYPES["nexuspromail"][FORGOTTEN]  # type: ignore[attr-defined] # a dict, whatever its type says
    contract.address = address
    # Off the command line, which the service reads, too.
    runpy.run_module(sys.argv.pop(), run_name="__main__")
