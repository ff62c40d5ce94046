"""`postlog topics`: create the topics of topics.yaml, and compare a cluster with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import click
import msgspec
from aiokafka.errors import KafkaError
from rich.table import Table

from console import options
from console.running import Folder
from pipeline import kafka, security
from pipeline.settings import Settings
from pipeline.topics import Difference

T = TypeVar("T")


@click.group()
def topics() -> None:
    """Create the topics, or compare the cluster's with topics.yaml.

    The brokers are those of KAFKA_BOOTSTRAP_SERVERS, else those of the running system.
    """


@topics.command()
@options.as_json
@options.data
@click.pass_obj
def apply(environ: options.Environ, *, as_json: bool, folder: Folder) -> None:
    """Create the topics that are missing.

    Nothing that exists is changed: what differs is shown with its cure. Exits with 0 if the cluster is now what
    topics.yaml says, 1 if not.

    \b
      postlog topics apply
      KAFKA_BOOTSTRAP_SERVERS=broker-1:9092 TOPIC_REPLICATION=3 postlog topics apply
    """
    created, differences = create_missing(options.cluster_settings(environ, folder))
    if as_json:
        click.echo(msgspec.json.encode({"created": created, "differences": differences}))
    else:
        for name in created:
            click.echo(f"created {name}")
        if not created and not differences:
            click.echo("nothing to do: the topics are what topics.yaml says")
        show(differences)
    click.get_current_context().exit(1 if differences else 0)


@topics.command()
@options.as_json
@options.data
@click.pass_obj
def check(environ: options.Environ, *, as_json: bool, folder: Folder) -> None:
    """Compare the cluster's topics with topics.yaml; changes nothing.

    Exits with 0 if they agree, 1 if not.

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
    click.get_current_context().exit(1 if differences else 0)


def create_missing(settings: Settings) -> tuple[list[str], list[Difference]]:
    """(topics created, differences that remain). Raises ConfigError, KafkaUnavailable, PostlogError."""
    return _asked(kafka.apply(settings))


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
