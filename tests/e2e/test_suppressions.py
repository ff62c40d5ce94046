"""What operators say, from the command to the list, with a real processor and lookup on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from pipeline import contract, kafka
from pipeline.contract import Event, EventType
from tests.e2e.postlog import postlog
from tests.e2e.system import Service, System, until

EMAIL = "ann@example.com"


class Operator:
    """Runs `postlog suppressions` on a system with a processor and a lookup."""

    def __init__(self, system: System, lookup: Service, folder: Path) -> None:
        self.system = system
        self._folder = folder
        port = lookup.url.rpartition(":")[2]
        self._env = {
            "KAFKA_BOOTSTRAP_SERVERS": system.settings.kafka_bootstrap_servers,
            "TOPIC_PREFIX": system.settings.topic_prefix,
            "LOOKUP_PORT": port,
        }

    async def run(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        line = ("suppressions", *args, "--data", self._folder / "none")
        return await asyncio.to_thread(postlog, *line, env=self._env)

    async def done(self, *args: str | Path) -> str:
        result = await self.run(*args)
        assert result.returncode == 0, result.stderr
        return result.stdout

    async def get(self, email: str = EMAIL) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.done("get", email, "--json"))
        return found

    async def listed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.done("list", "--json", "--limit", "0")).splitlines()]

    async def settled(self, count: int) -> list[dict[str, Any]]:
        """The list once it has this many rows."""
        await self.system.caught_up()
        await until(lambda: self._has(count), f"the list has {count} rows")
        return await self.listed()

    async def _has(self, count: int) -> bool:
        return len(await self.listed()) == count


@pytest.fixture
async def operator(system: System, tmp_path: Path) -> Operator:
    processor, lookup = system.start("processor"), system.start("lookup")
    await system.ready(processor, lookup)
    return Operator(system, lookup, tmp_path)


async def complain(system: System, at: int) -> None:
    made = Event(
        provider="nexuspromail",
        type=EventType.COMPLAINT,
        provider_type="complained",
        id=f"complaint-{at}",
        id_basis="id",
        email=EMAIL,
        occurred_at=at,
        received_at=at,
    )
    producer = AIOKafkaProducer(**kafka.client_options(system.settings), acks="all")
    await producer.start()
    try:
        key, value = contract.key(made), contract.encode(made)
        await producer.send_and_wait(system.topics.events.name, key=key, value=value)
    finally:
        await producer.stop()


async def test_what_is_added_stands_until_it_is_removed_and_a_later_complaint_stands_again(
    operator: Operator,
) -> None:
    said = await operator.done("add", EMAIL, "--because", "asked by phone", "--who", "bob")
    assert "by bob: asked by phone" in said
    found = await operator.get()
    assert (found["suppressed"], list(found["causes"])) == (True, ["operator"])
    assert found["operator"] == {
        "type": "suppressed",
        "who": "bob",
        "because": "asked by phone",
        "at": found["causes"]["operator"]["latest"],
    }
    assert await operator.system.suppressed() == {EMAIL}

    assert "not suppressed any more" in await operator.done(
        "remove", EMAIL, "--because", "asked back", "--who", "eve"
    )
    found = await operator.get()
    assert (found["suppressed"], found["operator"]["type"], found["operator"]["who"]) == (False, "reinstated", "eve")
    assert "nothing is done" in await operator.done("remove", EMAIL, "--because", "again")

    (_, removed) = await operator.system.records(operator.system.topics.events)
    await complain(operator.system, removed.timestamp - 1)
    await operator.system.caught_up()
    assert await operator.system.suppressed() == set()
    await complain(operator.system, removed.timestamp + 1)
    await operator.system.caught_up()
    await until(lambda: operator._has(1), "the complaint is listed")
    assert list((await operator.get())["causes"]) == ["complaint"]
    assert await operator.system.records(operator.system.topics.dead_letters) == []


async def test_a_file_imported_twice_counts_once_and_its_export_says_the_same_again(
    operator: Operator, tmp_path: Path
) -> None:
    causes = ["operator", "hard_bounce", "complaint", "unsubscribed"]
    lines = [f"user{n}@example.com,{causes[n % 4]},2026-01-0{n % 9 + 1}T00:00:00Z" for n in range(2000)]
    file = tmp_path / "list.csv"
    file.write_text("\n".join(["email,cause,at", *lines]))
    for _ in range(2):
        assert "2000 rows are on the log" in await operator.done("import", file, "--because", "from before")
    listed = await operator.settled(2000)
    markers = await operator.system.markers()
    assert (len(markers), set(markers.values())) == (2000, {1})
    assert {(row["email"], *row["causes"]) for row in listed} == {tuple(line.split(",")[:2]) for line in lines}
    assert all(row["operator"]["because"] == "from before" for row in listed if "operator" in row)

    exported = tmp_path / "export.ndjson"
    await operator.done("export", exported)
    assert exported.read_text().count("\n") == 2000
    events = len(await operator.system.events())
    await operator.done("import", exported, "--dry-run")
    assert len(await operator.system.events()) == events
    await operator.done("import", exported)
    assert await operator.settled(2000) == listed
