"""The door before the HTTP server: which connections there are, and which of them are listened to.

A shell over asyncio; `sources`, `outside` and `proxies` hold the rules, `visit` is one connection and `bodies` reads
what is large. Of a source that is shut out only a share is parsed: its connections stay open and wait for their turn.
When there are too many connections, those go first that wait outside, then those that never delivered anything
authentic: slow senders, however many, keep nobody out. Everybody gets answers about health.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import web

from ingress import metrics
from ingress.bodies import READ_BUFFER, Bodies
from ingress.outside import PAUSE, Outside
from ingress.proxies import HEADER, Proxies
from ingress.sources import Sources
from ingress.visit import Proven, Visit
from pipeline.errors import ConfigError
from pipeline.logs import Sparing
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

#: Files that a process needs besides its connections: brokers, the spool, libraries.
OTHER_FILES = 500

#: While draining: how long silence has to last on all connections, and how often to look, in seconds.
QUIET_SECONDS, LOOK_SECONDS = 0.25, 0.02
#: Seconds for which a connection that is too many outside stays open unread: a flood connects anew when it is cut.
HELD_SECONDS = 1.0
#: Seconds for which what came on a connection speaks for its source without being noted again.
VOUCHED_SECONDS = 60.0


class Door:
    """Who is in, and who has to wait."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError if the settings do not fit together."""
        self.sources = Sources(settings.ingress_max_refusals)
        self.proxies = Proxies(settings.ingress_trusted_proxies)
        self.clock = clock
        self._bodies = Bodies(settings, self._hears)
        self._most = settings.ingress_max_connections
        self._connections = 0
        self._outside: Outside[Visit] = Outside()
        # A dictionary for its order: the oldest is the first.
        self._unproven: dict[Visit, None] = {}
        self._sparing = Sparing(log, clock)
        self._heard_at = clock()
        self._next_turn = 0.0
        self._turning: asyncio.TimerHandle | None = None

    def authentic(self, request: web.Request) -> None:
        """What this request brought is authentic."""
        visit = _visit(request)
        if visit is None:
            return
        self._heard_at = now = self.clock()
        if now - visit.vouched < VOUCHED_SECONDS:
            return
        self._unproven.pop(visit, None)
        source = self._source(request, visit)
        if source is not None:
            self.sources.authentic(source, now)
            for waiting in self._outside.of(source):
                self._outside.discard(waiting)
                waiting.come_in()
        visit.answered(whole=True)
        if not visit.proxied:  # Behind a proxy each request has a source of its own, and each body an unknown sender.
            visit.is_proven(now)

    def refused(self, request: web.Request) -> None:
        """What this request brought was refused."""
        visit = _visit(request)
        source = self._source(request, visit) if visit else None
        if visit is None or source is None:
            return
        if self.sources.refused(source, self.clock()):
            self._sparing.warning("shut out for too many refusals", latest={"source": source})
        # What else it has sent ahead costs nothing then. A proxy's connection belongs to others, too.
        visit.ending = visit.ending or (not visit.proxied and self.sources.shut_out(source, self.clock()) > 0)

    def admits(self, request: web.Request) -> bool:
        """Whether a request that a trusted proxy brought is to be heard: of who is shut out only a share is."""
        visit = _visit(request)
        if visit is None or not visit.proxied:
            return True
        source = self._source(request, visit)
        if source is None or self.sources.shut_out(source, self.clock()) == 0:
            return True
        now = self.clock()
        if now < self._next_turn:
            return False
        self._next_turn = now + PAUSE
        return True

    def _source(self, request: web.Request, visit: Visit) -> str | None:
        """Who is behind a request; None if that is nobody who could be shut out: a trusted proxy itself."""
        if not visit.proxied:
            return visit.source
        source = self.proxies.source(request.headers.getall(HEADER, ()))
        if source is None:
            self._sparing.warning("a trusted proxy names no client", header=HEADER)
        return source

    async def body(self, request: web.Request) -> bytes:
        """The body of a request, of which not all has come. Raises what `Bodies.read` raises."""
        visit = _visit(request)
        source = self._source(request, visit) if visit else None
        known = source is not None and self.sources.known(source, self.clock())
        return await self._bodies.read(request, visit, known=known)

    async def answered(self, request: web.Request, response: web.StreamResponse) -> None:
        """Its answer is about to be sent. aiohttp calls it, but for ready answers."""
        if visit := _visit(request):
            visit.answered(whole=request.content.is_eof())
            if visit.ending:
                response.force_close()
                response.headers["Connection"] = "close"

    def too_much(self, visit: Visit) -> None:
        """It brings what is no body, and does not end."""
        metrics.CONNECTIONS_CLOSED.labels("long_head").inc()
        visit.cut()

    def _hears(self) -> None:
        self._heard_at = self.clock()

    def listens(self, visit: Visit) -> bool:
        """Whether what comes on this connection is to be heard without waiting for a turn."""
        self._heard_at = self.clock()
        return visit.proxied or self.sources.shut_out(visit.source, self._heard_at) == 0

    async def until_quiet(self, seconds: float) -> None:
        """Wait until no connection is left, or nothing was heard on any for QUIET_SECONDS; `seconds` at most."""
        started = self.clock()
        while self._connections > len(self._outside):
            now = self.clock()
            if now - max(self._heard_at, started) > QUIET_SECONDS or now - started > seconds:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def enter(self, visit: Visit) -> bool:
        """Count a connection; False if there is no room for it."""
        if self._connections >= self._most:
            going = self._outside.next() or next(iter(self._unproven), None)
            if going is None:
                metrics.CONNECTIONS_CLOSED.labels("full").inc()
                return False
            metrics.CONNECTIONS_CLOSED.labels("crowded_out").inc()
            going.cut()
        self._connections += 1
        self._unproven[visit] = None
        metrics.CONNECTIONS.inc()
        return True

    def leave(self, visit: Visit) -> None:
        """A connection has ended."""
        self._connections -= 1
        self._outside.discard(visit)
        self._unproven.pop(visit, None)
        metrics.CONNECTIONS.dec()

    def keep_outside(self, visit: Visit) -> None:
        """It waits for its turn."""
        if visit in self._outside:
            return
        if (going := self._outside.add(visit.source, visit)) is not None:
            metrics.CONNECTIONS_CLOSED.labels("shut_out").inc()
            self._outside.discard(going)
            going.cut_later(HELD_SECONDS)
        if self._turning is None:
            wait = max(self._next_turn - self.clock(), 0.0)
            self._turning = asyncio.get_running_loop().call_later(min(wait, PAUSE), self._turn)

    def _turn(self) -> None:
        """Let one of those in that wait."""
        self._turning = None
        self._next_turn = self.clock() + PAUSE
        if (visit := self._outside.next()) is not None:
            visit.come_in()
        if len(self._outside):
            self._turning = asyncio.get_running_loop().call_later(PAUSE, self._turn)


class Runner(web.AppRunner):
    """aiohttp's runner, whose connections come through a door."""

    __slots__ = ("_door",)

    def __init__(self, app: web.Application, door: Door, **options: Any) -> None:
        super().__init__(app, read_bufsize=READ_BUFFER, **options)
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
    if isinstance(protocol, Proven):
        return protocol.visit
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
