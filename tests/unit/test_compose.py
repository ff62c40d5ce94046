"""The container files name nothing that does not exist. (No engine is needed; one that is there is not used.)"""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click import Context, Group

from console.__main__ import main as postlog
from console.kafka_jars import VERSION
from console.kafka_properties import Ports, server_properties
from pipeline import topics
from pipeline.settings import Settings, documented

ROOT = Path(__file__).parents[2]
FILES = ["docker-compose.yml", "docker-compose.production.yml"]
OURS = ["ingress", "processor", "alerter", "lookup"]
VARIABLES = {name for name, _, _ in documented()}
#: What compose itself fills in, not a service's setting.
INTERPOLATED = {"INGRESS_BIND", "KAFKA_CLUSTER_ID"}

#: What the image is made of, and what its packages are built with.
LOCKED = {"requirements.lock", "requirements-build.lock"}

Document = dict[str, Any]


def read(name: str) -> Document:
    loaded: Document = yaml.safe_load((ROOT / name).read_text())
    return loaded


def services(name: str) -> dict[str, Document]:
    found: dict[str, Document] = read(name)["services"]
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_valid_by_the_compose_specification(name: str) -> None:
    # The schema comes with check-jsonschema, so that a test needs no network.
    file = distribution("check-jsonschema").locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    jsonschema.Draft7Validator(json.loads(Path(str(file)).read_text())).validate(read(name))


def test_there_is_one_service_per_folder() -> None:
    assert set(OURS) <= services(FILES[0]).keys()
    assert all((ROOT / name / "__main__.py").exists() for name in OURS)


@pytest.mark.parametrize("name", [*OURS, "topics"])
def test_every_command_exists(name: str) -> None:
    command = services(FILES[0])[name]["command"]
    if command[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(f"{command[2]}.__main__")
        return
    found: Any = postlog
    assert command[0] == "postlog"
    for word in command[1:]:
        assert isinstance(found, Group)
        found = found.get_command(Context(found), word)
        assert found is not None, f"postlog knows no {word}"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", [*OURS, "topics"])
def test_every_variable_of_a_service_is_a_setting(file: str, name: str) -> None:
    assert set(services(file)[name].get("environment", {})) <= VARIABLES


@pytest.mark.parametrize("file", FILES)
def test_every_variable_that_compose_fills_in_is_known(file: str) -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / file).read_text()))
    assert used <= VARIABLES | INTERPOLATED


@pytest.mark.parametrize("name", OURS)
def test_ports_and_health_checks_are_those_the_service_listens_on(name: str) -> None:
    service = services(FILES[0])[name]
    port = service["environment"][f"{name.upper()}_PORT"]
    assert int(port) == getattr(Settings(), f"{name}_port")
    assert f":{port}/health/live" in service["healthcheck"]["test"][-1]
    assert all(mapping.split(":")[-2:] == [port, port] for mapping in service.get("ports", []))


@pytest.mark.parametrize("file", FILES)
def test_kafka_settings_are_settings_of_kafka(file: str) -> None:
    """Names are compared with those of the local broker, which a real Kafka has accepted."""
    known = set(server_properties(Ports(1, 2), "/data"))
    known |= {"node.id", "unclean.leader.election.enable"}
    for name, service in services(file).items():
        if name.startswith("kafka"):
            given = {v for v in service["environment"] if v.startswith("KAFKA_")}
            assert {v.removeprefix("KAFKA_").lower().replace("_", ".") for v in given} <= known


@pytest.mark.parametrize("file", FILES)
def test_the_image_is_the_kafka_that_the_tests_run(file: str) -> None:
    images = {s["image"] for name, s in services(file).items() if name.startswith("kafka") and "image" in s}
    assert images == {f"apache/kafka:{VERSION}"}


def test_production_has_three_replicas_two_of_them_in_sync_on_three_brokers() -> None:
    base, over = services(FILES[0]), services(FILES[1])
    brokers = {name for name in {**base, **over} if name.startswith("kafka")}
    assert len(brokers) == 3
    for name in [*OURS, "topics"]:
        environment = over[name]["environment"]
        assert {server.split(":")[0] for server in environment["KAFKA_BOOTSTRAP_SERVERS"].split(",")} == brokers
        replicated = topics.load(
            topics.default_file(),
            replication=int(environment["TOPIC_REPLICATION"]),
            min_insync=int(environment["TOPIC_MIN_INSYNC_REPLICAS"]),
        )
        assert all((t.replication, t.min_insync_replicas) == (3, 2) for t in replicated.all())


def test_secrets_come_from_the_environment_and_containers_run_unprivileged() -> None:
    assert ":?" in services(FILES[0])["ingress"]["environment"]["WEBHOOK_SECRET"]
    for name in OURS:
        service = services(FILES[0])[name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
    assert re.search(r"^USER postlog$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_nothing_gets_into_the_image_but_what_it_is_made_of() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", *LOCKED}
    assert needed <= allowed <= needed | {"README.md"}


def test_the_image_installs_what_is_in_the_lock_file() -> None:
    lines = re.findall(r"^COPY (?!--)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    copied = [name for line in lines for name in line.split()]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert set(copied) >= LOCKED
