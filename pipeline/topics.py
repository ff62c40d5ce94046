"""topics.yaml as values, and how a live cluster differs from it.

Pure; `pipeline.kafka` asks the cluster and creates what is missing. What always holds of a loaded file:
every role the services need is there, and topics keyed by email or lane have one partition count, because lane N
owns partition N of each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from pipeline.errors import ConfigError

Service = Literal["ingress", "processor", "alerter", "lookup", "console"]


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
        return {"min.insync.replicas": str(self.min_insync_replicas)} | {k: str(v) for k, v in self.config.items()}


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
    """One way in which the cluster is not what the file says, and what to do. `missing` can simply be created."""

    topic: str
    what: str
    file: str
    cluster: str
    cure: str
    missing: bool = False


def default_file() -> Path:
    """The topics.yaml that comes with postlog: beside the packages in a checkout, inside one when installed."""
    here = Path(__file__).parent
    installed = here / "topics.yaml"
    return installed if installed.exists() else here.parent / "topics.yaml"


def load(path: Path, *, prefix: str = "", replication: int | None = None, min_insync: int | None = None) -> Topics:
    """The topics of a file, every name with the prefix; replication and min_insync override the file's.

    Raises ConfigError naming the file, the field and the reason.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    topics = parse(document, source=str(path), prefix=prefix, replication=replication, min_insync=min_insync)
    counts = {t.name: t.partitions for t in topics.all() if t.key in ("email", "lane")}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(f"{path}: topics keyed by email or lane need one partition count, but: {listed}")
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
    defaults = dict(document.get("defaults") or {})
    forced = {"replication": replication, "min_insync_replicas": min_insync}
    filled = {}
    for role, given in document["topics"].items():
        if not isinstance(given, dict):
            raise ConfigError(f"{source}: topics.{role}: expected a mapping, got {given!r}")
        topic = defaults | given | {k: v for k, v in forced.items() if v is not None}
        filled[role] = topic | {"name": f"{prefix}{topic.get('name', '')}"}
    try:
        return msgspec.convert(filled, Topics)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}") from None


def differences(topics: Topics, live: Mapping[str, Live]) -> list[Difference]:
    """How the live topics differ from the file; empty means a service may start."""
    return [found for topic in topics.all() for found in _compare(topic, live.get(topic.name))]


def _compare(topic: Topic, live: Live | None) -> list[Difference]:
    if live is None:
        cure = "postlog topics apply"
        return [Difference(topic.name, "topic", "exists", "missing", cure, missing=True)]
    found = []
    if live.partitions != topic.partitions:
        cure = _cure_for_partitions(topic, live)
        found.append(Difference(topic.name, "partitions", str(topic.partitions), str(live.partitions), cure))
    if live.replication != topic.replication:
        cure = "kafka-reassign-partitions.sh, or correct topics.yaml"
        found.append(Difference(topic.name, "replication", str(topic.replication), str(live.replication), cure))
    for name, value in topic.settings().items():
        if live.config.get(name) != value:
            cure = f"kafka-configs.sh --alter --topic {topic.name} --add-config '{name}={value}'"
            found.append(Difference(topic.name, name, value, live.config.get(name, "unset"), cure))
    return found


def _cure_for_partitions(topic: Topic, live: Live) -> str:
    if topic.key == "none":
        return "kafka-topics.sh --alter --partitions" if topic.partitions > live.partitions else "correct topics.yaml"
    return (
        f"refused: {topic.name} is keyed, and a new count would send a key to another partition than its "
        f"state. Put {live.partitions} back into topics.yaml; to grow, start a second postlog with another "
        "TOPIC_PREFIX and the new count, replay the events into it, then switch over"
    )
