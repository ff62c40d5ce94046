"""The list as people keep it otherwise: a Redis set behind aiohttp. It says whether it has an address, and no more.

REDIS_PORT's set `suppressed` has the addresses. The client is redis-py's own for asyncio with its own pool.
"""

from __future__ import annotations

import os

import msgspec
import uvloop
from aiohttp import web
from redis.asyncio import Redis  # type: ignore[import-not-found, unused-ignore]

SET = "suppressed"

encode = msgspec.json.encode
client = Redis(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]))


class Check(msgspec.Struct):
    """Body of a check."""

    emails: list[str]


decode = msgspec.json.Decoder(Check).decode


def normalised(email: str) -> str:
    """The one form that every address is kept in."""
    return email.strip().lower()


async def one(request: web.Request) -> web.Response:
    """Whether one address is in the set."""
    email = normalised(request.match_info["email"])
    found = await client.sismember(SET, email)
    return web.Response(body=encode({"email": email, "suppressed": bool(found)}), content_type="application/json")


async def check(request: web.Request) -> web.Response:
    """Which of many addresses are in the set."""
    emails = decode(await request.read()).emails
    found = await client.smismember(SET, [normalised(email) for email in emails])
    results = [{"email": email, "suppressed": bool(one)} for email, one in zip(emails, found, strict=True)]
    body = encode({"results": results, "suppressed": sum(map(bool, found))})
    return web.Response(body=body, content_type="application/json")


def main() -> None:
    """Serve on PORT until SIGTERM."""
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_get("/suppressions/{email:.+}", one)
    app.router.add_post("/suppressions/check", check)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)


if __name__ == "__main__":
    main()
