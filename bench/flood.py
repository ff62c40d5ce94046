"""`make drill-flood`: a flood of bad signatures, and what deliveries take meanwhile.

Signed deliveries are posted at a steady pace from one address; a process of its own floods the ingress from others
with requests that nobody signed, as many as are asked for, whether they are taken or not. Says what the signed ones
took without and with the flood, in turns, and whether the time of a refusal tells anything about a signature.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp

from bench.stand import Wrong
from console.local_kafka import LocalKafka
from ingress import signatures
from pipeline import kafka
from pipeline.errors import BadSignature
from pipeline.settings import Settings
from tests.e2e.system import SECRET, Service, System, delivery, running, signature

#: Loopback is a whole network: the provider has an address, and every flooding machine one of its own.
PROVIDER = "127.0.0.3"
#: Connections of the flood, and how often it looks at them, in seconds.
CONNECTIONS, TICK = 64, 0.01
_HEAD = b"POST /webhooks/email HTTP/1.1\r\nHost: x\r\nX-NexusProMail-Signature: %s\r\nContent-Length: 2\r\n\r\n"
REQUEST = _HEAD % (b"0" * 64) + b"{}"


def flood(port: int, rate: float, sources: int) -> None:
    """Offer that many requests a second until SIGTERM; what a connection does not take is offered to a new one."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    chunk = REQUEST * math.ceil(rate * TICK / CONNECTIONS)
    addresses = itertools.cycle(f"127.0.1.{number + 1}" for number in range(sources))
    connections = [_connect(port, next(addresses)) for _ in range(CONNECTIONS)]
    offered, taken, begun = 0, 0, time.monotonic()
    for tick in itertools.count(1):
        if stopping:
            break
        for index, connection in enumerate(connections):
            offered += len(chunk) // len(REQUEST)
            try:
                taken += connection.send(chunk) // len(REQUEST)
                with suppress(BlockingIOError):
                    connection.recv(65536)
            except OSError:
                connection.close()
                connections[index] = _connect(port, next(addresses))
        time.sleep(max(begun + tick * TICK - time.monotonic(), 0))
    seconds = time.monotonic() - begun
    sys.stdout.write(f"{offered / seconds:.0f} {taken / seconds:.0f}")
    for connection in connections:
        connection.close()


def _connect(port: int, source: str) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    made.bind((source, 0))
    made.connect_ex(("127.0.0.1", port))
    return made


@contextmanager
def flooding(port: int, rate: float, sources: int) -> Iterator[list[str]]:
    """A flood in a process of its own; what it offered and what was taken, a second, is in the list afterwards."""
    told: list[str] = []
    line = [sys.executable, "-m", "bench.flood", "--flood", str(port), "--rate", str(rate), "--sources", str(sources)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield told
        finally:
            process.terminate()
            told += process.communicate()[0].split()


async def signed(ingress: Service, rate: float, seconds: float) -> list[float]:
    """What each of the deliveries took, in seconds; all have to be answered 200."""
    took: list[float] = []
    numbers = itertools.count()

    async def post(http: aiohttp.ClientSession) -> None:
        body = delivery(f"{os.urandom(8).hex()}", "opened", f"{next(numbers)}@example.com")
        headers = {"X-NexusProMail-Signature": signature(body)}
        started = time.perf_counter()
        async with http.post(f"{ingress.url}/webhooks/email", data=body, headers=headers) as answer:
            if answer.status != 200:
                raise Wrong(f"a signed delivery was answered {answer.status}")
        took.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(local_addr=(PROVIDER, 0), limit=64)
    async with aiohttp.ClientSession(connector=connector) as http:
        begun, posts = time.monotonic(), []
        for number in range(int(rate * seconds)):
            posts.append(asyncio.create_task(post(http)))
            await asyncio.sleep(max(begun + number / rate - time.monotonic(), 0))
        await asyncio.gather(*posts)
    return took


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98] * 1000


async def drill(system: System, *, rate: float, offered: float, seconds: float, rounds: int) -> None:
    """Rounds without and with a flood, in turns."""
    ingress = system.start("ingress")
    await system.ready(ingress)
    port = int(ingress.url.rsplit(":", 1)[1])
    await signed(ingress, rate, 2.0)
    for sources in (1, 100):
        calm: list[float] = []
        stormy: list[float] = []
        for _ in range(rounds):
            calm.append(p99(await signed(ingress, rate, seconds)))
            with flooding(port, offered, sources) as rates:
                await asyncio.sleep(1.0)
                stormy.append(p99(await signed(ingress, rate, seconds)))
            # Whoever was shut out may come again in the next round.
            await asyncio.sleep(10.5)
        before, meanwhile = statistics.median(calm), statistics.median(stormy)
        told, taken = map(int, rates)
        print(
            f"{sources:3} flooding addresses: {told:,}/s offered, {taken:,}/s taken by the kernel; p99 of signed "
            f"deliveries {before:.1f} ms without, {meanwhile:.1f} ms with: {meanwhile / before:.2f} ×",
            flush=True,
        )


def timing(rounds: int = 200_000) -> None:
    """Whether a refusal takes longer the more of a signature is right: medians, in turns."""
    body = delivery("t", "opened", "a@example.com")
    right = signature(body)
    wrong = {
        "first": "0" + right[1:] if right[0] != "0" else "1" + right[1:],
        "last": right[:-1] + ("0" if right[-1] != "0" else "1"),
    }
    took: dict[str, list[int]] = {place: [] for place in wrong}
    secrets = (SECRET.encode(), b"another-secret")
    for _ in range(rounds):
        for place, text in wrong.items():
            started = time.perf_counter_ns()
            with suppress(BadSignature):
                signatures.hmac_sha256_hex(body, signature=text, secrets=secrets)
            took[place].append(time.perf_counter_ns() - started)
    first, last = (statistics.median(took[place]) for place in wrong)
    print(
        f"a signature that is wrong in its first digit is refused in {first:.0f} ns, in its last in {last:.0f} ns "
        f"({last / first:.3f} ×; medians of {rounds:,} each, in turns)"
    )


async def main(rate: float, offered: float, seconds: float, rounds: int) -> None:
    """The drill on a Kafka of its own."""
    timing()
    with tempfile.TemporaryDirectory(prefix="postlog-flood-") as name:
        folder = Path(name)
        with LocalKafka(folder / "kafka") as broker:
            settings = Settings(kafka_bootstrap_servers=broker.bootstrap)
            await kafka.apply(settings)
            async with running(settings, folder) as system:
                await drill(system, rate=rate, offered=offered, seconds=seconds, rounds=rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rate", type=float, default=50_000.0, help="requests offered by the flood, a second [50000]"
    )
    parser.add_argument("--signed", type=float, default=200.0, help="signed deliveries a second [200]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round [10]")
    parser.add_argument("--rounds", type=int, default=3, help="of each [3]")
    parser.add_argument("--sources", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--flood", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.flood:
        flood(asked.flood, asked.rate, asked.sources)
    else:
        asyncio.run(main(asked.signed, asked.rate, asked.seconds, asked.rounds))
