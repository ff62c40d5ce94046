"""With what a service or a command gets in where the tests' broker has users: each as its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"

#: By the address of a set-up client's listener: what makes a user's environment.
BROKERS: dict[str, Callable[[str], dict[str, str]]] = {}


def of(user: str, env: Mapping[str, str]) -> dict[str, str]:
    """The environment, with what this user needs to get in; as it is where the broker has no users."""
    found = BROKERS.get(env.get(VARIABLE, ""))
    return dict(env) | (found(user) if found else {})


def user_of(*args: str | Path) -> str:
    """Whose work a command is."""
    if args[:2] == ("topics", "apply"):
        return "topics"
    return "replay" if args[0] == "replay" else "console"
