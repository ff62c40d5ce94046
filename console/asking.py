"""Asks lookup: one address, or the whole list as a stream. A shell over aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp
import msgspec

from console.fetch import Answer, fetch, headers
from console.known import Known
from pipeline import contract
from pipeline.errors import PostlogError, Unanswered

#: Rows in one answer; the next question goes on behind the last of them.
PAGE = 10_000
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=30.0)


class Refusal(msgspec.Struct, frozen=True):
    """Why lookup has no answer."""

    error: str


class _Last(msgspec.Struct, frozen=True):
    """The last line of a stream: where to go on, or why it ended early."""

    next: str | None = None
    error: str = ""


def one(url: str, email: str) -> tuple[Known, bytes]:
    """What lookup knows about a normalised address, and its answer as it came. Raises PostlogError."""
    asked = f"{url}/suppressions/{quote(email, safe='@')}"
    body = _answered(fetch([asked], timeout=5.0)[asked], asked)
    try:
        return msgspec.json.decode(body, type=Known), body
    except msgspec.MsgspecError as error:
        raise PostlogError(f"{asked}: not an answer of lookup: {contract.explain(error)}") from None


def _answered(answer: Answer | None, asked: str) -> bytes:
    """The body of an answer that holds a verdict. Raises PostlogError for any other, and for none."""
    if answer is None:
        raise Unanswered(f"{asked}: no answer. Is lookup up? See postlog status.")
    if answer.status == 200:
        return answer.body
    raise _refused(asked, answer.status, answer.body)


def _refused(asked: str, status: int, body: bytes) -> PostlogError:
    if status in (401, 403):
        return PostlogError(f"{asked}: answered {status}: put a token into POSTLOG_TOKEN; postlog token makes one.")
    try:
        reason = msgspec.json.decode(body, type=Refusal).error
    except msgspec.MsgspecError:
        reason = "is this lookup?"
    return PostlogError(f"{asked}: answered {status}: {reason}")


async def everything(url: str, *, page: int = PAGE) -> AsyncIterator[Known]:
    """Everything that is suppressed, in the order of addresses. Raises PostlogError if it is not complete."""
    asked = f"{url}/suppressions"
    after: str | None = ""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers()) as session:
            while after is not None:
                query = {"limit": str(page), "after": after}
                async with session.get(asked, params=query) as response:
                    if response.status != 200:
                        raise _refused(asked, response.status, await response.read())
                    last: _Last | None = None
                    async for line in response.content:
                        found = _read(asked, line)
                        if isinstance(found, Known):
                            yield found
                        else:
                            last = found
                if last is None:
                    raise PostlogError(f"{asked}: the list ended early, its last line is missing: ask again.")
                if last.error:
                    raise PostlogError(f"{asked}: the list ended early: {last.error}")
                after = last.next
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unanswered(f"{asked}: no whole answer ({error!r}). Is lookup up? See postlog status.") from None


def _read(asked: str, line: bytes) -> Known | _Last:
    try:
        # A row has an address, the last line has none.
        if b'"email":' in line[:16]:
            return msgspec.json.decode(line, type=Known)
        return msgspec.json.decode(line, type=_Last)
    except msgspec.MsgspecError as error:
        raise PostlogError(f"{asked}: a line is not lookup's: {contract.explain(error)}") from None
