"""How long the cluster keeps a deletion in a compacted topic: who was away for longer may have missed one.

A shell: it asks Kafka.
"""

from __future__ import annotations

from pipeline import kafka
from pipeline.live import live_topics
from pipeline.settings import Settings
from pipeline.topics import Topics


async def last(settings: Settings, topics: Topics) -> dict[str, int]:
    """By topic, for how long a tombstone is kept at least, in ms (`delete.retention.ms`); only compacted ones.

    Raises KafkaUnavailable, KafkaRefused.
    """
    live = await kafka.ask(settings, lambda client: live_topics(client, topics))
    return {
        name: int(topic.config["delete.retention.ms"])
        for name, topic in live.items()
        if "compact" in topic.config["cleanup.policy"]
    }
