"""The one command, `postlog`. It reads the environment once and hands it to the subcommands."""

from __future__ import annotations

import logging
import os
from typing import IO, Any

import click
import stamina.instrumentation

from console import options
from console.acls import acls
from console.dlq import dlq
from console.environment import settings
from console.fetch import bearer
from console.replay import replay
from console.send import send
from console.state import state
from console.status import status
from console.suppressions import suppressions
from console.token import token
from console.topics import topics
from console.up import up
from pipeline import output, private, tokens
from pipeline.errors import ConfigError, Interrupted, PostlogError, Unanswered

#: As shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130


class Failed(click.ClickException):
    """One line on standard error, and the exit code: 2 if the configuration is wrong, 130 after Ctrl-C, else 1."""

    def __init__(self, error: PostlogError) -> None:
        super().__init__(str(error))
        self.exit_code = 2 if isinstance(error, ConfigError) else INTERRUPTED if isinstance(error, Interrupted) else 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it as every command does."""
        what = "stopped" if self.exit_code == INTERRUPTED else "error"
        click.echo(f"{what}: {self.message}", file=file, err=file is None)


class Commands(click.Group):
    """Turns an error raised on purpose into one line; any other keeps its traceback, because it is a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except Unanswered as error:
            raise Failed(Unanswered(f"{error}{options.hint(ctx, error)}")) from None
        except PostlogError as error:
            raise Failed(error) from None
        except KeyboardInterrupt:
            # Where a command stands in the middle of something, it says more than that itself.
            raise Failed(Interrupted("the same command can be typed again")) from None


@click.group(cls=Commands)
@click.version_option(package_name="postlog", prog_name="postlog")
@click.pass_context
def main(ctx: click.Context) -> None:
    """postlog: the durable log between the email providers that send webhooks and the systems that act on them.

    \b
      postlog up                                        run everything here
      postlog send --sample 1000 --duplicates 0.1       post sample deliveries to it
      postlog status                                    health, lag, rates
      postlog suppressions get someone@example.com      may this address be mailed?
      postlog suppressions --help                       list, export, import, add, remove
      postlog replay --from 2h                          process events again
      postlog state --help                              a copy of the state that knows more than the log
      postlog dlq list                                  what could not be processed, and why
      postlog topics check                              is the cluster what topics.yaml says?
      postlog acls                                      what each service needs on a Kafka with authorisation
      postlog settings                                  the environment variables
      postlog token grafana                             let somebody in from elsewhere

    Exits with 0 if all is well, 1 if not, 2 if the command or the configuration is wrong, 130 after Ctrl-C.
    """
    # A test, or a program that calls us, may give an environment of its own.
    ctx.obj = ctx.obj or os.environ
    bearer.set(tokens.sendable(ctx.obj.get("POSTLOG_TOKEN", ""), "POSTLOG_TOKEN"))
    # What a command has to say it says itself, in its error: the clients' own words would only come before it.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    stamina.instrumentation.set_on_retry_hooks([])


def run() -> None:
    """Run the command as a process of its own. What it makes is for its user alone; nothing it prints ends it."""
    output.never_fails()
    private.from_now_on()
    main()


for command in (up, send, status, suppressions, dlq, replay, state, topics, acls, settings, token):
    main.add_command(command)


if __name__ == "__main__":
    run()
