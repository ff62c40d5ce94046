"""What a setting may hold: types with a range, and what its text has to be.

Pure. What always holds: every number has both ends, since one that is too large for a timer, a socket or a field of
Kafka's protocol would end a process later, in words of a library. Every text is UTF-8 without NUL, since it names a
file, a host or a password to libraries that take nothing else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

#: More processes than this start nothing but memory.
MOST_WORKERS = 256
#: Characters of a text; no list of secrets or URLs comes near it.
LONGEST_TEXT = 32_768
LAST_PORT = 65_535

Port = Annotated[int, Meta(ge=0, le=LAST_PORT)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
CountOrNone = Annotated[int, Meta(ge=0, le=10**9)]
#: Bytes, a petabyte at most.
Size = Annotated[int, Meta(ge=1, le=2**50)]
#: Copies of something: Kafka's replicas, standbys.
Copies = Annotated[int, Meta(ge=0, le=100)]
Workers = Annotated[int, Meta(ge=1, le=MOST_WORKERS)]
#: An open file that a process inherits; -1 for none.
Descriptor = Annotated[int, Meta(ge=-1, le=2**20)]
#: Seconds that somebody waits for: an hour at most.
Patience = Annotated[float, Meta(gt=0, le=3600)]
#: Seconds of anything else, a year at most.
Seconds = Annotated[float, Meta(gt=0, le=366 * 86_400)]

_NAME = re.compile(r"[^\s,/@:\[\]\\?#%]+")
_BROKER = re.compile(r"(.+):([0-9]{1,5})", re.DOTALL)


def text(given: str) -> str | None:
    """What is wrong with the text of any setting; None if nothing."""
    if "\0" in given:
        return "it holds a NUL"
    if len(given) > LONGEST_TEXT:
        return f"it is longer than {LONGEST_TEXT} characters"
    try:
        given.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return None


def path(given: str) -> str | None:
    """What is wrong with the name of a file or folder; None if nothing."""
    return "expected a path in one line" if any(not character.isprintable() for character in given) else None


def host(given: str) -> str | None:
    """What is wrong with a name or an IP address; None if nothing."""
    wrong = "expected a name or an IP address"
    try:
        ipaddress.ip_address(given)
    except ValueError:
        # DNS knows no name whose last part is a number; what looks like an address must be one.
        if not _NAME.fullmatch(given) or given.rstrip(".").rpartition(".")[2].isdecimal():
            return wrong
        try:
            given.encode("idna")
        except UnicodeError:
            return wrong
    return None


def brokers(given: str) -> str | None:
    """What is wrong with a list of brokers; None if nothing."""
    for broker in given.split(","):
        found = _BROKER.fullmatch(broker.strip())
        if not found or not 1 <= int(found[2]) <= LAST_PORT:
            return "expected host:port, several comma-separated, each port from 1 to 65535"
        name = found[1]
        if wrong := host(name[1:-1] if name[0] == "[" and name[-1] == "]" else name):
            return f"{wrong} before each port"
    return None


def networks(given: str) -> str | None:
    """What is wrong with a list of addresses and networks; None if nothing. Everybody is no network."""
    for part in filter(None, map(str.strip, given.split(","))):
        try:
            everybody = ipaddress.ip_network(part).prefixlen == 0
        except ValueError:
            return "expected addresses and networks like 10.0.0.7 or 10.0.0.0/8, comma-separated"
        if everybody:
            return "expected addresses of your own: whoever is meant there may name any client"
    return None


def described(schema: Mapping[str, Any]) -> str:
    """What the JSON schema of a setting allows, as the end of a sentence."""
    if choices := schema.get("enum"):
        return f"expected one of {', '.join(sorted(choices))}"
    kind = "a whole number" if schema.get("type") == "integer" else "a number"
    least = f"above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else f"from {schema.get('minimum')}"
    return f"expected {kind} {least} to {schema.get('maximum')}"
