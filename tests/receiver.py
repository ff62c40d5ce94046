"""A place that alerts go to: an HTTP endpoint, as apprise's `json://` service calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

#: Longest wait for something that must come, in seconds.
SECONDS = 30.0


@dataclass
class Receiver:
    """Takes notifications; while it is broken it answers 500, and while `answer` is not set it does not answer.

    came     every request, when it arrives
    took     the body of every notification that was taken
    refused  set by the first 500
    """

    url: str = ""
    broken: bool = False
    came: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    took: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.came.put_nowait(body["title"])
        await self.answer.wait()
        if self.broken:
            self.refused.set()
            return web.Response(status=500)
        self.took.put_nowait(body)
        return web.Response()

    async def notification(self) -> dict[str, Any]:
        """The next one that was taken: title, message, type."""
        return await asyncio.wait_for(self.took.get(), SECONDS)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens on a free port while the context lasts."""
    found = Receiver()
    found.answer.set()
    app = web.Application()
    app.router.add_post("/alerts", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"json://127.0.0.1:{runner.addresses[0][1]}/alerts"
        yield found
    finally:
        found.answer.set()
        await runner.cleanup()
