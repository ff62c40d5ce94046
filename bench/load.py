"""The two processes around `bench.end_to_end`: one that keeps a rate up, one that sees how long an event takes.

    python -m bench.load send INGRESS RATE SECONDS SEED          posts events, evenly, whatever answers take
    python -m bench.load probe INGRESS LOOKUP RATE SECONDS SEED  posts hard bounces, and asks until each is suppressed

INGRESS and LOOKUP are ports. Each says `ready` once all it will post is signed, begins at SIGUSR1, and says at the
end what came of it, as JSON. A probe asks every 2 ms, and after 40 ms less often: at most a twentieth of what it has
waited for passes between two questions, so that a slow system is not asked to death.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections import Counter
from contextlib import suppress

import msgspec
import uvloop

from bench.exchange import Connection, Pool, connect, get, post
from console import sample
from tests.e2e.system import delivery

#: What lines begin with that say `ready`, and what was measured.
READY, MARK = "ready", "measured "
#: Connections of the sender: if all of them wait, it is late, and sends what is due as answers come.
CONNECTIONS = 128
#: Seconds between two looks at what is due.
TICK = 0.001
#: Seconds from one question about a probe to the next, and as a share of what it has waited for.
ASK_EVERY, ASK_SHARE = 0.002, 0.05
#: Seconds after which an answer, or a suppression, counts as lost.
PATIENCE = 30.0


class Sent(msgspec.Struct, frozen=True):
    """What came of the sender's posts: how often each status, 0 being none; seconds until the last answer."""

    statuses: dict[int, int]
    seconds: float


class Probed(msgspec.Struct, frozen=True):
    """What came of the probes: ms from post to suppressed of each, and how many were refused or lost."""

    waited: list[float]
    lost: int


class Sender:
    """Posts requests at a rate, on connections of which each waits for its answer."""

    def __init__(self, requests: list[bytes], rate: float) -> None:
        self.statuses: Counter[int] = Counter()
        self.answered_at = 0.0
        self._requests = requests
        self._rate = rate
        self._sent = self._due = 0
        self._free: list[Connection] = []
        self._ended = False
        self._last = asyncio.Event()

    async def run(self, port: int, seconds: float, begin: asyncio.Event) -> Sent:
        """Post for so long what is due by then, and wait for the answers."""
        self._free = [await connect(port, self._answered) for _ in range(CONNECTIONS)]
        say(READY)
        await begin.wait()
        begun = self.answered_at = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            self._due = min(int(passed * self._rate) + 1, len(self._requests))
            while self._free and self._sent < self._due:
                self._post(self._free.pop())
            await asyncio.sleep(TICK)
        self._due, self._ended = self._sent, True  # what is late is not posted any more
        await self._all_answered()
        self.statuses[0] += self._sent - self.statuses.total()
        for connection in self._free:
            connection.close()
        return Sent({status: count for status, count in self.statuses.items() if count}, self.answered_at - begun)

    async def _all_answered(self) -> None:
        """Wait for the answers to what was posted, but not for ever."""
        if self.statuses.total() == self._sent:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._last.wait(), PATIENCE)

    def _post(self, connection: Connection) -> None:
        self._sent += 1
        connection.send(self._requests[self._sent - 1])

    def _answered(self, connection: Connection, status: int, _: bytes) -> None:
        self.statuses[status] += 1
        self.answered_at = time.monotonic()
        if self._ended and self.statuses.total() == self._sent:
            self._last.set()
        if not status:
            return
        if self._sent < self._due:
            self._post(connection)
        else:
            self._free.append(connection)


async def send(ingress: int, rate: float, seconds: float, seed: int) -> Sent:
    """Sample deliveries of this seed, of all types."""
    requests = [post(each.body()) for each in sample.deliveries(round(rate * seconds), seed=seed)]
    return await Sender(requests, rate).run(ingress, seconds, begin_signal())


async def probe(ingress: int, lookup: int, rate: float, seconds: float, seed: int) -> Probed:
    """Hard bounces of addresses that nobody has heard of."""
    posting, asking = Pool(ingress), Pool(lookup)
    addresses = [f"probe{number}.{seed}@example.com" for number in range(round(rate * seconds))]
    requests = [
        (post(delivery(f"probe-{email}", "bounced.hard", email)), get(f"/suppressions/{email}"))
        for email in addresses
    ]
    begin = begin_signal()
    say(READY)
    await begin.wait()
    begun, probes = time.monotonic(), []
    for number, (told, asked) in zip(itertools.count(), requests, strict=False):
        await asyncio.sleep(max(begun + number / rate - time.monotonic(), 0))
        probes.append(asyncio.create_task(_waited(posting, told, asking, asked)))
    found = await asyncio.gather(*probes)
    posting.close()
    asking.close()
    waited = [each * 1000 for each in found if each is not None]
    return Probed(waited, len(found) - len(waited))


async def _waited(posting: Pool, told: bytes, asking: Pool, asked: bytes) -> float | None:
    """Seconds from the post of one probe until it is suppressed; None if it is refused, or never is."""
    begun = time.monotonic()
    status, _ = await posting.ask(told)
    if status != 200:
        return None
    while (waited := time.monotonic() - begun) < PATIENCE:
        status, body = await asking.ask(asked)
        if status != 200:
            return None
        if b'"suppressed":true' in body:
            return time.monotonic() - begun
        await asyncio.sleep(max(ASK_EVERY, ASK_SHARE * waited))
    return None


def begin_signal() -> asyncio.Event:
    """An event that SIGUSR1 sets."""
    begin = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begin.set)
    return begin


def say(line: str) -> None:
    """Tell whoever started us."""
    print(line, flush=True)


async def main(what: str, *given: str) -> None:
    """Do what the command line says."""
    numbers = [float(each) for each in given]
    found: Sent | Probed
    if what == "send":
        ingress, rate, seconds, seed = numbers
        found = await send(int(ingress), rate, seconds, int(seed))
    else:
        ingress, lookup, rate, seconds, seed = numbers
        found = await probe(int(ingress), int(lookup), rate, seconds, int(seed))
    say(MARK + msgspec.json.encode(found).decode())


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
