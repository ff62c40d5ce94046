"""`postlog suppressions import` and `export`: the list from and into a file."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from console import asking, event_log, list_text, options, rows, target
from console.event_log import Written
from console.known import Known
from console.list_layout import Layout
from console.rows import Bad, Entry, Format
from console.running import Folder
from pipeline.contract import Event
from pipeline.errors import PostlogError

#: Bad lines that are named; whoever has more mends the pattern first.
MOST_NAMED = 20
_FILE = options.FilePath(path_type=Path, dir_okay=False)


@click.command("import")
@click.argument("file", type=options.FilePath(path_type=Path, dir_okay=False, exists=True))
@click.option("--because", default="", callback=options.reason, help="Why, for rows that do not say so themselves.")
@options.who
@click.option("--format", "form", type=click.Choice(["csv", "ndjson"]), help="If the extension does not say it.")
@click.option("--dry-run", is_flag=True, help="Only check the file.")
@options.data
@click.pass_obj
def import_(
    environ: options.Environ,
    *,
    file: Path,
    because: str,
    who: str,
    form: Format | None,
    dry_run: bool,
    folder: Folder,
) -> None:
    """Write every row of FILE to the log: an address, and what stands against it.

    Columns: email; and if wished cause (hard_bounce, complaint, unsubscribed or, otherwise, operator), at (RFC 3339,
    otherwise now), because, who. CSV begins with a line that names them, or each line is an address and nothing else;
    commas, semicolons or tabs separate, in UTF-8 or UTF-16 as spreadsheets save it. NDJSON is an object per line.

    The whole file is checked before anything is sent. The same row again within 48 hours is dropped as a duplicate,
    from whatever file it comes.

    \b
      postlog suppressions import list.csv --because "from the former provider"
      postlog suppressions import addresses.txt --dry-run
    """
    if not file.is_file():
        raise click.BadParameter("not a file that can be read twice: write it into one first", param_hint="FILE")
    form = form or rows.format_to_read(file.name)
    total = _check(file, form)
    if dry_run:
        click.echo(f"{file}: {total} rows, all of them good; nothing was sent")
        return
    now = int(time.time() * 1000)
    events = (
        rows.event(entry, now=now, who=who, because=because, otherwise=f"import of {file.name}")
        for entry in _good(file, form)
    )
    written = _send(environ, folder, events, total)
    click.echo(f"{written.count} rows are on the log; postlog status shows when they are processed")


def _read(file: Path, form: Format, notice: Callable[[str], None] = lambda _: None) -> Iterator[Entry | Bad]:
    """The rows of a file; notice is told how it is read, unless it is what `export` writes."""
    with list_text.opened(file) as (encoding, lines):

        def laid_out(layout: Layout) -> None:
            if encoding != "UTF-8" or not layout.as_exported:
                notice(f"{encoding}, {layout.told}")

        yield from rows.entries(lines, form, laid_out)


def _check(file: Path, form: Format) -> int:
    """How many rows the file holds, once people are told how it is read. Raises PostlogError naming the bad lines."""
    count, bad, named = 0, 0, list[str]()
    for found in _read(file, form, lambda how: click.echo(f"{file}: read as {how}", err=True)):
        if isinstance(found, Entry):
            count += 1
        else:
            bad += 1
            if bad <= MOST_NAMED:
                named.append(f"  line {found.line}: {found.reason}")
    if bad:
        more = [f"  and {bad - MOST_NAMED} more"] if bad > MOST_NAMED else []
        raise PostlogError("\n".join([f"{file}: {bad} bad lines, nothing was sent:", *named, *more]))
    return count


def _good(file: Path, form: Format) -> Iterator[Entry]:
    for found in _read(file, form):
        if isinstance(found, Bad):
            raise PostlogError(f"{file}: line {found.line} changed while it was read: {found.reason}")
        yield found


def _send(environ: options.Environ, folder: Folder, events: Iterator[Event], total: int) -> Written:
    with _bar(total) as progress:
        return asyncio.run(event_log.append(options.cluster_settings(environ, folder), events, progress))


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's standard error; call it with the number done so far."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


@click.command()
@click.argument("file", required=False, type=_FILE)
@click.option("--csv", "form", flag_value="csv", help="Columns email, cause, at, because, who.")
@click.option("--ndjson", "form", flag_value="ndjson", help="An object per line with the same fields.")
@options.lookup
@options.data
@click.pass_obj
def export(
    environ: options.Environ, *, file: Path | None, form: Format | None, url: str | None, folder: Folder
) -> None:
    """Write what stands against every suppressed address into FILE, or to standard output; `import` reads it again.

    A row per cause; a cause that came more than once has two, its first and its latest time. FILE appears when it is
    complete, and only its owner may read it: addresses are personal data. A link is followed; a pipe or a device is
    written into.

    \b
      postlog suppressions export suppressed.csv
      postlog suppressions export --ndjson | jq -r .email
    """
    if form is None and file is None:
        raise click.UsageError("give --csv or --ndjson, or a FILE with such an extension")
    form = form or rows.format_of(file.name if file else "")
    lookup = url or options.addresses(environ, folder).lookup
    with _bar(None) as progress, target.whole(file) if file else nullcontext(sys.stdout.buffer) as out:
        count = asyncio.run(_export(lookup, form, out, progress))
    click.echo(f"{count} addresses" + (f" in {file}" if file else ""), err=True)


async def _export(url: str, form: Format, out: IO[bytes], progress: Callable[[int], None]) -> int:
    count = 0
    out.write(rows.heading(form))
    async for known in _readable(asking.everything(url)):
        out.writelines(rows.line(row, form) for row in rows.rows_of(known))
        count += 1
        progress(count)
    out.flush()
    return count


async def _readable(found: AsyncIterator[Known]) -> AsyncIterator[Known]:
    async for known in found:
        if known.suppressed is None:
            # A file without it would let somebody mail it.
            raise PostlogError(f"{known.email}: {known.error}. Without it the export would not be whole.")
        yield known
