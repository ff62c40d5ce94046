"""A delivery as values: what a provider sent, and what its reader understood of it.

Pure. The HTTP shell makes a Delivery, a provider's reader turns it into what was told.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pipeline.errors import Unreadable

#: Events that are taken from one delivery: more bounces than fit into a body of 1 MiB, since the shortest that names
#: somebody has about 48 bytes. An array of zeros could else be half a million dead letters.
MOST_EVENTS = 25_000


class Delivery(msgspec.Struct, frozen=True):
    """One HTTP request of a provider.

    headers      names are looked up whatever their case; values may hold surrogates for bytes that are not UTF-8
    query        of the URL, first value of each name
    body         the raw bytes: what signatures are made of
    received_at  when the body was complete, ms since the epoch
    most_events  that a reader takes from it
    """

    method: str
    headers: Mapping[str, str]
    body: bytes
    received_at: int
    query: Mapping[str, str] = {}
    most_events: int = MOST_EVENTS

    @property
    def content_type(self) -> str:
        """Media type without parameters, lower case, `application/octet-stream` if none was named."""
        return self.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()


class Told(msgspec.Struct, frozen=True, gc=False):
    """One event as the reader understood it, before our words are put on it.

    type         the provider's word for what happened
    id           the provider's id, None if it gave none
    recipient    the address as given, None if there was none
    occurred_at  ms since the epoch, None if not told or not readable
    raw          the event as JSON bytes
    """

    type: str
    id: str | None
    recipient: str | None
    occurred_at: int | None
    raw: bytes


class Garbled(msgspec.Struct, frozen=True):
    """One event of a batch that the reader could not understand; the others of the batch still count."""

    error: Unreadable
    raw: bytes


class Reply(msgspec.Struct, frozen=True):
    """What to answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = {}
