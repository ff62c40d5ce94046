"""Hostile deliveries and requests against a real ingress with a real Kafka, and what has to hold after them."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psutil

from tests.e2e.system import Service, System, signature
from tests.fuzz import bodies, requests

#: Connections at once.
CONNECTIONS = 48
#: How long to wait for an answer that is due, in seconds; the ingress gives up on a body after BODY_SECONDS.
PATIENCE, BODY_SECONDS = 30.0, 0.2
#: Share of the inputs that are deliveries with a right signature and a hostile body.
SIGNED = 0.5
#: What an ingress may have more in memory at the end than after the first tenth of the inputs, in MiB.
GROWTH_MIB = 64
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass
class Found:
    """What came of it. answers counts (kind, status); `problems` is empty if everything held."""

    inputs: int = 0
    seconds: float = 0.0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    kept: Counter[bytes] = field(default_factory=Counter)
    grown_mib: float = 0.0
    problems: list[str] = field(default_factory=list)


def start(system: System) -> Service:
    """An ingress for one source that sends all of it, most of which is to be refused."""
    return system.start("ingress", INGRESS_READ_TIMEOUT_SECONDS=str(BODY_SECONDS), INGRESS_MAX_REFUSALS="0")


async def attack(
    system: System, ingress: Service, *, seed: int, inputs: int, progress: Callable[[int], None]
) -> Found:
    """Send that many inputs, then look at the answers, the process and the topics."""
    found, started = Found(), time.monotonic()
    process = psutil.Process(ingress.process.pid)
    todo = iter(range(inputs))
    warm = 0

    async def sender(number: int) -> None:
        nonlocal warm
        chance = random.Random(f"{seed}-{number}")
        connection = _Connection(ingress)
        for index in todo:
            if index == inputs // 10:
                warm = process.memory_info().rss
            if chance.random() < SIGNED:
                await _deliver(connection, bodies.body(chance), found)
            else:
                await _break(connection, requests.request(chance), found)
            found.inputs += 1
            progress(1)
        connection.close()

    await asyncio.gather(*[sender(number) for number in range(CONNECTIONS)])
    found.seconds = time.monotonic() - started
    found.grown_mib = (process.memory_info().rss - warm) / 2**20
    await _check(system, ingress, found)
    return found


class _Connection:
    """A connection to the ingress that is made again when it was closed."""

    def __init__(self, ingress: Service) -> None:
        self._port = int(ingress.url.rsplit(":", 1)[1])
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: bytes, answered: bool) -> list[int]:
        """Send bytes; the statuses of what was answered, until an answer, or until the other side closes."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        answer = b""
        with suppress(ConnectionError):
            writer.write(sent)
            # Not drained: the ingress may answer before it has read everything, and not read on.
            if answered:
                answer = await asyncio.wait_for(_answer(reader), PATIENCE)
        return [int(status) for status in _STATUS.findall(answer)]

    def close(self) -> None:
        """What comes next needs a connection of its own."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """The head of one answer with its body, or what came before the connection was closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return head + await reader.readexactly(int(length[1]) if length else 0)
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _deliver(connection: _Connection, body: bytes, found: Found) -> None:
    """An authentic delivery has to be kept, whatever its body is."""
    statuses: list[int] = []
    for _ in range(2):
        statuses = await connection.ask(requests.post(body, signature(body).encode()), answered=True)
        found.answers["signed", statuses[0] if statuses else 0] += 1
        # A kept connection may be closed by the other side just now, and on a busy machine BODY_SECONDS are short.
        if statuses not in ([], [408]):
            break
        connection.close()
    status = statuses[0] if statuses else 0
    if status == 200:
        found.kept[_name(body)] += 1
    else:
        found.problems.append(f"an authentic delivery was answered {status}: {body[:80]!r}")


async def _break(connection: _Connection, request: requests.Request, found: Found) -> None:
    """What nobody signed is refused, and never with a 2xx or 5xx."""
    connection.close()
    statuses = await connection.ask(request.sent, request.answered)
    connection.close()
    for status in statuses or [0]:
        found.answers[request.kind, status] += 1
        # A 1xx is no answer yet, and nothing at all is a closed connection.
        if status >= 200 and not 400 <= status < 500:
            found.problems.append(f"{request.kind}: answered {status}: {request.sent[:80]!r}")


async def _check(system: System, ingress: Service, found: Found) -> None:
    if await system.status(f"{ingress.url}/health/live") != 200:
        found.problems.append("the ingress is not live any more")
    if found.grown_mib > GROWTH_MIB:
        found.problems.append(f"the ingress has grown by {found.grown_mib:.0f} MiB")
    said = ingress.said()
    for sign in ("Traceback", "stopped by a bug", "Unhandled exception"):
        if sign in said:
            found.problems.append(
                f"the log of the ingress has a {sign!r}: {said[max(said.index(sign) - 500, 0) :][:2500]}"
            )
    letters = [record.value for record in await system.records(system.topics.dead_letters)]
    events = [_raw(record) for record in await system.records(system.topics.events)]
    kept = Counter(_name(body) for body in letters + events)
    if lost := found.kept - kept:
        found.problems.append(f"{lost.total()} deliveries that were answered 200 are not in Kafka")
    if strange := kept - found.kept:
        found.problems.append(f"{strange.total()} records in Kafka come from no authentic delivery")


def _raw(record: Any) -> bytes:
    return bytes(msgspec.json.decode(record.value, type=dict[str, msgspec.Raw])["raw"])


def _name(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
