"""A list that an earlier release wrote, with keys that it gave to addresses: found, said and joined."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.e2e.postlog import postlog
from tests.e2e.system import SESSION_SECONDS, Service, System, delivery, until
from tests.e2e.test_dlq import dlq
from tests.e2e.test_rebuild import rebuild, rebuilt, state
from tests.e2e.test_replay import environment

#: What an ingress of then and one of today took, and how many seconds after the new year of 2025 it happened.
THEN = [
    ("complained", "<ann@example.com>", 100),
    ("unsubscribed", "mailto:carl@example.com", 100),
    ("unsubscribed", "dora@example.com.", 200),
    ("complained", "bob@bücher.example", 100),
    ("complained", "eve@example.com,fay@example.com", 100),
    ("complained", "Gus <gus@example.com>", 100),
]
NEW_YEAR = 1_735_689_600
TODAY = [("subscribed", "carl@example.com", 200), ("subscribed", "dora@example.com", 100)]


async def answers(system: System, lookup: Service) -> dict[str, bool]:
    """By address, whether lookup says that it must not be mailed."""
    asked = ["ann@example.com", "bob@bücher.example", "carl@example.com", "dora@example.com", "gus@example.com"]
    async with system.http.post(f"{lookup.url}/suppressions/check", json={"emails": asked}) as answer:
        return {each["email"].partition("@")[0]: each["suppressed"] for each in (await answer.json())["results"]}


async def former_keys(system: System, processor: Service) -> int:
    """What `postlog status` says, once the processor has looked at the lists of all its lanes."""

    async def looked() -> bool:
        found = await system.metric(processor, "postlog_processor_former_keys")
        return len(found) == system.topics.suppressions.partitions

    await until(looked, "every list was looked at")
    line = ("status", "--json", "--processor-url", processor.url)
    said: dict[str, Any] = json.loads((await asyncio.to_thread(postlog, *line, env=environment(system))).stdout)
    number: int = said["former_keys"]
    return number


async def test_a_list_of_an_earlier_release_is_joined_by_a_rebuild(system: System, tmp_path: Path) -> None:
    former, ingress = system.start("ingress", module=("tests.e2e.former", "ingress")), system.start("ingress")
    processor, lookup = system.start("processor"), system.start("lookup")
    await system.ready(former, ingress, processor, lookup)
    for at, (service, events) in enumerate(((former, THEN), (ingress, TODAY))):
        bodies = [
            delivery(f"{at}-{n}", kind, who, created_at=NEW_YEAR + when) for n, (kind, who, when) in enumerate(events)
        ]
        await system.deliver(service, bodies)
    await system.caught_up()
    processor.stop()
    processor.restart()
    await system.ready(processor)
    assert await former_keys(system, processor) == 4
    assert "postlog replay --rebuild" in processor.said()
    processor.stop()

    looked = await rebuilt(system, tmp_path, "--dry-run", "--wait", str(SESSION_SECONDS * 3))
    assert (looked["former"], looked["nobodys"], looked["released"], looked["suppressed"]) == (4, 1, 0, 3)
    assert await rebuilt(system, tmp_path, "--yes") == looked
    right = {"ann": True, "bob": True, "carl": False, "dora": True, "gus": False}

    async def joined() -> bool:
        return await answers(system, lookup) == right

    await until(joined, "lookup says what either key said")
    listed, _ = await state(system)
    keys = {"ann@example.com", "bob@xn--bcher-kva.example", "carl@example.com", "dora@example.com"}
    assert {key.decode() for key in listed} == keys | {"eve@example.com,fay@example.com"}

    # The log says it now, too, but for carl, who said something later: to process and rebuild it changes nothing.
    assert await system.lag() == 3
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    assert (await state(system))[0] == listed
    assert await former_keys(system, processor) == 0

    # Nobody could read whom gus' bounce was about.
    (letter,) = dlq("list", "--error", "NoRecipient", env=environment(system))["letters"]
    assert dlq("redrive", letter["id"], env=environment(system))["records"] == 1
    right["gus"] = True
    await until(joined, "lookup says what the dead letter said")
    processor.stop()
    again = await rebuild(system, tmp_path, "--yes", "--wait", str(SESSION_SECONDS * 3))
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True), again.stderr
    assert await answers(system, lookup) == right
