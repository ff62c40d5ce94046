"""A Kafka client that reaches no broker it knows of asks its bootstrap servers too.

After its start aiokafka asks for metadata only those brokers that the last answer named, and an answer can name few:
a broker that has just come back from a crash may think that it is all of the cluster. Five minutes can pass until the
next question. If the brokers named are gone by then, the client is lost until its process ends.

A patch of aiokafka 0.14: its producer, its consumer, its admin client and Faust make a client of their own, and this
is where all of them pass. docs/decisions/0020.
"""

from __future__ import annotations

from collections.abc import Collection

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata

_ask_known = AIOKafkaClient._metadata_update


def install() -> None:
    """From now on every client of this process does. Nothing changes when it is called again."""
    AIOKafkaClient._metadata_update = _ask


async def _ask(client: AIOKafkaClient, into: ClusterMetadata, topics: Collection[str] | None) -> bool:
    """Bring metadata up to date, whoever of the brokers and bootstrap servers answers; whether one did."""
    if await _ask_known(client, into, topics):
        return True
    known = client.cluster._brokers
    given = ClusterMetadata(bootstrap_servers=client._bootstrap_servers)._bootstrap_brokers
    if given.keys() <= known.keys():
        return False  # they were asked just now
    client.cluster._brokers = {**known, **given}  # until the next answer, which names the brokers anew
    return bool(await _ask_known(client, into, topics))
