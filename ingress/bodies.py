"""Bodies that are not there with their head: what is beyond a small part of one is read once it has room.

A shell over aiohttp; `room` holds the rule. A body that waits is not read, and then aiohttp reads no more from its
connection than a few kilobytes: that is what each connection may cost, and all bodies with room together cost
INGRESS_MAX_UNVERIFIED_BYTES. So nothing stands in the way of bytes, and small deliveries notice nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import StreamReader, web

from ingress import metrics
from ingress.room import Room
from ingress.visit import LARGE, Visit
from pipeline.errors import ConfigError, NoRoom
from pipeline.settings import Settings

#: aiohttp reads no more of a connection while it keeps more than twice as many bytes of a body. One that is not
#: larger, as nearly all are, can be there with its head.
READ_BUFFER = 16 * 1024
#: Bytes of a body that are taken from there without room.
ALLOWANCE = 16 * 1024
#: Seconds between two looks at who has room, while others wait for it.
LOOK_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Body:
    """One body that is being read.

    limit     what ends it when it takes too long
    visit     its connection; None if it came through no door
    received  its bytes so far, once it has room
    enters    done when it has room; None if it does not ask for any
    gave_way  it had room, and lost it for somebody whom we know
    """

    limit: asyncio.Timeout
    visit: Visit | None = None
    received: int = 0
    enters: asyncio.Future[None] | None = None
    gave_way: bool = False


class Bodies:
    """All bodies that are being read."""

    def __init__(self, settings: Settings, heard: Callable[[], None]) -> None:
        """heard  is called when something of one has come

        Raises ConfigError if the budget could not hold the largest body.
        """
        require_room(settings)
        self._most = settings.ingress_max_body_bytes
        self._seconds = settings.ingress_read_timeout_seconds
        self._heard = heard
        self._room: Room[Body] = Room(settings.ingress_max_unverified_bytes)
        self._looking: asyncio.TimerHandle | None = None

    async def read(self, request: web.Request, visit: Visit | None, *, known: bool) -> bytes:
        """All of a body.

        visit  its connection, if it came through a door
        known  its sender delivered something authentic before

        Raises HTTPRequestEntityTooLarge, TimeoutError if its sender is too slow, NoRoom if it waited in vain or had
        to give way, and what aiohttp raises for a body that breaks off.
        """
        length = request.content_length
        if length is not None and length > self._most:
            raise web.HTTPRequestEntityTooLarge(self._most, length)
        if visit is not None:
            visit.head_is_over()
        body = Body(asyncio.timeout(self._seconds), visit)
        try:
            async with body.limit:
                return await self._read(request.content, body, self._most if length is None else length, known)
        except TimeoutError:
            if body.gave_way or self._room.waits(body):
                raise NoRoom("too many large bodies at once") from None
            raise
        finally:
            self._leave(body)

    async def _read(self, content: StreamReader, body: Body, size: int, known: bool) -> bytes:
        read = bytearray()
        while not content.is_eof() and len(read) <= ALLOWANCE:
            self._take(read, await content.read(ALLOWANCE + 1 - len(read)))
        if not content.is_eof():
            await self._enter(body, size, known)
            content.set_read_chunk_size(LARGE)
        while chunk := await content.readany():
            self._take(read, chunk)
            body.received = len(read)
        return bytes(read)

    def _take(self, read: bytearray, chunk: bytes) -> None:
        self._heard()
        read += chunk
        if len(read) > self._most:
            raise web.HTTPRequestEntityTooLarge(self._most, len(read))

    async def _enter(self, body: Body, size: int, known: bool) -> None:
        """Wait for room."""
        body.enters = asyncio.get_running_loop().create_future()
        self._room.ask(body, size, known=known)
        self._fill()
        while (in_the_way := self._room.in_the_way()) is not None:
            in_the_way.gave_way = True
            self._end(in_the_way)
        self._look_later()
        await body.enters
        if body.visit is not None:
            body.visit.has_room()

    def _fill(self) -> None:
        for body in self._room.enter():
            if body.enters is not None and not body.enters.done():
                body.enters.set_result(None)

    def _leave(self, body: Body) -> None:
        if self._room.leave(body):
            self._fill()

    def _look_later(self) -> None:
        if self._room.anybody_waits() and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Whoever has room and does not use it loses it while others wait."""
        self._looking = None
        for body in self._room.stalled(lambda body: body.received):
            if not self._room.anybody_waits():
                break
            self._end(body)
        self._look_later()

    def _end(self, body: Body) -> None:
        metrics.CONNECTIONS_CLOSED.labels("no_room").inc()
        if not body.limit.expired():
            body.limit.reschedule(asyncio.get_running_loop().time())
        self._leave(body)


def require_room(settings: Settings) -> None:
    """The budget must hold the largest body there may be. Raises ConfigError."""
    if settings.ingress_max_unverified_bytes < settings.ingress_max_body_bytes:
        raise ConfigError(
            f"INGRESS_MAX_UNVERIFIED_BYTES is {settings.ingress_max_unverified_bytes}: a single delivery may have "
            f"{settings.ingress_max_body_bytes} (INGRESS_MAX_BODY_BYTES). Raise the first, or lower the second."
        )
