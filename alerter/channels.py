"""Sends alerts to every configured place, each with its own fate.

A shell; services.py sends for it. A channel sends one message at a time and retries it; what comes meanwhile waits
and goes out as one message, so a channel that was away for long gets few messages when it is back. No channel waits
for another, and each time one takes an alert the caller can note who has yet to: none repeats it for another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import stamina
import structlog
from prometheus_client import Counter

from alerter import services
from alerter.message import Message, message, messages
from alerter.services import Service
from alerter.summary import Alert, coalesce
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

#: Alerts that wait for one channel; above it the oldest is given up for this channel alone.
BACKLOG = 100
#: Longest pause between two attempts, in seconds.
LONGEST_PAUSE = 30.0

SENT = Counter("postlog_alerter_messages_sent_total", "Messages a channel took", ["channel", "scheme"])
FAILED = Counter("postlog_alerter_messages_failed_total", "Attempts to send that failed", ["channel", "scheme"])
GIVEN_UP = Counter(
    "postlog_alerter_messages_given_up_total",
    "Alerts a channel did not take within ALERT_RETRY_SECONDS, or for which it had no room",
    ["channel", "scheme"],
)

#: Called whenever a channel took an alert, or gave it up after another took it, with those that have yet to take it.
Note = Callable[[frozenset[str]], Awaitable[None]]


class Channel:
    """One place alerts go to; `run` must be running for `tell` to have an answer."""

    def __init__(self, name: str, service: Service, retry_seconds: float) -> None:
        """name  its place among the channels, a label of metrics"""
        self._name = name
        self._scheme = service.scheme
        self._service = service
        self.identity = service.identity
        self._retry_seconds = retry_seconds
        self._queue: asyncio.Queue[tuple[Alert, asyncio.Future[bool]]] = asyncio.Queue(BACKLOG)
        for counter in (SENT, FAILED, GIVEN_UP):
            counter.labels(name, service.scheme)  # A channel that never failed shows 0 instead of nothing.

    def tell(self, alert: Alert) -> asyncio.Future[bool]:
        """Queue the alert; the answer is whether it went out here, false once the channel gave up."""
        if self._queue.full():
            GIVEN_UP.labels(self._name, self._scheme).inc()
            _answer([self._queue.get_nowait()], sent=False)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((alert, answer))
        return answer

    async def run(self) -> None:
        """Send what waits, everything in one message if the service takes that, until cancelled."""
        while True:
            told = [await self._queue.get()]
            while not self._queue.empty():
                told.append(self._queue.get_nowait())
            alerts = [alert for alert, _ in told]
            if self._service.one_each:
                texts = [text for alert in alerts for text in messages(alert)]
            else:
                texts = [message(coalesce(alerts))]
            _answer(told, sent=await self._deliver(texts))

    async def _deliver(self, texts: Sequence[Message]) -> bool:
        left = deque(texts)
        try:
            async for attempt in stamina.retry_context(
                on=ConnectionError, timeout=self._retry_seconds, attempts=None, wait_max=LONGEST_PAUSE
            ):
                with attempt:
                    while left:
                        await self._attempt(left[0])
                        left.popleft()
        except ConnectionError:
            GIVEN_UP.labels(self._name, self._scheme).inc()
            log.error("channel did not take an alert", channel=self._name, scheme=self._scheme, title=left[0].title)
            return False
        return True

    async def _attempt(self, text: Message) -> None:
        if not await self._service.send(text):
            FAILED.labels(self._name, self._scheme).inc()
            raise ConnectionError(f"channel {self._name} ({self._scheme}) did not take the message")
        SENT.labels(self._name, self._scheme).inc()


def _answer(told: Sequence[tuple[Alert, asyncio.Future[bool]]], *, sent: bool) -> None:
    for _, answer in told:
        if not answer.done():  # It is where nobody waits any more: a stop cancels those who do.
            answer.set_result(sent)


class Channels:
    """All of them."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = channels

    def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Let every channel run."""
        return [tasks.create_task(channel.run()) for channel in self._channels]

    async def tell(self, alert: Alert, note: Note | None = None) -> bool:
        """Whether the alert went out: every channel took it or gave up, and at least one took it.

        What others than those in `alert.to` took before counts.
        """
        asked = [channel for channel in self._channels if alert.to is None or channel.identity in alert.to]
        answers = {channel.tell(alert): channel.identity for channel in asked}
        waiting, took = set(answers), alert.to is not None
        if not waiting and note:
            await note(frozenset())  # Those that missed it are configured no more.
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            took = took or any(answer.result() for answer in done)
            if took and note:
                await note(frozenset(answers[answer] for answer in waiting))
        return took


def over(found: Sequence[Service], retry_seconds: float) -> Channels:
    """A channel over each of these services."""
    return Channels([Channel(str(number), service, retry_seconds) for number, service in enumerate(found, 1)])


def from_settings(settings: Settings, installation: str = "") -> Channels:
    """A channel per URL in ALERT_URLS, or the log if there is none; see `services.from_settings`."""
    return over(services.from_settings(settings, installation), settings.alert_retry_seconds)
