"""`postlog status`: is everything well, how far behind are the lanes, and what goes through."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NoReturn

import click
import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from console import display, metrics, numbers, options, stack, whereabouts
from console.fetch import fetch
from console.metrics import Alerts, Beyond, Lane, Outage, Rates, Totals, UnknownType
from console.running import Folder, Running

#: Seconds between the two looks that a rate is made of.
BETWEEN = 1.0


class ServiceStatus(msgspec.Struct, frozen=True):
    """One process: ok is what its /health/ready says, detail why it is not."""

    name: str
    url: str
    ok: bool
    detail: str


class Status(msgspec.Struct, frozen=True):
    """Everything that `postlog status` shows.

    lanes          the partitions that an answering processor has open
    outages        handlers that a processor takes to be down
    unknown_types  providers' words that no processor knows
    former_keys    entries of the list that nobody finds, since their key is of an earlier release
    beyond         records on partitions that somebody added, and nobody reads
    alerts         what the alerter says of its work, None if it does not answer
    """

    healthy: bool
    services: list[ServiceStatus]
    lanes: list[Lane]
    totals: Totals
    rates: Rates
    outages: list[Outage]
    unknown_types: list[UnknownType]
    former_keys: int
    beyond: list[Beyond]
    alerts: Alerts | None


def _where(command: options.F) -> options.F:
    """Options for a system that no run.json here tells of."""
    for name in ("alerter", "lookup", "ingress"):
        command = click.option(
            f"--{name}-url", type=options.Filled(), help=f"The {name}, if not the running system's."
        )(command)
    return click.option(
        "--processor-url",
        "processor_urls",
        type=options.Filled(),
        multiple=True,
        help="A processor; once for each that runs.",
    )(command)


@click.command()
@click.option("--watch", is_flag=True, help="Look again every second until Ctrl-C.")
@_where
@options.as_json
@options.data
@click.pass_obj
def status(
    environ: options.Environ,
    *,
    watch: bool,
    ingress_url: str | None,
    processor_urls: tuple[str, ...],
    alerter_url: str | None,
    lookup_url: str | None,
    as_json: bool,
    folder: Folder,
) -> None:
    """Show the services' health, the lag of every partition, rates and totals.

    The services are those of the running system in the data folder, else those at the addresses of the environment.
    Exits with 0 if every service is ready, 1 if not.

    \b
      postlog status
      postlog status --watch
      postlog status --json | jq .totals.dead_letters
      postlog status --ingress-url http://10.0.0.5:8080 --processor-url http://10.0.0.6:8081
    """
    known = options.addresses(environ, folder)
    if not (folder.find() or ingress_url or processor_urls or alerter_url or lookup_url):
        click.echo(f"asking at the addresses of the environment. {whereabouts.told(environ, folder)}", err=True)
    services = named(known, ingress_url, processor_urls, alerter_url, lookup_url)
    if watch:
        _watch(services, as_json=as_json)
    found = look(services)
    click.echo(msgspec.json.encode(found)) if as_json else options.printer().print(render(found))
    click.get_current_context().exit(0 if found.healthy else 1)


def named(
    known: Running, ingress: str | None, processors: tuple[str, ...], alerter: str | None, lookup: str | None
) -> dict[str, str]:
    """Name to URL of every process; what is given goes before what is known."""
    numbered = enumerate(processors or known.processors, start=1)
    return {
        "ingress": ingress or known.ingress,
        **{"processor" if number == 1 else f"processor-{number}": url for number, url in numbered},
        "alerter": alerter or known.alerter,
        "lookup": lookup or known.lookup,
    }


def look(services: Mapping[str, str]) -> Status:
    """Ask everybody, twice with a moment between for the rates."""
    before = numbers.ask(services)
    time.sleep(BETWEEN)
    after = numbers.ask(services)
    answers = fetch([f"{url}{stack.READY}" for url in services.values()])
    health = []
    for name, url in services.items():
        answer = answers[f"{url}{stack.READY}"]
        ok = answer is not None and answer.status == 200
        health.append(ServiceStatus(name, url, ok, "" if ok else stack.unready(answer)))
    return Status(
        healthy=all(service.ok for service in health),
        services=health,
        lanes=metrics.lanes(after),
        totals=metrics.totals(after),
        rates=metrics.rates(before, after),
        outages=metrics.outages(after),
        unknown_types=metrics.unknown_types(after),
        former_keys=metrics.former_keys(after),
        beyond=metrics.beyond(after),
        alerts=metrics.alerts(after, time.time()),
    )


def _watch(services: Mapping[str, str], *, as_json: bool) -> NoReturn:
    """Show it again and again; Ctrl-C ends it, with 0 as nobody asked for a verdict."""
    console = options.printer()
    try:
        # Where nothing can be drawn over, a live view would show its last picture only.
        while as_json or not console.is_terminal:
            found = look(services)
            click.echo(msgspec.json.encode(found)) if as_json else console.print(render(found))
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(render(look(services)), refresh=True)
    except KeyboardInterrupt:
        click.get_current_context().exit(0)


def render(found: Status) -> RenderableType:
    """The status for people."""
    services = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("service", "address", "health"):
        services.add_column(heading, header_style="dim")
    for service in found.services:
        health = Text("ready", style="green") if service.ok else Text(f"not ready: {service.detail}", style="red")
        services.add_row(service.name, service.url, health)
    lanes = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("partition", "processor", "lag"):
        lanes.add_column(heading, header_style="dim", justify="left" if heading == "processor" else "right")
    for lane in found.lanes:
        lanes.add_row(str(lane.partition), lane.processor, f"{lane.lag:,}")
    parts: list[RenderableType] = [services, Text()]
    parts += [lanes, Text()] if found.lanes else [Text("no open lanes"), Text()]
    parts.append(Text(display.numbers(found.totals, found.rates)))
    parts += [display.outage(outage) for outage in found.outages]
    parts += [display.beyond(each) for each in found.beyond]
    if found.unknown_types:
        parts.append(Text(display.unknown(found.unknown_types)))
    if found.former_keys:
        parts.append(Text(display.former(found.former_keys)))
    if found.alerts:
        parts.append(Text(display.alerts(found.alerts)))
    return Group(*parts)
