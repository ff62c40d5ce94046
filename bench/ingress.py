"""How many deliveries a second does one ingress process keep, how soon, and what would others take?

Each candidate is one process. In each round each is started afresh, alone on the machine but for where it keeps
deliveries, checked for the right answers, warmed up, and measured; then the next one. `receivers` has the candidates,
`bodies` what is posted, `wrk` who posts. In a closed loop a connection posts again once it is answered. At 60 % load
deliveries come on a schedule, as from outside, at 60 % of what the candidate answered with 64 connections in the
median of the rounds; so that is measured when all rounds are over, in as many rounds of its own.

By itself: `python -m bench.ingress --quick --rounds 1 --only postlog`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from bench import bodies, tools, wrk
from bench.receivers import CANDIDATES, Candidate, Receiver
from bench.results import Figures, medians, ratio
from bench.stand import Stand, Wrong
from console.local_kafka import LocalKafka
from tests.e2e.system import SECRET

SECTION = "ingress"
LIMIT = "aiohttp no-op"
#: Seconds.
WARM_UP = 1.0
SECONDS, QUICK_SECONDS = 4.0, 3.0
#: Seconds of deliveries until a broker that has just started answers as fast as it will.
KAFKA_SECONDS = 12.0
#: Of what it answers with 64 connections.
LOAD = 0.6
#: Deliveries, and events of one delivery, that are checked before anything is timed.
SINGLE, BATCH = 50, 10
#: Seconds an answer may take then: a worker may still be starting.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of a candidate.

    size  events in each delivery, an array; None is one event by itself
    rate  deliveries per second; 0 is a closed loop
    """

    name: str
    connections: int = 64
    size: int | None = None
    rate: float = 0.0

    @property
    def events(self) -> int:
        """Of each delivery."""
        return self.size or 1


BASE = Case("64 connections")
STEADY = Case("60 % load")
WIDE = Case("256 connections", connections=256)
BATCHES = (
    *(Case(f"batches of {size}", size=size) for size in (1, 10, 100)),
    # 64 of these would be 64,000 events at once. Above INGRESS_MAX_PENDING, by default 20,000, postlog answers 503:
    # it would refuse most of them, by design, and there would be no figure to compare.
    Case("batches of 1000, 16 connections", connections=16, size=1000),
)


def cases(candidate: Candidate, *, quick: bool) -> list[Case]:
    """The closed loops of a candidate."""
    single = [BASE] if quick else [BASE, WIDE]
    batches = [case for case in BATCHES if not quick or case.size == 100]
    return single + (batches if candidate.batches else [])


def figures(case: Case, answered: wrk.Answered, cpu: float) -> Figures:
    """What is told of a case. cpu: the candidate's seconds; its figure is per million events.

    `of the rate` is near 1 if deliveries came as fast as they should; if not, the latencies are of another load.
    """
    spent = cpu / (answered.requests * case.events) * 1e6
    if case.size is not None:
        return {"events/s": answered.rate * case.size, "p99 ms": answered.p99, "cpu s/million": spent}
    told = {
        "requests/s": answered.rate,
        "p50 ms": answered.p50,
        "p99 ms": answered.p99,
        "p99.9 ms": answered.p999,
        "cpu s/million": spent,
    }
    return {**told, "of the rate": answered.rate / case.rate} if case.rate else told


async def measure(stand: Stand) -> None:
    """Measure all candidates in turns. Raises Wrong for the first that does not do what it should."""
    candidates = [c for c in CANDIDATES if stand.wants(c.name) and (c.quick or not stand.quick)]
    tools.require("wrk", *{program for candidate in candidates for program in candidate.needs})
    await _warm_up(stand)
    for number in range(stand.rounds):
        for candidate in candidates:
            await _round(stand, candidate, number, cases(candidate, quick=stand.quick))
    if stand.quick:
        return
    found = medians(stand.samples)
    for number in range(stand.rounds):
        for candidate in candidates:
            rate = found[SECTION, BASE.name, candidate.name]["requests/s"] * LOAD
            await _round(stand, candidate, number, [replace(STEADY, rate=rate)])


async def _warm_up(stand: Stand) -> None:
    """Let Kafka compile what it runs all the time, which no candidate should have to wait for."""
    postlog = next(candidate for candidate in CANDIDATES if candidate.name == "postlog")
    with tempfile.TemporaryDirectory(prefix="ingress-", dir=stand.folder) as name:
        async with postlog.start(stand, Path(name)) as receiver:
            _post(stand, receiver, BASE, Path(name), KAFKA_SECONDS)


async def _round(stand: Stand, candidate: Candidate, number: int, wanted: Sequence[Case]) -> None:
    """Start it, check it, time it, stop it."""
    with tempfile.TemporaryDirectory(prefix="ingress-", dir=stand.folder) as name:
        folder = Path(name)
        async with candidate.start(stand, folder) as receiver:
            await check(candidate, receiver)
            _post(stand, receiver, BASE, folder, WARM_UP)
            for case in wanted:
                seconds = QUICK_SECONDS if stand.quick else SECONDS
                told = await _time(stand, candidate, receiver, case, folder, seconds)
                stand.add(SECTION, case.name, candidate.name, number, told)


async def check(candidate: Candidate, receiver: Receiver) -> None:
    """What is not signed is refused, what is signed is kept, once. Raises Wrong."""
    expected = Counter(bodies.identity(number) for number in range(SINGLE))
    posts = [bodies.event(number) for number in range(SINGLE)]
    if candidate.batches:
        numbers = range(SINGLE, SINGLE + BATCH)
        expected.update(bodies.identity(number) for number in numbers)
        posts.append(bodies.batch(numbers))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as http:
        forged = await _status(http, receiver, bodies.event(0), "0" * 64)
        if receiver.kept is not None and forged != 401:
            raise Wrong(f"{candidate.name} answered {forged} to a wrong signature")
        for body in posts:
            status = await _status(http, receiver, body, bodies.signature(body, SECRET))
            if status != 200:
                raise Wrong(f"{candidate.name} answered {status} to a good delivery")
    if receiver.kept is None:
        return
    found = Counter(await receiver.kept.ids())
    if found != expected:
        lost, more = (expected - found).total(), (found - expected).total()
        raise Wrong(f"{candidate.name} does not keep what it was given: {lost} events are missing, {more} too many")


async def _status(http: aiohttp.ClientSession, receiver: Receiver, body: bytes, signature: str) -> int:
    headers = {"X-NexusProMail-Signature": signature, "Content-Type": "application/json"}
    async with http.post(f"{receiver.url}/webhooks/email", data=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def _time(
    stand: Stand, candidate: Candidate, receiver: Receiver, case: Case, folder: Path, seconds: float
) -> Figures:
    """Raises Wrong if a delivery was refused, or fewer events were kept than were answered 200.

    When wrk ends, each connection may have a delivery on its way that is kept and not counted as answered: a loss
    that is smaller than these is not seen here. That nothing is lost is for tests with single deliveries to say.
    """
    kept = receiver.kept
    before = await kept.count() if kept else 0
    cpu = receiver.cpu_seconds()
    answered = _post(stand, receiver, case, folder, seconds)
    cpu = receiver.cpu_seconds() - cpu
    if answered.refused or answered.broken or not answered.requests:
        raise Wrong(f"{candidate.name}, {case.name}: not every delivery was taken: {answered}")
    if kept:
        events = await kept.count() - before
        if events < answered.requests * case.events:
            raise Wrong(f"{candidate.name}, {case.name}: {events} events kept, of {answered}")
        await kept.clear()
    return figures(case, answered, cpu)


def _post(stand: Stand, receiver: Receiver, case: Case, folder: Path, seconds: float) -> wrk.Answered:
    file = bodies.write(stand.folder / f"bodies-{case.size or 'single'}", case.size, SECRET)
    connections, rate = case.connections, case.rate
    return wrk.run(receiver.url, file, folder / "wrk.log", connections=connections, seconds=seconds, rate=rate)


def report(stand: Stand) -> list[str]:
    """Lines for people: medians, and how many times the limit's they are."""
    found, lines = medians(stand.samples), []
    for (section, case, candidate), told in found.items():
        text = ", ".join(f"{value:,.0f} {n}" if value >= 100 else f"{value:.2f} {n}" for n, value in told.items())
        share = ratio(found, "requests/s", (section, case, candidate), (section, case, LIMIT))
        # At a given load the rate is no result.
        told_too = share is not None and candidate != LIMIT and case != STEADY.name
        lines.append(f"{case} · {candidate}: {text}" + (f"; {share:.2f} of {LIMIT}" if told_too else ""))
    return lines


def main() -> None:
    """Measure on a Kafka of its own, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases, short")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], choices=[candidate.name for candidate in CANDIDATES])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="postlog-bench-") as name,
        LocalKafka(Path(name) / "kafka") as broker,
    ):
        folder = Path(name) / "ingress"
        folder.mkdir()
        stand = Stand(folder, broker.bootstrap, options.rounds, options.quick, frozenset(options.only))
        asyncio.run(measure(stand))
    print("\n".join(["", f"Medians of {options.rounds}:", *report(stand)]))


if __name__ == "__main__":
    main()
