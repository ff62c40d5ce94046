"""`python -m ingress [--workers N]`: run the ingress with the settings of the environment."""

from __future__ import annotations

import os

import click

from ingress import app, workers
from pipeline import service
from pipeline.settings import Settings


@click.command()
@click.option("--workers", "count", type=click.IntRange(min=1), help="Processes on the one port [INGRESS_WORKERS].")
def cli(count: int | None) -> None:
    """Receive signed webhooks over HTTP and answer 200 once Kafka has them."""
    environ = {**os.environ, **({} if count is None else {"INGRESS_WORKERS": str(count)})}

    async def main(settings: Settings) -> None:
        if settings.ingress_workers > 1:
            await workers.main(settings, environ)
        else:
            await app.main(settings)

    service.run("ingress", main, environ)


if __name__ == "__main__":
    cli()
