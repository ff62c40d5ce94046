"""Real connections before the door: who is shut out, who is crowded out, and who comes in all the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
from aiohttp import ClientSession, TCPConnector, web

from ingress.door import Door, Runner, require_files
from ingress.outside import MOST_OF_ONE
from ingress.providers import PROVIDERS
from ingress.visit import ALLOWANCE
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

    def __init__(self, runner: web.AppRunner, log: MemoryLog, clock: Clock, door: Door) -> None:
        self.door = door
        self.host, self.port = runner.addresses[0][:2]
        self.log = log
        self.clock = clock
        self._sessions: dict[str, ClientSession] = {}

    def session(self, source: str) -> ClientSession:
        if source not in self._sessions:
            self._sessions[source] = ClientSession(connector=TCPConnector(local_addr=(source, 0)))
        return self._sessions[source]

    async def post(
        self,
        source: str,
        *,
        authentic: bool,
        path: str = PATH,
        body: bytes = BODY,
        headers: dict[str, str] | None = None,
    ) -> int:
        sent = (headers or {}) | (signed(body) if authentic else {})
        url = f"http://{self.host}:{self.port}{path}"
        async with self.session(source).post(url, data=body, headers=sent) as answer:
            return answer.status

    async def connect(self, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, local_addr=(source, 0))

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()


@asynccontextmanager
async def serving(clock: Clock | None = None, **changes: float | str) -> AsyncIterator[Serving]:
    settings = Settings(**changes)  # type: ignore[arg-type]
    log, clock = MemoryLog(), clock or Clock()
    door = Door(settings, clock)
    app = ingress(log, settings, door).routes([(PROVIDERS["nexuspromail"], lambda: (SECRET,))])
    async with AsyncExitStack() as exits:
        runner = await service.serve(app, "127.0.0.1", 0, make=partial(Runner, door=door), shutdown_timeout=0.1)
        exits.push_async_callback(runner.cleanup)
        served = Serving(runner, log, clock, door)
        exits.push_async_callback(served.close)
        yield served


async def shut_out(served: Serving, source: str, times: int) -> None:
    assert [await served.post(source, authentic=False) for _ in range(times)] == [401] * times


async def test_a_source_of_refusals_is_read_in_turns_and_an_authentic_delivery_ends_that() -> None:
    async with serving(ingress_max_refusals=3) as served:
        await shut_out(served, FLOOD, 4)
        assert served.door.sources.shut_out(FLOOD, served.clock()) > 0
        assert await asyncio.gather(*(served.post(FLOOD, authentic=False) for _ in range(3))) == [401] * 3
        assert await served.post(FLOOD, authentic=True) == 200
        assert served.door.sources.shut_out(FLOOD, served.clock()) == 0
        assert len(served.log.records) == 1


async def test_signed_deliveries_get_through_beside_bad_ones_from_the_same_address() -> None:
    async with serving(ingress_max_refusals=3) as served:
        await shut_out(served, FLOOD, 4)
        flooding = [asyncio.create_task(endless(served, FLOOD)) for _ in range(8)]
        async with asyncio.timeout(5):
            assert await served.post(FLOOD, authentic=True) == 200
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)


async def endless(served: Serving, source: str) -> None:
    while True:
        await served.post(source, authentic=False)


async def test_what_a_source_that_is_shut_out_sends_ahead_is_not_answered() -> None:
    async with serving(ingress_max_refusals=3) as served:
        await shut_out(served, FLOOD, 4)
        reader, writer = await served.connect(FLOOD)
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode() * 30)
        answers = await asyncio.wait_for(reader.read(), 5)
        assert answers.count(b"401 Unauthorized") == 1
        writer.transport.abort()


async def test_of_many_connections_that_wait_for_their_turn_the_oldest_go() -> None:
    async with serving(ingress_max_refusals=3) as served:
        await shut_out(served, FLOOD, 4)
        waiting = [await served.connect(FLOOD) for _ in range(MOST_OF_ONE + 20)]
        # The first ones may have been let in meanwhile; nobody waits who is too many.
        assert len(served.door._outside) <= MOST_OF_ONE
        for _, writer in waiting:
            writer.transport.abort()


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
async def test_health_and_metrics_are_answered_whoever_is_shut_out(path: str) -> None:
    async with serving(ingress_max_refusals=3) as served:
        await shut_out(served, FLOOD, 4)
        served.door._next_turn = float("inf")  # nobody gets a turn
        reader, writer = await served.connect(FLOOD)
        for _ in range(3):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1]))  # type: ignore[index]
        writer.transport.abort()


async def test_behind_a_trusted_proxy_the_client_is_shut_out_and_never_the_proxy() -> None:
    async with serving(ingress_max_refusals=3, ingress_trusted_proxies=FLOOD) as served:
        bad = {"X-Forwarded-For": "203.0.113.9"}
        assert [await served.post(FLOOD, authentic=False, headers=bad) for _ in range(4)] == [401] * 4
        served.door._next_turn = float("inf")  # nobody gets a turn
        assert await served.post(FLOOD, authentic=False, headers=bad) == 429
        assert await served.post(FLOOD, authentic=True, path="/x", headers=bad) == 429
        assert await served.post(FLOOD, authentic=True, headers={"X-Forwarded-For": "203.0.113.10"}) == 200
        # Who is not trusted may say what he likes.
        assert await served.post(PROVIDER, authentic=True, headers=bad) == 200
        # What the proxy asks by itself is its own: its absent paths shut nobody out.
        assert [await served.post(FLOOD, authentic=False, path="/probe") for _ in range(20)] == [404] * 20
        assert await served.post(FLOOD, authentic=True, headers={"X-Forwarded-For": "203.0.113.10"}) == 200


async def test_who_delivered_something_authentic_may_send_what_is_refused() -> None:
    async with serving(ingress_max_refusals=3) as served:
        assert await served.post(PROVIDER, authentic=True) == 200
        await shut_out(served, PROVIDER, 50)
        assert await served.post(PROVIDER, authentic=True) == 200


async def test_paths_that_do_not_exist_count_too() -> None:
    async with serving(ingress_max_refusals=3) as served:
        assert [await served.post(FLOOD, authentic=True, path=path) for path in ("/", "/x", "/%2e%2e/x")] == [404] * 3
        assert await served.post(FLOOD, authentic=False) == 401
        assert served.door.sources.shut_out(FLOOD, served.clock()) > 0


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


LARGE = 1024 * 1024


def unfinished(size: int = LARGE) -> bytes:
    """A request without its last byte."""
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * (size - 1)


async def test_bodies_that_nobody_verified_stay_within_the_budget_and_deliveries_get_through() -> None:
    async with serving(ingress_max_unverified_bytes=4 * LARGE) as served:
        hogs = [await served.connect(FLOOD) for _ in range(30)]
        for _, writer in hogs:
            writer.write(unfinished())
        assert await served.post(PROVIDER, authentic=True) == 200
        visits = list(served.door._unproven)
        assert sum(visit.received for visit in visits) <= 4 * LARGE + 31 * 2 * ALLOWANCE
        # Its source is known, so its large delivery has room at once: the oldest of the others goes.
        large = b"x" * (LARGE - 1)
        async with asyncio.timeout(5):
            assert await served.post(PROVIDER, authentic=True, body=large) == 200
        for _, writer in hogs:
            writer.transport.abort()


async def test_who_holds_room_and_sends_nothing_loses_it_to_who_waits() -> None:
    async with serving(ingress_max_unverified_bytes=2 * LARGE) as served:
        hogs = [await served.connect(FLOOD) for _ in range(2)]
        for _, writer in hogs:
            writer.write(unfinished())
        async with asyncio.timeout(10):
            # Nobody knows this source, and it has its turn all the same.
            assert await served.post(PROVIDER, authentic=True, body=b"x" * (LARGE - 1)) == 200
        for _, writer in hogs:
            writer.transport.abort()


async def test_many_slow_senders_of_large_bodies_wait_for_each_other_and_get_through() -> None:
    async with serving(ingress_max_unverified_bytes=3 * LARGE, ingress_read_timeout_seconds=30) as served:

        async def slowly() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 90_000
                await asyncio.sleep(0)

        async def post() -> int:
            headers = signed(b"x" * 900_000)
            url = f"http://{served.host}:{served.port}{PATH}"
            async with ClientSession() as session, session.post(url, data=slowly(), headers=headers) as answer:
                return answer.status

        async with asyncio.timeout(20):
            assert await asyncio.gather(*(post() for _ in range(40))) == [200] * 40
        assert not served.door._room.anybody_waits()


async def test_heads_that_are_not_finished_count_too() -> None:
    async with serving(ingress_max_unverified_bytes=2 * LARGE) as served:
        hogs = [await served.connect(FLOOD) for _ in range(10)]
        for _, writer in hogs:
            writer.write(b"POST / HTTP/1.1\r\n" + b"".join(b"a%d: %s\r\n" % (n, b"x" * 8000) for n in range(100)))
        assert await served.post(PROVIDER, authentic=True) == 200
        held = sum(visit.received for visit in served.door._unproven)
        assert held <= 2 * LARGE + 10 * 2 * ALLOWANCE
        for _, writer in hogs:
            writer.transport.abort()


def test_a_budget_that_one_delivery_could_exceed_is_refused() -> None:
    with pytest.raises(ConfigError, match="INGRESS_MAX_UNVERIFIED_BYTES is 1000000"):
        Door(Settings(ingress_max_unverified_bytes=1_000_000))


def test_more_connections_than_the_process_may_have_files_are_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("INGRESS_MAX_CONNECTIONS is 1000000000")):
        require_files(1_000_000_000)
