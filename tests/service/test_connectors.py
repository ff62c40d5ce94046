"""The handlers that come with postlog, against real receivers: an HTTP server, SQLite, PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select, text
from standardwebhooks import Webhook, WebhookVerificationError

from connectors import http, sql
from connectors.http import Post
from connectors.sql import TABLE, Upsert
from pipeline.contract import EventType
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.suppression import Choice, Facts, Span, Suppression
from processor import plugins
from processor.handler import Permanent, TryLater
from processor.suppressions import join
from tests.unit.records import event

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
BOUNCED = Suppression.of("ann@x.io", Facts(hard_bounce=Span(1_000, 2_000)))
LEFT = Suppression.of("ann@x.io", Facts(choice=Choice(5_000, "e5", "unsubscribed")))


class Hook:
    """A receiver: keeps what came, and answers as told."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.came: list[tuple[dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.came.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, headers=self.headers)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    found = Hook()
    app = web.Application()
    app.router.add_post("/hook", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


@pytest.fixture
async def post(hook: Hook) -> AsyncIterator[Post]:
    made = Post(hook.url, http.secrets_of(f"{OTHER},{SECRET}"))
    yield made
    await made.close()


async def test_what_is_posted_says_what_holds_now_and_both_secrets_verify_it(hook: Hook, post: Post) -> None:
    told = event("ann@x.io", EventType.HARD_BOUNCE, id="evt\r\n1")
    await post(told, BOUNCED)
    await post(told, BOUNCED)
    (headers, body), (again, _) = hook.came
    headers = {name.lower(): value for name, value in headers.items()}
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body.decode(), headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.decode().replace("ann", "bob"), headers)
    data = json.loads(body)["data"]
    assert (data["email"], data["suppressed"], data["causes"]) == (
        "ann@x.io",
        True,
        {"hard_bounce": {"first": 1_000, "latest": 2_000}},
    )
    assert data["event"] == {"provider": told.provider, "type": "hard_bounce", "id": "evt\r\n1", "at": told.at}
    assert headers["webhook-id"] == {name.lower(): value for name, value in again.items()}["webhook-id"]
    assert http.message_id(told) != http.message_id(event("ann@x.io", id="evt2"))


async def test_without_anything_known_the_address_is_not_suppressed(hook: Hook, post: Post) -> None:
    await post(event("ann@x.io"), None)
    assert json.loads(hook.came[0][1])["data"] | {"event": None} == {
        "email": "ann@x.io",
        "suppressed": False,
        "causes": {},
        "updated_at": 0,
        "event": None,
    }


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_2xx_is_success(hook: Hook, post: Post, status: int) -> None:
    hook.status = status
    await post(event("ann@x.io"), BOUNCED)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 422])
async def test_what_no_other_try_can_mend_is_permanent(hook: Hook, post: Post, status: int) -> None:
    hook.status, hook.headers = status, {"Location": "/elsewhere", "Retry-After": "1"}
    with pytest.raises(Permanent, match=str(status)):
        await post(event("ann@x.io"), BOUNCED)
    assert len(hook.came) == 1


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503])
async def test_what_may_pass_is_a_failed_try_and_retry_after_is_honoured(hook: Hook, post: Post, status: int) -> None:
    hook.status = status
    with pytest.raises(OSError, match=str(status)) as caught:
        await post(event("ann@x.io"), BOUNCED)
    assert "ann" not in str(caught.value)
    hook.headers = {"Retry-After": "7"}
    with pytest.raises(TryLater) as asked:
        await post(event("ann@x.io"), BOUNCED)
    assert asked.value.seconds == 7


async def test_nobody_there_is_a_failed_try(hook: Hook) -> None:
    gone = Post("http://127.0.0.1:9/hook", http.secrets_of(SECRET))
    with pytest.raises(OSError, match="Cannot connect"):
        await gone(event("ann@x.io"), BOUNCED)
    await gone.close()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("120", 120),
        ("999999999", http.LONGEST_WAIT),
        (formatdate(1_000_060, usegmt=True), 60),
        (formatdate(999_000, usegmt=True), 0),
        ("Wed, 99 Foo 2026 00:00:00 GMT", 0),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(given: str, found: float) -> None:
    assert http.seconds(given, 1_000_000) == found


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        ("", SECRET, "CONNECTOR_HTTP_URL"),
        ("ftp://x.io/", SECRET, "CONNECTOR_HTTP_URL"),
        ("https://x.io/", "", "CONNECTOR_HTTP_SECRET is not set"),
        ("https://x.io/", "hunter2hunter2", "24 to 64 bytes"),
        ("https://x.io/", "whsec_c2hvcnQ=", "24 to 64 bytes"),
        ("https://x.io/", f"{SECRET},whsec_%%%", "24 to 64 bytes"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(url: str, secret: str, words: str) -> None:
    settings = Settings(handlers="connectors.http", connector_http_url=url, connector_http_secret=secret)
    with pytest.raises(ConfigError, match=words) as caught:
        plugins.load(settings)
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nothing", "oracle9://h/d", "postgresql://u:hunter2@h:port/d"])
def test_a_database_that_cannot_be_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="CONNECTOR_SQL_URL") as caught:
        sql.handlers(Settings(connector_sql_url=url))
    assert "hunter2" not in str(caught.value)


def test_both_are_loaded_by_name(tmp_path: Path) -> None:
    settings = Settings(
        handlers="connectors.http,connectors.sql",
        connector_http_url="https://x.io/hook",
        connector_http_secret=SECRET,
        connector_sql_url=f"sqlite:///{tmp_path}/deep/list.db",
    )
    assert list(plugins.load(settings)) == ["http", "sql"]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    return f"sqlite:///{tmp_path}/list.db" if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
async def table(database: str) -> AsyncIterator[Upsert]:
    made = Upsert(sql.engine_of(database))
    yield made
    await made.close()


async def rows(table: Upsert) -> list[dict[str, Any]]:
    async with table._engine.connect() as connection:
        found = await connection.execute(select(TABLE).order_by(TABLE.c.email))
        return [dict(row) for row in found.mappings()]


async def test_a_row_is_written_once_and_then_again_without_a_change(table: Upsert) -> None:
    for _ in range(2):
        await table(event("ann@x.io"), BOUNCED)
        (row,) = await rows(table)
        assert (row["email"], row["suppressed"], row["causes"]) == ("ann@x.io", True, "hard_bounce")
        assert row["updated_at"] == 2_000


async def test_what_is_older_takes_nothing_back_whoever_comes_last(table: Upsert) -> None:
    both = Suppression.of("ann@x.io", join(BOUNCED.facts, LEFT.facts))
    for written in (both, BOUNCED, LEFT):
        await table(event("ann@x.io"), written)
    (row,) = await rows(table)
    assert (row["causes"], row["updated_at"]) == ("hard_bounce,unsubscribed", 5_000)


async def test_a_person_who_subscribes_again_is_not_suppressed(table: Upsert) -> None:
    await table(event("ann@x.io"), LEFT)
    back = Suppression.of("ann@x.io", Facts(choice=Choice(6_000, "e6", "subscribed")))
    await table(event("ann@x.io"), back)
    (row,) = await rows(table)
    assert (row["suppressed"], row["causes"]) == (False, "")


async def test_writers_at_once_lose_no_fact(table: Upsert) -> None:
    facts = [Facts(hard_bounce=Span(n, n)) for n in range(1, 21)]
    await asyncio.gather(*[table(event("ann@x.io"), Suppression.of("ann@x.io", each)) for each in facts])
    (row,) = await rows(table)
    assert row["facts"] == '{"hard_bounce":{"first":1,"latest":20}}'


async def test_nothing_known_writes_nothing(table: Upsert) -> None:
    await table(event("ann@x.io"), None)
    await table(event("ann@x.io"), BOUNCED)
    assert len(await rows(table)) == 1


async def test_a_database_that_is_away_is_a_failed_try_and_no_address_is_told() -> None:
    away = Upsert(sql.engine_of("postgresql://u@127.0.0.1:9/d"))
    with pytest.raises(OSError, match="9") as caught:
        await away(event("ann@x.io"), BOUNCED)
    assert not isinstance(caught.value, Permanent)
    assert "ann@" not in str(caught.value)


async def test_a_value_that_the_database_refuses_is_permanent(postgres: str) -> None:
    table = Upsert(sql.engine_of(postgres))
    try:
        long = Suppression.of(f"{'a' * 400}@x.io", BOUNCED.facts)
        with pytest.raises(Permanent, match="refuses the value"):
            await table(event("ann@x.io"), long)
        async with table._engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM suppressions")) == 0
    finally:
        await table.close()


def test_an_installed_entry_point_is_a_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from processor.handler import Handler\nasync def f(*_): ...\nmine = Handler('installed', f)\n"
    (tmp_path / "somebodys_handlers.py").write_text(code)
    info = tmp_path / "somebody-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[postlog.handlers]\nmine = somebodys_handlers:mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(plugins.load(Settings())) == ["installed"]
