"""`postlog topics` against a real cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from console.local_kafka import tool
from pipeline import contract, kafka, topic_settings, topics
from pipeline.live import live_topics
from pipeline.settings import Settings
from tests.e2e.postlog import postlog
from tests.e2e.system import System, delivery, running, until


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    """An environment in which the topics are as they should be."""
    return {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "TOPIC_PREFIX": settings.topic_prefix}


def file_with(folder: Path, **changes: Any) -> str:
    """topics.yaml with other values in the topic of the events."""
    document = yaml.safe_load(topics.default_file().read_text())
    config = changes.pop("config", {})
    for name in ("events", "seen", "suppressions", "calls", "incidents", "dead_letters"):
        document["topics"][name] |= changes
    document["topics"]["events"]["config"] |= config
    path = folder / "topics.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_topics_as_they_should_be_pass_the_check(env: dict[str, str]) -> None:
    result = postlog("topics", "check", env=env)
    assert (result.returncode, result.stdout) == (0, "the topics are what topics.yaml says\n"), result.stderr


def test_missing_topics_fail_the_check_and_apply_creates_them(env: dict[str, str], settings: Settings) -> None:
    new = env | {"TOPIC_PREFIX": f"{settings.topic_prefix}new."}
    names = [f"{settings.topic_prefix}new.{name}" for name in ("email-events", "email-events.dlq")]
    missing = postlog("topics", "check", env=new)
    assert missing.returncode == 1
    assert missing.stdout.count("missing") == 8
    assert missing.stdout.count("postlog topics apply") == 8
    assert all(name in missing.stdout for name in names)

    created = postlog("topics", "apply", env=new)
    assert created.returncode == 0, created.stderr
    assert all(f"created {name}\n" in created.stdout for name in names)
    assert postlog("topics", "check", env=new).returncode == 0

    again = postlog("topics", "apply", "--json", env=new)
    assert (again.returncode, json.loads(again.stdout)) == (0, {"created": [], "changed": [], "differences": []})


async def test_another_partition_count_is_refused_with_the_way_round_it(
    env: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    more = env | {"TOPICS_FILE": file_with(tmp_path, partitions=24)}
    for command in ("check", "apply"):
        result = postlog("topics", command, "--json", env=more)
        assert result.returncode == 1
        found = json.loads(result.stdout)["differences"]
        assert {d["what"] for d in found} == {"partitions"}
        assert {(d["file"], d["cluster"]) for d in found} == {("24", "12")}
        assert all("refused" in d["cure"] and "another TOPIC_PREFIX" in d["cure"] for d in found)
    async with kafka.admin(settings) as client:
        live = await live_topics(client, kafka.topics_of(settings))
    keyed = [topic.name for topic in kafka.topics_of(settings).all() if topic.key == "email"]
    assert {live[name].partitions for name in keyed} == {12}


async def test_a_file_that_was_lowered_is_refused_until_it_says_what_it_said(
    env: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    wanted = kafka.topics_of(settings)
    async with AIOKafkaProducer(**kafka.client_options(settings)) as producer:
        await producer.send_and_wait(wanted.seen.name, b"a page", partition=wanted.seen.partitions - 1)
    result = postlog("topics", "check", "--json", env=env | {"TOPICS_FILE": file_with(tmp_path, partitions=6)})
    assert result.returncode == 1
    found = json.loads(result.stdout)["differences"]
    assert {(d["file"], d["cluster"], d["harmless"]) for d in found} == {("6", "12", False)}
    assert all("Put 12 back into topics.yaml" in d["cure"] for d in found)
    back = env | {"TOPICS_FILE": file_with(tmp_path, partitions=12)}
    assert postlog("topics", "check", env=back).returncode == 0


async def test_a_topic_that_was_made_anew_with_too_few_partitions_is_mended_as_the_cure_says(
    env: dict[str, str], settings: Settings
) -> None:
    name = kafka.topics_of(settings).calls.name
    async with kafka.admin(settings) as client:
        await client.delete_topics([name])
        await client.create_topics([NewTopic(name, 1, 1, topic_configs=kafka.topics_of(settings).calls.settings())])
    [found] = json.loads(postlog("topics", "check", "--json", env=env).stdout)["differences"]
    assert (found["cluster"], found["file"], found["harmless"]) == ("1", "12", False)
    command = re.search(r"kafka-topics\.sh (--alter .*)", found["cure"])
    assert command is not None
    where = ("--bootstrap-server", settings.kafka_bootstrap_servers)
    mended = tool("org.apache.kafka.tools.TopicCommand", *where, *command[1].split())
    assert mended.returncode == 0, mended.stderr
    assert postlog("topics", "check", env=env).returncode == 0


async def test_the_list_moves_to_a_second_postlog_with_another_count(system: System, tmp_path: Path) -> None:
    emails = {f"person-{number}@example.com" for number in range(30)}
    ingress, processor, lookup = (system.start(name) for name in ("ingress", "processor", "lookup"))
    await system.ready(ingress, processor, lookup)
    await system.deliver(ingress, [delivery(email, "bounced.hard", email) for email in emails])
    await system.caught_up()

    file = file_with(tmp_path, partitions=24)
    prefix = f"{system.settings.topic_prefix}second."
    larger = msgspec.structs.replace(system.settings, topic_prefix=prefix, topics_file=file)
    env = {"KAFKA_BOOTSTRAP_SERVERS": larger.kafka_bootstrap_servers, "TOPIC_PREFIX": prefix, "TOPICS_FILE": file}
    assert postlog("topics", "apply", env=env).returncode == 0

    async def all_exported() -> bool:
        former = {"LOOKUP_PORT": lookup.url.rpartition(":")[2]}
        exported = postlog("suppressions", "export", tmp_path / "list.csv", env=former)
        return exported.returncode == 0 and (tmp_path / "list.csv").read_text().count("@") == len(emails)

    await until(all_exported, "the list is exported")
    async with running(larger, tmp_path / "second") as second:
        await second.ready(second.start("processor", TOPICS_FILE=file))
        imported = postlog("suppressions", "import", tmp_path / "list.csv", env=env)
        assert imported.returncode == 0, imported.stderr
        await second.caught_up()
        assert await second.suppressed() == emails
        entries = await second.records(second.topics.suppressions)
        assert all(entry.partition == contract.partition_of(entry.key, 24) for entry in entries)


async def test_another_retention_is_shown_with_what_it_deletes_and_changed_only_if_somebody_agrees(
    env: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    name = kafka.topics_of(settings).events.name
    async with kafka.admin(settings) as client:
        # What the file does not name is nobody's to reset.
        await topic_settings.put(client, {name: {"segment.ms": "7200000"}})
    shorter = env | {"TOPICS_FILE": file_with(tmp_path, config={"retention.ms": 3_600_000})}

    asked = postlog("topics", "apply", env=shorter)
    assert asked.returncode == 1
    assert all(value in asked.stdout for value in ("retention.ms", "3600000", "1209600000"))
    assert "postlog topics apply. Kafka then deletes what is older than 1 h" in asked.stdout
    assert "postlog topics apply --yes" in asked.stderr
    told = json.loads(postlog("topics", "apply", "--json", env=shorter).stdout)
    assert (told["changed"], [each["what"] for each in told["differences"]]) == ([], ["retention.ms"])

    done = postlog("topics", "apply", "--yes", env=shorter)
    assert done.returncode == 0, done.stderr
    assert f"changed {name}: retention.ms was 1209600000 and is 3600000; Kafka deletes" in done.stdout
    assert postlog("topics", "check", env=shorter).returncode == 0
    async with kafka.admin(settings) as client:
        live = await live_topics(client, kafka.topics_of(settings))
    assert (live[name].config["retention.ms"], live[name].config["segment.ms"]) == ("3600000", "7200000")


def test_brokers_that_do_not_answer_are_an_error_of_one_line() -> None:
    # The port of discard: nobody listens there.
    result = postlog("topics", "check", env={"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_WAIT_SECONDS": "1"})
    assert result.returncode == 1
    assert result.stderr.startswith("error: Kafka at 127.0.0.1:9 did not answer within 1 s")
    assert result.stderr.count("\n") == 1
