"""What somebody who is not a provider may try, against a real ingress and a real Kafka."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.e2e.system import System, delivery, signature, until

#: Loopback is a whole network: an attacker with an address of its own.
ATTACKER = "127.0.0.2"
FORMER, NEWER = "former-secret-0123", "newer-secret-4567"


async def test_a_secret_is_rotated_without_a_restart_or_a_refused_delivery(system: System, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"{FORMER}\n")
    ingress = system.start("ingress", WEBHOOK_SECRET="", WEBHOOK_SECRET_FILE=str(file))
    await system.ready(ingress)
    secret, sent, answers, enough = FORMER, 0, set[int](), asyncio.Event()

    async def provider() -> None:
        nonlocal sent
        while not enough.is_set():
            body = delivery(f"e{sent}", "complained", f"{sent}@x.io")
            answers.add(await system.post(ingress, body, sign=signature(body, secret)))
            sent += 1

    async def known(secret: str, status: int) -> bool:
        return await system.post(ingress, b"{}", sign=signature(b"{}", secret)) == status

    sending = asyncio.create_task(provider())
    assert await known(NEWER, 401)
    file.write_text(f"{NEWER}\n{FORMER}\n")
    await until(lambda: known(NEWER, 200), "the newer secret counts")
    secret = NEWER
    seen = sent
    # Nothing that was signed with the former one is under way any more.
    await until(lambda: asyncio.sleep(0, sent > seen + 1), "a delivery is signed with the newer secret")
    file.write_text(f"{NEWER}\n")
    await until(lambda: known(FORMER, 401), "the former secret does not count any more")
    enough.set()
    await sending
    assert answers == {200}
    events = await system.records(system.topics.events)
    assert len({record.key for record in events}) == sent


async def test_thousands_of_slow_senders_keep_no_delivery_out(system: System) -> None:
    most, slow = 500, 2_000
    ingress = system.start("ingress", INGRESS_MAX_CONNECTIONS=str(most), INGRESS_READ_TIMEOUT_SECONDS="2")
    await system.ready(ingress)
    port = int(ingress.url.rsplit(":", 1)[1])
    # Half of them never end their head, half never end their body; each sends a byte, and some time later another.
    head = b"POST /webhooks/email HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
    beginnings = (head, head + b"\r\n")
    with files(slow + 500):
        assert await system.post(ingress, b"{}") == 200
        writers = []
        for number in range(slow):
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0))
            writer.write(beginnings[number % 2])
            writers.append(writer)
        for number in range(50):
            for writer in writers[number::50]:
                writer.write(b"x")
            body = delivery(f"e{number}", "complained", f"{number}@x.io")
            async with asyncio.timeout(5):
                assert await system.post(ingress, body) == 200
        closed = await system.metric(ingress, "postlog_ingress_connections_closed_total")
        held = psutil.Process(ingress.process.pid).num_fds()
        for writer in writers:
            writer.transport.abort()
    # Some are too many, and those that were too slow have their address shut out.
    assert closed['{reason="crowded_out"}'] + closed['{reason="shut_out"}'] >= slow - most
    assert held < most + 200


async def test_hundreds_of_large_bodies_without_an_end_stay_within_the_budget(system: System) -> None:
    budget, hogs, size = 16 * 1024**2, 400, 1024**2
    ingress = system.start("ingress", INGRESS_MAX_UNVERIFIED_BYTES=str(budget))
    await system.ready(ingress)
    port = int(ingress.url.rsplit(":", 1)[1])
    process = psutil.Process(ingress.process.pid)
    assert await system.post(ingress, b"{}") == 200
    before, most = process.memory_info().rss, 0
    request = b"POST /webhooks/email HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * (size - 1)
    with files(hogs + 500):
        writers = []
        for _ in range(hogs):
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0))
            writer.write(request)
            writers.append(writer)
        sending = asyncio.gather(*(writer.drain() for writer in writers), return_exceptions=True)
        for number in range(20):
            body = delivery(f"e{number}", "complained", f"{number}@example.com") + b" " * 50_000
            async with asyncio.timeout(5):
                assert await system.post(ingress, body) == 200
            # An ingress that reads whatever comes has all of it soon.
            await asyncio.wait([sending], timeout=0.1)
            most = max(most, process.memory_info().rss)
        for writer in writers:
            writer.transport.abort()
        await sending
    # What they sent is 400 MiB. The budget and 100 KiB of each connection are a seventh of that.
    assert most - before < hogs * size / 2, f"{(most - before) / 1024**2:.0f} MiB"


@contextmanager
def files(needed: int) -> Iterator[None]:
    """Let this process open as many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(needed, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
