"""What users plug in: code of their own that is called for an event, and how it wants to be called.

A handler is `async def handle(event, suppression)`. It is called at least once per event, in order within an address,
concurrently over addresses; the event's id is the idempotency key. Returning is success. Raising `Permanent` gives
the event up at once, `TryLater` names the least pause before the next try; any other exception, or a timeout, is a
failed try. Pure; `plugins.py` loads them, `calling.py` calls them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from pipeline.contract import Event, EventType
from pipeline.suppression import Suppression

Handle = Callable[[Event, Suppression | None], Awaitable[None]]


class Permanent(Exception):
    """Raised by a handler: no further try can succeed. The event becomes a dead letter at once."""


class TryLater(Exception):
    """Raised by a handler: a failed try, and the next one not before `seconds` have passed."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason or f"asked to wait {seconds:g} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Retry:
    """When to try again.

    tries   in all, the first one included; then the event is a dead letter
    base    seconds before the second try; each later pause is `factor` times the one before, `cap` at most
    jitter  share of a pause by which it may be longer, 0 to 1, so that many failures do not come back at once
    """

    tries: int = 5
    base: float = 1.0
    factor: float = 2.0
    cap: float = 300.0
    jitter: float = 0.0

    def pause(self, tries: int, chance: float) -> float:
        """Seconds to wait after `tries` failed tries; chance is between 0 and 1."""
        # No cap is reached later than after a hundred doublings, and no float holds a thousand.
        return min(self.base * self.factor ** min(tries - 1, 100), self.cap) * (1 + self.jitter * chance)


@dataclass(frozen=True, slots=True)
class Outage:
    """When so many calls fail that the handler is down and no event is to blame; then no try counts.

    share    of the tries that failed since the longest failing call began to, above 0, 1 at most
    window   seconds that are looked back at most
    minimum  of calls that fail at the same time, each of another address, or were given up within the window
    base     seconds before the first probe; each later pause is twice the one before, `cap` at most
    """

    share: float = 0.5
    window: float = 30.0
    minimum: int = 5
    base: float = 1.0
    cap: float = 30.0

    def pause(self, probes: int) -> float:
        """Seconds to wait after `probes` failed probes."""
        return min(self.base * 2.0 ** min(probes, 100), self.cap)


@dataclass(frozen=True, slots=True)
class Handler:
    """One plugged-in piece of code.

    name         stands in the log of owed calls: under a new name it is not called for what it owed under the former
    types        the events it wants
    timeout      seconds one call may take
    concurrency  calls at once, in one lane
    """

    name: str
    call: Handle
    types: frozenset[EventType] = field(default_factory=lambda: frozenset(EventType))
    timeout: float = 10.0
    concurrency: int = 16
    retry: Retry = Retry()
    outage: Outage = Outage()


Handlers = Mapping[str, Handler]
