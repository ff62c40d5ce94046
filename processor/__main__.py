"""`python -m processor`: run the processor with the settings of the environment."""

from __future__ import annotations

from pipeline import service
from processor.app import main

if __name__ == "__main__":
    service.takes_no_arguments("processor")
    service.run("processor", main)
