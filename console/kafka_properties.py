"""Kafka's own settings for a single node that is a whole cluster, as a local process and in a container.

Pure; `local_kafka` writes the file and runs the node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

HOST = "127.0.0.1"


class Ports(msgspec.Struct, frozen=True):
    """Where a node listens: clients, and the controller that it is too."""

    broker: int
    controller: int


def server_properties(ports: Ports, data: str, *, listen: str = HOST, advertise: str = HOST) -> dict[str, str]:
    """Kafka's settings of a node that is a whole cluster.

    listen     address that the broker binds to
    advertise  address by which clients reach it, and it itself
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{ports.controller}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "listeners": f"PLAINTEXT://{listen}:{ports.broker},CONTROLLER://{HOST}:{ports.controller}",
        "advertised.listeners": f"PLAINTEXT://{advertise}:{ports.broker}",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        # One node holds every replica there is.
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Kafka's 50 each are for many brokers; each costs files and time to start.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "1",
        # Longer than events are kept: a group that was down for long must not begin from nowhere.
        "offsets.retention.minutes": str(30 * 24 * 60),
        "group.initial.rebalance.delay.ms": "0",
        # After a kill the controller takes the node for alive until its session is over, and refuses to let it
        # in a second time: with Kafka's 9 s a start took 12.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        # 128 MiB by default, a quarter of our heap; 32 hold the keys of a million records per cleaning.
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    }


def file_text(properties: Mapping[str, str]) -> str:
    """The settings as Java reads them: Latin-1 with escapes, which are those of a JSON string."""
    return "".join(f"{name}={json.dumps(value)[1:-1]}\n" for name, value in properties.items())
