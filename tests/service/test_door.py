"""Real connections before the door: who is shut out, who is crowded out, and who comes in all the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import pytest
import uvloop
from aiohttp import ClientSession, TCPConnector

from ingress import bodies, door
from ingress.bodies import ALLOWANCE, READ_BUFFER, Body
from ingress.door import Door, Runner, require_files
from ingress.outside import MOST_OF_ONE
from ingress.providers import PROVIDERS
from ingress.visit import HEAD, SMALL, Proven
from pipeline import service
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from tests.service.test_ingress import BODY, PATH, SECRET, MemoryLog, ingress, signed

#: Loopback is a whole network, so one machine can be several senders.
FLOOD, PROVIDER = "127.0.0.2", "127.0.0.3"


#: What a test runs on: services run on uvloop, which reads connections in a way of its own.
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[object, object, None]], None]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Serving:
    """An ingress behind a door, at `url`; what one source posts is a method."""

    def __init__(self, runner: Runner, log: MemoryLog, clock: Clock, door: Door) -> None:
        self.door = door
        self._runner = runner
        self.host, self.port = runner.addresses[0][:2]
        self.log = log
        self.clock = clock
        self._sessions: dict[str, ClientSession] = {}

    def protocols(self) -> list[asyncio.BaseProtocol]:
        """What the transports of all connections call."""
        server = super(Runner, self._runner).server
        assert server is not None
        return [there.transport.get_protocol() for there in server.connections if there.transport]

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
    entry = Door(settings, clock)
    app = ingress(log, settings, entry).routes([(PROVIDERS["nexuspromail"], lambda: (SECRET,))])
    async with AsyncExitStack() as exits:
        runner = await service.serve(app, "127.0.0.1", 0, make=partial(Runner, door=entry), shutdown_timeout=0.1)
        exits.push_async_callback(runner.cleanup)
        assert isinstance(runner, Runner)
        served = Serving(runner, log, clock, entry)
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


async def test_of_many_connections_that_wait_for_their_turn_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HELD_SECONDS", 0.05)
    async with serving(ingress_max_refusals=3) as served:
        await shut_out(served, FLOOD, 4)
        served.door._next_turn = float("inf")
        monkeypatch.setattr(served.door, "_turn", lambda: None)  # nobody gets a turn
        waiting = [await served.connect(FLOOD) for _ in range(MOST_OF_ONE + 20)]
        for reader, _ in waiting[:20]:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        assert len(served.door._outside) == MOST_OF_ONE
        assert not any(reader.at_eof() for reader, _ in waiting[20:])
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


async def test_absent_paths_through_a_proxy_keep_neither_health_nor_deliveries_out() -> None:
    async with serving() as served:
        assert {await served.post(FLOOD, authentic=False, path=f"/{number}") for number in range(101)} == {404}
        assert served.door.sources.shut_out(FLOOD, served.clock()) > 0
        async with asyncio.timeout(5):
            async with served.session(FLOOD).get(f"http://{served.host}:{served.port}/health/ready") as answer:
                assert answer.status == 200
            assert await served.post(FLOOD, authentic=True) == 200


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


#: Bytes that a connection may have brought though its body has no room: taken, kept by aiohttp, and a read of each.
EACH = ALLOWANCE + 2 * READ_BUFFER + 2 * SMALL


async def crowd(served: Serving, most: int, waiting: int = 10) -> list[asyncio.StreamWriter]:
    """Senders without an end, of whom `most` have room and the others wait for it."""
    hogs = [(await served.connect(FLOOD))[1] for _ in range(most + waiting)]
    for writer in hogs:
        writer.write(unfinished())
    await until(lambda: len(served.door._bodies._room._others) == waiting)
    return hogs


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def bodies_that_nobody_verified() -> None:
    async with serving(ingress_max_unverified_bytes=4 * LARGE) as served:
        assert await served.post(PROVIDER, authentic=True) == 200
        hogs = await crowd(served, 4)
        assert sum(visit.received for visit in served.door._unproven) <= 4 * LARGE + len(hogs) * EACH
        # Its source is known, so its large delivery has room at once: the oldest of the others goes.
        async with asyncio.timeout(5):
            assert await served.post(PROVIDER, authentic=True, body=b"x" * (LARGE - 1)) == 200
        for writer in hogs:
            writer.transport.abort()


@LOOPS
def test_bodies_that_nobody_verified_stay_within_the_budget_and_deliveries_get_through(run: Run) -> None:
    run(bodies_that_nobody_verified())


async def test_who_has_to_give_way_is_asked_to_try_again() -> None:
    async with serving(ingress_max_unverified_bytes=LARGE) as served:
        assert await served.post(PROVIDER, authentic=True) == 200
        reader, writer = await served.connect(FLOOD)
        writer.write(unfinished())
        await until(lambda: bool(served.door._bodies._room._inside))
        async with asyncio.timeout(5):
            assert await served.post(PROVIDER, authentic=True, body=b"x" * LARGE) == 200
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        writer.transport.abort()


async def test_who_waits_for_room_in_vain_is_asked_to_try_again() -> None:
    async with serving(ingress_max_unverified_bytes=LARGE, ingress_read_timeout_seconds=0.3) as served:
        held = Body(asyncio.timeout(None))
        served.door._bodies._room.ask(held, LARGE, known=True)
        served.door._bodies._room.enter()
        assert await served.post(PROVIDER, authentic=True, body=b"x" * LARGE) == 503
        assert served.log.records == []


async def test_who_holds_room_and_sends_nothing_loses_it_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LOOK_SECONDS", 0.05)
    async with serving(ingress_max_unverified_bytes=2 * LARGE) as served:
        hogs = await crowd(served, 2, waiting=1)
        async with asyncio.timeout(8):
            # Nobody knows this source, and it has its turn all the same.
            assert await served.post(PROVIDER, authentic=True, body=b"x" * (LARGE - 1)) == 200
        for writer in hogs:
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
        assert not served.door._bodies._room.anybody_waits()


async def test_a_body_that_says_too_large_a_length_is_answered_before_it_comes() -> None:
    async with serving() as served:
        reader, writer = await served.connect(FLOOD)
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {10 * LARGE}\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413 ")
        writer.transport.abort()


async def test_a_body_without_a_length_is_answered_413_once_it_is_too_large() -> None:
    async def endless_body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with serving() as served, asyncio.timeout(10):
        url = f"http://{served.host}:{served.port}{PATH}"
        with suppress(OSError):
            async with served.session(FLOOD).post(url, data=endless_body()) as answer:
                assert answer.status == 413


HEADS = (
    # A field is short enough for aiohttp, and there are fewer than it takes; all of them are too much.
    b"POST / HTTP/1.1\r\n" + b"".join(b"a%d: %s\r\n" % (n, b"x" * 8000) for n in range(100)),
    f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode()
    + b"".join(b"a%d: %s\r\n" % (n, b"x" * 8000) for n in range(100)),
)


@pytest.mark.parametrize("request_without_end", HEADS, ids=["head", "trailers"])
async def test_who_brings_much_that_is_no_body_is_cut(request_without_end: bytes) -> None:
    async with serving() as served:
        reader, writer = await served.connect(FLOOD)
        writer.write(request_without_end)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert served.door._connections == 0
        assert await served.post(FLOOD, authentic=True) == 200


async def test_a_head_and_a_body_of_usual_sizes_pass_whole_or_in_pieces() -> None:
    async with serving() as served:
        for size in (10, ALLOWANCE, ALLOWANCE + 1, HEAD + 1, LARGE):
            body = b"x" * size
            head = {"X-Padding": "x" * 8000}
            assert await served.post(FLOOD, authentic=True, body=body, headers=head) == 200
        assert [len(record.value) for record in served.log.records] == [10, ALLOWANCE, ALLOWANCE + 1, HEAD + 1, LARGE]


async def the_door_stands_in_nobodys_way() -> None:
    async with serving() as served:
        reader, writer = await served.connect(PROVIDER)
        head = "".join(f"{name}: {value}\r\n" for name, value in signed(BODY).items())
        request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        for _ in range(3):
            writer.write(request)
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert [type(protocol) for protocol in served.protocols()] == [Proven]
            assert (served.door._connections, len(served.door._unproven)) == (1, 0)
        writer.close()
        await until(lambda: served.door._connections == 0)


@LOOPS
def test_the_door_is_in_nobodys_way_who_delivered_something_authentic_and_counts_him_still(
    run: Run,
) -> None:
    run(the_door_stands_in_nobodys_way())


def test_a_budget_that_one_delivery_could_exceed_is_refused() -> None:
    with pytest.raises(ConfigError, match="INGRESS_MAX_UNVERIFIED_BYTES is 1000000: "):
        Door(Settings(ingress_max_unverified_bytes=1_000_000))


def test_more_connections_than_the_process_may_have_files_are_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("INGRESS_MAX_CONNECTIONS is 1000000000")):
        require_files(1_000_000_000)
