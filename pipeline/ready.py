"""Answers that are nearly always the same but for their body, made ready.

A shell over aiohttp. They are what `web.Response` would send, without being put together each time: that was a tenth
of all that the ingress does for a delivery, and a quarter of what lookup does for a question.
"""

from __future__ import annotations

import time
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE


class Ready(web.StreamResponse):
    """One object for all requests: it keeps nothing of them. Only for those that `fits` allows."""

    def __init__(self, status: int, content_type: str = "") -> None:
        """content_type is that of the bodies, empty if there are none."""
        super().__init__(status=status)
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        self._first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{kind}"
        self._second = 0
        self._head = b""

    def send(self, request: web.BaseRequest, body: bytes = b"") -> Ready:
        """Send the answer to a request, whole; a handler does so once, and returns what this returns."""
        if request.transport is not None:
            request.transport.write(b"%b%d\r\n\r\n%b" % (self._now(), len(body), body))
        return self

    @property
    def keep_alive(self) -> bool | None:
        """The connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """It was sent."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """It was sent whole."""

    def _now(self) -> bytes:
        """Everything up to the length of the body; it changes once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            rest = f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\nContent-Length: "
            self._head = (self._first + rest).encode()
        return self._head


def fits(request: web.BaseRequest) -> bool:
    """Whether a request may be answered so: HTTP/1.1 on a connection that stays open, and it wants the body."""
    return request.keep_alive and request.version == (1, 1) and request.method != "HEAD"
