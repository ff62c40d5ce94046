"""Operators' tokens: how one is made, how a file of them reads, and whose a header is.

Pure. A token is 32 random bytes, so its SHA-256 says nothing about it and needs no salt and no slow hash, as a
password would; only that is kept. A line of the file is `name scope sha256`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from pipeline.errors import ConfigError

#: `read` may look, `operate` may also change something.
Scope = Literal["read", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: Bytes of randomness in a token.
RANDOM_BYTES = 32
PREFIX = "postlog_"

_LINE = re.compile(r"([A-Za-z0-9._@-]{1,64}) +(read|operate) +([0-9a-f]{64})")


class Token(msgspec.Struct, frozen=True):
    """What is kept of one token; digest in lowercase hex."""

    name: str
    scope: Scope
    digest: str

    def may(self, scope: Scope) -> bool:
        """Whether it is good for that."""
        return scope == "read" or self.scope == "operate"

    @property
    def line(self) -> str:
        """Its line in the file."""
        return f"{self.name} {self.scope} {self.digest}"


def mint(name: str, scope: Scope, randomness: bytes) -> tuple[str, Token]:
    """A new token, to be shown once, and what is kept of it. Raises ConfigError if the name does not fit a line."""
    text = PREFIX + urlsafe_b64encode(randomness).decode().rstrip("=")
    token = Token(name, scope, _digest(text))
    if not _LINE.fullmatch(token.line):
        raise ConfigError(f"{name!r} is no name for a token: 1 to 64 letters, digits and . _ @ -")
    return text, token


def parse(text: str, source: str) -> tuple[Token, ...]:
    """The tokens of a file; empty lines and lines with # do not count.

    Raises ConfigError naming the source, the line and the cure. What stands there is not repeated: somebody may have
    put the token itself.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigError(
                f"{source}, line {number}: not `name read|operate sha256`; postlog token writes such lines"
            )
        found.append(Token(match[1], "operate" if match[2] == "operate" else "read", match[3]))
    if not found:
        raise ConfigError(f"{source}: no token in it; make one with postlog token NAME --file {source}")
    return tuple(found)


def sendable(text: str, name: str) -> str:
    """A token as a header may hold it, without white space around; name is that of the variable it comes from.

    Raises ConfigError, and does not show it.
    """
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{name} is set to what is no token: put what postlog token showed there, and nothing else."
        )
    return token


def holder(tokens: Iterable[Token], authorization: str | None) -> Token | None:
    """Whose token an Authorization header bears (RFC 6750, 2.1); None if nobody's."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    digest = _digest(given.strip())
    found = None
    for token in tokens:  # all of them, so that the time tells nothing about their order
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
