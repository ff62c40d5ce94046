"""`postlog up`: Kafka and every service in one terminal, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
import msgspec

from console import claim, options, signals, whereabouts
from console.running import Folder
from console.system import System, Wish
from pipeline import private
from pipeline import settings as environment
from pipeline.ranges import MOST_WORKERS


@click.command()
@options.data
@click.option(
    "--ports",
    type=click.Choice(["settings", "auto"]),
    default="settings",
    show_default=True,
    help="The settings' ports, or any that are free: then run.json and the ready file say which.",
)
@click.option("--ingress-workers", type=click.IntRange(1, MOST_WORKERS), help="Ingress processes on the one port.")
@click.option(
    "--processors",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    help="Processors; 0 while offsets are moved.",
)
@click.option(
    "--ready-file",
    type=options.FilePath(path_type=Path, dir_okay=False),
    help="Write the addresses here, as JSON, once everything is ready.",
)
@click.pass_obj
def up(
    environ: options.Environ,
    *,
    folder: Folder,
    ports: Literal["settings", "auto"],
    ingress_workers: int | None,
    processors: int,
    ready_file: Path | None,
) -> None:
    """Run the whole pipeline here: Kafka, ingress, processor, alerter, lookup. Ctrl-C stops it.

    Kafka is the one that KAFKA_BOOTSTRAP_SERVERS names, else a local one whose data stays in the data folder. A
    service that dies is started again; its log is in the folder's logs/. All of `postlog settings` applies. The data
    folder is for this alone: one that holds what others made is refused.

    Without WEBHOOK_SECRET a signing secret is made once and kept in the data folder, as webhook-secret.

    \b
      postlog up
      postlog up --ports auto --processors 2 --ready-file ready.json
    """
    settings = environment.load(environ)
    if ingress_workers is not None:
        settings = msgspec.structs.replace(settings, ingress_workers=ingress_workers)
    claim.claim(folder)
    ready_file = ready_file and claim.require_ready_file(ready_file)
    wish = Wish(settings, environ, folder, processors, auto=ports == "auto", ready_file=ready_file)
    if ready_file is not None:
        private.folder(ready_file.absolute().parent, "--ready-file")
    console = options.printer()
    with folder.locked(), whereabouts.remembered(environ, folder), signals.interrupt():
        system = System(wish, console)
        try:
            system.run()
        except KeyboardInterrupt:
            console.print("stopping: ingress, processor, alerter, lookup, Kafka")
        finally:
            with signals.ignored():
                system.stop()
    console.print("stopped")
