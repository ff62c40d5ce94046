"""Asks a person before something is changed that cannot simply be changed back."""

from __future__ import annotations

import sys

import click

from console import signals
from pipeline.errors import Interrupted, PostlogError

#: Why nothing is done unasked.
NOBODY_THERE = "nobody is there to confirm it: repeat the command with --yes, or look first with --dry-run"


def require(question: str, *, yes: bool) -> None:
    """Return only if it may be done: somebody said so now, or with --yes.

    Raises PostlogError if nobody is there to be asked or if they say no, Interrupted if they press Ctrl-C.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise PostlogError(NOBODY_THERE)
    try:
        # An event loop would keep the first Ctrl-C to itself, and the question would stay.
        with signals.interrupt():
            agreed = click.confirm(question, err=True)
    except click.Abort:
        raise Interrupted("nothing was changed") from None
    if not agreed:
        raise PostlogError("nothing was changed")
