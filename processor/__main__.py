"""`python -m processor`."""

from __future__ import annotations

from pipeline import service
from pipeline.settings import Settings


async def main(settings: Settings) -> None:
    """Run the processor."""
    from processor import app

    await app.main(settings)


if __name__ == "__main__":
    service.takes_no_arguments("processor")
    service.run("processor", main)
