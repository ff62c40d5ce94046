"""Who does the processor's work in `bench.processor`: how each is run, watched, stopped and checked.

A worker gets a task and answers with figures. What always holds: whatever it started has ended when it answers, and
it answers only if the outcome was right.

The clock of all of them runs from the first look at which something was processed to the one at which all is, so that
starting is not counted. The bytes are counted after an orderly stop, which writes down what was in memory.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from bench import inputs, redis, sizes, streams, tools
from bench.inputs import Input, Inputs
from bench.meter import Meter
from bench.results import Figures
from bench.stand import Wrong
from console import processes
from console.local_kafka import java
from pipeline import kafka
from pipeline.settings import Settings
from tests.e2e.system import Service, System, running

#: Seconds without progress after which a worker is stuck.
PATIENCE = 90.0
#: Seconds it may take to stop when it is asked to.
STOPPING = 40.0
#: Seconds a program may take that fills or reads a Redis.
REDIS_SECONDS = 120.0

_TOLD = re.compile(rb"^processed (\d+) unique (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is to do.

    inputs  where its events are
    events  how many
    folder  its own, empty
    shared  for what is made once in a run
    name    of this worker in this round: a group, an application, nobody else's on the broker
    number  the round, from 0
    """

    inputs: Inputs
    events: int
    folder: Path
    shared: Path
    name: str
    number: int


async def watch(
    workers: Sequence[subprocess.Popen[bytes]], processed: Callable[[], Awaitable[int]], events: int
) -> Figures:
    """Speed, CPU time and peak memory of processes and their children while they process that many events."""
    meter = Meter(*[process.pid for process in workers])
    first: tuple[int, float, float] | None = None
    latest, moved = 0, time.monotonic()
    while True:
        done, now, cpu = await processed(), time.perf_counter(), meter.look()
        if first is None and done:
            first = done, now, cpu
        if first and done >= events:
            return {**_speed(events, first, now, cpu), "MB": meter.peak / 2**20}
        if done > latest:
            latest, moved = done, time.monotonic()
        if any(process.poll() is not None for process in workers):
            raise Wrong(f"it ended after {done:,} of {events:,} events")
        if time.monotonic() - moved > PATIENCE:
            raise Wrong(f"it has made no progress for {PATIENCE:g} s after {done:,} of {events:,} events")
        await asyncio.sleep(0.1)


def _speed(events: int, first: tuple[int, float, float], now: float, cpu: float) -> Figures:
    done, started, cpu_before = first
    if done >= events:
        raise Wrong(f"{events:,} events are too few: they were done at the first look")
    counted = events - done
    return {"events/s": counted / (now - started), "cpu s/million": (cpu - cpu_before) / counted * 1e6}


# --- postlog


async def postlog(task: Task, count: int = 1) -> Figures:
    """The whole processor, with all that it does besides; `count` processes of it share the partitions out."""
    given = await task.inputs.topic(task.events)
    settings = given.settings(2 * task.number + count, task.folder)  # a group and topics of nobody else
    await kafka.apply(settings)
    async with running(settings, task.folder) as system:
        services = [system.start("processor", TOPICS_FILE=settings.topics_file) for _ in range(count)]
        workers = [service.process for service in services]
        with ExitStack() as stack:
            for service in services:
                stack.enter_context(explained(service.log))
            figures = await watch(workers, functools.partial(processed_by, system, *services), task.events)
        for worker in workers:
            processes.stop(worker, STOPPING)
        await _check_postlog(system, given)
        topics = system.topics
        changelogs = {topic.name for topic in (topics.seen, topics.suppressions, topics.calls, topics.incidents)}
        states = [service.state for service in services]
        return figures | await _bytes(settings, task.events, states, changelogs.__contains__)


async def postlog_twice(task: Task) -> Figures:
    """Two processes of it, one for each core, as Kafka Streams gets two threads."""
    return await postlog(task, 2)


async def processed_by(system: System, *services: Service) -> int:
    """Records that processors are done with; one that does not answer has done nothing."""
    return sum(await asyncio.gather(*[_processed_by(system, service) for service in services]))


async def _processed_by(system: System, service: Service) -> int:
    try:
        async with system.http.get(f"{service.url}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
    except (aiohttp.ClientError, OSError):
        return 0
    return int(sum(s.value for f in families if f.name == "postlog_processor_records" for s in f.samples))


async def _check_postlog(system: System, given: Input) -> None:
    markers = await system.markers()
    if len(markers) != given.right.unique or set(markers.values()) != {1}:
        raise Wrong(f"{markers.total():,} markers of {len(markers):,} events, {given.right.unique:,} were right")
    _compare(await system.suppressed(), given)
    if await system.lag() or await system.records(system.topics.dead_letters):
        raise Wrong("lag or dead letters are left")


# --- peers on Kafka


async def faust(task: Task) -> Figures:
    """Faust with tables, as its documentation shows them.

    The changelogs are created before it: on a busy machine a worker that had created them itself went on refusing one
    of them, since it saw no partitions of it.
    """
    argv = [*_module(sys.executable, "faust_worker"), "worker", "--without-web", "-l", "warn"]
    return await _peer(
        task, argv, changelogs=[f"{task.name}-{table}-changelog" for table in ("seen", "suppressions")]
    )


async def quix(task: Task) -> Figures:
    """Quix Streams with its defaults."""
    return await _peer(task, _module(tools.peers_python(), "quix_worker"))


async def streams_at_least_once(task: Task) -> Figures:
    """Kafka Streams with its defaults: a commit every 30 s."""
    return await _peer(task, _java(task), GUARANTEE="at_least_once", THREADS="2")


async def streams_exactly_once(task: Task) -> Figures:
    """Kafka Streams with transactions: a commit every 100 ms, its default then."""
    return await _peer(task, _java(task), GUARANTEE="exactly_once_v2", THREADS="2")


def _module(python: Path | str, name: str) -> list[str]:
    return [str(python), "-m", f"bench.peers.processor.{name}"]


def _java(task: Task) -> list[str]:
    options = [
        "-Xmx1g",
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={_scratch(task)}",
        "--enable-native-access=ALL-UNNAMED",
    ]
    logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [str(java()), *options, logging, "-cp", streams.class_path(task.shared), streams.MAIN]


async def _peer(task: Task, argv: Sequence[str], changelogs: Sequence[str] = (), **env: str) -> Figures:
    """Run a peer between topics; changelogs are those that it does not create itself."""
    given = await task.inputs.topic(task.events)
    settings = given.settings(1, task.folder)
    changes = f"{task.name}-suppressions"
    like = kafka.topics_of(settings).suppressions
    for name in (changes, *changelogs):
        await inputs.create(settings, msgspec.structs.replace(like, name=name))
    state, log = task.folder / "state", task.folder / "peer.log"
    whole = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "APPLICATION": task.name,
        "EVENTS": given.topic,
        "SUPPRESSIONS": changes,
        "PARTITIONS": str(like.partitions),
        "STATE_DIR": str(state),
        **env,
    }
    with started(task, argv, whole, log) as process:
        figures = await watch([process], functools.partial(_told, log, 0), task.events)
        processes.stop(process, STOPPING)
        _compare_unique(await _told(log, 1), given)
        published = await inputs.read(settings, msgspec.structs.replace(like, name=changes))
        _compare({key.decode() for key, has_value in published if has_value}, given)
    return figures | await _bytes(settings, task.events, [state], functools.partial(_is_changelog, task.name))


# --- peers on Redis


async def redis_worker(task: Task) -> Figures:
    """A worker in Python on a list."""
    given = task.inputs.new(task.events)
    commands = task.folder / "commands"
    with commands.open("wb") as file:
        file.writelines(
            b"*3\r\n$5\r\nRPUSH\r\n$6\r\nevents\r\n$%d\r\n%b\r\n" % (len(line), line) for line in given.lines()
        )
    with redis.running(task.folder / "redis") as port:
        with commands.open("rb") as file:
            _redis(port, "--pipe", stdin=file.fileno())
        return await _redis_peer(task, given, port, _module(tools.peers_python(), "redis_worker"))


async def bull_worker(task: Task) -> Figures:
    """A worker in Node on a Bull queue."""
    given, folder = task.inputs.new(task.events), tools.node_modules()
    lines = task.folder / "events.jsonl"
    with lines.open("wb") as file:
        file.writelines(line + b"\n" for line in given.lines())
    with redis.running(task.folder / "redis") as port:
        env = {"REDIS_PORT": str(port), "EVENTS": str(lines)}
        with started(task, ["node", str(folder / "bull_fill.js")], env, task.folder / "fill.log") as process:
            if code := await asyncio.to_thread(process.wait, REDIS_SECONDS):
                raise Wrong(f"the queue could not be filled: exit code {code}")
        return await _redis_peer(task, given, port, ["node", str(folder / "bull_worker.js")])


async def _redis_peer(task: Task, given: Input, port: int, argv: Sequence[str]) -> Figures:
    """Its own figures are the worker's; what the server uses, where queue and state are, goes by `redis …`."""
    told = dict(line.split(":", 1) for line in _redis(port, "INFO", "server").split() if ":" in line)
    server, log = Meter(int(told["process_id"])), task.folder / "peer.log"
    cpu = server.look()
    with started(task, argv, {"REDIS_PORT": str(port)}, log) as process:
        figures = await watch([process], functools.partial(_told, log, 0), task.events)
        used = (server.look() - cpu) / task.events * 1e6
        processes.stop(process, STOPPING)
    markers = len(_redis(port, "--scan", "--pattern", "seen:*").split())
    _compare_unique(markers, given)
    _compare(set(_redis(port, "SMEMBERS", "suppressed").split()), given)
    files = sizes.of_folder(task.folder / "redis" / "appendonlydir")
    mine = {"redis cpu s/million": used, "redis MB": server.peak / 2**20, "disk B/event": files / task.events}
    return figures | mine


def _redis(port: int, *command: str, stdin: int = subprocess.DEVNULL) -> str:
    """What redis-cli, which comes with the server, prints when it is not a terminal that reads it."""
    argv = ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *command]
    done = subprocess.run(argv, stdin=stdin, capture_output=True, text=True, timeout=REDIS_SECONDS, check=False)
    if done.returncode:
        raise Wrong(f"redis-cli {command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


# --- what they share


@contextmanager
def started(task: Task, argv: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A peer while the context lasts."""
    whole = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": str(tools.ROOT), "TMPDIR": _scratch(task)}
    process = processes.start(argv, env=whole | dict(env), output=log)
    try:
        with explained(log):
            yield process
    finally:
        processes.stop(process, STOPPING)


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """Whatever is wrong meanwhile is told with the end of the log."""
    try:
        yield
    except Wrong as error:
        raise Wrong(f"{error}; the end of its log:\n{log.read_text(errors='replace')[-3000:]}") from None


def _scratch(task: Task) -> str:
    folder = task.folder / "tmp"
    folder.mkdir(exist_ok=True)
    return str(folder)


async def _told(log: Path, which: int) -> int:
    """The latest count in a peer's log: 0 events processed, 1 events that were no duplicates."""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
        found = _TOLD.findall(file.read())
    return int(found[-1][which]) if found else 0


def _is_changelog(application: str, topic: str) -> bool:
    return application in topic and "changelog" in topic


async def _bytes(
    settings: Settings, events: int, states: Sequence[Path], is_changelog: Callable[[str], bool]
) -> Figures:
    topics = await sizes.of_topics(settings)
    return {
        "disk B/event": sum(map(sizes.of_folder, states)) / events,
        "changelog B/event": sum(size for name, size in topics.items() if is_changelog(name)) / events,
    }


def _compare_unique(found: int, given: Input) -> None:
    if found != given.right.unique:
        raise Wrong(f"{found:,} unique events, {given.right.unique:,} were right")


def _compare(suppressed: set[str], given: Input) -> None:
    if suppressed != given.right.suppressed:
        missing, more = given.right.suppressed - suppressed, suppressed - given.right.suppressed
        raise Wrong(f"the suppression list is not what the events say: {len(missing):,} missing, {len(more):,} more")
