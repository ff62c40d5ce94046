"""Runs a service as `python -m SERVICE` would, under a clock that can be stepped and, if asked, deliberately broken.

    python -m tests.chaos.launch SERVICE [BREAKAGE]

Whoever starts it gives it the environment of `tests/clock.py`.
"""

from __future__ import annotations

import runpy
import sys

from tests import clock
from tests.chaos import broken

if __name__ == "__main__":
    service, *breakage = sys.argv[1:]
    clock.sleep_aside()
    for name in breakage:
        broken.BUILDS[name]()
    sys.argv = [service]
    runpy.run_module(service, run_name="__main__", alter_sys=True)
