"""`postlog token`: make a token for an operator or a tool."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from console import options, target
from pipeline import tokens
from pipeline.errors import ConfigError, PostlogError
from pipeline.tokens import Scope


@click.command()
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(tokens.SCOPES), default="read", show_default=True, help="What it is good for."
)
@click.option(
    "--file",
    type=options.FilePath(dir_okay=False, path_type=Path),
    help="Append its line to this file, OPERATOR_TOKENS_FILE of the services.",
)
def token(*, name: str, scope: Scope, file: Path | None) -> None:
    """Make a token for NAME, a person or a tool, and show it once.

    Services that others than this machine can reach give their metrics, the details of their health and the list only
    to whoever sends `Authorization: Bearer TOKEN`. What services keep is a line with its hash; without --file it is
    printed. To take a token back, delete its line: services read the file again by themselves.

    Commands of postlog send the token in the variable POSTLOG_TOKEN.

    \b
      postlog token grafana --file operator-tokens
      POSTLOG_TOKEN=postlog_… postlog status
    """
    text, kept = tokens.mint(name, scope, secrets.token_bytes(tokens.RANDOM_BYTES))
    if file is not None:
        _append(file, kept.name, kept.line)
    click.echo(text)
    click.echo("shown this once; keep it where secrets are kept", err=True)
    if file is None:
        click.echo(f"line for OPERATOR_TOKENS_FILE: {kept.line}", err=True)


def _append(file: Path, name: str, line: str) -> None:
    """Write the line behind the others, into a new file that takes the old one's place: nobody reads half of it."""
    try:
        before = file.read_text() if file.is_file() else ""
        if any(found.name == name for found in (tokens.parse(before, str(file)) if before.strip() else ())):
            raise ConfigError(f"{file}: there is a token of {name} already: take another name, or delete that line")
    except OSError as error:
        raise PostlogError(f"{file}: cannot be read: {error.strerror}") from None
    with target.whole(file, mode=0o644) as out:
        out.write(f"{before.rstrip()}\n{line}\n".lstrip().encode())
