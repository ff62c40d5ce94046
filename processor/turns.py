"""How many lanes of a process have a transaction under way at once.

A transaction costs the same for one record or thousands. Lanes that all commit as soon as they can, and so a record
or two each, take the CPU that ingress, lookup and broker need; with few turns what comes meanwhile shares the next
transaction. While little comes there is always a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: One lane decides while another waits for Kafka. More at once made latency and throughput worse on two cores.
TURNS = 2
#: Seconds that a lane waits at most: those before it may wait for a broker that is away.
PATIENCE = 0.5


class Turns:
    """Handed out in the order in which they are asked for."""

    def __init__(self, turns: int = TURNS, patience: float = PATIENCE) -> None:
        self._free = asyncio.Semaphore(turns)
        self._patience = patience

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn while the context lasts; after `patience` without one it goes on all the same."""
        had = await self._had()
        try:
            yield
        finally:
            if had:
                self._free.release()

    async def _had(self) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                return await self._free.acquire()
        except TimeoutError:
            return False
