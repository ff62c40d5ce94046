"""Where was it measured, and of what? Facts for people who read figures; what is not installed is left out."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from bench import tools
from console import kafka_jars, local_kafka

#: Packages of ours whose version matters to speed.
PACKAGES = ("aiohttp", "aiokafka", "faust-streaming", "mode-streaming", "rocksdict", "uvloop", "msgspec")
#: Packages of the peers in Python, and in Node.
PEERS = ("flask", "gevent", "gunicorn", "quixstreams", "redis", "hiredis")
NODE = ("express", "bull", "bullmq", "ioredis")
#: How a program says its version; it may call that an error.
PROGRAMS = {
    "wrk": ("wrk", "--version"),
    "redis-server": ("redis-server", "--version"),
    "node": ("node", "--version"),
    "javac": ("javac", "-version"),
}
#: Seconds a program may take for it.
_PATIENCE = 30.0
_HASH = re.compile(r"[0-9a-f]{7,64}")
_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def machine() -> dict[str, str]:
    """Processor, cores, memory, kernel, interpreter."""
    return {
        "cpu": _cpu(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """postlog's commit, and the version of everything that takes part."""
    site = next(iter(tools.PEERS_PYTHON.parents[1].glob("lib/python3*/site-packages")), None)
    return {
        **_commit(),
        "Kafka": kafka_jars.VERSION,
        **_programs({"java": (str(local_kafka.java()), "-version"), **PROGRAMS}),
        **_packages(PACKAGES, None),
        **(_packages(PEERS, site) if site else {}),
        **_node(NODE),
    }


def number(said: str) -> str | None:
    """The version in what a program says about itself."""
    found = _NUMBER.search(said)
    return found[0] if found else None


def model(cpuinfo: str) -> str | None:
    """The processor's name in Linux' /proc/cpuinfo."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), None)


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    return (model(path.read_text()) if path.exists() else None) or platform.processor() or platform.machine()


def _commit() -> dict[str, str]:
    """With a + if files that are in it were changed since. Nothing outside of a checkout."""
    if not (tools.ROOT / ".git").exists() or not shutil.which("git"):
        return {}
    git = ("git", "-C", str(tools.ROOT))
    commit = _said((*git, "rev-parse", "--short", "HEAD")).strip()
    changed = _said((*git, "status", "--porcelain", "--untracked-files=no")).strip()
    # What git says when it cannot answer is no commit.
    return {"postlog": commit + ("+" if changed else "")} if _HASH.fullmatch(commit) else {}


def _programs(asked: dict[str, tuple[str, ...]]) -> dict[str, str]:
    found = {name: number(_said(argv)) for name, argv in asked.items() if shutil.which(argv[0])}
    return {name: version for name, version in found.items() if version}


def _said(argv: Sequence[str]) -> str:
    """Both outputs of a short command, whatever it ends with."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _packages(names: Iterable[str], site: Path | None) -> dict[str, str]:
    """Versions of packages in this environment, or in another one's folder."""
    found = importlib.metadata.distributions(path=[str(site)]) if site else importlib.metadata.distributions()
    installed = {each.metadata["Name"].lower(): each.version for each in found}
    return {name: installed[name] for name in names if name in installed}


def _node(names: Iterable[str]) -> dict[str, str]:
    found = ((name, tools.PEERS / "node" / "node_modules" / name / "package.json") for name in names)
    return {name: json.loads(path.read_text())["version"] for name, path in found if path.exists()}


if __name__ == "__main__":
    print("\n".join(f"{name}: {value}" for name, value in {**machine(), **versions()}.items()))
