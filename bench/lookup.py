"""How fast is "may I mail this address?" answered, and what would others take for it?

Each candidate is one process with the same list of 300,000 addresses, asked by wrk over 64 connections, each of which
asks again once it is answered; half of the addresses that are asked are on the list. Its answers are checked before
anything is timed. The no-op knows no list: it is what HTTP alone costs.

By itself: `python -m bench.lookup --quick --rounds 1 --only postlog`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench import alone, own_topics, peer, redis, rows, tools, wrk
from bench.results import Figures
from bench.stand import Stand, Wrong
from pipeline import kafka, suppression
from pipeline.settings import Settings
from pipeline.suppression import Facts, Span, Suppression
from tests.e2e.system import running

SECTION = "lookup"
PEERS = tools.PEERS / "lookup"
#: Addresses on the list; different ones that are asked, half of them on it; and in one check.
LISTED, ASKED, CHECKED = 300_000, 20_000, 1_000
#: Addresses that are checked before anything is timed: as many of those that are on the list as of others.
VERIFIED = 200
CONNECTIONS = 64
#: Seconds.
WARM_UP = 1.0
SECONDS, QUICK_SECONDS = 4.0, 3.0
#: Seconds an answer may take, and filling.
_ANSWER, _PATIENCE = 10, 60.0
#: When the addresses were put on the list, ms.
_SINCE = 1_760_000_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may be asked. start gives its URL; knows says whether it has a list; needs names programs besides wrk."""

    name: str
    start: Callable[[Ground], AbstractAsyncContextManager[str]]
    knows: bool = True
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ground:
    """What a candidate is started on: an empty folder, and where topics with the list are."""

    folder: Path
    settings: Settings


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of question: a file of them for wrk.lua; addresses in each."""

    name: str
    file: Path
    addresses: int = 1


def listed(number: int) -> str:
    """The number-th address of the list."""
    return f"person{number:06d}@example.com"


def unknown(number: int) -> str:
    """The number-th address that is not on it."""
    return f"nobody{number:06d}@example.com"


def asked() -> list[str]:
    """Every address that is asked, in order: one on the list, one that is not, and so on."""
    apart = LISTED // (ASKED // 2)  # from everywhere in the list
    pairs = ((listed(number * apart), unknown(number)) for number in range(ASKED // 2))
    return [address for pair in pairs for address in pair]


def cases(folder: Path) -> list[Case]:
    """The questions, written to files."""
    addresses = asked()
    one, many = folder / "addresses", folder / "checks"
    one.write_text("".join(f"/suppressions/{address}\t\t\n" for address in addresses))
    parts = [addresses[start : start + CHECKED] for start in range(0, ASKED, CHECKED)]
    check = b"/suppressions/check\t\t%b\n"
    many.write_bytes(b"".join(check % msgspec.json.encode({"emails": part}) for part in parts))
    return [Case("GET one", one), Case(f"check {CHECKED:,} addresses", many, CHECKED)]


def figures(case: Case, answered: wrk.Answered) -> Figures:
    """What is told of a case."""
    rate = answered.rate
    if case.addresses == 1:
        return {"requests/s": rate, "p50 ms": answered.p50, "p99 ms": answered.p99}
    return {"requests/s": rate, "addresses/s": rate * case.addresses, "p99 ms": answered.p99}


@asynccontextmanager
async def noop(ground: Ground) -> AsyncIterator[str]:
    """aiohttp alone."""
    async with peer.listening([sys.executable, str(PEERS / "noop.py")], ground.folder) as (url, _):
        yield url


@asynccontextmanager
async def postlog(ground: Ground) -> AsyncIterator[str]:
    """Ours, as it is, caught up."""
    async with running(ground.settings, ground.folder) as system:
        service = system.start("lookup")
        await system.ready(service)
        yield service.url


@asynccontextmanager
async def redis_set(ground: Ground) -> AsyncIterator[str]:
    """A set in a Redis, behind aiohttp."""
    python = str(tools.peers_python())
    with redis.running(ground.folder / "redis") as port:
        _fill_redis(port)
        argv = [python, str(PEERS / "redis_set.py")]
        async with peer.listening(argv, ground.folder, REDIS_PORT=str(port)) as (url, _):
            yield url


CANDIDATES = (
    Candidate("aiohttp no-op", noop, knows=False),
    Candidate("postlog", postlog),
    Candidate("Redis SISMEMBER", redis_set, needs=("redis-server",)),
)


async def measure(stand: Stand) -> None:
    """Measure all candidates in turns. Raises Wrong for the first that answers wrongly."""
    candidates = [candidate for candidate in CANDIDATES if stand.wants(candidate.name)]
    tools.require("wrk", *{program for candidate in candidates for program in candidate.needs})
    folder = stand.folder / SECTION
    folder.mkdir()
    wanted = cases(folder)
    async with own_topics.created(stand.bootstrap, SECTION) as settings:
        if stand.wants("postlog"):
            await _fill_topic(settings)
        for number in range(stand.rounds):
            for candidate in candidates:
                await _round(stand, candidate, number, settings, folder, wanted)


async def _round(
    stand: Stand, candidate: Candidate, number: int, settings: Settings, folder: Path, wanted: Sequence[Case]
) -> None:
    """Start it, check it, time it, stop it."""
    with tempfile.TemporaryDirectory(prefix="round-", dir=folder) as name:
        own = Path(name)
        async with candidate.start(Ground(own, settings)) as url:
            await check(candidate, url)
            for case in wanted:
                ask(candidate, case, url, own, WARM_UP)
                answered = ask(candidate, case, url, own, QUICK_SECONDS if stand.quick else SECONDS)
                stand.add(SECTION, case.name, candidate.name, number, figures(case, answered))


async def check(candidate: Candidate, url: str) -> None:
    """Addresses on the list are suppressed, others are not, one by one and together. Raises Wrong."""
    addresses = asked()[:VERIFIED]
    expected = [number % 2 == 0 for number in range(VERIFIED)]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_ANSWER)) as http:
        singly = [await _json(http, "GET", f"{url}/suppressions/{address}") for address in addresses]
        body = msgspec.json.encode({"emails": addresses})
        together = await _json(http, "POST", f"{url}/suppressions/check", body)
    if not candidate.knows:
        return
    if [answer["suppressed"] for answer in singly] != expected:
        raise Wrong(f"{candidate.name} answers wrongly which addresses are suppressed")
    results = [(result["email"], result["suppressed"]) for result in together["results"]]
    if results != list(zip(addresses, expected, strict=True)) or together["suppressed"] != sum(expected):
        raise Wrong(f"{candidate.name} answers a check wrongly")


async def _json(http: aiohttp.ClientSession, method: str, url: str, body: bytes | None = None) -> Any:
    async with http.request(method, url, data=body, headers={"Content-Type": "application/json"}) as answer:
        if answer.status != 200:
            raise Wrong(f"{method} {url} was answered {answer.status}")
        return msgspec.json.decode(await answer.read())


def ask(candidate: Candidate, case: Case, url: str, folder: Path, seconds: float) -> wrk.Answered:
    """Ask for so many whole seconds. It blocks until the end. Raises Wrong if a question was not answered 200."""
    answered = wrk.run(url, case.file, folder / "wrk.log", connections=CONNECTIONS, seconds=seconds)
    if answered.refused or answered.broken or not answered.requests:
        raise Wrong(f"{candidate.name}, {case.name}: not every question was answered: {answered}")
    return answered


async def _fill_topic(settings: Settings) -> None:
    topic = kafka.topics_of(settings).suppressions
    facts = Facts(hard_bounce=Span(_SINCE, _SINCE))
    made = ((email, Suppression.of(email, facts)) for email in map(listed, range(LISTED)))
    entries = ((email.encode(), suppression.encode(entry)) for email, entry in made)
    await rows.fill(settings, topic, rows.shared_out(entries, topic.partitions))


def _fill_redis(port: int) -> None:
    """Raises Wrong if the set is not the list afterwards."""
    parts = (range(start, min(start + 1000, LISTED)) for start in range(0, LISTED, 1000))
    commands = [f"SADD suppressed {' '.join(map(listed, part))}" for part in parts]
    argv = ["redis-cli", "-p", str(port)]
    text = "\n".join([*commands, "SCARD suppressed", ""])
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=_PATIENCE)
    if done.stdout.split()[-1:] != [str(LISTED)]:
        raise Wrong(f"Redis did not take the list: {done.stdout[-500:]}{done.stderr[-500:]}")


if __name__ == "__main__":
    alone.run(measure, __doc__, candidates=[candidate.name for candidate in CANDIDATES])
