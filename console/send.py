"""`postlog send`: post deliveries to the ingress, from a file or as many samples as wished."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from console import lines, options, sample, sender
from console.running import Folder
from console.sender import Tally, Target
from console.tries import INTERRUPTED, NO_ANSWER, Summary
from pipeline import secrets
from pipeline import settings as environment
from pipeline.errors import ConfigError, Interrupted, PostlogError, Unanswered

#: Longest line that is read from a pipe, in bytes; the ingress takes no larger body by default.
LONGEST_LINE = 4 * 1024 * 1024


@click.command()
@click.argument(
    "file", required=False, type=options.FilePath(path_type=Path, dir_okay=False, exists=True, allow_dash=True)
)
@click.option("--sample", "count", type=click.IntRange(min=1), help="Make this many deliveries instead of reading.")
@click.option(
    "--duplicates",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the sample that repeats earlier deliveries.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Make the same sample again; random if not given.")
@click.option("--url", type=options.Filled(), help="The ingress, if not the running system's.")
@click.option(
    "--secret", type=options.Filled(), help="The signing secret; otherwise WEBHOOK_SECRET, or the running system's."
)
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=64, show_default=True)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="Tries per delivery; twelve take about half a minute.",
)
@click.option("--unchecked", is_flag=True, help="Send the lines as they are, e.g. to see a dead letter.")
@options.as_json
@options.data
@click.pass_obj
def send(
    environ: options.Environ,
    *,
    file: Path | None,
    count: int | None,
    duplicates: float,
    seed: int | None,
    url: str | None,
    secret: str | None,
    concurrency: int,
    tries: int,
    unchecked: bool,
    as_json: bool,
    folder: Folder,
) -> None:
    """Post signed deliveries to the ingress, as NexusProMail does.

    FILE holds one delivery per line: {"id": "…", "type": "bounced.hard", "data": {"email": "…"}}; - reads standard
    input. A file is checked before anything is sent; of standard input, what comes before a bad line is sent.

    Anything but a 200 is tried again, with growing waits and as long as Retry-After asks. Exits with 1 if a delivery
    failed for good.

    \b
      postlog send deliveries.ndjson
      postlog send --sample 100000 --duplicates 0.1 --seed 7
      echo '{"id": "1", "type": "complained", "data": {"email": "a@example.com"}}' | postlog send -
    """
    if (file is None) == (count is None):
        raise click.UsageError("give either FILE or --sample N")
    where = endpoint(url or options.addresses(environ, folder).ingress)
    target = Target(where, _secret(environ, secret, folder), concurrency, tries)
    if file is not None:
        result = _run(_lines(file, check=not unchecked), target, _count(file, check=not unchecked))
    else:
        result = _send_sample(target, count or 0, duplicates, random.getrandbits(32) if seed is None else seed)
    if as_json:
        click.echo(msgspec.json.encode(result))
    elif result.sent:
        options.printer().print(report(result))
    _require_all_kept(result, tries)


def _require_all_kept(result: Summary, tries: int) -> None:
    """Raises PostlogError saying what was not kept, Interrupted if somebody stopped it."""
    if result.stopped == INTERRUPTED:
        again = "The same command can" if result.seed is None else f"The same command with --seed {result.seed} can"
        raise Interrupted(
            f"{result.ok:,} deliveries were answered 200, those that were under way may have been kept, too. "
            f"{again} be typed again: what was kept counts once."
        )
    error = Unanswered if result.answers.keys() == {NO_ANSWER} else PostlogError
    if result.stopped:
        raise error(result.stopped)
    if result.failed:
        raise error(
            f"{result.failed} of {result.sent} deliveries failed after {tries} tries each; see postlog status."
        )


def _send_sample(target: Target, count: int, duplicates: float, seed: int) -> Summary:
    made = sample.deliveries(count, duplicates, seed)
    result = _run(_each(delivery.body() for delivery in made), target, count)
    return msgspec.structs.replace(result, seed=seed, distinct=sample.distinct(count, duplicates))


def _run(bodies: AsyncIterator[bytes], target: Target, total: int | None) -> Summary:
    """Send with a progress bar on the terminal, or silently where there is none."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, note="")

        def show(tally: Tally) -> None:
            bar.update(task, completed=tally.done, note=f"retried {tally.retried}, failed {tally.failed}")

        return uvloop.run(sender.send(bodies, target, show))


def endpoint(url: str) -> str:
    """Where to post: the path of the webhook goes after an address that has none.

    Raises ConfigError if this is no HTTP address.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"--url is {url!r}: it needs to be like http://127.0.0.1:8080")
    return url if parts.path.strip("/") else f"{url.rstrip('/')}{sender.PATH}"


def _secret(environ: options.Environ, given: str | None, folder: Folder) -> bytes:
    """The newest secret of those given here, in the environment, or kept in the data folder, in this order."""
    settings = environment.load(environ)
    if not given and settings.webhook_secret_file:
        return secrets.of(settings)()[0]
    text = given or settings.webhook_secret or folder.kept_secret()
    if not text:
        raise ConfigError(
            "no signing secret: give --secret, set WEBHOOK_SECRET, or start postlog up, "
            f"which keeps one in {folder.secret}."
        )
    return secrets.parse(text.replace(",", "\n"), "--secret" if given else "WEBHOOK_SECRET")[0]


def _count(file: Path, *, check: bool) -> int | None:
    """How many deliveries a file holds, None for what can be read only once. Raises PostlogError for a bad line."""
    if not file.is_file():
        return None
    with file.open("rb") as source:
        return sum(1 for _ in lines.bodies(source, check=check))


async def _lines(file: Path, *, check: bool) -> AsyncIterator[bytes]:
    """The bodies in a file, or in standard input as they come."""
    if file != Path("-"):
        with file.open("rb") as source:
            for body in lines.bodies(source, check=False):
                yield body
    elif stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        for body in lines.bodies(sys.stdin.buffer, check=check):
            yield body
    else:
        async for body in _piped(check=check):
            yield body


async def _piped(*, check: bool) -> AsyncIterator[bytes]:
    """The bodies in a pipe, which may be slow: deliveries under way must not wait for the next line."""
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin.buffer)
    with contextlib.closing(transport):
        number = 0
        while line := await _line(reader, number + 1):
            number += 1
            if (body := lines.body(line, number, check=check)) is not None:
                yield body


async def _line(reader: asyncio.StreamReader, number: int) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        raise PostlogError(f"line {number}: longer than {LONGEST_LINE} bytes, which no ingress takes") from None


async def _each(bodies: Iterator[bytes]) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body


def report(result: Summary) -> Table:
    """The summary for people."""
    table = Table(show_header=False, box=None)
    table.add_column(justify="right")
    table.add_column()
    others = [f"{count} × {status}" for status, count in result.answers.items() if status != "200"]
    rows = [
        (result.sent, "sent" + (f", {result.distinct} distinct (--seed {result.seed})" if result.distinct else "")),
        (result.ok, "answered 200"),
        (result.retried, "retried" + (f", after {', '.join(others)} (none: no answer)" if others else "")),
        (result.failed, "failed"),
        (f"{result.per_second:g}", f"per second, {result.seconds:g} s in all"),
        (_ms(result.p50_ms), "ms latency of the tries answered 200, median"),
        (_ms(result.p99_ms), "ms, 99 of 100 within"),
    ]
    for number, meaning in rows:
        table.add_row(str(number), meaning)
    return table


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
