"""`postlog settings`: every environment variable, its default and its meaning."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from console import options
from pipeline.settings import documented


@click.command()
@click.option("--markdown", is_flag=True, help="Print the table of docs/settings.md.")
def settings(*, markdown: bool) -> None:
    """List the environment variables that configure the services.

    \b
      postlog settings
      postlog settings --markdown
    """
    if markdown:
        click.echo(as_markdown(documented()))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("variable", "default", "meaning"):
        # A name that is cut is of no use; the meaning wraps.
        table.add_column(heading, header_style="dim", no_wrap=heading == "variable", overflow="fold")
    for variable, default, meaning in documented():
        table.add_row(*(Text(cell) for cell in (variable, default, meaning)))
    options.printer().print(table)


def as_markdown(rows: list[tuple[str, str, str]]) -> str:
    """The rows as a Markdown table; a default that is empty stays so."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for variable, default, meaning in rows:
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{variable}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
