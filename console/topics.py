"""`postlog topics`: make a cluster's topics what topics.yaml says, and compare them with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import click
import msgspec
from aiokafka.errors import KafkaError
from rich.table import Table

from console import options
from console.running import Folder
from pipeline import kafka, security, topic_settings
from pipeline.differences import Difference
from pipeline.errors import PostlogError
from pipeline.settings import Settings

T = TypeVar("T")


@click.group()
def topics() -> None:
    """Create the topics, or compare the cluster's with topics.yaml.

    The brokers are those of KAFKA_BOOTSTRAP_SERVERS, else those of the running system.
    """


@topics.command()
@options.as_json
@click.option("--yes", is_flag=True, help="Do not ask before settings of topics that exist are changed.")
@options.data
@click.pass_obj
def apply(environ: options.Environ, *, as_json: bool, yes: bool, folder: Folder) -> None:
    """Create the topics that are missing, and change settings that differ.

    Services may run meanwhile. What would be changed is shown first, and what Kafka deletes for it, such as all that
    is older than a shorter retention. Partitions and replicas are never changed, and how many replicas a write needs
    is never lowered: that is shown with its cure. Exits with 0 if services can run now, 1 if not.

    \b
      postlog topics apply
      postlog topics apply --yes                         where nobody can answer, as in a container
      KAFKA_BOOTSTRAP_SERVERS=broker-1:9092 TOPIC_REPLICATION=3 postlog topics apply
    """
    settings = options.cluster_settings(environ, folder)
    created, differences = create_missing(settings)
    if not as_json:
        for name in created:
            click.echo(f"created {name}")
        show(differences)
    wanted = [each for each in differences if each.setting]
    if wanted and not yes:
        # A program that asked for JSON is told what differs, and asked nothing.
        wanted = [] if as_json else _agreed(wanted)
    changed = change(settings, wanted)
    left = [each for each in differences if each not in changed]
    if as_json:
        click.echo(msgspec.json.encode({"created": created, "changed": changed, "differences": left}))
    else:
        for line in said(changed):
            click.echo(line)
        if not left:
            click.echo("the topics are what topics.yaml says")
    click.get_current_context().exit(1 if serious(left) else 0)


@topics.command()
@options.as_json
@options.data
@click.pass_obj
def check(environ: options.Environ, *, as_json: bool, folder: Folder) -> None:
    """Compare the cluster's topics with topics.yaml; changes nothing.

    Exits with 0 if they agree, or differ only in what is harmless, 1 if not.

    \b
      postlog topics check
      postlog topics check --json
    """
    differences = _asked(kafka.check(options.cluster_settings(environ, folder)))
    if as_json:
        click.echo(msgspec.json.encode({"differences": differences}))
    elif differences:
        show(differences)
    else:
        click.echo("the topics are what topics.yaml says")
    click.get_current_context().exit(1 if serious(differences) else 0)


def create_missing(settings: Settings) -> tuple[list[str], list[Difference]]:
    """(topics created, differences that remain). Raises ConfigError, KafkaUnavailable, PostlogError."""
    return _asked(kafka.apply(settings))


def change(settings: Settings, wanted: Sequence[Difference]) -> list[Difference]:
    """The settings that were changed. Raises ConfigError, KafkaUnavailable, PostlogError."""
    return _asked(topic_settings.change(settings, wanted))


def said(changed: Iterable[Difference]) -> list[str]:
    """What was changed, a line each."""
    return [
        f"changed {each.topic}: {each.what} was {each.cluster} and is {each.file}"
        + (f"; Kafka deletes {each.deletes}" if each.deletes else "")
        for each in changed
    ]


def _agreed(wanted: list[Difference]) -> list[Difference]:
    """The same, if somebody agrees. Raises PostlogError."""
    if not sys.stdin.isatty():
        raise PostlogError(
            f"{len(wanted)} settings of topics differ, and nobody is there to agree to a change: look with "
            "postlog topics check, then type postlog topics apply --yes"
        )
    deletes = sorted({each.deletes for each in wanted if each.deletes})
    warned = f" Kafka deletes {' and '.join(deletes)}, for good." if deletes else ""
    if not click.confirm(f"Change {len(wanted)} settings to what topics.yaml says?{warned}", err=True):
        raise PostlogError("no setting was changed")
    return wanted


def serious(differences: Iterable[Difference]) -> bool:
    """Whether services refuse to run on it."""
    return not all(difference.harmless for difference in differences)


def _asked(question: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(question)
    except KafkaError as error:
        raise security.told(error) from None


def show(differences: Iterable[Difference]) -> None:
    """Print the differences, if there are any."""
    differences = list(differences)
    if not differences:
        return
    table = Table(title="the cluster is not what topics.yaml says", title_justify="left")
    for heading in ("topic", "what", "topics.yaml", "cluster", "cure"):
        table.add_column(heading, overflow="fold")
    for found in differences:
        table.add_row(found.topic, found.what, found.file, found.cluster, found.cure)
    options.printer().print(table)
