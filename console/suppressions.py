"""`postlog suppressions`: may this address be mailed?"""

from __future__ import annotations

from urllib.parse import quote

import click
import msgspec

from console import options
from console.fetch import Answer, fetch
from console.running import Folder
from pipeline import contract
from pipeline.errors import PostlogError
from pipeline.suppression import Cause


class Times(msgspec.Struct, frozen=True):
    """First and latest time of a cause, RFC 3339."""

    first: str
    latest: str


class Known(msgspec.Struct, frozen=True):
    """The part of lookup's answer that is shown."""

    email: str
    suppressed: bool
    causes: dict[Cause, Times]
    updated_at: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Why lookup has no answer."""

    error: str


@click.group()
def suppressions() -> None:
    """Ask the suppression list."""


@suppressions.command()
@click.argument("address")
@click.option("--url", help="The lookup API, if not the running system's.")
@options.as_json
@options.data
@click.pass_obj
def get(environ: options.Environ, *, address: str, url: str | None, as_json: bool, folder: Folder) -> None:
    """Say whether ADDRESS may be mailed, and what stands against it since when.

    Exits with 0 whatever the answer is, 1 if there is none: a script asks with --json and reads `suppressed`.

    \b
      postlog suppressions get someone@example.com
      postlog suppressions get someone@example.com --json | jq .suppressed
    """
    email = contract.address(address)
    if email is None:
        raise click.BadParameter(f"{address!r} is not an address like someone@example.com", param_hint="ADDRESS")
    asked = f"{url or options.addresses(environ, folder).lookup}/suppressions/{quote(email, safe='@')}"
    body = _answered(fetch([asked], timeout=5.0)[asked], asked)
    try:
        known = msgspec.json.decode(body, type=Known)
    except msgspec.MsgspecError as error:
        raise PostlogError(f"{asked}: not an answer of lookup: {contract.explain(error)}") from None
    click.echo(body if as_json else describe(known))


def _answered(answer: Answer | None, asked: str) -> bytes:
    """The body of an answer that holds a verdict. Raises PostlogError for any other, and for none."""
    if answer is None:
        raise PostlogError(f"{asked}: no answer. Is lookup up? See postlog status.")
    if answer.status == 200:
        return answer.body
    try:
        reason = msgspec.json.decode(answer.body, type=Refusal).error
    except msgspec.MsgspecError:
        reason = "is this lookup?"
    raise PostlogError(f"{asked}: answered {answer.status}: {reason}")


def describe(known: Known) -> str:
    """The answer for people."""
    if known.suppressed:
        causes = [_cause(cause.replace("_", " "), times) for cause, times in known.causes.items()]
        return "\n".join([f"{known.email}: suppressed, do not mail", *causes])
    if known.updated_at is None:
        return f"{known.email}: not suppressed, nothing is known against it"
    return f"{known.email}: not suppressed any more, latest news of {known.updated_at}"


def _cause(cause: str, times: Times) -> str:
    if times.first == times.latest:
        return f"  {cause}  at {times.first}"
    return f"  {cause}  first {times.first}, latest {times.latest}"
