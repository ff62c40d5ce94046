"""Waits for the processors to be out of their group: offsets and state move only while nobody works."""

from __future__ import annotations

import asyncio
import time

import click
from rich.console import Console

from console import replay_report
from console.group import Group, Member
from pipeline.errors import PostlogError

#: Seconds between two looks at a group that is not empty yet.
EVERY = 0.5


async def until_empty(group: Group, session: float, wait: float) -> None:
    """Return once nobody is in the group; session is the members' timeout, wait how long to wait, both in seconds.

    Raises PostlogError if somebody still is there when the wait is over.
    """
    members = await group.members()
    if members and wait:
        members = await _leaving(group, members, wait)
    if members:
        raise PostlogError(replay_report.in_use(group.name, members, session))


async def _leaving(group: Group, members: list[Member], seconds: float) -> list[Member]:
    """Who is still there when that time is over, with a countdown where somebody sees it."""
    deadline = time.monotonic() + seconds
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        click.echo(replay_report.waiting(group.name, members, seconds), err=True)
    with console.status("") as status:
        while members and (left := deadline - time.monotonic()) > 0:
            status.update(replay_report.waiting(group.name, members, left))
            await asyncio.sleep(min(EVERY, left))
            members = await group.members()
    return members
