"""The group that alerters share the dead letters out in.

A shell over aiokafka.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from pipeline import groups, kafka, topic_ids
from pipeline.errors import ConfigError
from pipeline.settings import Settings

#: How long a silent alerter keeps its partitions.
SESSION_MS = 10_000
_TIMEOUT = f"the alerter's session timeout is {SESSION_MS // 1000} s, which no variable changes"
_OTHERS = "a consumer that is not postlog's, under the same name"


def consumer(settings: Settings, group: str) -> AIOKafkaConsumer:
    """A member of the group that commits only when it is told to; not started."""
    return AIOKafkaConsumer(
        **kafka.client_options(settings),
        group_id=group,
        session_timeout_ms=SESSION_MS,
        # The processor writes dead letters in transactions, and one of an aborted transaction comes again.
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        metadata_max_age_ms=topic_ids.LOOK_MS,
    )


def refusal(error: BaseException, group: str) -> ConfigError | None:
    """What a person must mend before the group can be joined; None if starting again may help."""
    return groups.refusal(error, group, timeout=_TIMEOUT, others=_OTHERS)
