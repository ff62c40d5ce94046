"""`postlog suppressions list`: who must not be mailed."""

from __future__ import annotations

import asyncio
from typing import get_args

import click
import msgspec

from console import asking, options
from console.known import Known
from console.running import Folder
from pipeline.suppression import Cause


@click.command("list")
@click.option("--cause", type=click.Choice(get_args(Cause)), help="Only those that this stands against.")
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="Most rows; 0: all.")
@options.lookup
@options.as_json
@options.data
@click.pass_obj
def list_(
    environ: options.Environ, *, cause: Cause | None, limit: int, url: str | None, as_json: bool, folder: Folder
) -> None:
    """Show the addresses that must not be mailed, a line each: address, causes, latest news.

    \b
      postlog suppressions list
      postlog suppressions list --cause complaint --limit 0 --json
    """
    where = url or options.addresses(environ, folder).lookup
    if asyncio.run(_show(where, cause, limit, as_json)):
        click.echo(f"there are more than {limit}: --limit 0 shows all", err=True)


async def _show(url: str, cause: Cause | None, limit: int, as_json: bool) -> bool:
    """Print the rows; whether there are more than the limit."""
    shown = 0
    async for known in asking.everything(url):
        # A record that cannot be read may hold any cause.
        if cause and known.suppressed and cause not in known.causes:
            continue
        if limit and shown == limit:
            return True
        click.echo(msgspec.json.encode(known) if as_json else line(known))
        shown += 1
    return False


def line(known: Known) -> str:
    """A row for people."""
    if known.suppressed is None:
        return f"{known.email}  {known.error}"
    return f"{known.email}  {', '.join(known.causes)}  {known.updated_at}"
