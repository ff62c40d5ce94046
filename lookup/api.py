"""The suppression list over HTTP: may this address be mailed?

A shell over aiohttp; `lookup.questions` and `lookup.answers` hold the rules, the follower keeps the store.

    GET  /suppressions/{email}   what is known about one address, `operator` being an operator's latest word if there
                                 is one; 200 also for one the list does not know
    POST /suppressions/check     {"emails": [...]}: a verdict for each, in order; one that is no address gets an error
    GET  /suppressions           the list as lines of JSON in key order, the last line {"next": ...} being the cursor;
                                 after=ADDRESS begins behind it, limit=1000 (0: all), suppressed=true (false, all)

Until the whole topic was read once, while it lacks what the list knew before, and where the local list is damaged the
answer is 503: "not suppressed" from half a list would let somebody mail an address. An address whose record cannot be
read is answered 500, for the same reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
import prometheus_client
from aiohttp import web

from lookup import answers, questions
from lookup.answers import Verdict
from lookup.questions import Listing, Refused
from lookup.store import Store
from pipeline import addresses, contract, ready, service
from pipeline.access import Access
from pipeline.errors import StoreBroken
from pipeline.ready import Ready
from pipeline.service import Health

#: Rows or addresses handled before the other requests have their turn: about a millisecond.
SLICE = 256
#: Seconds after which a client may ask again while the list is being read.
RETRY_AFTER = 5
NOT_YET = Refused(503, "the list is not caught up yet, an answer now could be wrong: ask again in a few seconds")
LOST = Refused(
    503, "the topic lacks addresses that this list knew, an answer now could be wrong: /health/ready says what to do"
)
BROKEN = Refused(503, "the local list cannot be read, this lookup starts again: ask again in a few seconds")

REQUESTS = prometheus_client.Counter(
    "postlog_lookup_requests", "answered requests by question and HTTP status", ["route", "status"]
)
ROWS = prometheus_client.Gauge("postlog_lookup_rows", "about how many addresses the local list holds")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Following(Protocol):
    """What the API needs to know of the follower."""

    @property
    def caught_up(self) -> bool: ...
    @property
    def lost(self) -> bool: ...
    def live(self) -> Health: ...
    def ready(self) -> Health: ...


def build(store: Store, follower: Following, access: Access) -> web.Application:
    """The application; the caller serves it, and closes the store after it."""
    guarded = access.guarded
    app = web.Application(client_max_size=questions.LARGEST_BODY)
    api = Api(store, follower)
    # aiohttp tries routes in this order, and the first is the busy one.
    app.router.add_get("/suppressions/{email:.+}", guarded(api.route("one", api.one)))
    app.router.add_get("/suppressions", guarded(api.route("list", api.rows)), allow_head=False)
    app.router.add_post("/suppressions/check", guarded(api.route("check", api.check)))
    service.add_health_routes(app, access, live=follower.live, ready=follower.ready)
    ROWS.set_function(store.rows)
    return app


class Api:
    """The three questions over one store."""

    def __init__(self, store: Store, follower: Following) -> None:
        self._store = store
        self._follower = follower
        self._known = Ready(200, "application/json")

    @property
    def _not_now(self) -> Refused:
        """Why nothing can be answered, while the list is not caught up."""
        return LOST if self._follower.lost else NOT_YET

    def route(self, name: str, handler: Handler) -> Handler:
        """The handler, asked only when the list is whole, and counted."""
        counters: dict[int, Any] = {}

        async def handle(request: web.Request) -> web.StreamResponse:
            status = 500
            try:
                response = await self._answer(handler, request)
                status = response.status
                return response
            finally:
                if status not in counters:
                    counters[status] = REQUESTS.labels(name, str(status))
                counters[status].inc()

        return handle

    async def _answer(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        if not self._follower.caught_up:
            return refusal(self._not_now)
        try:
            return await handler(request)
        except StoreBroken:
            return refusal(BROKEN)

    async def one(self, request: web.Request) -> web.StreamResponse:
        """What is known about one address."""
        email = questions.address(request.match_info["email"], request.raw_path)
        if isinstance(email, Refused):
            return refusal(email)
        status, body = answers.body(email, self._row(email, self._store.get(email.encode())))
        if status == 200 and ready.fits(request):
            return self._known.send(request, body)
        return web.Response(body=body, status=status, content_type="application/json")

    def _row(self, email: str, kept: bytes | None) -> bytes | None:
        """The row that counts: one under a former key may say that the address must not be mailed."""
        former = addresses.former(email)
        return kept if former is None else answers.stricter(kept, self._store.get(former.encode()))

    async def check(self, request: web.Request) -> web.Response:
        """A verdict for each of many addresses."""
        try:
            emails = questions.emails(await request.read())
        except web.HTTPRequestEntityTooLarge:
            emails = questions.too_many(f"the body is larger than {questions.LARGEST_BODY} bytes")
        if isinstance(emails, Refused):
            return refusal(emails)
        results: list[Verdict] = []
        for start in range(0, len(emails), SLICE):
            await asyncio.sleep(0)
            if not self._follower.caught_up:  # the list may be begun anew at any await
                return refusal(self._not_now)
            results += self._verdicts(emails[start : start + SLICE])
        return reply(answers.checked(results))

    def _verdicts(self, given: Sequence[str]) -> list[Verdict]:
        emails = [contract.address(text) for text in given]
        rows = iter(self._store.get_many([address.encode() for address in emails if address]))
        return [
            answers.verdict(text, address, self._row(address, next(rows)))
            if address
            else Verdict(text, None, (), error=questions.NO_ADDRESS)
            for text, address in zip(given, emails, strict=True)
        ]

    async def rows(self, request: web.Request) -> web.StreamResponse:
        """The list as a stream of lines. One that lacks its last line is not complete."""
        listing = questions.listing(request.query)
        if isinstance(listing, Refused):
            return refusal(listing)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the client went away: it has what it wanted
            try:
                await self._stream(listing, response)
            except StoreBroken:
                await response.write(ndjson([encode({"error": BROKEN.error})]))
        return response

    async def _stream(self, listing: Listing, response: web.StreamResponse) -> None:
        after, given = listing.after.encode(), 0
        while self._follower.caught_up:
            page = self._store.page(after, SLICE)
            lines: list[bytes] = []
            for key, row in page:
                if listing.limit and given == listing.limit:
                    await response.write(ndjson([*lines, encode({"next": after.decode()})]))
                    return
                after = key
                if answers.listed(listing.suppressed, row):
                    lines.append(answers.body(key.decode(), row)[1])
                    given += 1
            if not page:
                await response.write(ndjson([encode({"next": None})]))
                return
            await response.write(ndjson(lines))
            # A fast client never makes the write wait, and the other requests must have their turn.
            await asyncio.sleep(0)
        await response.write(ndjson([encode({"error": self._not_now.error})]))


def reply(answer: object, *, status: int = 200) -> web.Response:
    """An answer as JSON."""
    return web.Response(body=encode(answer), status=status, content_type="application/json")


def refusal(refused: Refused) -> web.Response:
    """The answer to a question that has none."""
    response = reply({"error": refused.error}, status=refused.status)
    if refused in (NOT_YET, LOST, BROKEN):
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def ndjson(lines: Sequence[bytes]) -> bytes:
    """JSON values, one to a line."""
    return b"".join([line + b"\n" for line in lines])


encode = msgspec.json.Encoder().encode
