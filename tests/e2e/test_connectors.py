"""The handlers that come with postlog, in a real processor: what is posted and what is in the table is the list."""

from __future__ import annotations

import base64
import json
from collections import Counter

import asyncpg
from aiohttp import web
from standardwebhooks import Webhook

from pipeline import deadletter
from tests.e2e.system import System, delivery, until

SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"


async def test_every_change_is_posted_once_and_the_table_is_the_list(system: System, postgres: str) -> None:
    posted: Counter[str] = Counter()
    gone = "p7@x.io"

    async def hook(request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        told = Webhook(SECRET).verify(body, dict(request.headers))
        assert told == json.loads(body)
        posted[told["data"]["event"]["id"]] += 1
        return web.Response(status=410 if told["data"]["email"] == gone else 204)

    app = web.Application()
    app.router.add_post("/", hook)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ingress = system.start("ingress")
        processor = system.start(
            "processor",
            HANDLERS="connectors.http,connectors.sql",
            CONNECTOR_HTTP_URL=f"http://127.0.0.1:{runner.addresses[0][1]}/",
            CONNECTOR_HTTP_SECRET=SECRET,
            CONNECTOR_SQL_URL=postgres,
        )
        await system.ready(ingress, processor)
        sent = [delivery(f"e{n}", "unsubscribed", f"p{n}@x.io") for n in range(200)]
        await system.deliver(ingress, [*sent, *sent[:50], delivery("seen", "opened", "p1@x.io")])
        await system.caught_up()

        async def done() -> bool:
            return not sum((await system.metric(processor, "postlog_processor_calls_owed")).values())

        await until(done, "nothing is owed")
    finally:
        await runner.cleanup()
    assert posted == Counter(f"e{n}" for n in range(200))
    letters = [deadletter.read(record) for record in await system.records(system.topics.dead_letters)]
    assert [(letter.handler, letter.id, letter.tries) for letter in letters] == [("http", "e7", 1)]
    connection = await asyncpg.connect(postgres)
    try:
        rows = await connection.fetch("SELECT email FROM suppressions WHERE suppressed")
    finally:
        await connection.close()
    assert {row["email"] for row in rows} == await system.suppressed() == {f"p{n}@x.io" for n in range(200)}


async def test_a_connector_without_its_settings_refuses_to_start(system: System) -> None:
    processor = system.start("processor", HANDLERS="connectors.http")
    assert processor.process.wait(30) == 2
    assert "CONNECTOR_HTTP_SECRET is not set" in processor.said() or "CONNECTOR_HTTP_URL" in processor.said()
