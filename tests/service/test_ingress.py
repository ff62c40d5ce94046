"""The ingress over HTTP, with an in-memory log at its edge."""

import asyncio
import hashlib
import hmac
import json
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from ingress.accept import PART, Outgoing
from ingress.app import Ingress
from ingress.delivery import MOST_EVENTS, Delivery, Garbled, Reply, Told
from ingress.door import Door
from ingress.providers import PROVIDERS, Answers, Provider
from pipeline import contract
from pipeline.access import Access
from pipeline.contract import EventType
from pipeline.errors import BadSignature, KafkaUnavailable, StaleDelivery, Unreadable
from pipeline.settings import Settings

SECRET = b"test-secret"
PATH = "/webhooks/email"
BODY = json.dumps({"id": "e1", "type": "complained", "data": {"email": "a@x.io"}}).encode()


class MemoryLog:
    """Keeps what was acknowledged; can be away, or hold its acknowledgements back."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.parts: list[int] = []
        self.away = False
        self.failed = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    def ready(self) -> bool:
        return not self.away

    def knows_topics(self) -> bool:
        return not self.away

    def spooled(self) -> dict[str, object]:
        return {}

    async def append(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise KafkaUnavailable("away")
        self.waiting.set()
        await self.gate.wait()
        self.records += records
        self.parts.append(len(records))


def ingress(log: MemoryLog, settings: Settings, door: Door | None = None) -> Ingress:
    door = door or Door(settings)
    return Ingress(settings, log, Access(None), door)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    log: MemoryLog, *, provider: Provider = PROVIDERS["nexuspromail"], **changes: float
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    settings = Settings(**changes)  # type: ignore[arg-type]
    async with TestClient(TestServer(ingress(log, settings).routes([(provider, lambda: (SECRET,))]))) as client:
        yield client


def signed(body: bytes) -> dict[str, str]:
    return {"X-NexusProMail-Signature": hmac.new(SECRET, body, hashlib.sha256).hexdigest()}


async def test_a_signed_delivery_is_answered_200_with_an_empty_body_after_it_is_in_the_log() -> None:
    log = MemoryLog()
    log.gate.clear()
    async with serving(log) as client:
        post = asyncio.create_task(client.post(PATH, data=BODY, headers=signed(BODY)))
        await log.waiting.wait()
        assert not post.done()
        log.gate.set()
        answer = await post
        assert (answer.status, await answer.read()) == (200, b"")
        assert [r.type for r in log.records] == ["complaint"]


@pytest.mark.parametrize("signature", [None, "0" * 64, "é", "a\tb"])
async def test_an_unsigned_delivery_is_answered_401_and_reaches_nothing(signature: str | None) -> None:
    log = MemoryLog()
    async with serving(log) as client:
        headers = {} if signature is None else {"X-NexusProMail-Signature": signature}
        answer = await client.post(PATH, data=BODY, headers=headers)
        assert (answer.status, await answer.json()) == (401, {"error": "Invalid signature"})
        assert log.records == []


async def test_with_kafka_away_the_sender_is_asked_to_try_again() -> None:
    log = MemoryLog()
    log.away = True
    async with serving(log) as client:
        answer = await client.post(PATH, data=BODY, headers=signed(BODY))
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert (await client.get("/health/ready")).status == 503
        assert (await client.get("/health/live")).status == 200


async def test_an_unreadable_delivery_is_kept_as_dead_letter_and_answered_200() -> None:
    log = MemoryLog()
    async with serving(log) as client:
        assert (await client.post(PATH, data=b"{", headers=signed(b"{"))).status == 200
        assert [r.topic for r in log.records] == ["dead_letters"]


async def test_a_body_over_the_limit_is_answered_413() -> None:
    log = MemoryLog()
    async with serving(log, ingress_max_body_bytes=1000) as client:
        for size, status in ((1000, 200), (1001, 413)):
            body = b"x" * size
            assert (await client.post(PATH, data=body, headers=signed(body))).status == status


async def test_a_body_that_takes_too_long_is_answered_408() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with serving(MemoryLog(), ingress_read_timeout_seconds=0.05) as client:
        assert (await client.post(PATH, data=slowly())).status == 408


async def test_a_compressed_body_is_taken_as_it_came() -> None:
    log = MemoryLog()
    runner = web.AppRunner(
        ingress(log, Settings()).routes([(PROVIDERS["nexuspromail"], lambda: (SECRET,))]),
        auto_decompress=False,
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    body = b"\x1f\x8b not really gzip"
    async with ClientSession() as session:
        headers = signed(body) | {"Content-Encoding": "gzip"}
        answer = await session.post(f"http://{host}:{port}{PATH}", data=body, headers=headers)
        assert answer.status == 200
    await runner.cleanup()
    assert log.records[0].value == body


def bounces(count: int) -> bytes:
    return json.dumps([{"type": "bounced.hard", "data": {"email": f"{n}@x.io"}} for n in range(count)]).encode()


async def test_thousands_of_bounces_in_one_delivery_are_all_kept_in_order_and_in_parts() -> None:
    log, body = MemoryLog(), bounces(10_001)
    async with serving(log) as client:
        assert (await client.post(PATH, data=body, headers=signed(body))).status == 200
    assert [record.key for record in log.records] == [b"%d@x.io" % number for number in range(10_001)]
    assert max(log.parts) == PART


async def test_more_events_than_are_taken_at_once_are_answered_413_and_nothing_is_kept() -> None:
    log, body = MemoryLog(), b"[" + b"0," * MOST_EVENTS + b"0]"
    async with serving(log, ingress_max_refusals=1) as client:
        for _ in range(3):
            answer = await client.post(PATH, data=body, headers=signed(body))
            assert (answer.status, await answer.json()) == (413, {"error": "More than 25000 events in one delivery"})
        assert log.records == []
        # It was authentic, so its source is listened to.
        assert (await client.post(PATH, data=BODY, headers=signed(BODY))).status == 200


@pytest.mark.parametrize("body", [b"[]", b'{"type":"ping"}'])
async def test_a_delivery_that_tells_of_nobody_is_answered_200_counted_and_no_dead_letter(body: bytes) -> None:
    log = MemoryLog()
    async with serving(log) as client:
        before = _accepted(await (await client.get("/metrics")).text())
        assert (await client.post(PATH, data=body, headers=signed(body))).status == 200
        assert _accepted(await (await client.get("/metrics")).text()) == before + 1
    assert {record.topic for record in log.records} <= {"events"}


def _accepted(text: str) -> float:
    name = 'postlog_ingress_deliveries_total{outcome="accepted",provider="nexuspromail"}'
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize(("method", "path", "status"), [("GET", PATH, 405), ("POST", "/webhooks/../x", 404)])
async def test_other_methods_and_paths_are_refused(method: str, path: str, status: int) -> None:
    async with serving(MemoryLog()) as client:
        assert (await client.request(method, path)).status == status


async def test_refusals_are_seen_in_the_log_once_in_a_while_with_their_number() -> None:
    async with serving(MemoryLog()) as client:
        with capture_logs() as lines:
            for _ in range(5):
                await client.post(PATH, data=BODY)
        assert [(line["outcome"], line["count"]) for line in lines] == [("bad_signature", 1)]


async def test_outcomes_are_counted() -> None:
    async with serving(MemoryLog()) as client:
        await client.post(PATH, data=BODY, headers=signed(BODY))
        text = await (await client.get("/metrics")).text()
        assert 'postlog_ingress_deliveries_total{outcome="accepted",provider="nexuspromail"}' in text


# What the next providers need: form bodies, several events per delivery, a signed time, a handshake by GET,
# their own status codes, ids that change on retry. A row has all of it; the ingress above does not change.


def _verify(delivery: Delivery, secrets: Sequence[bytes], now: float) -> None:
    if delivery.headers.get("x-token", "").encode() not in secrets:
        raise BadSignature("token")
    if now - float(delivery.headers.get("x-time", now)) > 300:
        raise StaleDelivery("too old")


def _read(delivery: Delivery) -> list[Told | Garbled]:
    told: list[Told | Garbled] = []
    for line in urllib.parse.parse_qs(delivery.body.decode())["event"]:
        kind, _, email = line.partition(":")
        raw = json.dumps(line).encode()
        told.append(Told(kind, "changes", email, None, raw) if email else Garbled(Unreadable("no colon"), raw))
    return told


def _handshake(delivery: Delivery) -> Reply | None:
    return Reply(200, delivery.query["challenge"].encode()) if delivery.method == "GET" else None


FORMS = Provider(
    name="forms",
    path="/webhooks/forms",
    secrets="webhook_secret",
    verify=_verify,
    read=_read,
    types={"bad": EventType.HARD_BOUNCE},
    handshake=_handshake,
    methods=("GET", "POST"),
    answers=Answers(accepted=202, not_authentic=406, try_again=429),
    trust_id=False,
)
TOKEN = {"X-Token": SECRET.decode()}


async def test_a_provider_with_forms_batches_and_codes_of_its_own_is_only_a_row() -> None:
    log = MemoryLog()
    async with serving(log, provider=FORMS) as client:
        form = {"event": ["bad:a@x.io", "odd:b@x.io", "garbled"]}
        body = urllib.parse.urlencode(form, doseq=True)
        assert (await client.post(FORMS.path, data=body, headers=TOKEN)).status == 202
        assert (await client.post(FORMS.path, data=body)).status == 406
        log.away = True
        assert (await client.post(FORMS.path, data=body, headers=TOKEN)).status == 429
    events = [contract.decode(r.value) for r in log.records if r.topic == "events"]
    assert [(e.type, e.email, e.id_basis) for e in events] == [
        (EventType.HARD_BOUNCE, "a@x.io", "fingerprint"),
        (EventType.UNKNOWN, "b@x.io", "fingerprint"),
    ]
    assert [r.value for r in log.records if r.topic == "dead_letters"] == [b'"garbled"']


async def test_a_handshake_is_answered_only_to_who_is_authentic() -> None:
    async with serving(MemoryLog(), provider=FORMS) as client:
        answer = await client.get(FORMS.path, params={"challenge": "42"}, headers=TOKEN)
        assert (answer.status, await answer.text()) == (200, "42")
        assert (await client.get(FORMS.path, params={"challenge": "42"})).status == 406


async def test_a_delivery_that_was_signed_too_long_ago_is_refused() -> None:
    async with serving(MemoryLog(), provider=FORMS) as client:
        answer = await client.post(FORMS.path, data="event=bad:a", headers=TOKEN | {"X-Time": "0"})
        assert (answer.status, await answer.json()) == (406, {"error": "Signature too old"})
