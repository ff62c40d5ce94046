"""Three Kafka brokers on this machine, each behind a proxy that can be cut: what clients see as a cluster.

Every node is broker and controller; three replicas, two of which must have a write. Clients reach a node only through
its proxy, the nodes reach each other directly. Everything ends with the context.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from types import TracebackType

from aiokafka.errors import KafkaError

from console import kafka_jars, processes
from console.kafka_properties import HOST, file_text
from console.local_kafka import java, tool
from pipeline import kafka
from pipeline.errors import KafkaUnavailable
from pipeline.settings import Settings
from tests.chaos.proxy import Proxy
from tests.e2e.system import until

NODES = (1, 2, 3)
HEAP_MIB = 384


class Node:
    """One broker; started and killed any number of times over the same folder."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.client, self.internal, self.controller = (processes.free_port() for _ in range(3))
        self.proxy = Proxy(HOST, self.client)
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, voters: str) -> None:
        """Its settings, once the proxy has its port."""
        self.folder.mkdir(parents=True)
        (self.folder / "server.properties").write_text(file_text(self._properties(voters)))

    def format(self, cluster: str) -> None:
        done = tool("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self.folder / "server.properties"))
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it; it is not waited for."""
        scratch = self.folder / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        options = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-XX:-UsePerfData", "-XX:+UseSerialGC"]
        options += [f"-Xmx{HEAP_MIB}m", f"-Djava.io.tmpdir={scratch}"]
        argv = [str(java()), *options, "kafka.Kafka", str(self.folder / "server.properties")]
        env = {"LC_ALL": "C.UTF-8", "CLASSPATH": ":".join(map(str, kafka_jars.class_path()))}
        self.process = processes.start(argv, env=env, output=self.folder / "kafka.log")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; nothing happens if it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    @property
    def data(self) -> Path:
        """Where its logs are: a folder for each partition."""
        return self.folder / "data"

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _properties(self, voters: str) -> dict[str, str]:
        names = ("CLIENT", "INTERNAL", "CONTROLLER")
        ports = (self.client, self.internal, self.controller)
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in zip(names, ports, strict=True)),
            "advertised.listeners": f"CLIENT://{HOST}:{self.proxy.port},INTERNAL://{HOST}:{self.internal}",
            "log.dirs": str(self.data),
            "auto.create.topics.enable": "false",
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            # A dead or frozen broker's partitions get another leader within seconds, as a test wants to see it often.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "replica.lag.time.max.ms": "5000",
            "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
        }


class Cluster:
    """An async context manager; `bootstrap` names the proxies."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [Node(number, folder / f"broker-{number}") for number in NODES]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{HOST}:{node.proxy.port}" for node in self.nodes)

    async def __aenter__(self) -> Cluster:
        try:
            for node in self.nodes:
                await node.proxy.start()
            voters = ",".join(f"{node.number}@{HOST}:{node.controller}" for node in self.nodes)
            cluster = "A" + urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
            for node in self.nodes:
                node.write(voters)
                await asyncio.to_thread(node.format, cluster)
                node.start()
            await kafka.cluster_id(Settings(kafka_bootstrap_servers=self.bootstrap, kafka_wait_seconds=60.0))
            await self.whole()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def whole(self, patience: float = 120.0) -> None:
        """Wait until every broker is in the cluster and every replica in sync. Fails after `patience` seconds.

        Before that, one broker may be the only one that has all of a partition: without it nothing can be written.
        """

        async def all_there() -> bool:
            try:
                async with kafka.admin(Settings(kafka_bootstrap_servers=self.bootstrap)) as client:
                    brokers = (await client.describe_cluster())["brokers"]
                    topics = await client.describe_topics()
            except (KafkaError, KafkaUnavailable):
                return False  # it asked one that is still starting
            partitions = [partition for topic in topics for partition in topic["partitions"]]
            return len(brokers) == len(NODES) and all(len(p["isr"]) == len(p["replicas"]) for p in partitions)

        await until(all_there, "all brokers and replicas are there", patience)

    async def without(self, node: Node, patience: float) -> bool:
        """Wait until no partition counts on a broker that is down; False if some still do after `patience` seconds.

        Then all that was acknowledged is elsewhere, and what the broker has on its disk may be damaged.
        """

        async def left() -> bool:
            try:
                async with kafka.admin(Settings(kafka_bootstrap_servers=self.bootstrap)) as client:
                    topics = await client.describe_topics()
            except (KafkaError, KafkaUnavailable):
                return False
            return not any(node.number in p["isr"] for topic in topics for p in topic["partitions"])

        try:
            await until(left, f"no partition counts on broker {node.number}", patience)
        except AssertionError:
            return False
        return True

    async def _end(self) -> None:
        for node in self.nodes:
            node.kill()
            await node.proxy.stop()
            shutil.rmtree(node.data, ignore_errors=True)
