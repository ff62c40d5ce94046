"""`python -m lookup`: the suppression list as a read API."""

from __future__ import annotations

from pipeline import service
from pipeline.settings import Settings


async def main(settings: Settings) -> None:
    """Run lookup."""
    from lookup import app

    await app.main(settings)


if __name__ == "__main__":
    service.takes_no_arguments("lookup")
    service.run("lookup", main)
