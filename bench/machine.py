"""Where a run was made, and of what: facts for people who want to compare."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from bench import tools
from console import kafka_jars

#: Packages whose versions matter to a figure.
_PACKAGES = ("aiohttp", "aiokafka", "faust-streaming", "rocksdict", "uvloop", "msgspec")
_PEERS = ("flask", "gunicorn", "gevent", "redis", "quixstreams")
#: How each program tells its version.
_PROGRAMS = {
    "wrk": ("wrk", "-v"),
    "Redis": ("redis-server", "--version"),
    "Node": ("node", "--version"),
    "javac": ("javac", "-version"),
}


def machine() -> dict[str, str]:
    """Processor, memory and system."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Of postlog, Kafka, packages and programs; what is not installed is left out."""
    found = {"postlog": _said("git", "-C", str(tools.ROOT), "describe", "--always", "--dirty", "--abbrev=10")}
    found |= {"Kafka": kafka_jars.VERSION}
    found |= {name: metadata.version(name) for name in _PACKAGES}
    found |= dict.fromkeys(_PEERS, "") | _peers()
    found |= {name: _said(*command) for name, command in _PROGRAMS.items()}
    return {name: version for name, version in found.items() if version}


def _peers() -> dict[str, str]:
    if not tools.PEERS_PYTHON.exists():
        return {}
    program = f"from importlib.metadata import version; print(*[version(name) for name in {_PEERS!r}])"
    return dict(zip(_PEERS, _said(str(tools.PEERS_PYTHON), "-c", program).split(), strict=False))


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _said(*command: str) -> str:
    """The first line a command prints; empty if it is not there."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ((done.stdout or done.stderr).splitlines() or [""])[0].strip()
