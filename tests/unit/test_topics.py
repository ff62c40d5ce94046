"""topics.yaml as values."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import topics
from pipeline.errors import ConfigError

FILE = topics.default_file()


def test_the_prefix_and_production_replication_reach_every_topic() -> None:
    wanted = topics.load(FILE, prefix="eu.", replication=3, min_insync=2)
    assert all(t.name.startswith("eu.") and t.replication == 3 for t in wanted.all())
    assert all(t.settings()["min.insync.replicas"] == "2" for t in wanted.all())


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
