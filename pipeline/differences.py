"""How a live cluster differs from topics.yaml, whether a service may start all the same, and what to do.

Pure; `pipeline.live` asks the cluster. Keys are placed by the file's number of partitions, never by the cluster's.
So partitions beyond that number are nobody's, and harmless as long as nothing of ours is there. No cure may move a
key away from its state: a number is named only where it cannot. docs/decisions/0031.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from pipeline.topics import APPLY, INSYNC, INSYNC_VARIABLE, Topic, Topics

#: For whoever wants another number of partitions.
_GROW = (
    "to grow, start a second postlog with another TOPIC_PREFIX and the new count, and take the list along: "
    'docs/operations.md, "another number of partitions", says how'
)


class Live(msgspec.Struct, frozen=True):
    """A topic as the cluster has it; config holds at least the settings that the file sets.

    written  partitions beyond the file's number that something was ever written to; asked only of topics where it is
             ours, see `kept`
    """

    partitions: int
    replication: int
    config: Mapping[str, str]
    written: Collection[int] = ()


class Difference(msgspec.Struct, frozen=True):
    """One way in which the cluster is not what the file says, and what to do.

    missing   it can simply be created
    setting   it is one of Kafka's settings, which `topics apply` changes
    deletes   what Kafka deletes once that setting is changed; empty if nothing
    harmless  services start all the same
    """

    topic: str
    what: str
    file: str
    cluster: str
    cure: str
    missing: bool = False
    setting: bool = False
    deletes: str = ""
    harmless: bool = False


def kept(topics: Topics) -> list[Topic]:
    """The topics that nobody but us writes to: what is on them is state, wherever it is."""
    return [topic for topic in topics.all() if topic not in (topics.events, topics.dead_letters)]


def differences(topics: Topics, live: Mapping[str, Live]) -> list[Difference]:
    """How the live topics differ from the file; a service may start if all of it is harmless."""
    counts = {difference.topic: difference for group in _groups(topics) for difference in _counts(group, live)}
    return [found for topic in topics.all() for found in _compare(topic, live.get(topic.name), counts)]


def _compare(topic: Topic, live: Live | None, counts: Mapping[str, Difference]) -> Iterator[Difference]:
    if live is None:
        yield Difference(topic.name, "topic", "exists", "missing", APPLY, missing=True)
        return
    if topic.name in counts:
        yield counts[topic.name]
    if live.replication != topic.replication:
        cure = "kafka-reassign-partitions.sh, or correct topics.yaml"
        yield Difference(topic.name, "replication", str(topic.replication), str(live.replication), cure)
    for name, value in topic.settings().items():
        there = live.config.get(name, "unset")
        if there != value:
            yield _of_setting(topic.name, name, value, there)


def _groups(topics: Topics) -> list[list[Topic]]:
    """Topics whose numbers of partitions belong together."""
    laned = [topic for topic in topics.all() if topic.key in ("email", "lane")]
    return [laned, *[[topic] for topic in topics.all() if topic not in laned]]


def _counts(group: Sequence[Topic], live: Mapping[str, Live]) -> Iterator[Difference]:
    there = {topic.name: live[topic.name] for topic in group if topic.name in live}
    counts = {found.partitions for found in there.values()}
    # One that is missing agrees with nothing: what is there may have been made by a client that asked for it.
    agreed = counts.pop() if len(counts) == 1 and len(there) == len(group) else None
    written = sorted({number for found in there.values() for number in found.written})
    for topic in group:
        found = there.get(topic.name)
        if found is None or found.partitions == topic.partitions:
            continue
        more = found.partitions > topic.partitions
        if more and written:
            cure = _lowered(topic, written, agreed)
        elif more:
            cure = _ours(topic)
        else:
            cure = _raised(topic, agreed)
        file, cluster = str(topic.partitions), str(found.partitions)
        yield Difference(topic.name, "partitions", file, cluster, cure, harmless=more and not written)


def _ours(topic: Topic) -> str:
    """For partitions that somebody added."""
    ours = f"nothing to do: postlog uses partitions 0 to {topic.partitions - 1}, and no others"
    others = f"whoever else writes to {topic.name} must place keys by {topic.partitions} partitions, as postlog does"
    return f"{ours}; {others}" if "ingress" in topic.writers else ours


def _lowered(topic: Topic, written: Sequence[int], agreed: int | None) -> str:
    """For a file that said more when the records were written."""
    # Any other number places keys anew. Where topics differ, or partitions at the end were never written, somebody
    # may have added some, and the cluster's number is not the one by which keys were placed.
    number = f"{agreed}" if agreed == written[-1] + 1 else f"the number that it said then, {written[-1] + 1} or more,"
    return (
        f"refused: postlog has written to partition {written[-1]}, so topics.yaml said more than {topic.partitions} "
        f"partitions, and keys are placed by that number. Put {number} back into topics.yaml; {_GROW}"
    )


def _raised(topic: Topic, agreed: int | None) -> str:
    """For a file that says more than there are."""
    if topic.key == "none":
        return f"kafka-topics.sh --alter --topic {topic.name} --partitions {topic.partitions}"
    moved = f"refused: {topic.name} is keyed, and a new count would send a key to another partition than its state"
    if agreed is not None:
        return f"{moved}. Put {agreed} back into topics.yaml; {_GROW}"
    return (
        f"{moved}. Topics that belong together do not agree on a number. If topics.yaml was changed, put back what "
        f"it said when the state was written; {_GROW}. If it was not, the topic was made with too few: "
        f"kafka-topics.sh --alter --topic {topic.name} --partitions {topic.partitions}"
    )


def _of_setting(topic: str, name: str, value: str, there: str) -> Difference:
    """How one of Kafka's settings differs."""
    if name == INSYNC and _limit(value) < _limit(there):
        # Whoever types a command without the environment of the services must not weaken the promise with it.
        cure = (
            f"set {INSYNC_VARIABLE}={there}, here and for every service; to lower it in truth, "
            f"kafka-configs.sh --alter --topic {topic} --add-config {name}={value}"
        )
        return Difference(topic, name, value, there, cure)
    deletes = _deletes(name, there, value)
    cure = f"{APPLY}. Kafka then deletes {deletes}" if deletes else APPLY
    return Difference(topic, name, value, there, cure, setting=True, deletes=deletes)


def _deletes(name: str, there: str, value: str) -> str:
    """What of a topic is deleted once this setting is changed; empty if nothing."""
    if name == "retention.ms" and _limit(value) < _limit(there):
        return f"what is older than {_age(_limit(value))}"
    if name == "retention.bytes" and _limit(value) < _limit(there):
        return f"the oldest of what is more than {value} bytes of a partition"
    if name == "cleanup.policy":
        more = set(value.split(",")) - set(there.split(","))
        old = ["what is older than the topic's retention"] if "delete" in more else []
        return " and ".join([*old, *(["all but the last record of each key"] if "compact" in more else [])])
    return ""


def _age(ms: float) -> str:
    return f"{ms / 86_400_000:g} d" if ms >= 86_400_000 else f"{ms / 3_600_000:g} h"


def _limit(value: str) -> float:
    """A limit; -1 is none, and what is no number says nothing."""
    try:
        return int(value) if int(value) >= 0 else math.inf
    except ValueError:
        return math.inf
