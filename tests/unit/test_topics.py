"""topics.yaml, and how a live cluster differs from it."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pipeline import topics
from pipeline.errors import ConfigError
from pipeline.topics import Live, Topics

FILE = topics.default_file()


def live(wanted: Topics) -> dict[str, Live]:
    return {t.name: Live(t.partitions, t.replication, t.settings()) for t in wanted.all()}


def test_a_cluster_as_the_file_says_has_no_differences() -> None:
    wanted = topics.load(FILE)
    assert topics.differences(wanted, live(wanted)) == []


def test_the_prefix_and_production_replication_reach_every_topic() -> None:
    wanted = topics.load(FILE, prefix="eu.", replication=3, min_insync=2)
    assert all(t.name.startswith("eu.") and t.replication == 3 for t in wanted.all())
    assert all(t.settings()["min.insync.replicas"] == "2" for t in wanted.all())


def test_a_missing_topic_can_be_created() -> None:
    wanted = topics.load(FILE)
    (found,) = topics.differences(wanted, {n: t for n, t in live(wanted).items() if n != "email-events.dlq"})
    assert (found.topic, found.missing) == ("email-events.dlq", True)


def test_another_partition_count_of_a_keyed_topic_is_refused_with_a_way_round() -> None:
    wanted = topics.load(FILE)
    cluster = live(wanted) | {"email-events": Live(6, 1, wanted.events.settings())}
    (found,) = topics.differences(wanted, cluster)
    assert (found.what, found.file, found.cluster, found.missing) == ("partitions", "12", "6", False)
    assert "refused" in found.cure
    assert "TOPIC_PREFIX" in found.cure


def test_replication_and_settings_are_compared() -> None:
    wanted = topics.load(FILE)
    changed = wanted.suppressions.settings() | {"cleanup.policy": "delete"}
    del changed["segment.ms"]
    cluster = live(wanted) | {"email-suppressions": Live(12, 2, changed)}
    found = {(d.what, d.cluster) for d in topics.differences(wanted, cluster)}
    assert found == {("replication", "2"), ("cleanup.policy", "delete"), ("segment.ms", "unset")}


@pytest.mark.parametrize(
    ("name", "there", "wanted", "deletes"),
    [
        ("retention.ms", "2592000000", "1209600000", "what is older than 14 d"),
        ("retention.ms", "-1", "3600000", "what is older than 1 h"),
        ("retention.ms", "3600000", "1209600000", ""),
        ("retention.ms", "3600000", "-1", ""),
        ("retention.bytes", "-1", "1000", "the oldest of what is more than 1000 bytes of a partition"),
        ("cleanup.policy", "compact", "delete", "what is older than the topic's retention"),
        ("cleanup.policy", "delete", "compact", "all but the last record of each key"),
        ("cleanup.policy", "compact", "compact,delete", "what is older than the topic's retention"),
        ("cleanup.policy", "compact,delete", "compact", ""),
        ("message.timestamp.type", "CreateTime", "LogAppendTime", ""),
        ("max.message.bytes", "1048588", "2097152", ""),
    ],
)
def test_a_setting_that_differs_can_be_changed_and_what_that_deletes_is_said(
    name: str, there: str, wanted: str, deletes: str
) -> None:
    loaded = topics.load(FILE)
    topic = msgspec.structs.replace(loaded.seen, config={name: wanted})
    file = msgspec.structs.replace(loaded, seen=topic)
    cluster = live(file)
    cluster[topic.name] = Live(topic.partitions, topic.replication, topic.settings() | {name: there})
    (found,) = topics.differences(file, cluster)
    assert (found.setting, found.deletes) == (True, deletes)
    assert found.cure == "postlog topics apply" + (f". Kafka then deletes {deletes}" if deletes else "")


def test_who_forgot_how_many_replicas_a_write_needs_does_not_lower_it() -> None:
    production = topics.load(FILE, min_insync=2)
    found = topics.differences(topics.load(FILE), live(production))
    assert {each.what for each in found} == {"min.insync.replicas"}
    assert not any(each.setting for each in found)
    assert all("TOPIC_MIN_INSYNC_REPLICAS=2" in each.cure for each in found)
    assert all(each.setting for each in topics.differences(production, live(topics.load(FILE))))


def test_the_log_gives_the_time_of_every_record_there_is() -> None:
    assert {t.settings()["message.timestamp.type"] for t in topics.load(FILE).all()} == {"LogAppendTime"}


def test_a_setting_of_all_topics_is_each_ones_unless_it_has_its_own() -> None:
    given = document()
    given["defaults"]["config"]["retention.ms"] = 5
    found = topics.parse(given, source="here")
    assert found.suppressions.config["retention.ms"] == 5
    assert found.seen.config["retention.ms"] == 432_000_000


def test_a_file_that_leaves_the_time_to_who_writes_is_refused_with_the_cure(tmp_path: Path) -> None:
    former = document()
    del former["defaults"]["config"]
    file = tmp_path / "topics.yaml"
    file.write_text(yaml.safe_dump(former))
    with pytest.raises(ConfigError, match=r"email-events\.calls.*below `defaults:`") as caught:
        topics.load(file)
    # As the message says.
    line = re.search(r"`(config: .*)` below", str(caught.value))
    assert line is not None
    former["defaults"] |= yaml.safe_load(line[1])
    file.write_text(yaml.safe_dump(former))
    assert topics.load(file).calls == topics.load(FILE).calls


def document() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())
    return loaded


@pytest.mark.parametrize(
    ("role", "change", "names"),
    [
        ("seen", {"partitions": 3}, "one partition count"),
        ("events", {"partitions": 0}, "events.partitions"),
        ("events", {"name": "white space"}, "events.name"),
        ("events", {"writers": ["nobody"]}, "events.writers"),
        ("events", {"retention": 5}, "retention"),
        ("events", {"config": 5}, "events.config"),
        (
            "calls",
            {"config": {"message.timestamp.type": "CreateTime"}},
            "message.timestamp.type must be LogAppendTime",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name(role: str, change: dict[str, object], names: str, tmp_path: Path) -> None:
    wrong = document()
    wrong["topics"][role] |= change
    file = tmp_path / "topics.yaml"
    file.write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigError, match=names) as caught:
        topics.load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "topics: 5", "topics: {events: 3}", "{", "topics: {}"])
def test_a_file_that_is_no_list_of_topics_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        topics.load(file)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"topics: {events: {name: caf\xe9}}",
        b"[" * 5_000,
        b"a: 2020-13-45",
        b"a: !!int x",
        b"defaults: [1]\ntopics: {}",
        b"defaults: 7\ntopics: {}",
        b"\x00",
        b"a: &a [*a]",
        b"topics: {events: 7}",
    ],
)
def test_a_file_of_any_bytes_is_refused_in_one_line_with_its_setting(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "topics.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        topics.load(file)
    assert str(caught.value).startswith(f"TOPICS_FILE: {file}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        topics.load(tmp_path / "none.yaml")


def test_every_topic_has_a_writer_and_a_reader() -> None:
    assert all(t.writers and t.readers for t in topics.load(FILE).all())


def test_topics_that_are_not_keyed_by_email_may_have_another_count() -> None:
    wanted = topics.load(FILE)
    assert (wanted.letter_states.key, wanted.letter_states.partitions) == ("id", 1)
    assert wanted.letter_states.config["retention.ms"] == wanted.dead_letters.config["retention.ms"]
    cluster = live(wanted) | {wanted.letter_states.name: Live(2, 1, wanted.letter_states.settings())}
    (found,) = topics.differences(wanted, cluster)
    assert "refused" in found.cure
