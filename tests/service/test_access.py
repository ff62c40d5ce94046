"""What is for operators is given to whoever bears a token, and to everybody on this machine alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

from console.__main__ import main as postlog
from console.fetch import bearer, headers
from pipeline import access, service
from pipeline.access import Access
from pipeline.errors import ConfigError
from pipeline.service import Health
from pipeline.settings import Settings

Client = TestClient[web.Request, web.Application]


def token(file: Path, name: str, *more: str) -> str:
    """A new token, its line in the file."""
    made = CliRunner().invoke(postlog, ["token", name, "--file", str(file), *more])
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


def forget(file: Path, name: str) -> None:
    replace(file, "\n".join(line for line in file.read_text().splitlines() if not line.startswith(name)))


def replace(file: Path, content: str | None) -> None:
    """Change a file, or remove it."""
    if content is None:
        file.unlink()
    else:
        file.write_text(content)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
async def client(file: Path) -> AsyncIterator[Client]:
    """A service with a token file, in which ann may read."""
    token(file, "somebody")
    guarding = Access(file)
    app = web.Application()
    service.add_health_routes(
        app, guarding, live=lambda: Health(True, {"lag": 5}), ready=lambda: Health(False, {"a": 1})
    )

    async def change(_: web.Request) -> web.Response:
        return web.Response()

    app.router.add_post("/change", guarding.guarded(change, "operate"))
    async with TestClient(TestServer(app)) as mine:
        yield mine


async def status(client: Client, path: str, held: str = "", method: str = "GET") -> int:
    async with client.request(method, path, headers={"Authorization": f"Bearer {held}"} if held else {}) as answer:
        return answer.status


async def test_without_a_token_one_sees_whether_it_is_well_and_nothing_else(client: Client, file: Path) -> None:
    async with client.get("/health/live") as live, client.get("/health/ready") as ready:
        assert (live.status, await live.json()) == (200, {"ok": True})
        assert (ready.status, await ready.json()) == (503, {"ok": False})
    async with client.get("/metrics") as refused:
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert await status(client, "/metrics", "postlog_guess") == 401
    ann = token(file, "ann")
    assert await status(client, "/metrics", ann) == 200
    async with client.get("/health/live", headers={"Authorization": f"Bearer {ann}"}) as live:
        assert await live.json() == {"ok": True, "lag": 5}


async def test_tokens_come_and_go_without_a_restart(client: Client, file: Path) -> None:
    ann, bob = token(file, "ann"), token(file, "bob")
    assert [await status(client, "/metrics", each) for each in (ann, bob)] == [200, 200]
    forget(file, "ann")
    assert [await status(client, "/metrics", each) for each in (ann, bob)] == [401, 200]
    # A file that is broken, or gone, takes nobody's token away and gives none.
    replace(file, "nonsense")
    assert [await status(client, "/metrics", each) for each in (ann, bob)] == [401, 200]
    replace(file, None)
    assert [await status(client, "/metrics", each) for each in (ann, bob)] == [401, 200]


async def test_a_reader_may_not_operate(client: Client, file: Path) -> None:
    reader, operator = token(file, "reader"), token(file, "operator", "--scope", "operate")
    assert await status(client, "/change", reader, "POST") == 403
    assert await status(client, "/change", operator, "POST") == 200
    assert await status(client, "/change", method="POST") == 401
    assert await status(client, "/metrics", operator) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "mail.example.com", ""])
def test_what_others_could_reach_needs_a_file(host: str, file: Path) -> None:
    with pytest.raises(ConfigError, match="LOOKUP_HOST") as error:
        access.of(Settings(), host, "LOOKUP_HOST")
    assert "postlog token" in str(error.value)
    token(file, "ann")
    access.of(Settings(operator_tokens_file=str(file)), host, "LOOKUP_HOST")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
async def test_on_this_machine_alone_nobody_needs_a_token(host: str) -> None:
    app = web.Application()
    everybody = access.of(Settings(), host, "LOOKUP_HOST")
    service.add_health_routes(app, everybody, live=lambda: Health(True, {"lag": 5}), ready=lambda: Health(True, {}))
    async with TestClient(TestServer(app)) as client, client.get("/health/live") as live:
        assert await live.json() == {"ok": True, "lag": 5}
        assert await status(client, "/metrics") == 200


async def test_no_health_page_shows_an_address() -> None:
    details = {"lanes": {"3": ["for ann@x.io"]}, "reason": r"o'ann\u0040x.io"}
    app = web.Application()
    everybody = access.of(Settings(), "127.0.0.1", "LOOKUP_HOST")
    service.add_health_routes(app, everybody, live=lambda: Health(True, details), ready=lambda: Health(True, details))
    async with TestClient(TestServer(app)) as client:
        for path in ("/health/live", "/health/ready"):
            async with client.get(path) as answer:
                shown = await answer.json()
                assert shown == {"ok": True, "lanes": {"3": ["for …@x.io"]}, "reason": r"…\u0040x.io"}


@pytest.fixture
async def open_to_all(tmp_path: Path) -> AsyncIterator[Client]:
    """A service on this machine alone, without tokens."""
    everybody = Access(None)
    app = web.Application()
    service.add_health_routes(
        app, everybody, live=lambda: Health(True, {"lag": 5}), ready=lambda: Health(False, {"a": 1})
    )

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app.router.add_get("/list", everybody.guarded(answer))
    app.router.add_post("/change", everybody.guarded(answer, "operate"))
    async with TestClient(TestServer(app)) as mine:
        yield mine


async def answered(client: Client, **headers: str) -> list[int]:
    """The answers to a look at the metrics and at the list, and to a change."""
    found = []
    for method, path in (("GET", "/metrics"), ("GET", "/list"), ("POST", "/change")):
        async with client.request(method, path, headers=headers) as answer:
            found.append(answer.status)
    return found


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8083", "10.0.0.5", "127.0.0.1.evil.example"])
async def test_a_page_that_leads_its_own_name_here_reads_nothing(open_to_all: Client, host: str) -> None:
    assert await answered(open_to_all, Host=host) == [403, 403, 403]
    async with open_to_all.get("/metrics", headers={"Host": host}) as refused:
        assert "OPERATOR_TOKENS_FILE" in (await refused.json())["error"]
    headers = {"Host": host}
    async with (
        open_to_all.get("/health/live", headers=headers) as live,
        open_to_all.get("/health/ready", headers=headers) as ready,
    ):
        assert (live.status, await live.json()) == (200, {"ok": True})
        assert (ready.status, await ready.json()) == (503, {"ok": False})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:8083", "[::1]", "[::1]:8083"])
async def test_who_asks_this_machine_by_its_own_name_is_answered(open_to_all: Client, host: str) -> None:
    assert await answered(open_to_all, Host=host) == [200, 200, 200]
    assert await answered(open_to_all, Host=host, Origin="http://localhost:3000") == [200, 200, 200]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://"])
async def test_a_page_of_another_machine_changes_nothing_here(open_to_all: Client, origin: str) -> None:
    assert await answered(open_to_all, Origin=origin) == [403, 403, 403]


@pytest.mark.parametrize("host", ["", "Host: \r\n", "Host: localhost\r\nHost: evil.example\r\n"])
async def test_who_names_no_host_or_two_learns_only_whether_it_is_well(open_to_all: Client, host: str) -> None:
    for path, expected in (("/health/live", 200), ("/metrics", 403)):
        reader, writer = await asyncio.open_connection(open_to_all.host, open_to_all.port)
        writer.write(f"GET {path} HTTP/1.0\r\n{host}\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        # Two of them may be no request at all.
        assert int(head.split()[1]) in ({expected, 400} if host.count("Host") == 2 else {expected})
        assert b"lag" not in body


async def test_with_tokens_any_name_will_do(client: Client, file: Path) -> None:
    headers = {"Host": "postlog.example.com", "Authorization": f"Bearer {token(file, 'ann')}"}
    async with client.get("/metrics", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("content", [None, "", "ann read short"])
def test_a_file_that_holds_no_tokens_is_refused_at_the_start(file: Path, content: str | None) -> None:
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=str(file)):
        Access(file)


def test_a_name_has_one_token(file: Path) -> None:
    token(file, "ann")
    before = file.read_text()
    again = CliRunner().invoke(postlog, ["token", "ann", "--file", str(file)])
    assert (again.exit_code, file.read_text()) == (2, before)
    assert "already" in again.output


async def test_commands_send_the_token_of_their_environment(client: Client, file: Path) -> None:
    ann = token(file, "ann")
    url = str(client.make_url("/metrics"))
    bearer.set(ann)
    async with ClientSession(headers=headers()) as session, session.get(url) as answer:
        assert answer.status == 200
