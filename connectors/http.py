"""`HANDLERS=connectors.http`: POST every change of a suppression to a URL, signed by the Standard Webhooks scheme.

A shell over aiohttp. The scheme is https://www.standardwebhooks.com; docs/api.md describes what a receiver gets.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pipeline import contract, ranges
from pipeline.contract import Event, EventType
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.suppression import Cause, Facts, Span, Suppression
from processor.handler import Handler, Permanent, TryLater
from processor.suppressions import SPEAKING

#: Seconds after which an answer is given up.
TIMEOUT = 10.0
#: 4xx answers that another try may mend.
PASSING = frozenset({408, 409, 425, 429})
#: A receiver may ask for this much time at most, in seconds.
LONGEST_WAIT = 3600.0
#: Bytes of a secret, by the scheme.
SECRET_BYTES = range(24, 65)
_PREFIX = "whsec_"


class About(msgspec.Struct, frozen=True):
    """The event that brought the change; times in ms since the epoch."""

    provider: str
    type: EventType
    id: str
    at: int


class Data(msgspec.Struct, frozen=True):
    """What holds for the address now; updated_at in ms since the epoch."""

    email: str
    suppressed: bool
    causes: dict[Cause, Span]
    updated_at: int
    event: About


class Message(msgspec.Struct, frozen=True):
    """The body; timestamp is RFC 3339."""

    type: Literal["suppression.changed"]
    timestamp: str
    data: Data


_encode = msgspec.json.Encoder(order="deterministic").encode


def handlers(settings: Settings) -> list[Handler]:
    """The handler that these settings describe. Raises ConfigError naming the variable and the cure."""
    url, secrets = settings.connector_http_url, secrets_of(settings.connector_http_secret)
    if not _can_be_posted_to(url):
        raise ConfigError(
            f"CONNECTOR_HTTP_URL is {url!r}: connectors.http needs a URL like https://example.com/hook to post to"
        )
    return [Handler("http", Post(url, secrets), types=SPEAKING, timeout=TIMEOUT)]


def _can_be_posted_to(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and ranges.host(parts.hostname or "") is None and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        return False


def secrets_of(given: str) -> tuple[bytes, ...]:
    """The keys in CONNECTOR_HTTP_SECRET. Raises ConfigError without showing them."""
    keys = []
    for part in filter(None, (part.strip() for part in given.split(","))):
        try:
            key = base64.b64decode(part.removeprefix(_PREFIX), validate=True)
        except ValueError:  # also of what is not ASCII
            key = b""
        if not part.startswith(_PREFIX) or len(key) not in SECRET_BYTES:
            raise ConfigError(
                f"CONNECTOR_HTTP_SECRET holds one that is not `{_PREFIX}` and then 24 to 64 bytes in base64. "
                f'Make one: echo "{_PREFIX}$(openssl rand -base64 32)"'
            )
        keys.append(key)
    if not keys:
        raise ConfigError(f"CONNECTOR_HTTP_SECRET is not set: connectors.http signs with it, `{_PREFIX}…`.")
    return tuple(keys)


class Post:
    """Posts one change; the session is made in the loop that first needs it."""

    def __init__(self, url: str, secrets: Sequence[bytes]) -> None:
        self._url = url
        self._secrets = secrets
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, event: Event, suppression: Suppression | None) -> None:
        """Return once the receiver took it. Raises Permanent if it never will, TryLater if it asks for time."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        body = body_of(event, suppression)
        headers = {"Content-Type": "application/json", "User-Agent": "postlog"} | signed(
            self._secrets, message_id(event), int(time.time()), body
        )
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            judge(answer.status, answer.headers, time.time())

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()


def message_id(event: Event) -> str:
    """The same for the same event whenever it is posted; an id of a provider's could hold anything, a header not."""
    return f"msg_{contract.fingerprint(event.provider.encode(), event.id.encode())}"


def body_of(event: Event, suppression: Suppression | None) -> bytes:
    """What is posted: JSON."""
    about = About(event.provider, event.type, event.id, event.at)
    known = suppression or Suppression(
        email=event.email or "", suppressed=False, causes={}, updated_at=0, facts=Facts()
    )
    data = Data(known.email, known.suppressed, known.causes, known.updated_at, about)
    moment = datetime.fromtimestamp(event.received_at / 1000, UTC)
    return _encode(Message("suppression.changed", moment.isoformat().replace("+00:00", "Z"), data))


def signed(secrets: Sequence[bytes], identity: str, at: int, body: bytes) -> dict[str, str]:
    """The headers that prove who posts; one signature for each secret, so that they can be rotated. at in seconds."""
    content = f"{identity}.{at}.".encode() + body
    signatures = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in secrets]
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def judge(status: int, headers: Mapping[str, Any], now: float) -> None:
    """Return for success. Raises Permanent, TryLater, or OSError for a try that failed; now in seconds."""
    if 200 <= status < 300:
        return
    reason = f"answered {status}"
    if 300 <= status < 400:
        raise Permanent(f"{reason}: redirects are not followed; correct CONNECTOR_HTTP_URL")
    if 400 <= status < 500 and status not in PASSING:
        raise Permanent(reason)
    wait = seconds(str(headers.get("Retry-After", "")), now)
    if wait:
        raise TryLater(wait, f"{reason} and asked to wait {wait:g} s")
    raise OSError(reason)


def seconds(retry_after: str, now: float) -> float:
    """What Retry-After asks for (RFC 9110, 10.2.3: seconds or a date), LONGEST_WAIT at most; 0 if it says nothing."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return min(max(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now, 0.0), LONGEST_WAIT)
