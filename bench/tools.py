"""The programs and packages that only measuring needs: found, or installed.

Peers have a virtual environment of their own, since they want other versions of what postlog is made of.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
#: The interpreter that runs peers written in Python.
PEERS_PYTHON = ROOT / ".venv" / "peers" / "bin" / "python"
#: Debian's package of each program.
PACKAGES = {
    "wrk": "wrk",
    "redis-server": "redis-server",
    "node": "nodejs",
    "npm": "npm",
    "javac": "default-jdk-headless",
}


def require(*programs: str) -> None:
    """Have these programs on the PATH; as root on Debian what is missing is installed.

    Raises ConfigError naming what to install.
    """
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return
    packages = [PACKAGES[name] for name in missing]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {', '.join(packages)}", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)  # type: ignore[call-overload]
        subprocess.run(["apt-get", "install", "-qqy", *packages], check=False, **quiet)  # type: ignore[call-overload]
        missing = [name for name in missing if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"the benchmark needs {', '.join(missing)}: install Debian's {' '.join(PACKAGES[m] for m in missing)}, "
            "or what brings these programs elsewhere"
        )


def peers_python() -> Path:
    """The interpreter with what Python peers need, installed if requirements-peers.lock has changed since."""
    lock = ROOT / "requirements-peers.lock"
    installed = PEERS_PYTHON.parents[1] / ".installed"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        print("Installing what the peers in Python need, this once", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS_PYTHON.parents[1])], check=True)
        # Of all of them there are wheels; to build one, pip would fetch what no hash is known of.
        by_hash = ["pip", "install", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([str(PEERS_PYTHON), "-m", *by_hash, *quiet], check=True)
        installed.touch()
    return PEERS_PYTHON


def node_modules() -> Path:
    """The folder of the peers in Node, with their packages, installed if package-lock.json has changed since."""
    folder = PEERS / "node"
    installed, lock = folder / "node_modules" / ".installed", folder / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        print("Installing what the peers in Node need, this once", flush=True)
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
        installed.touch()
    return folder
