"""One run: a cluster, all services, senders and faults; then everything is healed, read and checked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiokafka.errors import KafkaError

from pipeline import deadletter, kafka
from pipeline.contract import HEADER_ID
from pipeline.settings import Settings
from tests import clock
from tests.chaos import broken, checker, epilogue
from tests.chaos.bodies import spelled
from tests.chaos.checker import Found, Verdict
from tests.chaos.cluster import Cluster
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import PROCESSORS, REMADE, SERVICES, plan
from tests.chaos.senders import NOBODY, Senders
from tests.e2e.system import SESSION_SECONDS, Service, System, running, until
from tests.receiver import Receiver, receiver

#: How long everything may take to be done once all faults are over, in seconds.
SETTLE = 180.0
#: How long senders go on when a broker has gone for good.
LAST_SECONDS = 8.0
#: Seconds before a stall in which what caused it may have happened.
BEFORE = 10.0
#: An address of the senders in any text, however it is spelled.
ADDRESS = re.compile(r"zq\d+x\d+", re.IGNORECASE)

HANDLER = """
import json, os, time
from processor.handler import Handler, Permanent, Retry

file = os.open({calls!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
REFUSED = set({refused!r})

async def handle(event, suppression):
    if event.email in REFUSED:
        raise Permanent("refused")
    os.write(file, (json.dumps([event.id, time.time()]) + "\\n").encode())

handlers = [Handler("crm", handle, retry=Retry(base=0.2))]
"""


@dataclass
class Report:
    """What a run did and found.

    happened   faults by kind; ended, services that ended by themselves and were started again
    refused    those that said with their exit code that a person must mend something: no fault here asks for one
    stall      longest time without any 200, in seconds
    meanwhile  the faults in that time and just before it
    settled    seconds from the last fault until all was done
    stuck      what was not done although everything is healed
    words      the last words of each service's log, if something was not
    leaked     places where an address of the senders can be read, or that could not be looked at
    """

    seed: int
    seconds: float
    build: str
    happened: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    posts: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    stall: float = 0.0
    meanwhile: list[str] = field(default_factory=list)
    settled: float = 0.0
    stuck: str = ""
    words: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    log: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.verdict.kept and not self.refused and not self.leaked and not self.stuck

    def lines(self) -> list[str]:
        """For people."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.happened.items()))
        return [
            f"seed {self.seed}, {self.seconds:g} s{', build ' + self.build if self.build else ''}",
            f"faults: {faults}",
            f"services that ended themselves and were started again: {self.ended or 'none'}",
            f"posts {self.posts}, answers {self.answers}, events {self.verdict.events}",
            f"longest time without a 200: {self.stall:.1f} s; done {self.settled:.1f} s after the last fault",
            *self.meanwhile,
            f"calls made more than once: {self.verdict.twice}",
            *([f"STUCK  {self.stuck}", *self.words] if self.stuck else []),
            *[f"WRONG  {line}" for line in self.verdict.lines()],
            *[f"REFUSED {line}" for line in self.refused],
            *[f"LEAKED {line}" for line in self.leaked],
            "passed" if self.passed else "FAILED",
        ]


async def run(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    rate: float,
    build: str = "",
    only: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """A run with the faults that the seed plans; `only` takes kinds of faults, separated by commas.

    build  one of `broken.BUILDS`, or the real one
    say    is told once a minute how far it is
    """
    clock.library()  # before anything is started for nothing
    report = Report(seed, seconds, build)
    kinds = only.split(",") if only else []
    faults = plan(seed, seconds, kinds)
    async with Cluster(folder / "kafka") as cluster, receiver() as people:
        settings = Settings(
            kafka_bootstrap_servers=cluster.bootstrap,
            topic_replication=3,
            topic_min_insync_replicas=2,
            kafka_wait_seconds=120.0,
        )
        await kafka.apply(settings)
        async with running(settings, folder) as system:
            senders, services = _start(system, folder, seed, rate, build, people)
            await system.ready(*services.values())
            nemesis = Nemesis(cluster, services, senders, settings, folder / "clocks", seed)
            async with _beside(nemesis.supervise(), _tell(say, nemesis, senders, len(faults))):
                enough = asyncio.Event()
                sending = asyncio.create_task(senders.run(enough))
                await nemesis.run(faults, seconds)
                if not faults:
                    await asyncio.sleep(LAST_SECONDS)
                await nemesis.heal()
                healed = time.monotonic()
                if not kinds:
                    nemesis.take_away(seed % len(cluster.nodes) + 1)
                    await asyncio.sleep(LAST_SECONDS)
                enough.set()
                report.stuck = await _settle(sending, system, services)
            report.settled = time.monotonic() - healed
            report.words = _last_words(folder) if report.stuck else []
            _sum_up(report, nemesis, senders)
            report.verdict = checker.check(await _found(system, services, senders, folder))
            if not build and not report.stuck and (not kinds or REMADE in kinds):
                await _epilogue(report, nemesis, system, services, folder)
            report.leaked = _leaks(folder, people) + await _leaking_metrics(system, services)
    return report


async def _epilogue(
    report: Report, nemesis: Nemesis, system: System, services: dict[str, Service], folder: Path
) -> None:
    """What cannot be checked with the rest, since it takes the log along."""
    report.refused = [*nemesis.refused]  # from here on a person has to come
    await nemesis.heal()  # a topic is deleted once all that have it are there
    try:
        after = await epilogue.remade(
            system,
            services,
            report.seed,
            lambda: _beside(nemesis.supervise()),
            lambda senders: _found(system, services, senders, folder),
        )
    except AssertionError as error:
        report.stuck = f"{REMADE}: {error}"
        report.words = _last_words(folder)
        return
    report.happened[REMADE] = 1
    for what, found in after.wrong.items():
        report.verdict.wrong[f"{REMADE}: {what}"] += found


@asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let work that never ends go on beside the body. Raises what one of it has failed with."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _sum_up(report: Report, nemesis: Nemesis, senders: Senders) -> None:
    """What was done to the services, and what the senders saw of it."""
    report.happened, report.ended, report.log = dict(nemesis.happened), dict(nemesis.ended), nemesis.log()
    report.refused = nemesis.refused
    report.posts, report.answers = senders.posts, senders.answers
    began, ended = senders.longest_gap
    report.stall, report.meanwhile = ended - began, nemesis.log(began - BEFORE, ended)


def _start(
    system: System, folder: Path, seed: int, rate: float, build: str, people: Receiver
) -> tuple[Senders, dict[str, Service]]:
    clocks = folder / "clocks"
    clocks.mkdir()
    # Doing a thing again leaves no trace but in dead letters, so a build that does needs many of them.
    senders = Senders("", seed, rate, nobody=0.25 if build else NOBODY)
    refused = sorted(senders.refused())
    (folder / "plugged.py").write_text(HANDLER.format(calls=str(folder / "calls"), refused=refused))
    # Every other plan has a spool, so that both ways of an ingress meet the same faults.
    spool = {"INGRESS_SPOOL_DIR": str(folder / "spool")} if seed % 2 else {}
    more = {
        # Slow bodies and large ones have to want more room than there is.
        "ingress": {"INGRESS_DRAIN_SECONDS": "2", "INGRESS_MAX_UNVERIFIED_BYTES": str(16 * 1024**2), **spool},
        "processor": {"HANDLERS": "plugged", "PYTHONPATH": str(folder)},
        "alerter": {"ALERT_URLS": people.url, "ALERT_DIGEST_SECONDS": "5"},
        "lookup": {},
    }
    services = {}
    for name in SERVICES:
        package = name.removesuffix("-2")
        module = ["tests.chaos.launch", package]
        if build and broken.SERVICE[build] == package:
            module.append(build)
        env = {"TOPIC_REPLICATION": "3", "TOPIC_MIN_INSYNC_REPLICAS": "2", "KAFKA_WAIT_SECONDS": "120"}
        env |= clock.environment(clocks / name)
        clock.step(clocks / name, 0.0)
        services[name] = system.start(package, module=tuple(module), **env, **more[package])
    senders.url = services["ingress"].url
    people.answer.set()
    return senders, services


async def _tell(say: Callable[[str], None], nemesis: Nemesis, senders: Senders, planned: int) -> None:
    """Once a minute, for who waits for a long run."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(60)
        faults, good = nemesis.happened.total(), senders.answers.get("200", 0)
        so_far = f"{faults} of at most {planned} faults, {good} of {senders.posts} posts answered 200"
        say(f"{time.monotonic() - began:.0f} s: {so_far}")


async def _settle(sending: asyncio.Task[None], system: System, services: dict[str, Service]) -> str:
    """Wait until everything is done; what is not, once that took too long."""
    try:
        await asyncio.wait_for(sending, SETTLE)
    except TimeoutError:
        return f"{SETTLE:g} s after the last fault some posts are not answered 200"
    try:
        await _done(system, services)
    except AssertionError as error:
        return str(error)
    return ""


async def _done(system: System, services: dict[str, Service]) -> None:
    """Wait until all services are ready, every event is processed, every call made, and lookup has the list's end.

    Raises AssertionError saying what is not.
    """

    async def idle() -> bool:
        for service in services.values():
            if await system.status(f"{service.url}/health/ready") != 200:
                return False
        if sum((await system.metric(services["ingress"], "postlog_ingress_spooled_records")).values()):
            return False
        if await system.lag():
            return False
        for name in PROCESSORS:
            if sum((await system.metric(services[name], "postlog_processor_calls_owed")).values()):
                return False
        return sum((await system.metric(services["lookup"], "postlog_lookup_lag")).values()) == 0

    async def quietly() -> bool:
        try:
            return await idle()
        except (aiohttp.ClientError, OSError, KafkaError):
            return False

    await until(quietly, "every service is ready and everything is processed", SETTLE)
    # A call that was owed to a lane in between two owners shows in nobody's metrics.
    await asyncio.sleep(SESSION_SECONDS)
    await until(quietly, "every service is ready and everything is processed", SETTLE)


async def _found(system: System, services: dict[str, Service], senders: Senders, folder: Path) -> Found:
    topics = system.topics
    letters = []
    for record in await system.records(topics.dead_letters):
        identity = dict(record.headers).get(HEADER_ID, b"").decode()
        letters.append((identity, deadletter.read(record).handler))
    calls = folder / "calls"
    return Found(
        sent=senders.sent,
        forged=senders.forged,
        events=[(r.partition, r.offset, r.timestamp, r.value) for r in await system.records(topics.events)],
        markers=[(key, marker) for *_, key, marker in await system.seen()],
        listed=[(r.key, r.value) for r in await system.records(topics.suppressions)],
        letters=letters,
        calls=[json.loads(line)[0] for line in calls.read_text().splitlines()] if calls.exists() else [],
        lookup=await _asked(system, services["lookup"], senders.emails()),
        refused=senders.refused(),
    )


async def _asked(system: System, lookup: Service, emails: list[str]) -> list[tuple[str, str, bool, frozenset[str]]]:
    """What lookup says about each address, asked for in its one form and in another one."""
    chance = random.Random(0)
    asked = [(email, email) for email in emails] + [(email, spelled(email, chance)) for email in emails]
    body = msgspec.json.encode({"emails": [text for _, text in asked]})
    async with system.http.post(f"{lookup.url}/suppressions/check", data=body) as answer:
        results: list[dict[str, Any]] = (await answer.json())["results"]
    return [
        (email, text, each["suppressed"], frozenset(each["causes"]))
        for (email, text), each in zip(asked, results, strict=True)
    ]


def _last_words(folder: Path, lines: int = 3) -> list[str]:
    """The end of each service's log."""
    return [
        f"{file.name}: {line[:300]}"
        for file in sorted(folder.glob("*.log"))
        for line in file.read_text(errors="replace").splitlines()[-lines:]
    ]


def _leaks(folder: Path, people: Receiver) -> list[str]:
    """Logs and alerts that show an address."""
    found = [
        f"{file.name}: {line.strip()[:200]}"
        for file in sorted(folder.glob("*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if ADDRESS.search(line)
    ]
    while not people.took.empty():
        if ADDRESS.search(text := json.dumps(people.took.get_nowait())):
            found.append(f"an alert: {text[:200]}")
    return found[:10]


async def _leaking_metrics(system: System, services: dict[str, Service]) -> list[str]:
    found = []
    for name, service in services.items():
        for path in ("metrics", "health/ready", "health/live"):
            try:
                async with system.http.get(f"{service.url}/{path}") as answer:
                    if ADDRESS.search(await answer.text()):
                        found.append(f"{name}: /{path}")
            except aiohttp.ClientError as error:
                found.append(f"{name}: /{path} cannot be looked at: {error!r}")
    return found
