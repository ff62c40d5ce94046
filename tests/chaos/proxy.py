"""A TCP proxy that can be cut, slowed down and made a black hole, as networks do."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """Forwards connections to one port. Between start and stop; `port` is known once it is started.

    delay      seconds that everything is held back, in both directions
    blackhole  nothing passes and nobody is told
    """

    def __init__(self, host: str, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        self._host = host
        self._target = target
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._refuses = False
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._refuses = True
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection and let no new one live."""
        self._refuses = True
        self._abort()

    def swallow(self) -> None:
        """Let nothing pass, and tell nobody."""
        self._open.clear()

    def heal(self) -> None:
        """Forward again; what was swallowed meanwhile is only late, as with TCP."""
        self._refuses = False
        self.delay = 0.0
        self._open.set()

    def _abort(self) -> None:
        for writer in self._connections:
            writer.transport.abort()
        self._connections.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            inner_reader, inner_writer = await asyncio.open_connection(self._host, self._target)
        except OSError:
            writer.transport.abort()
            return
        mine = {writer, inner_writer}
        self._connections |= mine
        try:
            await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))
        finally:
            self._connections -= mine
            for each in mine:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(256 * 1024):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        # One side is gone, so the other one goes too: half-open connections are no subject here.
        writer.transport.abort()
