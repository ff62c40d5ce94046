"""How signals end a command that runs other processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupt() -> Iterator[None]:
    """Every polite signal raises KeyboardInterrupt, wherever we are, as Ctrl-C does.

    A signal that our starter had us ignore (nohup, a job in the background) stays ignored.
    """
    before = {number: signal.getsignal(number) for number in _POLITE}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in heeded:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])


@contextmanager
def ignored() -> Iterator[None]:
    """No polite signal interrupts a stop, which is bounded in time anyway: half of one leaves processes behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _POLITE}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
