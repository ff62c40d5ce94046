"""Answers made ready, over real connections, beside what aiohttp itself would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pipeline import ready, service
from pipeline.ready import Ready

BODY = b'{"suppressed": true}'
KIND = "application/json"
ANSWER = Ready(200, KIND)


async def by_aiohttp(_: web.Request) -> web.Response:
    return web.Response(body=BODY, content_type=KIND)


async def made_ready(request: web.Request) -> web.StreamResponse:
    return ANSWER.send(request, BODY) if ready.fits(request) else await by_aiohttp(request)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/aiohttp", by_aiohttp)
    app.router.add_get("/ready", made_ready)
    runner = await service.serve(app, "127.0.0.1", 0)
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def answered(port: int, request: str) -> list[tuple[bytes, set[bytes], bytes]]:
    """Status line, headers but the date, and what follows, of each answer until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    everything = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    found = []
    for answer in everything.split(b"HTTP/1.")[1:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        assert any(header.startswith(b"Date: ") for header in headers)
        found.append((status, {header for header in headers if not header.startswith(b"Date: ")}, body))
    return found


@pytest.mark.parametrize(
    ("requests", "count"),
    [
        ("GET {} HTTP/1.1\r\nHost: h\r\n\r\nGET {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 2),
        ("GET {} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nokGET {} HTTP/1.0\r\n\r\n", 2),
        ("HEAD {} HTTP/1.1\r\nHost: h\r\n\r\nHEAD {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 2),
        ("GET {} HTTP/1.0\r\n\r\n", 1),
        ("GET {} HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET {} HTTP/1.0\r\n\r\n", 2),
    ],
)
async def test_it_is_what_aiohttp_would_send(port: int, requests: str, count: int) -> None:
    found = await answered(port, requests.format("/ready", "/ready"))
    assert len(found) == count
    assert found == await answered(port, requests.format("/aiohttp", "/aiohttp"))


async def test_one_that_went_away_gets_nothing_and_harms_nobody(port: int) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ready HTTP/1.1\r\nHost: h\r\n\r\n")
        writer.transport.abort()
    assert len(await answered(port, "GET /ready HTTP/1.0\r\n\r\n")) == 1
