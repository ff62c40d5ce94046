"""The secrets that providers sign with, from the setting or from a file that is watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.settings import SHORTEST_SECRET, Settings
from pipeline.watched import Watched

#: What returns the secrets that are valid now, in the order given; it may be called for every delivery.
Secrets = Callable[[], tuple[bytes, ...]]


def of(settings: Settings, name: str = "webhook_secret") -> Secrets:
    """The secrets of this setting, or of the file that the setting `name_file` names.

    Raises ConfigError when there is none, when one is too short to protect anything, or when both are set.
    """
    text, file = getattr(settings, name), getattr(settings, f"{name}_file")
    variable = name.upper()
    if not file:
        fixed = parse(text.replace(",", "\n"), variable)
        return lambda: fixed
    if text:
        raise ConfigError(f"{variable} and {variable}_FILE are both set: unset one of them.")
    return Watched(f"{variable}_FILE", Path(file), lambda found: parse(found, f"{variable}_FILE"))


def parse(text: str, name: str) -> tuple[bytes, ...]:
    """The signing secrets in a text, one in a line. name is that of the setting.

    Raises ConfigError when there is none or one is too short to protect anything.
    """
    secrets = tuple(part.strip() for part in text.splitlines() if part.strip())
    if not secrets:
        raise ConfigError(f"{name} holds no secret: put the provider's signing secret there.")
    if any(len(secret) < SHORTEST_SECRET for secret in secrets):
        raise ConfigError(
            f"{name} holds a secret of fewer than {SHORTEST_SECRET} characters: "
            "anybody could guess it; generate a new one with the provider."
        )
    return tuple(secret.encode() for secret in secrets)
