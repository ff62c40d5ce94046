"""Writes the pages of docs/ that follow from the code: `make docs`. A test fails while one of them is out of date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click

from console.__main__ import main as postlog
from console.environment import as_markdown
from pipeline.settings import documented

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = "<!-- made by `make docs` -->"
#: Columns of a help text.
WIDTH = 100


def settings() -> str:
    """Every environment variable."""
    return _page(
        "Settings",
        "Every setting is an environment variable, read once at the start. A wrong one ends the start with exit\n"
        "code 2 and names the variable, what was given and what is allowed. `postlog settings` prints this table.",
        as_markdown(documented()),
    )


def commands() -> str:
    """The help of every command."""
    intro = "What `--help` says for each command. A bare `postlog` lists them."
    return _page("Commands", intro, *(f"## {name}\n\n```\n{text}\n```" for name, text in _helps("postlog", postlog)))


def decisions() -> str:
    """Links to the decision records, in the order of their numbers."""
    intro = "Why it is built as it is. A record says what was decided, why not otherwise, what would change our mind."
    records = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    return _page("Decisions", intro, "\n".join(f"- [{_title(path)}]({path.name})" for path in records))


PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "settings.md": settings,
    DOCS / "commands.md": commands,
    DOCS / "decisions" / "README.md": decisions,
}


def _page(title: str, intro: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}\n{MADE}", intro, *parts]) + "\n"


def _title(path: Path) -> str:
    return path.read_text().splitlines()[0].removeprefix("# ")


def _helps(name: str, command: click.Command) -> Iterator[tuple[str, str]]:
    """The name and the help text of a command, and of each below it."""
    context = click.Context(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _helps(f"{name} {below}", found)


if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page())
