"""`python -m ingress [--workers N]`: run the ingress with the settings of the environment."""

from __future__ import annotations

import os

import click

from pipeline import service
from pipeline.ranges import MOST_WORKERS
from pipeline.settings import Settings


@click.command()
@click.option(
    "--workers", "count", type=click.IntRange(1, MOST_WORKERS), help="Processes on the one port [INGRESS_WORKERS]."
)
def cli(count: int | None) -> None:
    """Receive signed webhooks over HTTP and answer 200 once Kafka has them."""
    environ = {**os.environ, **({} if count is None else {"INGRESS_WORKERS": str(count)})}

    async def main(settings: Settings) -> None:
        if settings.ingress_workers > 1:
            from ingress import workers

            await workers.main(settings, environ)
        else:
            from ingress import app

            await app.main(settings)

    service.run("ingress", main, environ)


if __name__ == "__main__":
    cli()
