"""The answer that nearly every delivery gets, made ready.

A shell over aiohttp. It is what `web.Response(status=...)` would send, without being put together each time: that
was a tenth of all that the ingress does for a delivery.
"""

from __future__ import annotations

import time
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE


class Accepted(web.StreamResponse):
    """One object for all requests: it keeps nothing of them. Only for those whose connection stays open."""

    def __init__(self, status: int) -> None:
        super().__init__(status=status)
        self._second = 0
        self._text = b""

    @property
    def keep_alive(self) -> bool | None:
        """The connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        if request.transport is not None:
            request.transport.write(self._now())
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """It was sent whole."""

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = (
                f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Length: 0\r\n"
                f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
            ).encode()
        return self._text


def fits(request: web.Request) -> bool:
    """Whether this request may be answered so: HTTP/1.1 on a connection that stays open."""
    return request.keep_alive and request.version == (1, 1)
