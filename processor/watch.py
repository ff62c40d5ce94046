"""How far behind each lane is, whether all lanes have an owner, and so whether this process is live and ready.

A shell with a connection of its own, because a consumer that is stuck also stops learning how far behind it is.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import groups, kafka, peek
from pipeline.errors import LanesFailed
from pipeline.live import records_beyond
from pipeline.service import Health
from processor import metrics
from processor.former_keys import FormerKeys
from processor.lane import Lane
from processor.lanes import Lanes
from processor.site import Site
from processor.surroundings import PATIENCE, Surroundings

log = structlog.get_logger(__name__)

HELD = (
    "somebody's transaction on the events is open, and nothing behind its begin can be read; "
    "end it, or docs/operations.md says how"
)
BEYOND = (
    "records are on partitions that topics.yaml does not know, and are not read; "
    'docs/operations.md, "partitions that somebody added", says more'
)
#: Why another member of the group may not fit to us.
OTHERS = (
    "processors of another release, or some with PROCESSOR_STANDBY_LANES=0 beside others without, or a consumer that "
    "is not postlog's"
)
#: Seconds between two looks at the ends of the log.
INTERVAL = 2.0
#: How long it may take until a partition that somebody added is seen, in ms.
METADATA_AGE_MS = 30_000


def stalled(*, behind: bool, idle_seconds: float, limit: float) -> bool:
    """Whether something is behind and makes no progress."""
    return behind and idle_seconds > limit


class Watch:
    """An async context manager; `failure` is done if watching itself failed."""

    def __init__(self, site: Site, lanes: Lanes, app: Any) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._site = site
        self._lanes = lanes
        self._app = app
        self._ends: dict[int, int] = {}
        self._held: dict[int, int] = {}  # by lane, where a transaction that is open holds up what comes after it
        self._former = FormerKeys()
        self._told_beyond: dict[str, int] = {}
        self._joined_at = time.monotonic()
        self._surroundings = Surroundings(site)
        self._consumer = AIOKafkaConsumer(
            **kafka.client_options(site.settings), enable_auto_commit=False, metadata_max_age_ms=METADATA_AGE_MS
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch:
        await self._consumer.start()
        self._task = asyncio.create_task(self._look())
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._consumer.stop()

    def live(self) -> Health:
        """False if for LANE_STALL_SECONDS a lane is behind and makes no progress, or the group is not joined, or a
        topic is gone or a partition has no owner.
        """
        lanes = self._lanes.all
        limit = self._site.settings.lane_stall_seconds
        now = time.monotonic()
        stuck = [
            lane.number
            for lane in lanes
            if stalled(behind=self._behind(lane), idle_seconds=now - lane.moved_at, limit=limit)
        ]
        outside = stalled(behind=not self._joined(), idle_seconds=now - self._joined_at, limit=limit)
        around = self._surroundings
        broken = stalled(behind=not around.whole, idle_seconds=now - around.whole_at, limit=limit)
        details = {"stalled": stuck, "outside_the_group": outside, **around.details}
        details["lanes"] = self._describe(lanes, now)
        return Health(ok=not stuck and not outside and not broken, details=details)

    def ready(self) -> Health:
        """True once every lane of ours is open, or others have all of them, and for as long as each has an owner."""
        lanes = self._lanes.all
        opening = [lane.number for lane in lanes if not lane.is_open]
        joined, around = self._joined(), self._surroundings
        details = {"joined": joined, "opening": opening, **around.details}
        details["lanes"] = self._describe(lanes, time.monotonic())
        # Who was given nothing has to hear from the group that this is as it should be.
        settled = bool(lanes) or around.ownerless is not None
        return Health(ok=joined and not opening and settled and around.whole, details=details)

    def _joined(self) -> bool:
        return self._app.consumer_generation_id > 0 and not self._app.rebalancing

    def _lag(self, lane: Lane) -> int:
        # The end may have been looked up before the lane got beyond it.
        return max(self._ends.get(lane.number, 0) - lane.next, 0)

    def _behind(self, lane: Lane) -> bool:
        """Whether it has something to do: a lane that opens has, one that waits for its turn to open has not yet."""
        # One that owes too many calls waits for its handlers, which is no reason to restart anything.
        return self._lag(lane) > 0 and not lane.owes_too_much if lane.is_open else not lane.queued

    def _describe(self, lanes: list[Lane], now: float) -> list[dict[str, Any]]:
        return [
            {
                "partition": lane.number,
                "open": lane.is_open,
                "next": lane.next,
                "lag": self._lag(lane) if lane.is_open else None,
                "open_transaction": self._held.get(lane.number),
                "idle_seconds": round(now - lane.moved_at, 1),
            }
            for lane in sorted(lanes, key=lambda lane: lane.number)
        ]

    async def _look(self) -> None:
        topic = self._site.topics.events.name
        while True:
            self._require_group()
            lanes = self._lanes.all
            waiting = sum(self._lag(lane) for lane in lanes) if lanes else None
            await self._surroundings.look(self._consumer._client, joined=self._joined(), waiting=waiting)
            owned = [TopicPartition(topic, lane.number) for lane in self._lanes.all]
            if owned:
                try:
                    async with asyncio.timeout(PATIENCE):
                        ends = await self._consumer.end_offsets(owned)
                except (KafkaError, TimeoutError) as error:
                    # The ends known so far stay: a lane that was behind then is behind now.
                    log.warning("cannot see the end of the log", error=repr(error))
                else:
                    self._ends = {tp.partition: end for tp, end in ends.items()}
                    await self._look_for_transactions(topic)
            await self._look_beyond()
            if self._joined():
                self._joined_at = time.monotonic()
            for lane in self._lanes.all:
                if lane.is_open:
                    metrics.LANE_LAG.labels(lane.number).set(self._lag(lane))
                if not self._behind(lane):
                    # Rest is no standstill: the time that a lane has starts with its next record.
                    lane.moved()
            await self._former.look(self._lanes.all)
            await asyncio.sleep(INTERVAL)

    def _require_group(self) -> None:
        """Raises ConfigError if the group cannot be joined until a person has mended something, else LanesFailed."""
        if (error := self._app.stuck()) is None:
            return
        seconds = self._site.settings.processor_session_timeout_seconds
        timeout = f"PROCESSOR_SESSION_TIMEOUT_SECONDS is {seconds:g}"
        refusal = groups.refusal(error, self._site.group, timeout=timeout, others=OTHERS)
        raise refusal or LanesFailed(f"out of the group {self._site.group}: {error!r}") from error

    async def _look_for_transactions(self, topic: str) -> None:
        """Find out why lanes make no progress: somebody's transaction hides what comes after its begin."""
        held = {}
        for lane in self._lanes.all:
            if lane.is_open and self._lag(lane) and time.monotonic() - lane.moved_at > INTERVAL:
                try:
                    place = await peek.at(self._consumer, TopicPartition(topic, lane.number), lane.next)
                except KafkaError as error:
                    log.warning("cannot see what holds a lane up", partition=lane.number, error=repr(error))
                    continue
                if place is not None and place.stable <= lane.next < place.end:
                    held[lane.number] = place.stable
        for number in held.keys() - self._held.keys():
            log.warning(HELD, partition=number, offset=held[number], waiting=self._ends[number] - held[number])
        self._held = held

    async def _look_beyond(self) -> None:
        """See whether somebody writes to partitions that nobody of us reads: what is there is not applied."""
        for topic in (self._site.topics.events, self._site.topics.dead_letters):
            try:
                # Where nobody leads such a partition aiokafka would ask for long, and all else here waits for it.
                async with asyncio.timeout(INTERVAL):
                    found = await records_beyond(self._consumer, topic)
            except (KafkaError, TimeoutError) as error:
                log.warning(
                    "cannot see what is on partitions that somebody added", topic=topic.name, error=repr(error)
                )
                continue
            metrics.BEYOND.labels(topic.name).set(found)
            # A line whenever there are twice as many: who writes there all the time must not fill the log.
            if found >= 2 * self._told_beyond.get(topic.name, 0) and found:
                self._told_beyond[topic.name] = found
                log.warning(BEYOND, topic=topic.name, records=found, partitions_of_ours=topic.partitions)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.failure.set_exception(error)
