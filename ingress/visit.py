"""One connection at the door: counts what comes, and passes on to the HTTP server what is to be heard.

A shell over asyncio; `door` decides. What always holds: no more is read at once than the connection has room for, and
what was read before its turn is kept and passed on then, in order.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ingress.sources import source_of

if TYPE_CHECKING:
    from ingress.door import Door

Server = Callable[[], asyncio.Protocol]

#: Bytes of a request that every connection may bring without room for them: nearly all deliveries are smaller.
ALLOWANCE = 16 * 1024
#: Bytes for the head of a request that has room for its body.
HEAD = 64 * 1024
#: Bytes that are read at once, of who has no room and of who has. Shared: a read is copied before the next one.
_SMALL, _LARGE = memoryview(bytearray(ALLOWANCE)), memoryview(bytearray(256 * 1024))
#: How requests begin that are answered whoever sends them.
_PROBES = (
    b"GET /health/live ",
    b"GET /health/ready ",
    b"GET /metrics ",
    b"HEAD /health/live ",
    b"HEAD /health/ready ",
)


class Visit(asyncio.BufferedProtocol):
    """One connection.

    source    its source; empty behind a trusted proxy, where each request has its own
    received  bytes since the last answer
    needs     bytes that its request takes at most, head and body
    ending    its next answer is the last one
    """

    __slots__ = (
        "_door", "_early", "_ended", "_halted", "_in_turn", "_inner", "_inside", "_may", "_room", "_served_pause",
        "_server", "_transport", "_wants", "ending", "needs", "proxied", "received", "source",
    )  # fmt: skip

    def __init__(self, door: Door, server: Server) -> None:
        self.source = ""
        self.proxied = False
        self.received = 0
        self.needs = door.largest
        self.ending = False
        self._door = door
        self._server = server
        self._inner: asyncio.Protocol | None = None
        self._inside = False
        self._ended = False
        self._in_turn = self._room = self._wants = self._halted = self._served_pause = False
        self._may = ALLOWANCE
        self._early = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or not."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.proxied = self._door.proxies.trusts(peer)
        self.source = "" if self.proxied else source_of(peer)
        if not self._door.enter(self):
            self._transport.abort()
            return
        self._inside = True
        if self._door.listens(self):
            self._greet()
        else:
            self._door.keep_outside(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return _LARGE if self._room else _SMALL

    def buffer_updated(self, nbytes: int) -> None:
        """Pass them on, unless the source was shut out meanwhile."""
        data = bytes((_LARGE if self._room else _SMALL)[:nbytes])
        if not self._early and (self._in_turn or self._door.listens(self) or is_probe(data)):
            self._take(data)
            return
        self._early += data  # for its turn; one read at most, since nothing is read until then
        self._halt()
        self._door.keep_outside(self)

    def _take(self, data: bytes) -> None:
        if self._inner is None:
            self._greet()
        self.received += len(data)
        cast(asyncio.Protocol, self._inner).data_received(data)
        if self.received > self._may and self._inside:
            self._wants = True
            self._halt()
            self._door.wants_room(self)

    def _greet(self) -> None:
        self._inner = self._server()
        self._inner.connection_made(cast(asyncio.BaseTransport, Line(self, self._transport)))

    def _halt(self) -> None:
        self._halted = True
        self._transport.pause_reading()

    def _go_on(self) -> None:
        self._halted = False
        if not (self._ended or self._served_pause):
            self._transport.resume_reading()

    def serve_pauses(self, *, pauses: bool) -> None:
        """The HTTP server wants to be given no more for now, or more again."""
        self._served_pause = pauses
        if pauses:
            self._transport.pause_reading()
        elif not self._halted:
            self._transport.resume_reading()

    def eof_received(self) -> bool | None:
        """The other side sends no more."""
        if self._early:
            # What it sent before is still to be answered.
            self._ended = True
            return True
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
        self._leave()
        if self._inner is not None:
            self._inner.connection_lost(error)

    def come_in(self) -> None:
        """Its turn has come: it is heard until its next answer."""
        self._in_turn = True
        early, self._early = self._early, b""
        if self._inner is None:
            self._greet()
        self._go_on()
        if early:
            self._take(early)

    def has_room(self, most: int = sys.maxsize) -> None:
        """It may bring so many bytes of its request."""
        self._room = True
        self._may = most
        self._go_on()

    def answered(self) -> bool:
        """Its request is over, and the next one starts from nothing. True if this one wanted room."""
        self.received = 0
        self.needs = self._door.largest
        self._in_turn = False
        if not self._wants:
            return False
        self._wants = self._room = False
        self._may = ALLOWANCE
        self._go_on()
        return True

    def cut(self) -> None:
        """End it without a word."""
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        # Once, and at once: an aborted connection is lost only in the next round of the loop.
        if self._inside:
            self._inside = False
            self._door.leave(self)


class Line:
    """The transport as the HTTP server sees it: when it is read is up to the visit, which has reasons of its own."""

    def __init__(self, visit: Visit, transport: asyncio.Transport) -> None:
        self._visit = visit
        self._transport = transport
        # Every answer needs these.
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.get_protocol = transport.get_protocol

    def pause_reading(self) -> None:
        """The server has enough."""
        self._visit.serve_pauses(pauses=True)

    def resume_reading(self) -> None:
        """The server takes more."""
        self._visit.serve_pauses(pauses=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def is_probe(data: bytes) -> bool:
    """Whether these bytes are one whole question for health or metrics, and nothing else."""
    return data.startswith(_PROBES) and data.find(b"\r\n\r\n") == len(data) - 4
