"""`postlog suppressions`: may this address be mailed, and what an operator has to say about it."""

from __future__ import annotations

import click

from console import asking, options
from console.known import describe
from console.running import Folder
from console.suppression_files import export, import_
from console.suppression_list import list_
from console.suppression_words import add, remove


@click.group()
def suppressions() -> None:
    """Ask the suppression list, and change it.

    Every change is an event on the log, like a provider's, and keeps who made it and why.
    """


@suppressions.command()
@options.an_address
@options.lookup
@options.as_json
@options.data
@click.pass_obj
def get(environ: options.Environ, *, email: str, url: str | None, as_json: bool, folder: Folder) -> None:
    """Say whether ADDRESS may be mailed, and what stands against it since when.

    Exits with 0 whatever the answer is, 1 if there is none: a script asks with --json and reads `suppressed`.

    \b
      postlog suppressions get someone@example.com
      postlog suppressions get someone@example.com --json | jq .suppressed
    """
    known, body = asking.one(url or options.addresses(environ, folder).lookup, email)
    click.echo(body if as_json else describe(known))


for command in (list_, export, import_, add, remove):
    suppressions.add_command(command)
