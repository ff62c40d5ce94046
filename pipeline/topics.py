"""topics.yaml as values, and how a live cluster differs from it.

Pure; `pipeline.kafka` asks the cluster and creates what is missing, `pipeline.topic_settings` changes what differs.
What always holds of a loaded file: every role the services need is there, topics keyed by email or lane have one
partition count, because lane N owns partition N of each of them, and the log gives every record its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from pipeline.errors import ConfigError

Service = Literal["ingress", "processor", "alerter", "lookup", "console"]

#: Who gives a record its time, and what every topic must have there (docs/decisions/0029).
TIMES, BY_THE_LOG = "message.timestamp.type", "LogAppendTime"
APPLY = "postlog topics apply"
#: How many replicas a write needs, and the setting of ours that says so.
INSYNC, INSYNC_VARIABLE = "min.insync.replicas", "TOPIC_MIN_INSYNC_REPLICAS"


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One topic; name already carries the prefix. `partitions` and the two below come from the defaults if unset."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    key: Literal["email", "lane", "id", "none"]
    writers: list[Service]
    readers: list[Service]
    partitions: Annotated[int, Meta(ge=1)]
    replication: Annotated[int, Meta(ge=1)]
    min_insync_replicas: Annotated[int, Meta(ge=1)]
    config: dict[str, str | int] = {}

    def settings(self) -> dict[str, str]:
        """Kafka's topic settings as Kafka writes them."""
        return {INSYNC: str(self.min_insync_replicas)} | {k: str(v) for k, v in self.config.items()}


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The topics by role. A new role is a new field here and a new entry in the file."""

    events: Topic
    seen: Topic
    suppressions: Topic
    calls: Topic
    incidents: Topic
    alerts: Topic
    dead_letters: Topic
    letter_states: Topic

    def all(self) -> list[Topic]:
        """Every topic, in the file's order of roles."""
        return [getattr(self, name) for name in self.__struct_fields__]


class Live(msgspec.Struct, frozen=True):
    """A topic as the cluster has it; config holds at least the settings that the file sets."""

    partitions: int
    replication: int
    config: Mapping[str, str]


class Difference(msgspec.Struct, frozen=True):
    """One way in which the cluster is not what the file says, and what to do.

    missing  it can simply be created
    setting  it is one of Kafka's settings, which `topics apply` changes
    deletes  what Kafka deletes once that setting is changed; empty if nothing
    """

    topic: str
    what: str
    file: str
    cluster: str
    cure: str
    missing: bool = False
    setting: bool = False
    deletes: str = ""


def default_file() -> Path:
    """The topics.yaml that comes with postlog: beside the packages in a checkout, inside one when installed."""
    here = Path(__file__).parent
    installed = here / "topics.yaml"
    return installed if installed.exists() else here.parent / "topics.yaml"


def load(path: Path, *, prefix: str = "", replication: int | None = None, min_insync: int | None = None) -> Topics:
    """The topics of a file, every name with the prefix; replication and min_insync override the file's.

    Raises ConfigError naming the file, the field and the reason.
    """
    source = f"TOPICS_FILE: {path}"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{source} cannot be read: it is not UTF-8. Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror}. Name another file.") from None
    # A number or a date that is none is a ValueError to PyYAML, and what nests too deep a RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"{source} is no YAML that can be read: {told}. Correct the file.") from None
    topics = parse(document, source=source, prefix=prefix, replication=replication, min_insync=min_insync)
    counts = {t.name: t.partitions for t in topics.all() if t.key in ("email", "lane")}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(f"{source}: topics keyed by email or lane need one partition count, but: {listed}")
    if others := [topic.name for topic in topics.all() if topic.config.get(TIMES) != BY_THE_LOG]:
        raise ConfigError(
            f"{source}: {', '.join(others)}: {TIMES} must be {BY_THE_LOG}, or a machine with a wrong clock decides "
            f"what Kafka takes and keeps. Put `config: {{{TIMES}: {BY_THE_LOG}}}` below `defaults:`"
        )
    return topics


def parse(
    document: object,
    *,
    source: str,
    prefix: str = "",
    replication: int | None = None,
    min_insync: int | None = None,
) -> Topics:
    """Topics from the parsed YAML. Raises ConfigError naming the source, the field and the reason."""
    if not isinstance(document, dict) or not isinstance(document.get("topics"), dict):
        raise ConfigError(f"{source}: topics: a mapping of roles to topics is missing")
    defaults = document.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise ConfigError(f"{source}: defaults: expected a mapping, got {defaults!r}")
    forced = {"replication": replication, "min_insync_replicas": min_insync}
    filled = {}
    for role, given in document["topics"].items():
        if not isinstance(given, dict):
            raise ConfigError(f"{source}: topics.{role}: expected a mapping, got {given!r}")
        topic = defaults | given | {k: v for k, v in forced.items() if v is not None}
        config = _together(defaults.get("config", {}), given.get("config", {}))
        filled[role] = topic | {"name": f"{prefix}{topic.get('name', '')}", "config": config}
    try:
        return msgspec.convert(filled, Topics)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}") from None


def _together(shared: object, own: object) -> object:
    """A topic's settings over those of all topics; what is no mapping is left for the check of types to name."""
    if isinstance(shared, dict) and isinstance(own, dict):
        return shared | own
    return own if isinstance(shared, dict) else shared


def differences(topics: Topics, live: Mapping[str, Live]) -> list[Difference]:
    """How the live topics differ from the file; empty means a service may start."""
    return [found for topic in topics.all() for found in _compare(topic, live.get(topic.name))]


def _compare(topic: Topic, live: Live | None) -> list[Difference]:
    if live is None:
        return [Difference(topic.name, "topic", "exists", "missing", APPLY, missing=True)]
    found = []
    if live.partitions != topic.partitions:
        cure = _cure_for_partitions(topic, live)
        found.append(Difference(topic.name, "partitions", str(topic.partitions), str(live.partitions), cure))
    if live.replication != topic.replication:
        cure = "kafka-reassign-partitions.sh, or correct topics.yaml"
        found.append(Difference(topic.name, "replication", str(topic.replication), str(live.replication), cure))
    for name, value in topic.settings().items():
        there = live.config.get(name, "unset")
        if there != value:
            found.append(_of_setting(topic.name, name, value, there))
    return found


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


def _cure_for_partitions(topic: Topic, live: Live) -> str:
    if topic.key == "none":
        return "kafka-topics.sh --alter --partitions" if topic.partitions > live.partitions else "correct topics.yaml"
    return (
        f"refused: {topic.name} is keyed, and a new count would send a key to another partition than its "
        f"state. Put {live.partitions} back into topics.yaml; to grow, start a second postlog with another "
        "TOPIC_PREFIX and the new count, replay the events into it, then switch over"
    )
