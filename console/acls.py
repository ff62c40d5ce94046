"""`postlog acls`: what each service must be allowed on the brokers, as commands that allow it."""

from __future__ import annotations

import click
import msgspec

from console import options
from pipeline import acls as rules
from pipeline import kafka
from pipeline import settings as environment


def _principal(_: click.Context, __: click.Parameter, given: str) -> str:
    if given.count("{user}") != 1 or given.count("{") != 1 or given.count("}") != 1:
        raise click.BadParameter("put {user} where the user's name goes, like User:CN={user},O=Example")
    return given


@click.command()
@click.option(
    "--principal",
    metavar="PATTERN",
    default="User:{user}",
    show_default=True,
    callback=_principal,
    help="What the brokers call a user.",
)
@click.option("--only", multiple=True, type=click.Choice(rules.USERS), help="This user alone; may be repeated.")
@click.option("--command-config", metavar="FILE", help="How kafka-acls.sh gets in: its --command-config.")
@click.option("--markdown", is_flag=True, help="Print the table of docs/security.md.")
@options.as_json
@click.pass_obj
def acls(
    environ: options.Environ,
    *,
    principal: str,
    only: tuple[str, ...],
    command_config: str | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Print the kafka-acls.sh commands that allow each service what it needs, and nothing else.

    The users are the services and, for people, console (dlq, suppressions), replay and topics (topics apply). Names
    are of TOPICS_FILE and TOPIC_PREFIX. Nothing is asked of Kafka, nothing changed.

    \b
      postlog acls
      postlog acls --only lookup --principal User:postlog-{user}
      postlog acls --command-config admin.properties | sh -e
    """
    settings = environment.load(environ)
    found = [acl for acl in kafka.acls(settings) if not only or acl.user in only]
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    if markdown:
        click.echo(rules.as_markdown(found))
        return
    where = ["--bootstrap-server", settings.kafka_bootstrap_servers]
    where += ["--command-config", command_config] if command_config else []
    for line in rules.commands(found, principal, where):
        click.echo(line)
