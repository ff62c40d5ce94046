"""What others do to an ingress: senders who prove nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

#: Connections that each send all but the last byte of a body, and its length.
SLOW, SLOW_BYTES = 120, 1024 * 1024


def slow_bodies(url: str) -> Callable[[], None]:
    """Begin unsigned requests, each of which lacks the last byte of its body; what ends them."""
    tasks = [asyncio.create_task(_slow_body(url)) for _ in range(SLOW)]

    def end() -> None:
        for task in tasks:
            task.cancel()

    return end


async def _slow_body(url: str) -> None:
    """One such request; what the other side does with it is its own affair."""
    where = urlsplit(url)
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            head = f"POST /webhooks/email HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {SLOW_BYTES}\r\n\r\n"
            writer.write(head.encode() + b"[" * (SLOW_BYTES - 1))
            await writer.drain()
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()
