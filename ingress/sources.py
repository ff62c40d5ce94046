"""From whom the ingress reads, so that a flood of what must be refused costs nearly nothing.

Pure. A source is an address, or a /64 of IPv6: who has one of those has all of it. It is shut out for a while when
too much of what it sent was refused: then only a share of what it sends is read (`outside`). Who delivered something
authentic lately is never shut out: behind a proxy, or beside a badly configured sender, real deliveries come from the
same address as a flood.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: Seconds over which refusals are counted, and for which a source is shut out then.
WINDOW = 10.0
#: Seconds for which an authentic delivery speaks for its source.
TRUSTED = 3600.0
#: Sources that are remembered, of each kind; the one that was seen least lately is forgotten first.
MOST = 10_000


@dataclass(slots=True)
class _Refused:
    """since  when counting began"""

    since: float
    count: int = 0


class Sources:
    """What is known about sources. Times are seconds of one clock that never goes back."""

    def __init__(self, most: int) -> None:
        """most  refusals of a source within WINDOW; 0 for no limit"""
        self._most = most
        self._refused: dict[str, _Refused] = {}
        self._out: dict[str, float] = {}
        self._authentic: dict[str, float] = {}

    def authentic(self, source: str, now: float) -> None:
        """It delivered something authentic: whatever was refused before is forgotten."""
        _put(self._authentic, source, now)
        if self._out:
            self._out.pop(source, None)

    def refused(self, source: str, now: float) -> bool:
        """Something of it was refused. True if that shuts it out, from now on."""
        if not self._most or self.known(source, now):
            return False
        counted = self._refused.pop(source, None)
        if counted is None or now - counted.since >= WINDOW:
            counted = _Refused(now)
        counted.count += 1
        if counted.count <= self._most:
            _put(self._refused, source, counted)
            return False
        _put(self._out, source, now + WINDOW)
        return True

    def shut_out(self, source: str, now: float) -> float:
        """For how many seconds more only a share of it is read; 0 if all of it is."""
        if not self._out:
            return 0.0
        left = self._out.get(source, now) - now
        if left <= 0:
            self._out.pop(source, None)
        return max(left, 0.0)

    def known(self, source: str, now: float) -> bool:
        """Whether it delivered something authentic lately."""
        at = self._authentic.get(source)
        return at is not None and now - at < TRUSTED


def _put(known: dict[str, T], source: str, value: T) -> None:
    """Newest last, and not more than MOST."""
    known.pop(source, None)
    known[source] = value
    if len(known) > MOST:
        del known[next(iter(known))]


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(host: str) -> Address | None:
    """The address in a text, that of IPv4 also where IPv6 wraps it; None if it is none."""
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def source_of(peer: object) -> str:
    """The source of a socket's peer name: `(host, port, …)`; empty for what has no address, like a Unix socket."""
    if not isinstance(peer, tuple) or not peer:
        return ""
    address = address_of(str(peer[0]))
    if address is None:
        return str(peer[0]).split("%")[0]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
