"""How a person says which letters are meant: ids, or options that match; and who they are."""

from __future__ import annotations

import functools
import getpass
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import click

from console import letters, moments
from console.letters import Index, Letter, Refused, Wanted
from pipeline.contract import EventType
from pipeline.letters import ID, Standing

F = TypeVar("F", bound=Callable[..., Any])


class Moment(click.ParamType):
    """A time as ms since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return moments.read(str(value), int(time.time() * 1000))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither like 2h (s, m, h, d) nor like 2026-01-31T12:00:00Z", param, ctx)


class Id(click.ParamType):
    """A letter's id."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not ID.fullmatch(str(value)):
            self.fail(f"{value!r} is no id of a letter, like 3-17 or i0-4; see postlog dlq list", param, ctx)
        return str(value)


_STANDINGS = get_args(Standing)
_FILTERS = (
    click.option("--type", "kind", type=click.Choice([known.value for known in EventType]), help="Event type."),
    click.option("--provider", help="Who sent it."),
    click.option("--error", help="What went wrong, like NoRecipient."),
    click.option("--since", type=Moment(), help="Failed last at or after: 2h ago, or 2026-01-31T12:00:00Z."),
    click.option("--until", type=Moment(), help="Failed last before."),
    click.option(
        "--state", type=click.Choice([*_STANDINGS, "any"]), default="open", show_default=True, help="Where it stands."
    ),
    click.option("--limit", type=click.IntRange(min=0), help="At most this many, the longest waiting first; 0: all."),
)
yes = click.option("--yes", is_flag=True, help="Do not ask.")
who = click.option(
    "--who",
    callback=lambda _, __, given: given or _me(),
    help="Who is noted in the letter's history; user@host otherwise.",
)


def filtered(command: F) -> F:
    """The options that choose letters, as `wanted` and `limit`."""

    @functools.wraps(command)
    def with_wanted(*args: Any, **given: Any) -> Any:
        state = given.pop("state")
        chosen = {name: given.pop(name) for name in ("provider", "error", "since", "until")}
        wanted = Wanted(type=given.pop("kind"), state=None if state == "any" else state, **chosen)
        return command(*args, wanted=wanted, **given)

    decorated: Any = with_wanted
    for option in reversed(_FILTERS):
        decorated = option(decorated)
    found: F = decorated
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """The letters that a person means: those named, or all that match, at most `limit` of them (0 and None: all)."""

    ids: tuple[str, ...]
    every: bool
    wanted: Wanted
    limit: int | None

    def __post_init__(self) -> None:
        narrowed = self.wanted != Wanted(state="open") or self.limit is not None
        if bool(self.ids) == self.every or (self.ids and narrowed):
            raise click.UsageError("give either IDs, or --all with the options that narrow it")

    def of(self, index: Index) -> tuple[list[Letter], list[Refused]]:
        """The letters, and what there is none of."""
        if self.every:
            return letters.select(index, self.wanted)[: self.limit or None], []
        found = list(letters.named(index, self.ids))
        return [x for x in found if isinstance(x, Letter)], [x for x in found if isinstance(x, Refused)]


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container's user may have a number and no name
    return f"{user}@{socket.gethostname()}"
