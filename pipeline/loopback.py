"""Whether a request was meant for this machine by its own name, as a browser says it.

Pure. A service that binds to the loopback interface is reached by every program here, so also by a browser, and the
pages in that may come from anywhere. A name of such a page can lead to 127.0.0.1 (DNS rebinding), and then the page
may read the answer: only `Host` tells that it asked for another name. A page can change neither that nor `Origin`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

_AUTHORITY = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::[0-9]*)?")
_ORIGIN = re.compile(r"https?://(.+)")


def is_loopback(host: str) -> bool:
    """Whether this name or address is that of the loopback interface wherever it is asked for."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def asked_here(hosts: Sequence[str], origin: str | None) -> bool:
    """Whether a request names the loopback interface, and comes from no page of another machine.

    hosts   every `Host` header of it. One that names nothing is not meant for us: no browser leaves it out, and in
            doubt the answer is no
    origin  its `Origin` header: the page that a browser asks for, if it is another one than that which answers
    """
    return len(hosts) == 1 and names(hosts[0]) and (origin is None or _of_page(origin))


# Nearly every request says the same.
@lru_cache(maxsize=64)
def names(authority: str) -> bool:
    """Whether this is the loopback interface: a host, or host:port, as in a URL."""
    found = _AUTHORITY.fullmatch(authority)
    return found is not None and is_loopback(found[1] or found[2])


def _of_page(origin: str) -> bool:
    found = _ORIGIN.fullmatch(origin)
    return found is not None and names(found[1])
