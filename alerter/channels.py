"""Sends alerts to every configured place, each with its own fate.

A shell over apprise. A channel sends one message at a time and retries it; what comes meanwhile waits and goes out
as one message, so a channel that was away for long gets few messages when it is back. No channel waits for another.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import apprise
import stamina
import structlog
from apprise.common import NotifyFormat, NotifyType, OverflowMode
from prometheus_client import Counter

from alerter.message import Message, message
from alerter.summary import Alert, coalesce
from pipeline.errors import ConfigError
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

#: Alerts that wait for one channel; above it the oldest is given up for this channel alone.
BACKLOG = 100
#: Seconds one attempt may take: apprise's own network timeouts are shorter, but not every service of it has one.
SEND_SECONDS = 60.0
#: Longest pause between two attempts, in seconds.
LONGEST_PAUSE = 30.0

SENT = Counter("postlog_alerter_messages_sent_total", "Messages a channel took", ["channel", "scheme"])
FAILED = Counter("postlog_alerter_messages_failed_total", "Attempts to send that failed", ["channel", "scheme"])
GIVEN_UP = Counter(
    "postlog_alerter_messages_given_up_total",
    "Alerts a channel did not take within ALERT_RETRY_SECONDS, or for which it had no room",
    ["channel", "scheme"],
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9]{0,31})://")
_COMMA = re.compile(rf",{_SCHEME.pattern}")

#: Sends a message once; false means it did not go out.
Send = Callable[[Message], Awaitable[bool]]


class Channel:
    """One place alerts go to; `run` must be running for `tell` to have an answer."""

    def __init__(self, name: str, scheme: str, send: Send, retry_seconds: float) -> None:
        self._name = name
        self._scheme = scheme
        self._send = send
        self._retry_seconds = retry_seconds
        self._queue: asyncio.Queue[tuple[Alert, asyncio.Future[bool]]] = asyncio.Queue(BACKLOG)
        for counter in (SENT, FAILED, GIVEN_UP):
            counter.labels(name, scheme)  # A channel that never failed shows 0 instead of nothing.

    def tell(self, alert: Alert) -> asyncio.Future[bool]:
        """Queue the alert; the answer is whether it went out here, false once the channel gave up."""
        if self._queue.full():
            GIVEN_UP.labels(self._name, self._scheme).inc()
            _answer([self._queue.get_nowait()], sent=False)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((alert, answer))
        return answer

    async def run(self) -> None:
        """Send what waits, everything in one message, until cancelled."""
        while True:
            told = [await self._queue.get()]
            while not self._queue.empty():
                told.append(self._queue.get_nowait())
            _answer(told, sent=await self._deliver(message(coalesce(alert for alert, _ in told))))

    async def _deliver(self, text: Message) -> bool:
        try:
            async for attempt in stamina.retry_context(
                on=ConnectionError, timeout=self._retry_seconds, attempts=None, wait_max=LONGEST_PAUSE
            ):
                with attempt:
                    await self._attempt(text)
        except ConnectionError:
            GIVEN_UP.labels(self._name, self._scheme).inc()
            log.error("channel did not take an alert", channel=self._name, scheme=self._scheme, title=text.title)
            return False
        SENT.labels(self._name, self._scheme).inc()
        return True

    async def _attempt(self, text: Message) -> None:
        if not await self._send(text):
            FAILED.labels(self._name, self._scheme).inc()
            raise ConnectionError(f"channel {self._name} ({self._scheme}) did not take the message")


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

    async def tell(self, alert: Alert) -> bool:
        """Whether the alert went out: every channel took it or gave up, and at least one took it."""
        return any(await asyncio.gather(*(channel.tell(alert) for channel in self._channels)))


def from_settings(settings: Settings) -> Channels:
    """A channel per URL in ALERT_URLS, or the log if there is none.

    Raises ConfigError naming the entry; the URL holds secrets and is not shown.
    """
    # White space alone separates: a URL may contain commas.
    urls = settings.alert_urls.split()
    sends = [(_scheme(url), _over_apprise(url, place)) for place, url in enumerate(urls, 1)] or [("log", _to_log)]
    return Channels(
        [Channel(str(n), scheme, send, settings.alert_retry_seconds) for n, (scheme, send) in enumerate(sends, 1)]
    )


def _scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return found[1].lower() if found else "unknown"


def _over_apprise(url: str, place: int) -> Send:
    # Apprise would take two URLs with a comma between for one, and would log an entry without a scheme as it is.
    service = None
    if _SCHEME.match(url) and not _COMMA.search(url):
        # No time limit of its own: that would leave hanging threads behind in a pool that all channels share.
        service = apprise.Apprise.instantiate(url, asset=apprise.AppriseAsset(service_timeout=0))
    if service is None:
        raise ConfigError(
            f"ALERT_URLS: entry {place} ({_scheme(url)}://…) is not a URL that apprise can use: compare it with "
            "https://appriseit.com/services/, and separate URLs by spaces or new lines, not commas."
        )
    if "overflow=" not in url:
        # A channel with a short limit refuses a longer text for ever; the start of it says the most.
        service.overflow_mode = OverflowMode.TRUNCATE
    notifier = apprise.Apprise([service])
    # One thread for each channel: one that hangs holds up nobody else.
    thread = ThreadPoolExecutor(1, thread_name_prefix=f"channel-{place}")

    async def send(text: Message) -> bool:
        kind = NotifyType.FAILURE if text.critical else NotifyType.WARNING
        call = partial(notifier.notify, text.body, text.title, notify_type=kind, body_format=NotifyFormat.TEXT)
        sending = asyncio.get_running_loop().run_in_executor(thread, call)
        try:
            return bool(await asyncio.wait_for(sending, SEND_SECONDS))
        except TimeoutError:
            return False

    return send


async def _to_log(text: Message) -> bool:
    log.warning(text.title, details=" | ".join(line for line in text.body.splitlines() if line))
    return True
