"""Makes the faults of a plan happen to real processes, and undoes them."""

from __future__ import annotations

import asyncio
import math
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

from aiokafka.admin import NewPartitions
from aiokafka.errors import KafkaError

from pipeline import kafka
from pipeline.errors import KafkaUnavailable
from pipeline.service import REFUSED
from pipeline.settings import Settings
from tests import broken_log, clock
from tests.chaos import strangers
from tests.chaos.cluster import Cluster, Node
from tests.chaos.plan import Fault
from tests.chaos.senders import Senders
from tests.e2e.system import Service

#: Seconds of latency that `delay` adds to each direction.
LATENCY = 0.15
#: Seconds that a clock is stepped by, to either side: more than Kafka lets a record be ahead by, an hour.
STEP = 7_200.0
#: Largest file that a process may write while its disk is "full": the limit that a quota would set.
FULL = 4096
#: Seconds that a fault waits at most until the cluster is whole.
RECOVERY = 30.0
#: Seconds that a broker which is down may take to be left out; then the partitions and batches that are cut off.
LEFT_OUT, CUT_PARTITIONS, CUT_BATCHES = 6.0, 12, 5
#: Seconds between two looks of the supervisor, and before it starts again what ended.
LOOK, RESTART_AFTER = 0.1, 0.5


class Nemesis:
    """services by name; each follows its clock file in `clocks`."""

    def __init__(
        self,
        cluster: Cluster,
        services: dict[str, Service],
        senders: Senders,
        settings: Settings,
        clocks: Path,
        seed: int,
    ) -> None:
        self.happened: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()  # services that ended by themselves
        self.refused: list[str] = []  # those of them that asked for a person, and with which words
        self._notes: list[tuple[float, str]] = []
        self._cluster = cluster
        self._services = services
        self._senders = senders
        self._settings = settings
        self._strangers = count()
        self._clocks = clocks
        self._rng = random.Random(seed)
        self._held: set[str] = set()  # a fault is on it: the supervisor keeps off
        self._started = time.monotonic()

    def log(self, began: float = 0.0, ended: float = math.inf) -> list[str]:
        """What happened between two moments of the monotonic clock, with the seconds since the beginning."""
        return [f"{at - self._started:7.1f} {text}" for at, text in self._notes if began <= at <= ended]

    async def run(self, faults: list[Fault], seconds: float) -> None:
        """Let every fault happen in its time, or later if it waits for the cluster; none lasts beyond `seconds`."""
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for of_cluster in (False, True):
                track = [fault for fault in faults if fault.of_cluster is of_cluster]
                tasks.create_task(self._follow(track, seconds))

    async def supervise(self) -> None:
        """Start again what ended, as whoever runs services does; until cancelled."""
        while True:
            for name, service in self._services.items():
                if name not in self._held and (code := service.process.poll()) is not None:
                    self.ended[name] += 1
                    self._note(f"{name} ended with {code}")
                    if code == REFUSED:
                        self.refused.append(f"{name}: {' '.join(service.said().splitlines()[-1:])[:300]}")
                    await asyncio.sleep(RESTART_AFTER)
                    service.restart()
            await asyncio.sleep(LOOK)

    async def heal(self) -> None:
        """End every fault, and wait until the cluster is whole."""
        for node in self._cluster.nodes:
            node.send(signal.SIGCONT)
            node.proxy.heal()
            if not node.runs:
                node.start()
        for name, service in self._services.items():
            clock.step(self._clocks / name, 0.0)
            service.send(signal.SIGCONT)
        self._held.clear()
        await self._cluster.whole()

    def take_away(self, number: int) -> None:
        """One broker goes for good."""
        self.happened["broker_gone"] += 1
        self._cluster.nodes[number - 1].kill()
        self._note(f"broker {number} is gone for good")

    async def _follow(self, track: list[Fault], seconds: float) -> None:
        """Faults that come one after the other; one that comes late makes those after it late."""
        late = 0.0
        for fault in track:
            await asyncio.sleep(max(0.0, fault.begins + late - self._elapsed))
            if fault.patient:
                await self._recovered()
                late = max(late, self._elapsed - fault.begins)
            if self._elapsed + fault.ends - fault.begins > seconds:
                return
            await self._happen(fault)

    async def _recovered(self) -> None:
        try:
            await self._cluster.whole(RECOVERY)
        except AssertionError as error:
            self._note(str(error))

    async def _happen(self, fault: Fault) -> None:
        self.happened[fault.kind] += 1
        lasts = fault.ends - fault.begins
        over = self._elapsed + lasts
        self._note(f"{fault.kind} {fault.target} for {lasts:.1f} s")
        act = getattr(self, f"_{fault.kind}")
        undo = await act(fault.target)
        await asyncio.sleep(max(0.0, over - self._elapsed))
        if undo is not None:
            undo()
        self._note(f"{fault.kind} {fault.target} is over")

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _note(self, text: str) -> None:
        self._notes.append((time.monotonic(), text))

    # --- services; each returns what ends the fault

    def _let_go(self, name: str) -> Callable[[], None]:
        def start_again() -> None:
            self._held.discard(name)
            if self._services[name].process.poll() is not None:
                self._services[name].restart()

        return start_again

    async def _kill(self, name: str) -> Callable[[], None]:
        self._held.add(name)
        self._services[name].send(signal.SIGKILL)
        await self._gone(name)
        return self._let_go(name)

    async def _stop(self, name: str) -> Callable[[], None]:
        self._held.add(name)
        self._services[name].send(signal.SIGTERM)
        await self._gone(name)
        return self._let_go(name)

    async def _freeze(self, name: str) -> Callable[[], None]:
        self._services[name].send(signal.SIGSTOP)
        return lambda: self._services[name].send(signal.SIGCONT)

    async def _wipe(self, name: str) -> Callable[[], None]:
        undo = await self._kill(name)
        shutil.rmtree(self._services[name].state, ignore_errors=True)
        return undo

    async def _corrupt(self, name: str) -> Callable[[], None]:
        """Flip bytes in some files of its state while it is down."""
        undo = await self._kill(name)
        files = [f for f in self._services[name].state.rglob("*") if f.is_file() and f.stat().st_size > 64]
        for file in self._rng.sample(files, min(len(files), 6)):
            content = bytearray(file.read_bytes())
            for _ in range(8):
                content[self._rng.randrange(len(content))] ^= 0xFF
            file.write_bytes(content)
        return undo

    async def _full_disk(self, name: str) -> Callable[[], None]:
        """Let no file of it grow, as on a disk that is full; whatever it is started as after that may write again."""
        process = self._services[name].process
        if process.poll() is None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))

        def room_again() -> None:
            if process.poll() is None:
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)

        return room_again

    async def _clock_ahead(self, name: str) -> Callable[[], None]:
        return self._stepped(name, STEP)

    async def _clock_behind(self, name: str) -> Callable[[], None]:
        return self._stepped(name, -STEP)

    def _stepped(self, name: str, seconds: float) -> Callable[[], None]:
        clock.step(self._clocks / name, seconds)
        return lambda: clock.step(self._clocks / name, 0.0)

    async def _slow_bodies(self, name: str) -> Callable[[], None]:
        return strangers.slow_bodies(self._services[name].url)

    async def _large_bodies(self, _: str) -> Callable[[], None]:
        self._senders.large = True

        def end() -> None:
            self._senders.large = False

        return end

    async def _foreign(self, target: str) -> None:
        """A transaction on the events topic that is not ours and is never committed."""
        email, identity = self._senders.stranger(next(self._strangers))
        try:
            await strangers.foreign_transaction(self._settings, email, identity, aborts=target == "aborts")
        except (KafkaError, TimeoutError) as error:
            self._note(f"the cluster took no foreign transaction: {error!r}")

    async def _gone(self, name: str) -> None:
        await asyncio.to_thread(self._services[name].process.wait)

    # --- brokers and the network

    def _node(self, target: str) -> Node:
        return self._cluster.nodes[int(target) - 1]

    async def _broker_kill(self, target: str) -> Callable[[], None]:
        self._node(target).kill()
        return self._node(target).start

    async def _broker_stop(self, target: str) -> Callable[[], None]:
        """A polite stop moves its leaders first."""
        node = self._node(target)
        node.send(signal.SIGTERM)
        if node.process is not None:
            await asyncio.to_thread(node.process.wait)
        return node.start

    async def _broker_freeze(self, target: str) -> Callable[[], None]:
        self._node(target).send(signal.SIGSTOP)
        return lambda: self._node(target).send(signal.SIGCONT)

    async def _two_away(self, target: str) -> Callable[[], None]:
        """All but one: no write can be acknowledged."""
        gone = [node for node in self._cluster.nodes if str(node.number) != target]
        return self._killed(gone)

    async def _all_away(self, _: str) -> Callable[[], None]:
        return self._killed(self._cluster.nodes)

    def _killed(self, nodes: list[Node]) -> Callable[[], None]:
        for node in nodes:
            node.kill()

        def start() -> None:
            for node in nodes:
                node.start()

        return start

    async def _cut_log(self, target: str) -> Callable[[], None]:
        """A power cut: the broker comes back without what it wrote last to some partitions; the others have it."""
        node = self._node(target)
        node.kill()
        if await self._cluster.without(node, LEFT_OUT):
            topics = kafka.topics_of(self._settings).all()
            logs = [(topic.name, number) for topic in topics for number in range(topic.partitions)]
            for topic, partition in self._rng.sample(logs, CUT_PARTITIONS):
                if written := len(broken_log.batches(node.data / f"{topic}-{partition}")):
                    broken_log.cut(node.data, topic, partition, self._rng.randint(1, min(written, CUT_BATCHES)))
        else:
            self._note(f"broker {target} keeps its logs: it may have what no other broker has")
        return node.start

    async def _more_partitions(self, target: str) -> None:
        """Somebody adds a partition to a topic by hand. It stays: Kafka takes none away."""
        topic = getattr(kafka.topics_of(self._settings), target)
        try:
            async with kafka.admin(self._settings) as client:
                await client.create_partitions({topic.name: NewPartitions(topic.partitions + 1)})
        except (KafkaError, KafkaUnavailable) as error:
            self._note(f"the cluster took no further partition: {error!r}")

    async def _cut(self, target: str) -> Callable[[], None]:
        self._node(target).proxy.cut()
        return self._node(target).proxy.heal

    async def _delay(self, target: str) -> Callable[[], None]:
        self._node(target).proxy.delay = LATENCY
        return self._node(target).proxy.heal

    async def _blackhole(self, target: str) -> Callable[[], None]:
        self._node(target).proxy.swallow()
        return self._node(target).proxy.heal
