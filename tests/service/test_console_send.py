"""`postlog send` as a process, against an ingress in memory."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from console import sample

SECRET = "a-secret-for-tests"
GOOD = {"id": "1", "type": "bounced.hard", "data": {"email": "a@example.com"}}


@dataclass
class Receiver:
    """Answers with the scripted responses first, then takes everything that is signed."""

    url: str = ""
    script: list[web.Response] = field(default_factory=list)
    requests: int = 0
    first: asyncio.Event = field(default_factory=asyncio.Event)
    #: After this many no more are answered until `go_on`, and `held` says so.
    hold_after: int | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: Counter[bytes] = field(default_factory=Counter)

    async def receive(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        if self.script:
            return self.script.pop(0)
        wanted = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if request.headers.get("X-NexusProMail-Signature") != wanted:
            return web.json_response({"error": "Invalid signature"}, status=401)
        if self.hold_after is not None and self.bodies.total() >= self.hold_after:
            self.held.set()
            await self.go_on.wait()
        self.bodies[body] += 1
        self.first.set()
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/webhooks/email", found.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Send = Callable[..., Awaitable[Result]]


@pytest.fixture
def send(receiver: Receiver, tmp_path: Path) -> Send:
    """Run `postlog send` against the receiver."""

    async def run(*args: str, secret: str = SECRET, given: bytes | None = None) -> Result:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "console", "send", *args, "--url", receiver.url, "--data", str(tmp_path)),
            env={"WEBHOOK_SECRET": secret},
            stdin=asyncio.subprocess.PIPE if given is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                out, err = await process.communicate(given)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Result(process.returncode or 0, out.decode(), err.decode())

    return run


def file_of(folder: Path, *bodies: object) -> str:
    path = folder / "deliveries.ndjson"
    path.write_text("".join(f"{json.dumps(body)}\n" for body in bodies))
    return str(path)


async def test_a_sample_arrives_signed_and_whole(send: Send, receiver: Receiver) -> None:
    result = await send("--sample", "500", "--duplicates", "0.2", "--seed", "5", "--json")
    assert result.code == 0, result.err
    assert receiver.bodies == Counter(delivery.body() for delivery in sample.deliveries(500, 0.2, 5))
    summary = json.loads(result.out)
    assert (summary["sent"], summary["ok"], summary["failed"], summary["retried"]) == (500, 500, 0, 0)
    assert (summary["distinct"], summary["seed"], summary["answers"]) == (400, 5, {"200": 500})
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]


async def test_a_file_is_sent_byte_for_byte(send: Send, receiver: Receiver, tmp_path: Path) -> None:
    result = await send(file_of(tmp_path, GOOD, GOOD | {"id": "2"}))
    assert result.code == 0, result.err
    assert sorted(json.loads(body)["id"] for body in receiver.bodies) == ["1", "2"]
    assert json.dumps(GOOD).encode() in receiver.bodies


async def test_what_is_answered_503_is_sent_again(send: Send, receiver: Receiver, tmp_path: Path) -> None:
    receiver.script = [web.Response(status=503), web.Response(status=503)]
    result = await send(file_of(tmp_path, GOOD), "--json")
    assert result.code == 0, result.err
    assert receiver.requests == 3
    summary = json.loads(result.out)
    assert (summary["ok"], summary["retried"], summary["answers"]) == (1, 1, {"200": 1, "503": 2})


async def test_retry_after_is_waited_for(send: Send, receiver: Receiver, tmp_path: Path) -> None:
    receiver.script = [web.Response(status=503, headers={"Retry-After": "1"})]
    result = await send(file_of(tmp_path, GOOD), "--json")
    assert json.loads(result.out)["seconds"] >= 1.0


async def test_a_delivery_that_used_up_its_tries_is_a_failure(send: Send, receiver: Receiver, tmp_path: Path) -> None:
    receiver.script = [web.Response(status=500) for _ in range(2)]
    result = await send(file_of(tmp_path, GOOD), "--tries", "2")
    assert result.code == 1
    assert "error: 1 of 1 deliveries failed after 2 tries each" in result.err
    assert receiver.requests == 2


async def test_a_wrong_secret_stops_at_once_and_says_what_to_do(send: Send, receiver: Receiver) -> None:
    result = await send("--sample", "1000", "--concurrency", "4", secret="another-secret")
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert "401" in result.err
    assert "--secret" in result.err
    assert "Traceback" not in result.err
    assert receiver.requests <= 4


async def test_a_receiver_that_is_away_for_good_does_not_cost_every_delivery_all_its_tries(
    send: Send, receiver: Receiver
) -> None:
    receiver.script = [web.Response(status=503) for _ in range(1000)]
    result = await send("--sample", "1000", "--concurrency", "10", "--tries", "1")
    assert result.code == 1
    assert "in a row failed" in result.err
    assert receiver.requests < 40


async def test_a_bad_line_is_named_before_anything_is_sent(send: Send, receiver: Receiver, tmp_path: Path) -> None:
    result = await send(file_of(tmp_path, GOOD, {"id": "2", "type": "x", "data": {}}))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: line 2: data: ")
    assert receiver.requests == 0


async def test_unchecked_sends_what_is_no_delivery(send: Send, receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b"not json\n")
    result = await send(str(path), "--unchecked")
    assert result.code == 0, result.err
    assert receiver.bodies == Counter([b"not json"])


async def test_standard_input_is_sent_up_to_a_bad_line(send: Send, receiver: Receiver) -> None:
    result = await send("-", given=f"{json.dumps(GOOD)}\n\nnot json\n{json.dumps(GOOD)}\n".encode())
    assert result.code == 1
    assert "error: line 3: " in result.err
    assert receiver.bodies == Counter([json.dumps(GOOD).encode()])


async def test_a_slow_pipe_does_not_hold_back_what_came_through_it(receiver: Receiver, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "console", "send", "-", "--url", receiver.url, "--data", str(tmp_path), "--secret", SECRET),
        env={},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin
    try:
        async with asyncio.timeout(30):
            process.stdin.write(json.dumps(GOOD).encode() + b"\n")
            await receiver.first.wait()
            process.stdin.close()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("named", ["sample", "file"])
async def test_ctrl_c_says_how_many_are_kept_and_the_same_again_is_the_same(
    receiver: Receiver, tmp_path: Path, named: str
) -> None:
    made = list(sample.deliveries(300, 0.0, 5))
    file = tmp_path / "deliveries.ndjson"
    file.write_bytes(b"".join(delivery.body() + b"\n" for delivery in made))
    what = [str(file)] if named == "file" else ["--sample", "300", "--seed", "5"]
    line = ["-m", "console", "send", *what, "--url", receiver.url, "--data", str(tmp_path), "--concurrency", "1"]
    receiver.hold_after = 20
    process = await asyncio.create_subprocess_exec(
        sys.executable, *line, "--json", env={"WEBHOOK_SECRET": SECRET}, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(30):
            await receiver.held.wait()
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 130
    assert json.loads(out)["ok"] == 20
    assert err.startswith(
        b"stopped: 20 deliveries were answered 200, those that were under way may have been kept, too."
    )
    assert (b"--seed 5" in err) is (named == "sample")
    receiver.hold_after = None
    receiver.go_on.set()
    again = await asyncio.create_subprocess_exec(sys.executable, *line, env={"WEBHOOK_SECRET": SECRET}, stdout=PIPE)
    assert (await again.communicate(), again.returncode)[1] == 0
    assert set(receiver.bodies) == {delivery.body() for delivery in made}


@pytest.mark.parametrize("args", [(), ("file", "--sample", "3")])
async def test_it_wants_a_file_or_a_sample(send: Send, tmp_path: Path, args: tuple[str, ...]) -> None:
    path = file_of(tmp_path, GOOD)
    result = await send(*(path if arg == "file" else arg for arg in args))
    assert result.code == 2
    assert "either FILE or --sample" in result.err


async def test_without_any_secret_it_says_where_to_put_one(send: Send) -> None:
    result = await send("--sample", "1", secret="")
    assert result.code == 2
    assert result.err.startswith("error: no signing secret")
