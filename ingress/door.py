"""The door before the HTTP server: which connections there are, and which of them are listened to.

A shell over asyncio; `sources` holds the rules. What comes from a source that is shut out is not even parsed: its
connections stay open and unread for a while, so that whoever waits for an answer has to wait, then they are cut. When
there are too many connections, those go first that are not listened to, then those that never delivered anything
authentic: slow senders, however many, keep nobody out.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import web

from ingress import metrics
from ingress.sources import Sources, source_of
from pipeline.errors import ConfigError
from pipeline.logs import Sparing

log = structlog.get_logger(__name__)

#: Connections that stay open unread; of more than these the oldest is cut.
MOST_HELD = 256
#: Files that a process needs besides its connections: brokers, the spool, libraries.
OTHER_FILES = 500

#: While draining: how long silence has to last on all connections, and how often to look, in seconds.
QUIET_SECONDS, LOOK_SECONDS = 0.25, 0.02

Server = Callable[[], asyncio.Protocol]


class Door:
    """Who is in, and who has to wait outside."""

    def __init__(self, sources: Sources, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """most  connections at a time"""
        self.sources = sources
        self.clock = clock
        self._most = most
        self._connections = 0
        # Dictionaries for their order: the oldest is the first.
        self._held: dict[Visit, None] = {}
        self._unproven: dict[Visit, None] = {}
        self._sparing = Sparing(log, clock)
        self._heard_at = clock()

    def authentic(self, request: web.Request) -> None:
        """What this request brought is authentic."""
        if visit := _visit(request):
            self._unproven.pop(visit, None)
            self.sources.authentic(visit.source, self.clock())

    def refused(self, request: web.Request) -> None:
        """What this request brought was refused."""
        if (visit := _visit(request)) and self.sources.refused(visit.source, self.clock()):
            self._sparing.warning("shut out for too many refusals", latest={"source": visit.source})
            visit.hold()

    def listens(self, visit: Visit) -> bool:
        """Whether what comes on this connection is to be heard."""
        self._heard_at = self.clock()
        return self.sources.shut_out(visit.source, self._heard_at) == 0

    async def until_quiet(self, seconds: float) -> None:
        """Wait until no connection is left, or nothing was heard on any for QUIET_SECONDS; `seconds` at most."""
        started = self.clock()
        while self._connections > len(self._held):
            now = self.clock()
            if now - max(self._heard_at, started) > QUIET_SECONDS or now - started > seconds:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def enter(self, visit: Visit) -> bool:
        """Count a connection; False if there is no room for it."""
        if self._connections >= self._most:
            if not (self._held or self._unproven):
                metrics.CONNECTIONS_CLOSED.labels("full").inc()
                return False
            metrics.CONNECTIONS_CLOSED.labels("crowded_out").inc()
            next(iter(self._held or self._unproven)).cut()
        self._connections += 1
        self._unproven[visit] = None
        metrics.CONNECTIONS.inc()
        return True

    def leave(self, visit: Visit) -> None:
        """A connection has ended."""
        self._connections -= 1
        self._held.pop(visit, None)
        self._unproven.pop(visit, None)
        metrics.CONNECTIONS.dec()

    def keep_outside(self, visit: Visit) -> None:
        """It is not read any more."""
        metrics.CONNECTIONS_CLOSED.labels("shut_out").inc()
        self._unproven.pop(visit, None)
        self._held[visit] = None
        if len(self._held) > MOST_HELD:
            next(iter(self._held)).cut()


class Visit(asyncio.Protocol):
    """One connection: passes on to the HTTP server what is to be heard."""

    __slots__ = ("_door", "_inner", "_inside", "_server", "_transport", "_waiting", "source")

    def __init__(self, door: Door, server: Server) -> None:
        self.source = ""
        self._door = door
        self._server = server
        self._inner: asyncio.Protocol | None = None
        self._inside = False
        self._transport: asyncio.Transport
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or not."""
        self._transport = cast(asyncio.Transport, transport)
        self.source = source_of(transport.get_extra_info("peername"))
        if not self._door.enter(self):
            self._transport.abort()
            return
        self._inside = True
        if not self._door.listens(self):
            self.hold()
            return
        self._inner = self._server()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on, unless the source was shut out meanwhile."""
        if self._waiting is None and self._inner is not None:
            if self._door.listens(self):
                self._inner.data_received(data)
            else:
                self.hold()

    def eof_received(self) -> bool | None:
        """The other side sends no more."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """The other side does not take our answers."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It takes them again."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._leave()
        if self._inner is not None:
            self._inner.connection_lost(error)

    def hold(self) -> None:
        """Read nothing more, and cut it when its source may come again."""
        if self._waiting is None:
            seconds = self._door.sources.shut_out(self.source, self._door.clock())
            self._waiting = asyncio.get_running_loop().call_later(seconds, self.cut)
            self._transport.pause_reading()
            self._door.keep_outside(self)

    def cut(self) -> None:
        """End it without a word."""
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        # Once, and at once: an aborted connection is lost only in the next round of the loop.
        if self._inside:
            self._inside = False
            self._door.leave(self)


class Runner(web.AppRunner):
    """aiohttp's runner, whose connections come through a door."""

    __slots__ = ("_door",)

    def __init__(self, app: web.Application, door: Door, **options: Any) -> None:
        super().__init__(app, **options)
        self._door = door

    @property
    def server(self) -> Any:
        """What a site calls for every connection."""
        inner = super().server
        return None if inner is None else lambda: Visit(self._door, inner)


def _visit(request: web.Request) -> Visit | None:
    """The connection of a request; None if it is gone, or came through no door."""
    transport = request.transport
    protocol = transport.get_protocol() if transport is not None else None
    return protocol if isinstance(protocol, Visit) else None


def require_files(connections: int) -> None:
    """Let this process open as many files as it may need. Raises ConfigError if it is not allowed to."""
    needed = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"INGRESS_MAX_CONNECTIONS is {connections}: with {OTHER_FILES} others that is more than the {hard} files "
            "this process may open. Lower it, or raise the limit (ulimit -n, LimitNOFILE, --ulimit nofile)."
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
