"""One connection at the door: what comes on it is passed on to the HTTP server, or has to wait for its turn.

A shell over asyncio; `door` decides. A connection that has proven nothing is read in small pieces, and brings no more
than HEAD bytes that belong to no body with room. What was read before its turn is kept and passed on then, in order.
Once it has delivered something authentic its bytes go straight to the HTTP server.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ingress.sources import source_of

if TYPE_CHECKING:
    from ingress.door import Door

Server = Callable[[], asyncio.Protocol]

#: Bytes of a request's head, and then of what comes before its body has room; servers take 8 to 64 KiB.
HEAD = 64 * 1024
#: Bytes that are read at once, of whose body has no room and of whose has.
SMALL, LARGE = 16 * 1024, 256 * 1024
# All connections share these: what was read is copied before the next read.
_SMALL, _LARGE = memoryview(bytearray(SMALL)), memoryview(bytearray(LARGE))
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
    received  bytes since the last answer, until it is proven
    vouched   when something authentic on it last spoke for its source, on the door's clock
    ending    its next answer is the last one
    """

    __slots__ = (
        "_buffer", "_door", "_early", "_ended", "_in_turn", "_inner", "_inside", "_may", "_server", "_transport",
        "ending", "proxied", "received", "source", "vouched",
    )  # fmt: skip

    def __init__(self, door: Door, server: Server) -> None:
        self.source = ""
        self.proxied = False
        self.vouched = -math.inf
        self.ending = False
        self._door = door
        self._server = server
        self._inner: asyncio.Protocol | None = None
        self._inside = False
        self._ended = False
        self._in_turn = False
        self._buffer = _SMALL
        self.received, self._may = 0, HEAD
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
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass them on, unless the source was shut out meanwhile."""
        data = bytes(self._buffer[:nbytes])
        if not self._early and (self._in_turn or self._door.listens(self) or is_probe(data)):
            self._take(data)
            return
        # For its turn. It is a read or two: nothing is read until then, but for what the server asks for meanwhile.
        self._early += data
        self._transport.pause_reading()
        self._door.keep_outside(self)

    def _take(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self._may:
            self._door.too_much(self)
            return
        if self._inner is None:
            self._greet()
        cast(asyncio.Protocol, self._inner).data_received(data)

    def _greet(self) -> None:
        self._inner = self._server()
        self._inner.connection_made(self._transport)

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

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._leave()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def come_in(self) -> None:
        """Its turn has come: it is heard until its next answer."""
        self._in_turn = True
        early, self._early = self._early, b""
        if self._inner is None:
            self._greet()
        if not self._ended:
            self._transport.resume_reading()
        if early:
            self._take(early)

    def head_is_over(self) -> None:
        """A request of it waits for its body."""
        self._may = self.received + HEAD

    def has_room(self) -> None:
        """That body may come; the HTTP server sees to its length."""
        self._buffer, self._may = _LARGE, sys.maxsize

    def answered(self, *, whole: bool) -> None:
        """Its request is over, and the next one starts from nothing.

        whole  nothing of it is still to come; else that is thrown away, and then the connection ends
        """
        self.received, self._may = 0, HEAD if whole else sys.maxsize
        self._buffer = _SMALL
        self._in_turn = False
        self.ending = self.ending or not whole

    def is_proven(self, now: float) -> None:
        """It delivered something authentic: from now on its bytes cost nothing here."""
        if self._inner is None or self._early or self._transport.is_closing():
            return
        reads = self._transport.is_reading()
        # Transports choose how they read when they begin to.
        self._transport.pause_reading()
        self._transport.set_protocol(Proven(self, self._inner))
        if reads:
            self._transport.resume_reading()
        self.vouched = now

    def cut_later(self, seconds: float) -> None:
        """End it then, and read nothing any more."""
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self.cut)

    def cut(self) -> None:
        """End it without a word."""
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        # Once, and at once: an aborted connection is lost only in the next round of the loop.
        if self._inside:
            self._inside = False
            self._door.leave(self)


class Proven(asyncio.Protocol):
    """The connection of a visit that is proven: the transport calls the HTTP server itself, but for the end."""

    def __init__(self, visit: Visit, inner: asyncio.Protocol) -> None:
        self.visit = visit
        self.connection_lost = visit.connection_lost  # type: ignore[method-assign]
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]


def is_probe(data: bytes) -> bool:
    """Whether these bytes are one whole question for health or metrics, and nothing else."""
    return data.startswith(_PROBES) and data.find(b"\r\n\r\n") == len(data) - 4
