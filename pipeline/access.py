"""Who may use the surfaces of a service that are for operators: its metrics, the details of its health, the list.

A shell over a file and aiohttp; `tokens` and `loopback` hold the rules. On this machine alone everybody may who asks
for it by its own name, unless there is a file of tokens. What binds elsewhere needs one. The file is read again when
it changes, so tokens come and go without a restart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from pipeline import loopback, tokens
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.tokens import Scope, Token
from pipeline.watched import Watched

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: What somebody is told who is kept out where there are no tokens.
NOT_HERE = (
    "without operators' tokens only this machine is answered, and asked by its own name: ask 127.0.0.1 or localhost, "
    "or make tokens with `postlog token NAME --file FILE` and set OPERATOR_TOKENS_FILE"
)


class Access:
    """Decides over requests. Made by `of`, or with None for everybody on this machine."""

    def __init__(self, file: Path | None) -> None:
        """Raises ConfigError if the file cannot be read, or a line of it is no token."""
        self._tokens: Callable[[], tuple[Token, ...]] | None = None
        if file is not None:
            # Looked at for every question: who lost a token has lost it now.
            self._tokens = Watched(
                "OPERATOR_TOKENS_FILE",
                file,
                lambda text: _parsed(text, file),
                cure="; make it with postlog token",
                look_seconds=0,
            )

    def allows(self, request: web.Request, scope: Scope = "read") -> bool:
        """Whether whoever asks may do that."""
        if self._tokens is None:
            headers = request.headers
            return loopback.asked_here(headers.getall("Host", ()), headers.get("Origin"))
        return any(found.may(scope) for found in self._holders(request))

    def guarded(self, handler: Handler, scope: Scope = "read") -> Handler:
        """The handler, for those who may: 401 without a token that is known, 403 with one of too small a scope.

        Where there are no tokens: 403 for who asks for another machine, or on behalf of one.
        """

        async def guard(request: web.Request) -> web.StreamResponse:
            if self.allows(request, scope):
                return await handler(request)
            if self._tokens is None:
                return _refusal(403, NOT_HERE)
            if self._holders(request):
                return _refusal(403, f"this token may not {scope}")
            return _refusal(401, "an operator's token is missing or unknown: Authorization: Bearer …")

        return guard

    def _holders(self, request: web.Request) -> list[Token]:
        known = self._tokens() if self._tokens is not None else ()
        found = tokens.holder(known, request.headers.get("Authorization"))
        return [found] if found else []


def _parsed(text: str, file: Path) -> tuple[Token, ...]:
    try:
        return tokens.parse(text, str(file))
    except ConfigError as error:
        raise ConfigError(f"OPERATOR_TOKENS_FILE: {error}") from None


def of(settings: Settings, host: str, name: str) -> Access:
    """The access to a service that binds to this host; name is that of the setting.

    Raises ConfigError if others than this machine could reach it and there are no tokens.
    """
    if settings.operator_tokens_file:
        return Access(Path(settings.operator_tokens_file))
    if not loopback.is_loopback(host):
        raise ConfigError(
            f"{name} is {host!r}, so others could reach it: make tokens with `postlog token NAME --file FILE` and "
            f"set OPERATOR_TOKENS_FILE to that file, or set {name} to 127.0.0.1"
        )
    return Access(None)


def _refusal(status: int, text: str) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.json_response({"error": text}, status=status, headers=headers)
