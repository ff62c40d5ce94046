"""Nothing is installed whose hash is not in a lock file, nor built with anything else."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Where commands are that install something, for people too.
PLACES = [
    *(ROOT / name for name in ("Makefile", "Dockerfile", ".ci/run", ".pre-commit-config.yaml", "README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("docker-compose*.yml")),
    *sorted((ROOT / "bench").rglob("*.py")),
    *sorted((ROOT / "console").rglob("*.py")),
]
#: Commands that fetch and install packages.
_INSTALLS = re.compile(
    r"\b(?:pip3?|uv)\s+(?:pip\s+)?(?:install|wheel|download|sync|tool|run)\b|\b(?:pipx|uvx)\s|\bnpm (?:i|install)\b"
)
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def commands(text: str) -> Iterator[str]:
    """The commands in a file that install packages, each in one line, with the Makefile's variables put in."""
    joined = re.sub(r"\\\n\s*", " ", text)
    variables = dict(re.findall(r"^([A-Z]+)\s*:=\s*(.*)$", joined, re.MULTILINE))
    for line in joined.splitlines():
        if re.match(r"[A-Z]+\s*:=", line):
            continue
        for name, value in variables.items():
            line = line.replace(f"$({name})", value)
        # A command of a program in Python is a list of words.
        plain = re.sub(r"""["'],\s*["']""", " ", line)
        yield from (part for part in re.split(r"&&|\|\|", plain) if _INSTALLS.search(part))


def is_safe(command: str) -> bool:
    """Whether this installs what is locked, and builds with what is there."""
    known = "--require-hashes" in command or ("--no-index" in command and "--no-deps" in command)
    return known and ("--no-build-isolation" in command or "--only-binary :all:" in command)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.relative_to(ROOT).as_posix())
def test_whatever_installs_asks_for_hashes_and_fetches_nothing_to_build_with(place: Path) -> None:
    assert [command for command in commands(place.read_text()) if not is_safe(command)] == []


def test_there_are_such_commands() -> None:
    found = {place.name: len(list(commands(place.read_text()))) for place in PLACES}
    assert found["Makefile"] >= 5
    assert found["Dockerfile"] == 4
    assert found["tools.py"] == 1


@pytest.mark.parametrize(
    "command",
    [
        "\t@$(BIN)/pip install --quiet uv",
        "RUN pip install --no-deps .",
        "RUN pip install --require-hashes -r requirements.lock",
        "RUN true \\\n && pip install --no-build-isolation -r requirements.lock",
        'subprocess.run([python, "-m", "pip", "install", "--quiet", "jgo"])',
        "BIN := .venv/bin\nPIP := pip install --quiet\na:\n\t$(BIN)/$(PIP) flask",
    ],
)
def test_a_command_that_does_not_is_found(command: str) -> None:
    assert [found for found in commands(command) if not is_safe(found)]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_of_a_lock_file_has_a_version_and_a_hash(lock: Path) -> None:
    entries = re.sub(r"\\\n\s*", " ", lock.read_text()).splitlines()
    packages = [entry for entry in entries if entry.strip() and not entry.lstrip().startswith("#")]
    assert packages
    assert all(_PIN.match(entry) and "--hash=sha256:" in entry for entry in packages)


def pins(name: str) -> dict[str, str]:
    return dict(_PIN.findall((ROOT / name).read_text()))


def test_what_builds_postlog_is_locked() -> None:
    for needed in [*PROJECT["build-system"]["requires"], "editables"]:
        package, _, version = needed.partition("==")
        assert pins("requirements-build.lock")[package] == (version or pins("requirements-build.lock")[package])


def test_what_is_installed_into_one_environment_agrees() -> None:
    build, dev, run = (pins(f"requirements{which}.lock") for which in ("-build", "-dev", ""))
    both = build.keys() & dev.keys()
    assert {package: build[package] for package in both} == {package: dev[package] for package in both}
    # A package may have several versions, one for each Python.
    assert run.items() <= dev.items()


def test_every_package_of_node_has_a_hash() -> None:
    lock = json.loads((ROOT / "bench/peers/node/package-lock.json").read_text())
    assert all(package.get("integrity") for name, package in lock["packages"].items() if name)
