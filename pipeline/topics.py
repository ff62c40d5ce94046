"""topics.yaml as values.

Pure; `pipeline.differences` compares a cluster with them, `pipeline.topic_settings` changes what differs. What always
holds of a loaded file: every role the services need is there, topics keyed by email or lane have one
partition count, because lane N owns partition N of each of them, and the log gives every record its time.
"""

from __future__ import annotations

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
