"""`python -m alerter`."""

from __future__ import annotations

from pipeline import service
from pipeline.settings import Settings


async def main(settings: Settings) -> None:
    """Run the alerter."""
    from alerter import app

    await app.main(settings)


if __name__ == "__main__":
    service.takes_no_arguments("alerter")
    service.run("alerter", main)
