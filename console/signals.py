"""How signals end a command that runs other processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupt() -> Iterator[None]:
    """Every polite signal raises KeyboardInterrupt, wherever we are, as Ctrl-C does.

    Under nohup the end of the terminal stays ignored. SIGINT does not, though shells let jobs in the background of a
    script ignore it: who sends it to us means us.
    """
    before = {number: signal.getsignal(number) for number in _POLITE}
    heeded = [
        number for number, handler in before.items() if number != signal.SIGHUP or handler is not signal.SIG_IGN
    ]
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
