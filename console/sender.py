"""Posts signed deliveries as a provider does: many at once, and again until each is kept.

A shell over aiohttp; tries.py decides what follows from an answer.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp

from console import tries
from console.tries import Summary
from pipeline.errors import PostlogError

PATH = "/webhooks/email"
SIGNATURE = "X-NexusProMail-Signature"
#: Seconds without an answer after which a try counts as failed; a provider's is about this.
TRY_TIMEOUT = 15.0
#: A run ends when as many deliveries in a row failed as are under way at once, but not before this many did.
FEWEST_IN_A_ROW = 10


@dataclass(frozen=True, slots=True)
class Target:
    """Where to post and how.

    concurrency  deliveries under way at once
    most_tries   per delivery
    """

    url: str
    secret: bytes
    concurrency: int = 64
    most_tries: int = 12


@dataclass(slots=True)
class Tally:
    """What came of it so far; latencies in seconds."""

    latencies: array[float] = field(default_factory=lambda: array("d"))
    retried: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Deliveries that are over, one way or the other."""
        return len(self.latencies) + self.failed


async def send(bodies: AsyncIterator[bytes], target: Target, progress: Callable[[Tally], None]) -> Summary:
    """Post all bodies; progress is called after each. What ends the run early is the summary's `stopped`."""
    tally, started = Tally(), time.perf_counter()
    try:
        stopped = await _all(bodies, target, tally, progress)
    except asyncio.CancelledError:
        stopped = tries.INTERRUPTED
    return tries.summary(
        latencies=tally.latencies,
        retried=tally.retried,
        failed=tally.failed,
        answers=tally.answers,
        seconds=time.perf_counter() - started,
        stopped=stopped,
    )


async def _all(bodies: AsyncIterator[bytes], target: Target, tally: Tally, progress: Callable[[Tally], None]) -> str:
    """Post all bodies; why that ended early, "" if it did not."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(target.concurrency)
    connector = aiohttp.TCPConnector(limit=target.concurrency)
    timeout = aiohttp.ClientTimeout(total=TRY_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            feeding = group.create_task(_feed(bodies, queue, target.concurrency))
            for _ in range(target.concurrency):
                group.create_task(_work(session, queue, target, tally, progress))
        stopped = feeding.result()
    except* PostlogError as errors:
        stopped = str(errors.exceptions[0])
    return stopped


async def _feed(bodies: AsyncIterator[bytes], queue: asyncio.Queue[bytes | None], workers: int) -> str:
    """Hand the bodies to the workers; why they ended early, "" if they did not. What came before is still sent."""
    reason = ""
    try:
        async for body in bodies:
            await queue.put(body)
    except PostlogError as error:
        reason = str(error)
    for _ in range(workers):
        await queue.put(None)
    return reason


async def _work(
    session: aiohttp.ClientSession,
    queue: asyncio.Queue[bytes | None],
    target: Target,
    tally: Tally,
    progress: Callable[[Tally], None],
) -> None:
    while (body := await queue.get()) is not None:
        await _deliver(session, body, target, tally)
        progress(tally)


async def _deliver(session: aiohttp.ClientSession, body: bytes, target: Target, tally: Tally) -> None:
    """Post one delivery until it is kept or given up. Raises PostlogError if the rest would fail too."""
    headers = {"Content-Type": "application/json", SIGNATURE: signature(body, target.secret)}
    for tried in range(1, target.most_tries + 1):
        started = time.perf_counter()
        status, retry_after = await _post(session, target.url, body, headers)
        tally.answers[str(status or tries.NO_ANSWER)] += 1
        match tries.after(
            status, tried=tried, most=target.most_tries, retry_after=retry_after, chance=random.random()
        ):
            case tries.Kept():
                tally.latencies.append(time.perf_counter() - started)
                tally.failed_in_a_row = 0
                return
            case tries.Wait(seconds):
                tally.retried += tried == 1
                await asyncio.sleep(seconds)
            case tries.GiveUp():
                tally.failed += 1
                tally.failed_in_a_row += 1
                _stop_if_all_fail(status, target, tally)
            case tries.Stop(reason):
                tally.failed += 1
                raise PostlogError(f"{target.url}: {reason}")


def _stop_if_all_fail(status: int | None, target: Target, tally: Tally) -> None:
    """A receiver that is away for good would otherwise cost all tries for every delivery that is left."""
    if tally.failed_in_a_row >= max(target.concurrency, FEWEST_IN_A_ROW):
        last = f"was answered {status}" if status else "got no answer"
        raise PostlogError(
            f"{target.url}: {tally.failed_in_a_row} deliveries in a row failed after {target.most_tries} tries each, "
            f"the last one {last}. Is the ingress up? See postlog status."
        )


async def _post(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]
) -> tuple[int | None, str | None]:
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            await response.read()
            return response.status, response.headers.get("Retry-After")
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None, None


def signature(body: bytes, secret: bytes) -> str:
    """The value of the signature header: lowercase hex HMAC-SHA256 of the raw body."""
    return hmac.digest(secret, body, "sha256").hex()
