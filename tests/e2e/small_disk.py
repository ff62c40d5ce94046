"""`python -m tests.e2e.small_disk MIB VARIABLE SERVICE`: a service one of whose folders is a small disk of its own.

The disk is a tmpfs in a mount namespace of the process: nobody else sees it, and it goes with the process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SCRIPT = 'mount -t tmpfs -o size="$1"m tmpfs "$2" && shift 2 && exec "$@"'


def main(mib: str, variable: str, service: str) -> None:
    folder = os.environ[variable]
    Path(folder).mkdir(parents=True, exist_ok=True)
    inside = ["sh", "-c", SCRIPT, "sh", mib, folder, sys.executable, "-m", service]
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *inside])


if __name__ == "__main__":
    main(*sys.argv[1:])
