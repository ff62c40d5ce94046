"""The places that alerts go to, as apprise knows them: a service for each URL in ALERT_URLS.

A shell over apprise; channels.py says when what is sent, paging.py what services that keep incidents need.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import apprise
import structlog
from apprise.common import NotifyFormat, NotifyType, OverflowMode

from alerter import paging
from alerter.message import Message
from pipeline.errors import ConfigError
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds one attempt may take: apprise's own network timeouts are shorter, but not every service of it has one.
SEND_SECONDS = 60.0

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9]{0,31})://")
_COMMA = re.compile(rf",{_SCHEME.pattern}")

#: Sends a message once; false means it did not go out.
Send = Callable[[Message], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Service:
    """One place.

    identity  the same after a restart, wherever the URL stands among others; no secret can be read from it
    one_each  it keeps what is wrong until it is over, so every incident and every group is a message of its own
    """

    identity: str
    scheme: str
    send: Send
    one_each: bool = False


def from_settings(settings: Settings, installation: str = "") -> list[Service]:
    """A service per URL in ALERT_URLS, or the log if there is none.

    installation  tells this postlog from others that tell the same service of incidents

    Raises ConfigError naming the entry; the URL holds secrets and is not shown.
    """
    # White space alone separates: a URL may contain commas.
    urls = settings.alert_urls.split()
    if not urls:
        return [Service("log", "log", _to_log)]
    found = [(url, _scheme(url), _parsed(url, place)) for place, url in enumerate(urls, 1)]
    seen: Counter[str] = Counter()
    services = []
    for url, scheme, service in found:
        # With its secrets left out; a second one that looks the same is told apart by its place among those.
        shown = str(service.url(privacy=True))  # type: ignore[no-untyped-call]
        seen[shown] += 1
        identity = hashlib.sha256(f"{shown} {seen[shown]}".encode()).hexdigest()[:12]
        kept = paging.of(url, scheme, service, installation)
        services.append(Service(identity, scheme, _sender(service, kept), one_each=kept is not None))
    return services


def _scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return found[1].lower() if found else "unknown"


def _parsed(url: str, place: int) -> apprise.NotifyBase:
    # Apprise would take two URLs with a comma between for one, and would log an entry without a scheme as it is.
    service = None
    if _SCHEME.match(url) and not _COMMA.search(url):
        # No time limit of its own: that would leave hanging threads behind in a pool that all channels share.
        service = apprise.Apprise.instantiate(url, asset=apprise.AppriseAsset(service_timeout=0))
    if not isinstance(service, apprise.NotifyBase):
        raise ConfigError(
            f"ALERT_URLS: entry {place} ({_scheme(url)}://…) is not a URL that apprise can use: compare it with "
            "https://appriseit.com/services/, and separate URLs by spaces or new lines, not commas."
        )
    if "overflow=" not in url:
        # A channel with a short limit refuses a longer text for ever; the start of it says the most.
        service.overflow_mode = OverflowMode.TRUNCATE
    return service


def _sender(service: apprise.NotifyBase, kept: paging.Incidents | None) -> Send:
    notifier = apprise.Apprise([service])
    # One thread for each service: one that hangs holds up nobody else.
    thread = ThreadPoolExecutor(1, thread_name_prefix=f"alert-{service.service_name}")

    def notify(text: Message) -> bool:
        if kept:
            kept.name(text)
            if close := kept.closer(text):
                return close()
        kind = NotifyType.SUCCESS if text.over else NotifyType.FAILURE if text.critical else NotifyType.WARNING
        return bool(notifier.notify(text.body, text.title, notify_type=kind, body_format=NotifyFormat.TEXT))

    async def send(text: Message) -> bool:
        sending = asyncio.get_running_loop().run_in_executor(thread, partial(notify, text))
        try:
            return await asyncio.wait_for(sending, SEND_SECONDS)
        except TimeoutError:
            return False

    return send


async def _to_log(text: Message) -> bool:
    log.warning(text.title, details=" | ".join(line for line in text.body.splitlines() if line))
    return True
