"""`postlog dlq`: look at dead letters, send them round again, or put them away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console

from console import consent, letter_options, letter_view, letter_work, letters, options
from console.letter_options import Choice, Id
from console.letters import Letter, Wanted
from console.redrive import Order, Outcome
from console.running import Folder


@click.group()
def dlq() -> None:
    """Look at dead letters, send them round again, or put them away.

    A dead letter is a record or delivery that could not be processed. Its id is the place where its event first stood
    in the log, as PARTITION-OFFSET, or iPARTITION-OFFSET for a delivery that never became a record; it stays the same
    however often the letter is sent round again and fails.

    \b
      postlog dlq list --summary                       what died, and why
      postlog dlq show 3-17                            all about one letter
      postlog dlq redrive --all --error NoRecipient --dry-run
      postlog dlq redrive 3-17                         the cause is mended: process it again
      postlog dlq discard 3-17 --because "test data"   nobody needs it
    """


@dlq.command(name="list")
@letter_options.filtered
@click.option("--summary", is_flag=True, help="Count by error, type and provider.")
@options.as_json
@options.data
@click.pass_obj
def list_(
    environ: options.Environ, *, wanted: Wanted, limit: int | None, summary: bool, as_json: bool, folder: Folder
) -> None:
    """List the letters that match, the longest waiting first; 50 if --limit does not say otherwise.

    Addresses are masked. --json lists all that match, unless there is a --limit.

    \b
      postlog dlq list
      postlog dlq list --summary --since 24h
      postlog dlq list --error Undecodable --provider nexuspromail --limit 500
      postlog dlq list --state any --json | jq -r '.letters[].id'
    """
    index = letter_work.asked(letter_work.index_of(options.cluster_settings(environ, folder)))
    found = letters.select(index, wanted)
    if summary:
        groups = letters.groups(found[: limit or None])
        _print(as_json, {"groups": groups}, lambda: letter_view.counted(groups))
        return
    most = (None if as_json else 50) if limit is None else limit or None
    rows = [letter_view.row(index, letter) for letter in found[:most]]
    _print(as_json, {"letters": rows, "total": len(found)}, lambda: letter_view.listed(rows, len(found)))


@dlq.command()
@click.argument("identity", metavar="ID", type=Id())
@click.option("--reveal", is_flag=True, help="Do not mask the address.")
@options.as_json
@options.data
@click.pass_obj
def show(environ: options.Environ, *, identity: str, reveal: bool, as_json: bool, folder: Folder) -> None:
    """Show all of one letter: where it stood, why it failed, what was done about it, and what it says.

    The address is masked in payload, key, headers and messages alike, since it is personal data; --reveal shows
    payload, key and headers as they are.

    \b
      postlog dlq show 3-17
      postlog dlq show i0-4 --reveal
      postlog dlq show 3-17 --json | jq .failures
    """
    found = letter_work.asked(letter_work.whole(options.cluster_settings(environ, folder), identity, reveal=reveal))
    _print(as_json, found, lambda: letter_view.told(found))


@dlq.command(name="redrive")
@click.argument("ids", metavar="[ID]...", type=Id(), nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every letter that the options below match, instead of IDs.")
@letter_options.filtered
@click.option("--dry-run", is_flag=True, help="Show what would be sent; send nothing.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most this many letters per second.")
@click.option(
    "--force",
    is_flag=True,
    help=f"Also what was discarded, or was sent round {letters.MOST_REDRIVES} times already.",
)
@letter_options.yes
@letter_options.who
@options.as_json
@options.data
@click.pass_obj
def redrive_(
    environ: options.Environ,
    *,
    ids: tuple[str, ...],
    every: bool,
    wanted: Wanted,
    limit: int | None,
    dry_run: bool,
    rate: float | None,
    force: bool,
    yes: bool,
    who: str,
    as_json: bool,
    folder: Folder,
) -> None:
    """Send letters round again, once what made them fail is mended.

    A record goes back to where it came from and is processed as that very record, so nothing is applied twice. A
    delivery that could not be read is read again; if it still cannot be, it is refused and stays open. A letter that
    fails again is open again, with one more failure in its history. --all shows how many they are and asks first.

    Exits with 1 if a letter was refused.

    \b
      postlog dlq redrive 3-17 i0-4
      postlog dlq redrive --all --error Unreadable --dry-run
      postlog dlq redrive --all --error Unreadable --since 24h --limit 1000 --rate 100 --yes
      postlog dlq redrive 3-17 --force
    """
    choice = Choice(ids, every, wanted, limit)
    order = Order(who=who, force=force, dry_run=dry_run, rate=rate)
    ask = _consent("Send {} round again?", every=every, yes=yes or dry_run)
    work = letter_work.redriven(options.cluster_settings(environ, folder), choice, order, ask)
    outcome = letter_work.asked(work)
    _report("would be sent" if dry_run else "sent", outcome, dry_run=dry_run, as_json=as_json)


@dlq.command()
@click.argument("ids", metavar="[ID]...", type=Id(), nargs=-1)
@click.option("--because", required=True, help="Why nobody needs it; it is kept with the letter.")
@click.option("--all", "every", is_flag=True, help="Every letter that the options below match, instead of IDs.")
@letter_options.filtered
@click.option("--dry-run", is_flag=True, help="Show what would be discarded; change nothing.")
@letter_options.yes
@letter_options.who
@options.as_json
@options.data
@click.pass_obj
def discard(
    environ: options.Environ,
    *,
    ids: tuple[str, ...],
    because: str,
    every: bool,
    wanted: Wanted,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    who: str,
    as_json: bool,
    folder: Folder,
) -> None:
    """Put letters away that nobody needs. They stay on the topic until its retention ends, and can be shown.

    --all shows how many they are and asks first.

    Exits with 1 if a letter was refused, for example because it is not open.

    \b
      postlog dlq discard 3-17 i0-4 --because "a test of the provider"
      postlog dlq discard --all --error NoRecipient --until 7d --because "the provider confirms: no recipients"
    """
    if not because.strip():
        raise click.BadParameter("say why", param_hint="--because")
    choice = Choice(ids, every, wanted, limit)
    putting = letter_work.PuttingAway(who, because, dry_run)
    ask = _consent("Discard {}?", every=every, yes=yes or dry_run)
    work = letter_work.discarded(options.cluster_settings(environ, folder), choice, putting, ask)
    _report(
        "would be discarded" if dry_run else "discarded", letter_work.asked(work), dry_run=dry_run, as_json=as_json
    )


def _consent(question: str, *, every: bool, yes: bool) -> letter_work.Consent:
    """Asks before something happens to all letters that match; whoever names letters by their ids has said which."""

    def ask(chosen: Sequence[Letter]) -> None:
        if chosen and every and not yes:
            Console(stderr=True, highlight=False).print(letter_view.counted(letters.groups(chosen)))
            consent.require(question.format(_many(len(chosen), "letter")), yes=False)

    return ask


def _print(as_json: bool, document: Any, shown: Callable[[], Any]) -> None:
    if as_json:
        click.echo(msgspec.json.encode(document))
    else:
        options.printer().print(shown())


def _report(did: str, outcome: Outcome, *, dry_run: bool, as_json: bool) -> None:
    """Say what came of it, and exit with 1 if something was refused."""
    document = {
        "dry_run": dry_run,
        "letters": [letter.id for letter in outcome.sent],
        "records": outcome.records,
        "groups": letters.groups(outcome.sent),
        "refused": outcome.refused,
    }
    if as_json:
        click.echo(msgspec.json.encode(document))
    else:
        printer = options.printer()
        if outcome.sent:
            printer.print(letter_view.counted(letters.groups(outcome.sent)))
        if outcome.refused:
            printer.print(letter_view.refusals(outcome.refused))
        printer.print(_sum(did, outcome))
    click.get_current_context().exit(1 if outcome.refused else 0)


def _sum(did: str, outcome: Outcome) -> str:
    """One line: how many letters, as how many records, and how many refused."""
    as_records = f" as {_many(outcome.records, 'record')}" if outcome.records else ""
    return f"{_many(len(outcome.sent), 'letter')} {did}{as_records}, {len(outcome.refused):,} refused"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
