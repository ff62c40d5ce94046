"""What several commands take: the data folder, --json, and where the services are."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import msgspec
from rich.console import Console

from console import rows, whereabouts
from console.running import Folder, Running
from pipeline import contract, operators
from pipeline import settings as environment
from pipeline.errors import KafkaUnavailable, Unanswered
from pipeline.settings import Settings

Environ = Mapping[str, str]
F = TypeVar("F", bound=Callable[..., Any])

#: A person waits for a command: shorter than a service may, unless KAFKA_WAIT_SECONDS says otherwise.
KAFKA_WAIT_SECONDS = 10.0
#: Columns of what is printed into a file or a pipe.
FILE_WIDTH = 200


def printer() -> Console:
    """Where a command prints; rich takes 80 columns for whatever is not a terminal, which breaks every other line."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=FILE_WIDTH)


class FilePath(click.Path):
    """A path that says something: "" is a variable that is not set, and would mean the folder we are in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty: give a name", param, ctx)
        return super().convert(value, param, ctx)


class Filled(click.ParamType):
    """A text that says something: "" is a variable that is not set, and would mean whatever runs here."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("is empty: leave it out, or say what it is", param, ctx)
        return str(value)


def _folder(_: click.Context, __: click.Parameter, path: Path) -> Folder:
    return Folder(path)


def data(command: F) -> F:
    """--data, as a Folder named `folder`."""
    return click.option(
        "--data",
        "folder",
        type=FilePath(path_type=Path, file_okay=False),
        callback=_folder,
        default=".data",
        show_default=True,
        help="Folder of the running system: its addresses, secret, logs and state.",
    )(command)


def as_json(command: F) -> F:
    """--json, named `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def lookup(command: F) -> F:
    """--url, where lookup is."""
    return click.option("--url", type=Filled(), help="The lookup API, if not the running system's.")(command)


def _email(_: click.Context, __: click.Parameter, given: str) -> str:
    email = contract.address(given)
    if email is None:
        raise click.BadParameter(f"{given!r} is not an address like someone@example.com")
    return email


def an_address(command: F) -> F:
    """ADDRESS, normalised, named `email`."""
    return click.argument("email", metavar="ADDRESS", callback=_email)(command)


def _text(name: str, given: str, longest: int) -> str:
    try:
        return rows.text(name, given, longest)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def reason(_: click.Context, parameter: click.Parameter, given: str) -> str:
    """Checks --because; one that is required must not be blank."""
    found = _text("because", given, operators.LONGEST_BECAUSE)
    if parameter.required and not found:
        raise click.BadParameter("say why, in a few words")
    return found


def _who(_: click.Context, __: click.Parameter, given: str | None) -> str:
    if given is not None:
        return _text("who", given, operators.LONGEST_WHO)
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"[: operators.LONGEST_WHO]
    except (ImportError, KeyError, OSError):
        raise click.BadParameter("this machine does not know who you are: give --who") from None


def who(command: F) -> F:
    """--who; whoever is logged in, if not given."""
    return click.option("--who", callback=_who, help="Who says so; you on this machine, if not given.")(command)


def cluster_settings(environ: Environ, folder: Folder) -> Settings:
    """The settings of a command that talks to Kafka: of the environment, or with the brokers of the running system.

    Raises ConfigError.
    """
    settings = environment.load(environ)
    changes: dict[str, Any] = {}
    if not environ.get("KAFKA_WAIT_SECONDS"):
        changes["kafka_wait_seconds"] = KAFKA_WAIT_SECONDS
    if not environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        if running := folder.find():
            changes["kafka_bootstrap_servers"] = running.kafka
        else:
            _assumed(environ, folder, "kafka")
    return msgspec.structs.replace(settings, **changes)


def addresses(environ: Environ, folder: Folder) -> Running:
    """Where the services are: those of the running system in the folder, else what the environment says.

    Raises ConfigError.
    """
    if running := folder.find():
        return running
    _assumed(environ, folder, "services")
    return by_settings(environment.load(environ))


def _assumed(environ: Environ, folder: Folder, what: Literal["kafka", "services"]) -> None:
    """Note that this command asks at addresses that nobody named for it, in case that nobody answers there."""
    if (context := click.get_current_context(silent=True)) is not None:
        context.meta[f"{__name__}.{what}"] = (environ, folder)


def hint(context: click.Context, error: Unanswered) -> str:
    """What else to say about an error: where something runs, if the command only assumed where; "" otherwise."""
    what = "kafka" if isinstance(error, KafkaUnavailable) else "services"
    assumed = context.meta.get(f"{__name__}.{what}")
    return f"\n{whereabouts.told(*assumed)}" if assumed else ""


def by_settings(settings: Settings) -> Running:
    """The addresses that these settings give the services."""
    processor = url(settings.processor_host, settings.processor_port)
    return Running(
        kafka=settings.kafka_bootstrap_servers,
        ingress=url(settings.ingress_host, settings.ingress_port),
        lookup=url(settings.lookup_host, settings.lookup_port),
        processor=processor,
        alerter=url(settings.alerter_host, settings.alerter_port),
        processors=[processor],
    )


def url(host: str, port: int) -> str:
    """Where to reach from here what binds to this host; a server on all interfaces is on the loopback one too."""
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
