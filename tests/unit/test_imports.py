"""The import rule: pure modules touch no I/O, `pipeline` knows no service, services know none of each other.

The console may import rules of a service, never its shells: what a delivery says is one function, and a dead letter
that is read again has to be read by that one and no copy of it.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = {"ingress", "processor", "alerter", "lookup"}
PACKAGES = [*sorted(SERVICES), "pipeline", "console", "connectors"]
MODULES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))

#: Libraries that mean input, output or a clock of their own; only shells import them.
IMPURE = {"aiohttp", "aiokafka", "faust", "mode", "rocksdict", "apprise", "subprocess", "socket", "uvloop", "stamina"}
#: The modules that hold rules: values in, values out.
PURE = {
    "pipeline/acls.py",
    "pipeline/addresses.py",
    "pipeline/contract.py",
    "pipeline/deadletter.py",
    "pipeline/differences.py",
    "pipeline/errors.py",
    "pipeline/incidents.py",
    "pipeline/loopback.py",
    "pipeline/operators.py",
    "pipeline/providers.py",
    "pipeline/ranges.py",
    "pipeline/last_read.py",
    "pipeline/letters.py",
    "pipeline/masking.py",
    "pipeline/settings.py",
    "pipeline/suppression.py",
    "pipeline/tokens.py",
    "pipeline/topics.py",
    "ingress/accept.py",
    "ingress/delivery.py",
    "ingress/framing.py",
    "ingress/outside.py",
    "ingress/proxies.py",
    "ingress/room.py",
    "ingress/signatures.py",
    "ingress/sources.py",
    "ingress/spooling.py",
    "ingress/providers/__init__.py",
    "ingress/providers/nexuspromail.py",
    "processor/bounds.py",
    "processor/calls.py",
    "processor/circuit.py",
    "processor/former.py",
    "processor/guard.py",
    "processor/lacking.py",
    "processor/decide.py",
    "processor/dedup.py",
    "processor/difference.py",
    "processor/marks.py",
    "processor/place.py",
    "processor/position.py",
    "processor/handler.py",
    "processor/letters.py",
    "processor/suppressions.py",
    "processor/unknown_types.py",
    "alerter/group_told.py",
    "alerter/grouping.py",
    "alerter/incidents.py",
    "alerter/ledger.py",
    "alerter/message.py",
    "alerter/recoveries.py",
    "alerter/summary.py",
    "alerter/words.py",
    "console/known.py",
    "console/letters.py",
    "console/lines.py",
    "console/metrics.py",
    "console/moments.py",
    "console/redrives.py",
    "console/restarts.py",
    "console/formulas.py",
    "console/list_layout.py",
    "console/rows.py",
    "console/rewind.py",
    "console/sample.py",
    "console/tries.py",
    "lookup/answers.py",
    "lookup/progress.py",
    "lookup/questions.py",
}


#: A shell of a service that the console runs: what an operator starts there is a processor's work.
RUN_BY_HAND = {
    "console/rebuild.py": {"processor/rebuild.py"},
    "console/group.py": {"processor/source.py"},
    "console/state_work.py": {"processor/kept.py", "processor/site.py", "processor/writeback.py"},
}


def imported(file: Path) -> set[str]:
    """Full names of what a module imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= (
                set()
                if node.module == "__future__"
                else {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            )
    return names


def reached(names: set[str]) -> set[str]:
    """The files that these names may be, or lie in."""
    return {f"{n.replace('.', '/')}.py" for n in names} | {f"{n.replace('.', '/')}/__init__.py" for n in names}


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


#: Modules that import something and are not among the pure ones.
SHELLS = {name_of(file) for file in MODULES if imported(file)} - PURE


def reads_environment(file: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
        for node in ast.walk(ast.parse(file.read_text()))
    )


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_imports_neither_io_nor_a_shell(name: str) -> None:
    names = imported(ROOT / name)
    assert not {n.split(".")[0] for n in names} & IMPURE
    assert not reached(names) & SHELLS
    assert not reads_environment(ROOT / name)


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_services_know_the_pipeline_and_not_each_other(file: Path) -> None:
    mine = name_of(file).split("/")[0]
    names = imported(file)
    known = {n.split(".")[0] for n in names} & set(PACKAGES)
    if mine == "console":
        shells = {name for name in reached(names) & SHELLS if name.split("/")[0] in SERVICES}
        assert shells <= RUN_BY_HAND.get(name_of(file), set())
    elif mine == "connectors":
        # They are plugged into the processor, which does not know them.
        assert known <= {"pipeline", "processor", mine}
        assert not {name for name in reached(names) & SHELLS if name.split("/")[0] == "processor"}
    else:
        assert known <= {"pipeline", mine}


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_only_the_entry_points_read_the_environment(file: Path) -> None:
    entry = (
        file.name == "__main__.py" or name_of(file) == "pipeline/service.py" or name_of(file).startswith("console/")
    )
    assert entry or not reads_environment(file)
