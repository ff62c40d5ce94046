"""`python -m alerter`."""

from __future__ import annotations

from alerter.app import main
from pipeline import service

if __name__ == "__main__":
    service.takes_no_arguments("alerter")
    service.run("alerter", main)
