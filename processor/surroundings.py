"""Whether the topics and the group that the lanes live on are still what they were.

A shell. A consumer that was given nothing, or reads on under the name of a topic that was made anew, looks as well as
one that has nothing to do; so this asks Kafka itself. See docs/decisions/0030.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from pipeline import security, topic_ids
from pipeline.errors import RecordsLost
from processor import owners, position
from processor.site import Site

log = structlog.get_logger(__name__)

#: How long Kafka may take for the answers of one look, in seconds.
PATIENCE = 5.0
GONE = "a topic is gone; postlog topics apply makes it anew, and docs/operations.md says what is lost with it"
OWNERLESS = "partitions have no owner in the group, so nobody applies their events"


class Surroundings:
    """As of the last look; `look` is to be called all the time.

    gone       topics that are not there
    ownerless  partitions of the events that no member of the group has; None until the group has told once
    whole_at   monotonic time when nothing of it was wrong
    """

    def __init__(self, site: Site) -> None:
        self.gone: list[str] = []
        self.ownerless: frozenset[int] | None = None
        self.whole_at = time.monotonic()
        self._site = site
        self._known = dict(site.topic_ids)
        self._waiting = 0
        self._told: set[str] = set()

    @property
    def whole(self) -> bool:
        """Whether nothing is known to be wrong."""
        return not self.gone and not self.ownerless

    @property
    def details(self) -> dict[str, Any]:
        """For the health page."""
        return {
            "missing_topics": self.gone,
            "without_owner": None if self.ownerless is None else sorted(self.ownerless),
        }

    async def look(self, client: AIOKafkaClient, *, joined: bool, waiting: int | None) -> None:
        """Look again; what cannot be seen now stays as it was.

        joined   we are in the group; before that it may have nobody, and nothing is wrong with that
        waiting  events of our lanes that are on the log and not processed yet; None if we have no lanes

        Raises RecordsLost if a topic was made anew, KafkaRefused if we may not look.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                self._take_topics(await topic_ids.of(client, self._known))
                if waiting is not None and not self.gone:
                    self._waiting = waiting
                if joined:
                    self._take_owners(await owners.missing(client, self._site.group, self._site.topics.events))
        except (KafkaError, TimeoutError) as error:
            if refused := security.denied(error):
                raise refused from None
            log.warning("cannot see the topics and the group", error=repr(error))
        if self.whole:
            self.whole_at = time.monotonic()

    def _take_topics(self, now: dict[str, str]) -> None:
        gone = topic_ids.gone(self._known, now)
        # Once more: a broker that has just started may not know of any topic yet.
        certain = set(gone) & set(self.gone)
        for name in sorted(certain - self._told):
            log.error(GONE, topic=name)
        self.gone, self._told = gone, certain
        for name in topic_ids.remade(self._known, now):
            if name == self._site.topics.dead_letters.name:
                # Only the alerter reads it, and tells. What we write goes to the new one.
                log.error("the topic of the dead letters was deleted and made anew", topic=name)
            elif name == self._site.topics.events.name:
                raise RecordsLost(
                    f"{name}: {position.REMADE}, {self._waiting} at the last look here. {position.cure()}"
                )
            else:
                raise RecordsLost(f"{name} was deleted and made anew: starting again, to compare it with our copies")
        self._known |= now

    def _take_owners(self, missing: frozenset[int] | None) -> None:
        if missing is None:
            return
        if missing and not self.ownerless:
            log.error(OWNERLESS, partitions=sorted(missing))
        self.ownerless = missing
