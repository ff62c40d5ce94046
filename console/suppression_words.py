"""`postlog suppressions add` and `remove`: an operator's word about one address."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import click
import stamina

from console import asking, event_log, options
from console.known import Known, describe
from console.rows import millis
from console.running import Folder
from pipeline import operators
from pipeline.contract import Event, EventType
from pipeline.errors import PostlogError
from pipeline.operators import Said

#: Seconds in which a word shows in the list, unless something stands still.
PATIENCE = 10.0
_LATER = (
    "What stands there still is later than this word, by the broker's clock. If it happened just now, remove it "
    "again. If its time is in the future, a former release took it from a machine whose clock was wrong: see "
    "postlog replay --rebuild."
)


class NotYet(Exception):
    """The list does not show the word yet: ask again."""


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--no-wait", is_flag=True, help="Do not wait until the list shows it."),
        options.who,
        click.option("--because", required=True, callback=options.reason, help="Why; it is kept with the address."),
        options.lookup,
        options.data,
        click.pass_obj,
    ):
        command = option(command)
    return command


@click.command()
@options.an_address
@_common
def add(
    environ: options.Environ, *, email: str, because: str, who: str, no_wait: bool, url: str | None, folder: Folder
) -> None:
    """Say that ADDRESS must not be mailed. It stands until `remove`.

    \b
      postlog suppressions add someone@example.com --because "asked us by phone"
    """
    lookup = url or options.addresses(environ, folder).lookup
    _say(environ, folder, EventType.SUPPRESSED, email, Said(who, because), no_wait, lookup)


@click.command()
@options.an_address
@click.option("--force", is_flag=True, help="Also if the list does not hold it, or cannot be asked.")
@_common
def remove(
    environ: options.Environ,
    *,
    email: str,
    because: str,
    who: str,
    force: bool,
    no_wait: bool,
    url: str | None,
    folder: Folder,
) -> None:
    """Say that ADDRESS may be mailed again: nothing that happened until now counts any more.

    A later bounce, complaint or unsubscribe suppresses it again.

    \b
      postlog suppressions remove someone@example.com --because "mailbox is repaired"
    """
    lookup = url or options.addresses(environ, folder).lookup
    if not force and not asking.one(lookup, email)[0].suppressed:
        click.echo(f"{email}: is not suppressed, so nothing is done; --force says it all the same")
        return
    _say(environ, folder, EventType.REINSTATED, email, Said(who, because), no_wait, lookup)


def word(email: str, kind: EventType, said: Said, *, now: int) -> Event:
    """The event that says it; now in ms. It counts from when the log takes it, whatever this machine's clock says."""
    return operators.event(email, kind, said, id=uuid.uuid4().hex, id_basis="id", now=now)


def _say(
    environ: options.Environ, folder: Folder, kind: EventType, email: str, said: Said, no_wait: bool, lookup: str
) -> None:
    event = word(email, kind, said, now=int(time.time() * 1000))
    written = asyncio.run(event_log.append(options.cluster_settings(environ, folder), [event]))
    if no_wait:
        click.echo(f"{email}: written to the log")
        return
    known = _shown(lookup, event, written.at)
    click.echo(describe(known))
    if kind is EventType.REINSTATED and known.suppressed:
        click.echo(_LATER, err=True)


def _shown(lookup: str, event: Event, at: int) -> Known:
    """What the list says once it holds the word, which the log took at `at` (ms), or a later one.

    Raises PostlogError if that takes too long.
    """
    try:
        for attempt in stamina.retry_context(
            on=(NotYet, PostlogError), timeout=PATIENCE, attempts=None, wait_initial=0.05, wait_max=0.3
        ):
            with attempt:
                known, _ = asking.one(lookup, event.email or "")
                if known.operator is None or millis(known.operator.at) < at:
                    raise NotYet
    except (NotYet, PostlogError) as error:
        raise PostlogError(
            f"{event.email}: written to the log and will count, but the list does not show it within {PATIENCE:g} s "
            f"({error or 'is a processor up?'}). See postlog status."
        ) from None
    return known
