"""`postlog state`: what to do with a copy of the processors' state that knows more than the log does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from aiokafka.errors import KafkaError

from console import options, state_work
from console.running import Folder
from pipeline import security

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def state() -> None:
    """Mend a log that knows less than a copy of it.

    Each processor keeps a copy of its state on its disk (STATE_DIR). Kafka has the same, as changelogs. If a
    changelog has lost its end, or was deleted and made anew, a processor that has more in its copy stops and keeps
    the copy. Type these commands on the machine where that copy is.
    """


def _options(command: F) -> F:
    """What both commands take."""
    for option in (
        options.data,
        options.as_json,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Show what would happen, and change nothing."),
        click.option(
            "--wait",
            type=click.FloatRange(min=0),
            default=0.0,
            metavar="SECONDS",
            help="Wait as long for the last processor to be out of the group.",
        ),
        click.option(
            "--state-dir",
            "folders",
            type=options.FilePath(path_type=Path, file_okay=False, exists=True),
            multiple=True,
            help="A processor's STATE_DIR; repeatable. If not given: STATE_DIR, or those of `postlog up` in --data.",
        ),
    ):
        command = option(command)
    return command


@state.command("write-back")
@_options
@click.pass_obj
def write_back(environ: options.Environ, /, *, folder: Folder, folders: tuple[Path, ...], **given: Any) -> None:
    """Write back to Kafka what a kept copy knows and the log does not.

    Stop all processors first, and start them again afterwards. It looks at every copy that is here, and shows what
    the changelogs lack: entries of the suppression list, markers of duplicates, calls of handlers that are owed.
    Nothing that the changelogs have is taken away: facts about an address are joined. A lane is written in one
    transaction; then its copy is removed, since the log has everything again. It can be repeated at any time.

    If several machines have copies, type it on each of them: the first one that is ahead writes, the others add what
    they know besides.

    Exits with 0 if the log lacks nothing any more, 1 if not, 2 if the command is wrong.

    \b
      postlog state write-back --dry-run
      STATE_DIR=/var/lib/postlog postlog state write-back
    """
    _run(environ, folder, folders, discard=False, **given)


@state.command()
@_options
@click.pass_obj
def discard(environ: options.Environ, /, *, folder: Folder, folders: tuple[Path, ...], **given: Any) -> None:
    """Remove kept copies, and accept that the log knows less.

    Stop all processors first. What only these copies know is lost: addresses among it can be mailed again. Type
    `postlog replay --rebuild` afterwards: it works out anew what the events tell that are still on the log. Then
    start the processors.

    Copies that the log has everything of are left alone.

    Exits with 0 if no such copy is here any more, 1 if not, 2 if the command is wrong.

    \b
      postlog state discard --dry-run
      postlog state discard && postlog replay --rebuild
    """
    _run(environ, folder, folders, discard=True, **given)


def _run(environ: options.Environ, folder: Folder, folders: tuple[Path, ...], *, discard: bool, **given: Any) -> None:
    settings = options.cluster_settings(environ, folder)
    here = list(folders) or _state_dirs(environ, folder, Path(settings.state_dir))
    wish = state_work.Wish(discard=discard, folders=here, scratch=folder.scratch, **given)
    try:
        asyncio.run(state_work.work(settings, wish))
    except KafkaError as error:
        raise security.told(error) from None


def _state_dirs(environ: options.Environ, folder: Folder, named: Path) -> list[Path]:
    """Where the processors of this machine keep their copies."""
    return [named] if environ.get("STATE_DIR", "").strip() else [named, *folder.states("processor")]
