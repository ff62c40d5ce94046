"""`python -m tests.e2e.small_disk MIB SERVICE`: a service whose STATE_DIR is a disk of its own, and a small one.

The disk is a tmpfs in a mount namespace of the process: nobody else sees it, and it goes with the process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SCRIPT = 'mount -t tmpfs -o size="$1"m tmpfs "$STATE_DIR" && shift && exec "$@"'


def main(mib: str, service: str) -> None:
    Path(os.environ["STATE_DIR"]).mkdir(parents=True, exist_ok=True)
    inside = ["sh", "-c", SCRIPT, "sh", mib, sys.executable, "-m", service]
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *inside])


if __name__ == "__main__":
    main(*sys.argv[1:])
