"""Child processes never outlive us: on Linux the kernel ends a child when its parent dies, also by SIGKILL.

Elsewhere only an orderly end of the parent does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

# Loaded before the fork: between fork and exec a child must not import or allocate much.
_libc = ctypes.CDLL(None, use_errno=True)


def ends_with_us() -> Callable[[], None] | None:
    """For `preexec_fn` of subprocess: the child gets SIGTERM when we end, however we do.

    Start it from the main thread: the kernel takes the end of the calling thread for the end of the parent.
    """
    return partial(_end_with_parent, os.getpid()) if sys.platform == "linux" else None


def _end_with_parent(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It died before the kernel knew of our wish, so no signal will ever come.
    if os.getppid() != parent:
        os._exit(1)
