"""How work ends that somebody interrupts: what is under way is awaited, so that one can say how far it came."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work to its end, also if we are cancelled meanwhile; the cancellation goes on after that.

    The work has to be bounded in time. A second Ctrl-C ends the whole process at once.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
