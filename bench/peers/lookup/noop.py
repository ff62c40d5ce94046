"""The most that aiohttp on uvloop can answer: the same routes as the list's, and always the same JSON."""

from __future__ import annotations

import os

import msgspec
import uvloop
from aiohttp import web

#: As large as what the list says of an address that is on it, and of a thousand of which half are.
ONE = msgspec.json.encode(
    {
        "email": "person123456@example.com",
        "suppressed": True,
        "causes": {"hard_bounce": {"first": "2026-01-01T00:00:00.000Z", "latest": "2026-01-01T00:00:00.000Z"}},
        "updated_at": "2026-01-01T00:00:00.000Z",
    }
)
LISTED = {"email": "person123456@example.com", "suppressed": True, "causes": ["hard_bounce"]}
UNKNOWN = {"email": "nobody123456@example.com", "suppressed": False, "causes": []}
CHECKED = msgspec.json.encode({"results": [LISTED, UNKNOWN] * 500, "suppressed": 500})


async def one(_: web.Request) -> web.Response:
    """Says the same of every address."""
    return web.Response(body=ONE, content_type="application/json")


async def check(request: web.Request) -> web.Response:
    """Says the same of any addresses."""
    await request.read()
    return web.Response(body=CHECKED, content_type="application/json")


def main() -> None:
    """Serve on PORT until SIGTERM."""
    app = web.Application()
    app.router.add_get("/suppressions/{email:.+}", one)
    app.router.add_post("/suppressions/check", check)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)


if __name__ == "__main__":
    main()
