"""Where does aiohttp itself end? It reads a body and answers 200; nothing is checked and nothing is kept.

PORT  where to listen, on 127.0.0.1
"""

from __future__ import annotations

import os

import uvloop
from aiohttp import web


async def receive(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


def main() -> None:
    app = web.Application()
    app.add_routes([web.post("/webhooks/email", receive)])
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
