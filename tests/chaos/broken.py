"""Three builds that break the promise on purpose: a checker that passes them is worth nothing.

Each changes one step of the real code when its service is launched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Seconds between the two halves of what should be one step: a kill has to find its way in between.
GAP = 0.3


def answer_before_the_ack() -> None:
    """The ingress answers 200 when the records wait for Kafka."""
    from ingress.batches import weight
    from ingress.log import Log

    async def append(self: Any, records: Sequence[Any]) -> None:
        self._batches.append(records, weight(records)).add_done_callback(lambda done: done.exception())

    Log.append = append  # type: ignore[method-assign]


def offset_before_the_changelog() -> None:
    """The processor commits the source offset first, and what follows from the records after that."""
    _split(lambda rows, source: [({}, source), (rows, {})])


def rows_without_the_offset() -> None:
    """The processor commits what follows from the records, and the source offset after that."""
    _split(lambda rows, source: [(rows, {}), ({}, source)])


def _split(halves: Callable[[Any, Any], list[tuple[Any, Any]]]) -> None:
    from processor.place import Place
    from processor.transaction import NOWHERE, Transactions

    whole = Transactions.commit

    async def commit(
        self: Any, rows: Mapping[str, Any], source: Mapping[Any, Any], behind: Mapping[str, int] = NOWHERE
    ) -> dict[str, Place]:
        ends: dict[str, Place] = {}
        for number, (some_rows, some_source) in enumerate(halves(rows, source)):
            if number:
                await asyncio.sleep(GAP)
            if any(some_rows.values()) or some_source:
                ends |= await whole(self, some_rows, some_source, behind)
        return ends

    Transactions.commit = commit  # type: ignore[method-assign]


BUILDS: dict[str, Callable[[], None]] = {
    "ack": answer_before_the_ack,
    "offset": offset_before_the_changelog,
    "rows": rows_without_the_offset,
}
#: Which service each one is a build of.
SERVICE = {"ack": "ingress", "offset": "processor", "rows": "processor"}
