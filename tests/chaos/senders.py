"""Senders that behave as providers do: many, signed, again and again until a 200, and some events more than once.

An address belongs to one worker, which posts its next event once the one before was answered 200. So the order in
which the log must have an address' events is known.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.bodies import Writer
from tests.chaos.checker import Sent
from tests.e2e.system import signature
from tests.spellings import DOMAIN

#: Shares of the events that name nobody, that come again later, and of posts that a stranger makes.
NOBODY, REPEATED, FORGED = 0.03, 0.1, 0.02
#: Addresses whose events the handler refuses for good.
REFUSED = 2
#: Seconds without an answer after which a provider gives up a try, and its pauses.
TRY_SECONDS = 6.0
#: Of the events that are posted while `large` is set, the share that is large.
LARGE = 0.1
PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0)


@dataclass
class Senders:
    """Workers that post events.

    rate       events a second of all workers together
    addresses  of each worker
    nobody     share of the events that has no recipient
    first      number of the first worker; addresses of another number are other ones
    large      some bodies are nearly as large as a body may be, for as long as this is set
    """

    url: str
    seed: int
    rate: float
    workers: int = 8
    addresses: int = 40
    sent: dict[str, Sent] = field(default_factory=dict)
    forged: set[str] = field(default_factory=set)
    nobody: float = NOBODY
    posts: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    first: int = 0
    large: bool = False
    longest_gap: tuple[float, float] = (0.0, 0.0)
    _accepted_at: float = field(default_factory=time.monotonic)

    def emails(self) -> list[str]:
        """Every address that is used, in its one form; none is part of any other text."""
        return [self._email(w, n) for w in range(self.workers) for n in range(self.addresses)]

    def refused(self) -> frozenset[str]:
        """Addresses whose events the handler refuses for good."""
        return frozenset(self._email(0, number) for number in range(REFUSED))

    async def run(self, stop: asyncio.Event) -> None:
        """Post new events until `stop` is set; then finish what was begun."""
        self._accepted_at = time.monotonic()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=TRY_SECONDS)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for worker in range(self.workers):
                tasks.create_task(self._work(http, worker, stop))

    async def _work(self, http: aiohttp.ClientSession, worker: int, stop: asyncio.Event) -> None:
        rng = random.Random(f"{self.seed}/{worker}")
        writer = Writer(random.Random(f"{self.seed}/{worker}/bodies"))
        again: list[bytes] = []
        number = 0
        while not stop.is_set():
            number += 1
            await asyncio.sleep(rng.expovariate(self.rate / self.workers))
            if rng.random() < FORGED:
                await self._forge(http, f"forged-{worker}-{number}", self._email(worker, 0))
            if again and rng.random() < REPEATED:
                await self._deliver(http, again.pop(rng.randrange(len(again))), None)
            email = None if rng.random() < self.nobody else self._email(worker, rng.randrange(self.addresses))
            large = self.large and rng.random() < LARGE
            identity, event, raw = writer.write(f"{self.seed}-{worker}-{number}", email, time.time(), large=large)
            # The same bytes without an id are the same event, as far as anybody can know.
            event = self.sent.setdefault(identity, event)
            await self._deliver(http, raw, event)
            if rng.random() < REPEATED:
                again.append(raw)

    async def _deliver(self, http: aiohttp.ClientSession, body: bytes, event: Sent | None) -> None:
        """Post until it is answered 200, as often as it takes."""
        tried = 0
        while await self._post(http, body, signature(body)) != 200:
            await asyncio.sleep(PAUSES[min(tried, len(PAUSES) - 1)])
            tried += 1
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, (self._accepted_at, now), key=lambda gap: gap[1] - gap[0])
        self._accepted_at = now
        if event is not None:
            event.accepted = True

    def stranger(self, number: int) -> tuple[str, str]:
        """An address that is in use, and the id of an event that must never be applied to it."""
        self.forged.add(identity := f"stranger-{number}")
        return self._email(number % self.workers, number % self.addresses), identity

    async def _forge(self, http: aiohttp.ClientSession, identity: str, email: str) -> None:
        """What somebody without the secret would post."""
        self.forged.add(identity)
        body = json.dumps({"id": identity, "type": "complained", "data": {"email": email}}).encode()
        await self._post(http, body, signature(body, "a-guess-0123456789"))

    async def _post(self, http: aiohttp.ClientSession, body: bytes, sign: str) -> int | None:
        self.posts += 1
        headers = {"X-NexusProMail-Signature": sign}
        try:
            async with http.post(f"{self.url}/webhooks/email", data=body, headers=headers) as answer:
                await answer.read()
                status: int | None = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = None
        self.answers[str(status)] = self.answers.get(str(status), 0) + 1
        return status

    def _email(self, worker: int, number: int) -> str:
        return f"zq{self.first + worker}x{number}@{DOMAIN if number % 4 == 3 else 'chaos.example'}"
