"""What everybody must be allowed on a cluster, and that it is not more."""

import shlex

import pytest
from click.testing import CliRunner

from console.__main__ import main
from pipeline import acls, kafka
from pipeline.acls import USERS, Acl
from pipeline.settings import Settings

FOUND = kafka.acls(Settings(topic_prefix="eu."))
TOPICS = kafka.topics_of(Settings(topic_prefix="eu."))


def names(user: str, operation: str, resource: str = "topic") -> set[str]:
    return {a.name for a in FOUND if (a.user, a.operation, a.resource) == (user, operation, resource)}


@pytest.mark.parametrize("user", ["ingress", "processor", "alerter", "lookup", "console"])
def test_a_service_reads_and_writes_what_topics_yaml_says_and_nothing_else(user: str) -> None:
    assert names(user, "Read") == {t.name for t in TOPICS.all() if user in t.readers}
    assert names(user, "Write") == {t.name for t in TOPICS.all() if user in t.writers}


@pytest.mark.parametrize("user", USERS)
def test_everybody_may_look_at_every_topic(user: str) -> None:
    every = {t.name for t in TOPICS.all()}
    assert names(user, "DescribeConfigs") == every
    # Reading and writing include it.
    assert names(user, "Describe") | names(user, "Read") | names(user, "Write") == every


def test_only_two_consume_in_a_group_and_one_moves_the_processors() -> None:
    groups = {(a.user, a.name) for a in FOUND if a.resource == "group"}
    assert groups == {
        ("processor", "eu.postlog-processor"),
        ("replay", "eu.postlog-processor"),
        ("alerter", "eu.postlog-alerter"),
    }


def test_transactional_ids_are_those_of_lanes() -> None:
    ids = [a for a in FOUND if a.resource == "transactional-id"]
    assert {a.user for a in ids} == {"processor", "replay"}
    lane = kafka.lane_id("eu.postlog-processor", 11)
    assert all(a.prefixed and lane.startswith(a.name) for a in ids)


def test_only_who_sets_up_creates_and_changes_and_nobody_is_allowed_anything_on_the_cluster() -> None:
    for operation in ("Create", "AlterConfigs"):
        assert {a.user for a in FOUND if a.operation == operation} == {"topics"}
        assert names("topics", operation) == {t.name for t in TOPICS.all()}
    assert {a.resource for a in FOUND} == {"topic", "group", "transactional-id"}


def test_the_commands_grant_every_acl_once() -> None:
    granted: list[Acl] = []
    for line in acls.commands(FOUND, "User:{user}", ["--bootstrap-server", "b:1"]):
        words = shlex.split(line)
        assert words[:4] == ["kafka-acls.sh", "--bootstrap-server", "b:1", "--add"]
        pairs = list(zip(words[4::2], words[5::2], strict=True))
        [user] = [value.removeprefix("User:") for option, value in pairs if option == "--allow-principal"]
        operations = [value for option, value in pairs if option == "--operation"]
        prefixed = ("--resource-pattern-type", "prefixed") in pairs
        for option, name in pairs:
            if option in ("--topic", "--group", "--transactional-id"):
                resource = option.removeprefix("--")
                granted += [Acl(user, resource, name, operation, prefixed) for operation in operations]  # type: ignore[arg-type]
    assert len(granted) == len(set(granted))
    assert set(granted) == set(FOUND)


def test_the_command_names_principals_as_it_is_told() -> None:
    done = CliRunner().invoke(
        main, ["acls", "--only", "lookup", "--principal", "User:CN={user},O=Example Ltd"], obj={}
    )
    assert done.exit_code == 0
    assert {shlex.split(line)[5] for line in done.output.splitlines()} == {"User:CN=lookup,O=Example Ltd"}


@pytest.mark.parametrize("pattern", ["User:x", "User:{name}", "User:{user}{user}", "{user.__class__}"])
def test_a_pattern_without_the_user_is_refused(pattern: str) -> None:
    assert CliRunner().invoke(main, ["acls", "--principal", pattern], obj={}).exit_code == 2
