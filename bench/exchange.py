"""HTTP with little CPU: requests as ready-made bytes, one after the other on each of a few kept connections.

For those who measure a server from a process of their own on the same machine, and must leave that to the server.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from tests.e2e.system import signature

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


def post(body: bytes) -> bytes:
    """The request that posts a delivery, signed."""
    head = (
        f"POST /webhooks/email HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"X-NexusProMail-Signature: {signature(body)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """The request for a path."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def read(received: bytes) -> tuple[int, bytes] | None:
    """Status and body of an answer with a length; None while it is not all there."""
    head, end, body = received.partition(_END)
    if not end:
        return None
    length = _LENGTH.search(head)
    if length is None:
        raise ValueError(f"an answer without a length: {head[:200]!r}")
    return (int(head.split(b" ", 2)[1]), body) if len(body) >= int(length[1]) else None


class Connection(asyncio.Protocol):
    """One request at a time. `answered` is told status and body of each, status 0 if the connection was lost."""

    def __init__(self, answered: Callable[[Connection, int, bytes], None]) -> None:
        self.answered = answered
        self._received = b""
        self._waits = False
        self._transport: asyncio.Transport | None = None

    def send(self, request: bytes) -> None:
        """Ask; only when the answer before has come."""
        self._waits = True
        if self._transport is None:
            self._tell(0, b"")
        else:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = read(self._received)
        if answer:
            self._received = b""
            self._tell(*answer)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._waits:
            self._tell(0, b"")

    def _tell(self, status: int, body: bytes) -> None:
        self._waits = False
        self.answered(self, status, body)


async def connect(port: int, answered: Callable[[Connection, int, bytes], None]) -> Connection:
    """A connection to a server on this machine."""
    _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(answered), HOST, port)
    return connection


class Pool:
    """As many connections to one server as have a request on its way at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[Connection] = []
        self._asked: dict[Connection, asyncio.Future[tuple[int, bytes]]] = {}

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 if there was none."""
        connection = self._free.pop() if self._free else await connect(self._port, self._answered)
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._asked[connection] = answer
        connection.send(request)
        return await answer

    def close(self) -> None:
        """Close those that wait for nothing."""
        for connection in self._free:
            connection.close()

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        if status:
            self._free.append(connection)
        waiting = self._asked.pop(connection)
        if not waiting.done():
            waiting.set_result((status, body))
