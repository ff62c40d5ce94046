"""What is for operators is given to whoever bears a token, and to everybody on this machine alone."""

from __future__ import annotations

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
