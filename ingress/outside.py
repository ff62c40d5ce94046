"""Who of the sources that are shut out is let in next: a share of what they send is read all the same.

Pure. Sources take turns, whatever their number of connections, and so do the connections of one. Real deliveries may
come from the same address as a flood, or from one that was shut out by mistake: they get through, later.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)

#: Connections that wait at most, of all sources together and of one; of more than these the oldest has to go.
MOST, MOST_OF_ONE = 256, 32
#: Seconds between two that are let in.
PAUSE = 0.05


class Outside(Generic[Who]):
    """Connections that wait, by their source."""

    def __init__(self) -> None:
        # Dictionaries for their order: the first is the next.
        self._waiting: dict[str, dict[Who, None]] = {}
        self._source: dict[Who, str] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __contains__(self, who: object) -> bool:
        return who in self._source

    def add(self, source: str, who: Who) -> Who | None:
        """It waits. Returns the one that has to go for it, None if there is place for both."""
        self._source[who] = source
        mine = self._waiting.setdefault(source, {})
        mine[who] = None
        if len(mine) > MOST_OF_ONE:
            return next(iter(mine))
        return next(iter(self._source)) if len(self._source) > MOST else None

    def discard(self, who: Who) -> None:
        """It does not wait any more."""
        source = self._source.pop(who, None)
        if source is not None:
            mine = self._waiting[source]
            del mine[who]
            if not mine:
                del self._waiting[source]

    def next(self) -> Who | None:
        """Whose turn it is; None if nobody waits."""
        if not self._waiting:
            return None
        source, mine = next(iter(self._waiting.items()))
        who = next(iter(mine))
        self.discard(who)
        if mine:  # The others of this source come after all other sources.
            self._waiting[source] = self._waiting.pop(source)
        return who

    def of(self, source: str) -> list[Who]:
        """All that wait of a source."""
        return list(self._waiting.get(source, ()))
