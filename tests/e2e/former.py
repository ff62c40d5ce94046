"""A service of a release whose table had no word for a hard bounce: `python -m tests.e2e.former processor`."""

from __future__ import annotations

import runpy
import sys

from pipeline.providers import TYPES

FORGOTTEN = "bounced.hard"

if __name__ == "__main__":
    del TYPES["nexuspromail"][FORGOTTEN]  # type: ignore[attr-defined] # a dict, whatever its type says
    # Off the command line, which the service reads, too.
    runpy.run_module(sys.argv.pop(), run_name="__main__")
