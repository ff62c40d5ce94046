"""Real connections before the door: who is shut out, who is crowded out, and who comes in all the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import pytest
from aiohttp import ClientSession, TCPConnector, web

from ingress.door import Door, Runner, require_files
from ingress.providers import PROVIDERS
from ingress.sources import Sources
from pipeline import service
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from tests.service.test_ingress import BODY, PATH, SECRET, MemoryLog, ingress, signed

#: Loopback is a whole network, so one machine can be several senders.
FLOOD, PROVIDER = "127.0.0.2", "127.0.0.3"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Serving:
    """An ingress behind a door, at `url`; what one source posts is a method."""

    def __init__(self, runner: web.AppRunner, log: MemoryLog, clock: Clock) -> None:
        self.host, self.port = runner.addresses[0][:2]
        self.log = log
        self.clock = clock
        self._sessions: dict[str, ClientSession] = {}

    def session(self, source: str) -> ClientSession:
        if source not in self._sessions:
            self._sessions[source] = ClientSession(connector=TCPConnector(local_addr=(source, 0)))
        return self._sessions[source]

    async def post(self, source: str, *, authentic: bool, path: str = PATH) -> int:
        headers = signed(BODY) if authentic else {}
        url = f"http://{self.host}:{self.port}{path}"
        async with self.session(source).post(url, data=BODY, headers=headers) as answer:
            return answer.status

    async def connect(self, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, local_addr=(source, 0))

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


@asynccontextmanager
async def serving(clock: Clock | None = None, **changes: float) -> AsyncIterator[Serving]:
    settings = Settings(**changes)  # type: ignore[arg-type]
    log, clock = MemoryLog(), clock or Clock()
    door = Door(Sources(settings.ingress_max_refusals), settings.ingress_max_connections, clock)
    app = ingress(log, settings, door).routes([(PROVIDERS["nexuspromail"], lambda: (SECRET,))])
    async with AsyncExitStack() as exits:
        runner = await service.serve(app, "127.0.0.1", 0, make=partial(Runner, door=door), shutdown_timeout=0.1)
        exits.push_async_callback(runner.cleanup)
        served = Serving(runner, log, clock)
        exits.push_async_callback(served.close)
        yield served


async def shut_out(served: Serving, source: str, times: int) -> None:
    assert [await served.post(source, authentic=False) for _ in range(times)] == [401] * times


async def unanswered(served: Serving, source: str) -> bool:
    """Whether a post of that source gets no answer, and nobody reads it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(served.post(source, authentic=True), 0.2)
        return False
    return True


async def test_a_source_of_refusals_gets_no_answer_until_its_time_is_over_and_others_do() -> None:
    async with serving(ingress_max_refusals=3) as served:
        await shut_out(served, FLOOD, 4)
        assert await unanswered(served, FLOOD)
        assert await served.post(PROVIDER, authentic=True) == 200
        served.clock.now += 10.0
        await served.session(FLOOD).close()
        served._sessions.pop(FLOOD)
        assert await served.post(FLOOD, authentic=True) == 200
        assert len(served.log.records) == 2


async def test_other_connections_of_a_source_that_is_shut_out_are_not_read_either() -> None:
    async with serving(ingress_max_refusals=3) as served:
        reader, writer = await served.connect(FLOOD)
        request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        writer.write(request)
        assert b"401" in await reader.readuntil(b"\r\n\r\n")
        await shut_out(served, FLOOD, 3)
        writer.write(request)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 0.2)
        writer.transport.abort()


async def test_who_delivered_something_authentic_may_send_what_is_refused() -> None:
    async with serving(ingress_max_refusals=3) as served:
        assert await served.post(PROVIDER, authentic=True) == 200
        await shut_out(served, PROVIDER, 50)
        assert await served.post(PROVIDER, authentic=True) == 200


async def test_paths_that_do_not_exist_count_too() -> None:
    async with serving(ingress_max_refusals=3) as served:
        assert [await served.post(FLOOD, authentic=True, path=path) for path in ("/", "/x", "/%2e%2e/x")] == [404] * 3
        assert await served.post(FLOOD, authentic=False) == 401
        assert await unanswered(served, FLOOD)


async def test_slow_senders_go_when_there_are_too_many_and_keep_nobody_out() -> None:
    async with serving(ingress_max_connections=20) as served:
        assert await served.post(PROVIDER, authentic=True) == 200
        slow = [await served.connect(FLOOD) for _ in range(60)]
        for _, writer in slow:
            writer.write(b"POST /")
        assert await served.post(PROVIDER, authentic=True) == 200
        ended = [await asyncio.wait_for(reader.read(), 5) for reader, _ in slow[:40]]
        assert ended == [b""] * 40
        assert not slow[-1][0].at_eof()
        for _, writer in slow:
            writer.transport.abort()


async def test_a_connection_too_many_is_refused_where_all_others_are_proven() -> None:
    async with serving(ingress_max_connections=1) as served:
        assert await served.post(PROVIDER, authentic=True) == 200
        reader, writer = await served.connect(FLOOD)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.transport.abort()
        assert await served.post(PROVIDER, authentic=True) == 200


async def test_connections_that_are_gone_make_room() -> None:
    async with serving(ingress_max_connections=2) as served:
        for _ in range(10):
            reader, writer = await served.connect(FLOOD)
            writer.write(b"POST /")
            writer.close()
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert await served.post(PROVIDER, authentic=True) == 200


def test_more_connections_than_the_process_may_have_files_are_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("INGRESS_MAX_CONNECTIONS is 1000000000")):
        require_files(1_000_000_000)
