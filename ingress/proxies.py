"""Which client a request comes from, behind proxies that we trust.

Pure. Each proxy appends the address that it saw to X-Forwarded-For, so the rightmost address that is no proxy of ours
is the client. What stands to the left of it anybody may have written. The header counts nothing from anybody else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from ingress.sources import address_of, source_of

#: `Forwarded` (RFC 7239) is not read: a proxy that writes one of the two passes the other on as a client sent it.
HEADER = "X-Forwarded-For"
#: Characters of a name that is no address, as some proxies write it (`unknown`).
LONGEST = 64


class Proxies:
    """The proxies of INGRESS_TRUSTED_PROXIES."""

    def __init__(self, text: str) -> None:
        """text  addresses and networks, comma-separated, as `ranges.networks` allows them"""
        self._networks = tuple(map(ipaddress.ip_network, filter(None, map(str.strip, text.split(",")))))
        self.client = lru_cache(maxsize=4096)(self._client)

    def trusts(self, peer: object) -> bool:
        """Whether a socket's peer name is that of one of them."""
        return bool(self._networks) and isinstance(peer, tuple) and bool(peer) and self._is_one(str(peer[0]))

    def source(self, forwarded: Iterable[str]) -> str | None:
        """The source of a request from these header values, first to last; None if they name nobody but proxies."""
        return self.client(",".join(forwarded))

    def _client(self, forwarded: str) -> str | None:
        for hop in map(str.strip, reversed(forwarded.split(","))):
            text = _without_port(hop)
            if text and not self._is_one(text):
                # Who cannot be read as an address is told apart by the name that our own proxy gave it.
                return source_of((text[:LONGEST],))
        return None

    def _is_one(self, text: str) -> bool:
        address = address_of(text)
        return address is not None and any(address in network for network in self._networks)


def _without_port(hop: str) -> str:
    """`192.0.2.7:5000`, `[2001:db8::1]:5000` and `"…"` without what is around the address."""
    hop = hop.strip('"')
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
