"""Asks services over HTTP: their health, their metrics, the suppression list."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp

#: The operator's token of this command, "" if there is none; services that others can reach ask for it.
bearer: ContextVar[str] = ContextVar("bearer", default="")


def headers() -> dict[str, str]:
    """What every question to a service says about who asks."""
    return {"Authorization": f"Bearer {bearer.get()}"} if bearer.get() else {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said."""

    status: int
    body: bytes


def fetch(urls: Collection[str], timeout: float = 1.0) -> dict[str, Answer | None]:
    """GET all of them at once; None for one that gave no answer within `timeout` seconds.

    At once, so that one frozen service costs a caller the timeout and not the sum of all.
    """
    return asyncio.run(_fetch(urls, timeout))


async def _fetch(urls: Collection[str], timeout: float) -> dict[str, Answer | None]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout), headers=headers()) as session:
        answers = await asyncio.gather(*(_get(session, url) for url in urls))
    return dict(zip(urls, answers, strict=True))


async def _get(session: aiohttp.ClientSession, url: str) -> Answer | None:
    try:
        async with session.get(url) as response:
            return Answer(response.status, await response.read())
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
