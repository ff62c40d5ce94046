"""How a live cluster differs from topics.yaml, and what each cure does to keys."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import pytest

from pipeline import topics
from pipeline.differences import Difference, Live, differences
from pipeline.topics import Topics

FILE = topics.default_file()
LANED = {
    "email-events",
    "email-events.seen",
    "email-suppressions",
    "email-events.calls",
    "email-events.incidents",
    "email-events.dlq",
}


def live(wanted: Topics) -> dict[str, Live]:
    return {t.name: Live(t.partitions, t.replication, t.settings()) for t in wanted.all()}


def test_a_cluster_as_the_file_says_has_no_differences() -> None:
    wanted = topics.load(FILE)
    assert differences(wanted, live(wanted)) == []


def test_a_missing_topic_can_be_created() -> None:
    wanted = topics.load(FILE)
    (found,) = differences(wanted, {n: t for n, t in live(wanted).items() if n != "email-events.dlq"})
    assert (found.topic, found.missing) == ("email-events.dlq", True)


def test_another_partition_count_of_a_keyed_topic_is_refused_with_a_way_round() -> None:
    wanted = topics.load(FILE)
    cluster = live(wanted) | {"email-events": Live(6, 1, wanted.events.settings())}
    (found,) = differences(wanted, cluster)
    assert (found.what, found.file, found.cluster, found.missing) == ("partitions", "12", "6", False)
    assert not found.harmless
    assert "refused" in found.cure
    assert "TOPIC_PREFIX" in found.cure


def test_replication_and_settings_are_compared() -> None:
    wanted = topics.load(FILE)
    changed = wanted.suppressions.settings() | {"cleanup.policy": "delete"}
    del changed["segment.ms"]
    cluster = live(wanted) | {"email-suppressions": Live(12, 2, changed)}
    found = {(d.what, d.cluster) for d in differences(wanted, cluster)}
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
    (found,) = differences(file, cluster)
    assert (found.setting, found.deletes) == (True, deletes)
    assert found.cure == "postlog topics apply" + (f". Kafka then deletes {deletes}" if deletes else "")


def test_who_forgot_how_many_replicas_a_write_needs_does_not_lower_it() -> None:
    production = topics.load(FILE, min_insync=2)
    found = differences(topics.load(FILE), live(production))
    assert {each.what for each in found} == {"min.insync.replicas"}
    assert not any(each.setting for each in found)
    assert all("TOPIC_MIN_INSYNC_REPLICAS=2" in each.cure for each in found)
    assert all(each.setting for each in differences(production, live(topics.load(FILE))))


def counted(**partitions: int) -> dict[str, Live]:
    """A cluster that differs from the file in the partitions of these roles."""
    wanted = topics.load(FILE)
    changed = {getattr(wanted, role).name: count for role, count in partitions.items()}
    return {
        name: msgspec.structs.replace(found, partitions=changed.get(name, found.partitions))
        for name, found in live(wanted).items()
    }


def with_partitions(count: int) -> Topics:
    """The file with another count for the topics that belong together."""
    wanted = topics.load(FILE)
    return Topics(
        *[
            msgspec.structs.replace(topic, partitions=count) if topic.name in LANED else topic
            for topic in wanted.all()
        ]
    )


def written(cluster: dict[str, Live], numbers: Collection[int]) -> dict[str, Live]:
    """The same cluster, with state in these partitions beyond the file's."""
    return {
        name: msgspec.structs.replace(found, written=numbers)
        if name in LANED - {"email-events", "email-events.dlq"}
        else found
        for name, found in cluster.items()
    }


def puts_back(found: Difference) -> bool:
    """Whether the cure names the cluster's count as one for the file."""
    return f"Put {found.cluster} back" in found.cure


def test_partitions_that_somebody_added_are_harmless_and_stay_as_they_are() -> None:
    (found,) = differences(topics.load(FILE), counted(events=13))
    assert (found.what, found.file, found.cluster, found.harmless) == ("partitions", "12", "13", True)
    assert not puts_back(found)
    assert "partitions 0 to 11" in found.cure
    assert "whoever else writes to email-events must place keys by 12" in found.cure


@pytest.mark.parametrize(
    "role", ["seen", "suppressions", "calls", "incidents", "dead_letters", "alerts", "letter_states"]
)
def test_the_same_holds_of_every_topic_while_nothing_of_ours_is_there(role: str) -> None:
    (found,) = differences(topics.load(FILE), counted(**{role: 24}))
    assert found.harmless
    assert not puts_back(found)


def test_a_file_that_was_lowered_is_refused_where_state_is_beyond_it() -> None:
    cluster = written(live(topics.load(FILE)), range(6, 12))
    found = differences(with_partitions(6), cluster)
    assert {difference.topic for difference in found} == LANED
    assert not any(difference.harmless for difference in found)
    assert all(puts_back(difference) and "Put 12 back" in difference.cure for difference in found)


@pytest.mark.parametrize(
    ("partitions", "numbers"),
    [
        ({"events": 13}, range(6, 12)),  # the topics do not agree: one of them was raised by hand
        ({}, range(6, 9)),  # the last ones were never written, so keys may never have been placed by 12
    ],
)
def test_a_count_that_may_move_keys_is_not_advised_after_the_file_was_lowered(
    partitions: dict[str, int], numbers: Collection[int]
) -> None:
    found = differences(with_partitions(6), written(counted(**partitions), numbers))
    assert {difference.topic for difference in found} == LANED
    assert not any(difference.harmless or puts_back(difference) for difference in found)
    assert all(f"the number that it said then, {max(numbers) + 1} or more" in d.cure for d in found)


def test_a_file_that_was_raised_is_put_back_where_all_topics_agree() -> None:
    found = differences(with_partitions(24), live(topics.load(FILE)))
    assert {difference.topic for difference in found} == LANED
    assert all(puts_back(difference) and not difference.harmless for difference in found)


@pytest.mark.parametrize("role", ["events", "seen", "suppressions"])
def test_a_topic_that_was_made_anew_with_too_few_is_enlarged_and_not_put_back(role: str) -> None:
    (found,) = differences(topics.load(FILE), counted(**{role: 1}))
    assert not found.harmless
    assert not puts_back(found)
    assert f"--topic {found.topic} --partitions 12" in found.cure


def test_a_topic_that_a_client_has_made_alone_says_nothing_about_the_count() -> None:
    found = differences(topics.load(FILE), {"email-events": counted(events=1)["email-events"]})
    [difference] = [each for each in found if not each.missing]
    assert (difference.topic, difference.harmless, puts_back(difference)) == ("email-events", False, False)
    assert "--topic email-events --partitions 12" in difference.cure


def test_a_state_of_our_own_beyond_a_topic_of_one_partition_is_refused() -> None:
    wanted = topics.load(FILE)
    name = wanted.letter_states.name
    cluster = live(wanted) | {name: Live(2, 1, wanted.letter_states.settings(), written=[1])}
    (found,) = differences(wanted, cluster)
    assert not found.harmless
    assert "refused" in found.cure
