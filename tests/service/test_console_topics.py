"""`postlog topics apply` changes what exists only if somebody agrees, and says what is lost by it."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from console import topics
from console.__main__ import main
from console.local_kafka import LocalKafka
from console.running import Folder
from console.system import System, Wish
from pipeline.differences import Difference
from pipeline.errors import TopicsMismatch
from pipeline.settings import Settings

SHORTER = Difference("t", "retention.ms", "1", "2", "cure", setting=True, deletes="what is older than 1 h")
TIMES = Difference("t", "message.timestamp.type", "LogAppendTime", "CreateTime", "cure", setting=True)
COUNT = Difference("t", "partitions", "12", "6", "refused")


class Cluster:
    """Differs as it is told, until it is changed."""

    def __init__(self, *found: Difference) -> None:
        self.found = list(found)
        self.changed: list[Difference] = []

    def create_missing(self, _: Settings) -> tuple[list[str], list[Difference]]:
        return [], self.found

    def change(self, _: Settings, wanted: Sequence[Difference]) -> list[Difference]:
        self.changed = list(wanted)
        return self.changed


def apply(patch: pytest.MonkeyPatch, cluster: Cluster, *options: str, types: str | None) -> tuple[int, str]:
    """Exit code and output; types is what a person answers, None if nobody is there."""
    patch.setattr(topics, "create_missing", cluster.create_missing)
    patch.setattr(topics, "change", cluster.change)
    patch.setattr(topics, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: types is not None)))
    done = CliRunner().invoke(main, ["topics", "apply", *options], obj={}, input=types)
    return done.exit_code, done.output


def test_who_is_asked_is_told_what_is_deleted_and_may_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(SHORTER, TIMES)
    code, said = apply(monkeypatch, cluster, types="n\n")
    assert (code, cluster.changed) == (1, [])
    assert "Change 2 settings" in said
    assert "Kafka deletes what is older than 1 h, for good" in said
    assert "no setting was changed" in said


def test_who_agrees_has_the_settings_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(TIMES)
    code, said = apply(monkeypatch, cluster, types="y\n")
    assert (code, cluster.changed) == (0, [TIMES])
    assert "deletes" not in said
    assert "changed t: message.timestamp.type was CreateTime and is LogAppendTime\n" in said


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_where_nobody_is_there_nothing_is_changed_without_yes(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    cluster = Cluster(TIMES)
    code, _ = apply(monkeypatch, cluster, *options, types=None)
    assert (code, cluster.changed) == (1, [])
    code, _ = apply(monkeypatch, cluster, *options, "--yes", types=None)
    assert (code, cluster.changed) == (0, [TIMES])


def test_what_cannot_be_changed_stays_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(COUNT, TIMES)
    code, said = apply(monkeypatch, cluster, "--yes", types=None)
    assert (code, cluster.changed) == (1, [TIMES])
    assert "the topics are what topics.yaml says" not in said


def system(patch: pytest.MonkeyPatch, cluster: Cluster, kafka: LocalKafka | None) -> tuple[System, StringIO]:
    patch.setattr(topics, "create_missing", cluster.create_missing)
    patch.setattr(topics, "change", cluster.change)
    wish = Wish(Settings(), {}, Folder(Path("nowhere")))
    return System(wish, Console(file=(shown := StringIO())), kafka=kafka), shown


def test_up_changes_settings_on_the_kafka_that_it_starts_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(TIMES)
    ours, shown = system(monkeypatch, cluster, LocalKafka(Path("nowhere")))
    ours._create_topics("b:1")
    assert cluster.changed == [TIMES]
    assert "changed t: message.timestamp.type" in shown.getvalue()


def test_up_changes_nothing_on_a_kafka_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(TIMES)
    ours, _ = system(monkeypatch, cluster, None)
    with pytest.raises(TopicsMismatch):
        ours._create_topics("b:1")
    assert cluster.changed == []
