"""The HTTP side: receive a delivery, call the rules, wait for Kafka, answer.

A shell over aiohttp.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import randbytes
from typing import Any

import structlog
from aiohttp import web

from ingress import accept, inherited, metrics
from ingress.accept import Outgoing
from ingress.delivery import Delivery, Reply
from ingress.door import Door, Runner, require_files
from ingress.log import Log
from ingress.providers import PROVIDERS, Provider
from pipeline import access, contract, kafka, ready, secrets, service
from pipeline.access import Access
from pipeline.errors import BadSignature, ConfigError, KafkaUnavailable, NoRoom, StaleDelivery, TooManyEvents
from pipeline.logs import Sparing
from pipeline.ready import Ready
from pipeline.secrets import Secrets
from pipeline.service import Health
from pipeline.settings import Settings
from pipeline.topics import Topics

log = structlog.get_logger(__name__)

#: Outcomes that somebody should see in the log: a rotated secret looks like silence otherwise.
REFUSED = frozenset(metrics.OUTCOMES) - {"accepted", "handshake"}
#: Those of them that say nothing for the sender.
UNPROVEN = frozenset({"bad_signature", "stale", "too_large", "too_slow", "broken_off"})
#: How a provider is asked to try again, in seconds; the deadline has passed by then anyway.
AGAIN = {"Retry-After": "5"}
#: Objects that are made before the garbage collector looks for cycles among them: some hundred deliveries' worth.
GC_OBJECTS = 50_000
#: Seconds a connection may be silent, or take for the head of its first request: longer than proxies keep one open.
IDLE_SECONDS = 75.0


async def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain: stop accepting, finish what is in flight, flush.

    Raises PostlogError if the producer failed for good.
    """
    providers = [(provider, secrets.of(settings, provider.secrets)) for provider in PROVIDERS.values()]
    allowed = access.of(settings, settings.ingress_host, "INGRESS_HOST")
    require_files(settings.ingress_max_connections)
    listener, started = inherited.listener(settings), inherited.pipe(settings)
    door = Door(settings)
    stop = await service.stop_requested()
    # With a spool it serves also while Kafka is away, and compares the topics when that is back.
    spooled = kafka.topics_of(settings) if settings.ingress_spool_dir else None
    topics = spooled or await service.unless_stopped(stop, kafka.require_topics(settings))
    if topics is None:
        return
    require_room(settings, topics)
    written = Log(settings, topics)
    try:
        # It returns True so that being stopped can be told from being started.
        if not await service.unless_stopped(stop, written.start()):
            return
        app = Ingress(settings, written, allowed, door)
        runner = await service.serve(
            app.routes(providers),
            settings.ingress_host,
            settings.ingress_port,
            service="ingress",
            listener=listener,
            make=partial(Runner, door=door),
            keepalive_timeout=IDLE_SECONDS,
            shutdown_timeout=settings.ingress_drain_seconds,
            # Signatures are over the bytes as they came; and nobody's small body becomes a large one here.
            auto_decompress=False,
        )
        service.collect_seldom(GC_OBJECTS)
        inherited.say_started(started)
        await _first(stop.wait(), written.failed.wait())
        await _drain(app, runner, door, settings.ingress_drain_seconds)
    finally:
        await written.stop()
    if written.failed.is_set():
        raise written.error from written.reason


async def _drain(app: Ingress, runner: web.AppRunner, door: Door, seconds: float) -> None:
    """Accept no more connections, and close those there are when nobody can be using them.

    One that is closed while a delivery is on its way on it costs that delivery. So each is told with its next answer
    that this was the last one, and only those that stay silent are closed without a word.
    """
    log.info("draining")
    app.draining = True
    for site in runner.sites:
        await site.stop()
    await door.until_quiet(seconds)
    await runner.cleanup()


#: What a record holds besides the provider's bytes: our fields, the texts that are copied out of them, headers.
ENVELOPE_BYTES = 128 * 1024


def require_room(settings: Settings, topics: Topics) -> None:
    """Every body that we accept must fit into a record: one that does not would be refused by Kafka for ever.

    Raises ConfigError.
    """
    largest = settings.ingress_max_body_bytes + ENVELOPE_BYTES
    for topic in (topics.events, topics.dead_letters):
        fits = min(int(topic.config.get("max.message.bytes", 1024 * 1024)), kafka.LARGEST_REQUEST)
        if largest > fits:
            raise ConfigError(
                f"INGRESS_MAX_BODY_BYTES is {settings.ingress_max_body_bytes}: with {ENVELOPE_BYTES} bytes around it "
                f"that is more than the {fits} bytes a record of {topic.name} may have. Lower it, or raise "
                "max.message.bytes in topics.yaml."
            )


class Ingress:
    """The routes of all providers over one log."""

    def __init__(self, settings: Settings, written: Log, access: Access, door: Door) -> None:
        self._access = access
        self._door = door
        self.draining = False
        self._settings = settings
        self._log = written
        self._methods: dict[str, tuple[str, ...]] = {}
        self._sparing = Sparing(log)
        # Counters by their labels: looking one up costs more than counting.
        self._events: dict[tuple[str, str], Any] = {}

    def routes(self, providers: list[tuple[Provider, Secrets]]) -> web.Application:
        """The web application: a route per provider, health and metrics."""
        app = web.Application(client_max_size=self._settings.ingress_max_body_bytes)
        self._methods = {provider.path: provider.methods for provider, _ in providers}
        for provider, known in providers:
            metrics.DEAD_LETTERS.labels(provider.name)
            for method in provider.methods:
                app.router.add_route(method, provider.path, self._handler(provider, known))
        shared = bool(self._settings.prometheus_multiproc_dir)
        service.add_health_routes(app, self._access, live=self.live, ready=self.ready, shared_metrics=shared)
        # Last: what no route before it takes. A flood of these is one, too.
        app.router.add_route("*", "/{path:.*}", self._nothing_here)
        app.on_response_prepare.append(self._door.answered)
        return app

    def live(self) -> Health:
        """False once the producer cannot go on."""
        return Health(ok=not self._log.failed.is_set(), details={})

    def ready(self) -> Health:
        """Whether deliveries can be accepted: the producer knows the events topic, and we are not draining."""
        details = {"kafka": self._log.knows_topics(), "draining": self.draining, **self._log.spooled()}
        return Health(ok=self._log.ready() and not self.draining, details=details)

    async def _nothing_here(self, request: web.Request) -> web.StreamResponse:
        if not self._door.admits(request):
            raise web.HTTPTooManyRequests(headers=AGAIN)
        self._door.refused(request)
        if allowed := self._methods.get(request.path):
            raise web.HTTPMethodNotAllowed(request.method, allowed)
        raise web.HTTPNotFound

    def _handler(
        self, provider: Provider, secrets: Secrets
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        accepted = Ready(provider.answers.accepted)
        counted = {outcome: metrics.DELIVERIES.labels(provider.name, outcome) for outcome in metrics.OUTCOMES}

        async def handle(request: web.Request) -> web.StreamResponse:
            outcome, reply = await self._receive(provider, secrets, request)
            if outcome in REFUSED:
                self._sparing.warning("refused deliveries", provider=provider.name, outcome=outcome)
            if outcome in UNPROVEN:
                self._door.refused(request)
            counted[outcome].inc()
            if outcome == "accepted" and not self.draining and ready.fits(request):
                return accepted.send(request)
            response = _response(reply)
            if self.draining:
                response.force_close()
            return response

        return handle

    async def _receive(self, provider: Provider, secrets: Secrets, request: web.Request) -> tuple[str, Reply]:
        """The outcome to count and what to answer."""
        answers = provider.answers
        if not self._door.admits(request):
            return "shut_out", _error(429, "Too much was refused", AGAIN)
        try:
            # Mostly all of it has come, so there is nothing to wait for.
            body = await (request.read() if request.content.is_eof() else self._door.body(request))
        except web.HTTPRequestEntityTooLarge:
            most = self._settings.ingress_max_body_bytes
            return "too_large", _error(answers.too_large, f"Body larger than {most} bytes")
        except NoRoom:
            return "retry", _error(answers.try_again, "Too many large deliveries at once", AGAIN)
        except TimeoutError:
            return "too_slow", _error(answers.too_slow, "Body took too long to arrive")
        except (ConnectionError, web.RequestPayloadError):
            # Nobody reads the answer, or it is the end of a body that was none.
            return "broken_off", _error(400, "The body ended too early or is not encoded as its headers say")
        started = time.perf_counter()
        delivery = Delivery(
            method=request.method,
            headers=request.headers,
            body=body,
            received_at=int(time.time() * 1000),
            query=request.query,
        )
        try:
            provider.verify(delivery, secrets(), time.time())
        except StaleDelivery:
            return "stale", _error(answers.not_authentic, "Signature too old")
        except BadSignature:
            return "bad_signature", _error(answers.not_authentic, "Invalid signature")
        self._door.authentic(request)
        if provider.handshake and (reply := provider.handshake(delivery)):
            return "handshake", reply
        return await self._keep(provider, delivery, started)

    async def _keep(self, provider: Provider, delivery: Delivery, started: float) -> tuple[str, Reply]:
        """Write an authentic delivery to the log, then say so."""
        try:
            records = accept.records(provider, delivery, fresh_trace=contract.traceparent(randbytes(24)))
            for part in accept.parts(records):
                await self._log.append(part)
        except TooManyEvents:
            most = f"More than {delivery.most_events} events in one delivery"
            return "too_many", _error(provider.answers.too_large, most)
        except KafkaUnavailable as error:
            log.debug("asked the sender to try again", provider=provider.name, reason=str(error))
            reply = _error(provider.answers.try_again, "Try again later", AGAIN)
            return "retry", reply
        metrics.ACKNOWLEDGE.observe(time.perf_counter() - started)
        self._count(provider, records)
        return "accepted", Reply(provider.answers.accepted)

    def _count(self, provider: Provider, records: Sequence[Outgoing]) -> None:
        for record in records:
            if record.topic == "events":
                place = provider.name, record.type
                if place not in self._events:
                    self._events[place] = metrics.EVENTS.labels(*place)
                self._events[place].inc()
            else:
                metrics.DEAD_LETTERS.labels(provider.name).inc()
                self._sparing.warning("kept as dead letters", provider=provider.name)


def _response(reply: Reply) -> web.Response:
    if not reply.body and not reply.headers:
        return web.Response(status=reply.status)
    return web.Response(
        status=reply.status,
        body=reply.body or None,
        headers=dict(reply.headers),
        content_type=reply.content_type if reply.body else None,
    )


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, b'{"error": "%s"}' % text.encode(), "application/json", headers or {})


async def _first(*reasons: Awaitable[object]) -> None:
    """Wait until one of these is done."""
    tasks = [asyncio.ensure_future(reason) for reason in reasons]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
