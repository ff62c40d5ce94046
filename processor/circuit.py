"""Whether a handler is down, as opposed to an event that it cannot take.

Pure: the clock is an argument (`now`, seconds, of any epoch). One circuit per handler and process, shared by its
lanes. Closed, calls are made as they come. When most of what is new fails, it opens: no call is made but one probe at
a time, at growing intervals, and no failure counts as a try, so an outage makes no dead letters. The first probe that
succeeds closes it.

An outage is that at least `minimum` calls fail, and most tries do since the longest failing of them began to. What
was before does not count: a failing call holds back those behind it, so an outage makes few failures where there were
many successes. For the same reason a few addresses that are tried again and again among many that succeed are none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from processor.handler import Handler, Outage

#: Parts of a window: its counts are forgotten in steps of this share of it.
PARTS = 30


class Circuit:
    """The circuit of one handler.

    since     when it opened, ms since the epoch; None while it is closed
    reason    the failure that opened it
    watchers  called whenever it has opened, closed, or is ready to be probed again
    """

    def __init__(self, policy: Outage) -> None:
        self.since: int | None = None
        self.reason = ""
        self.watchers: set[Callable[[], None]] = set()
        self._policy = policy
        self._length = policy.window / PARTS
        self._counts: deque[_Part] = deque()
        self._failing: dict[bytes, float] = {}  # since when, the longest failing first
        self._given_up: deque[float] = deque()
        self._probes = 0
        self._probe_at = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls must wait."""
        return self.since is not None

    def succeeded(self, row: bytes, now: float) -> None:
        """A call that is no probe succeeded."""
        self._part(now).good += 1
        self._failing.pop(row, None)

    def failed(self, row: bytes, reason: str, *, now: float, at: int, wait: float = 0.0) -> None:
        """A call that is no probe failed, which may open the circuit.

        at    the present, ms since the epoch
        wait  seconds for which the handler asked to be left alone
        """
        if self.is_open:
            return
        self._part(now).bad += 1
        self._failing.setdefault(row, now)
        if self._is_outage(now):
            self.open(at, reason, probe_at=now + max(self._policy.pause(0), wait))

    def given_up(self, row: bytes, now: float) -> None:
        """A call that failed is a dead letter, and tried no more."""
        if self._failing.pop(row, None) is not None:
            self._given_up.append(now)

    def forget(self, row: bytes) -> None:
        """A call is not ours any more."""
        self._failing.pop(row, None)

    def open(self, at: int, reason: str, *, probe_at: float) -> None:
        """Open it, as of a moment in ms since the epoch; once it is open, nothing changes."""
        if self.is_open:
            return
        self.since, self.reason = at, reason
        for memory in (self._counts, self._failing, self._given_up):
            memory.clear()
        self._probes, self._probe_at, self._probing = 0, probe_at, False
        self._tell()

    def probe_in(self, now: float) -> float | None:
        """Seconds until a probe may be made, None while one is under way or none is needed."""
        return max(self._probe_at - now, 0.0) if self.is_open and not self._probing else None

    def take_probe(self, now: float) -> bool:
        """Whether the caller shall probe now; then it must tell how that ended."""
        if self.probe_in(now) != 0.0:
            return False
        self._probing = True
        return True

    def probed(self, *, good: bool, now: float, wait: float = 0.0) -> None:
        """A probe ended: the circuit closes, or waits for longer before the next, `wait` seconds at least."""
        self._probing = False
        if good:
            self.since = None
        else:
            self._probes += 1
            self._probe_at = now + max(self._policy.pause(self._probes), wait)
        self._tell()

    def dropped(self) -> None:
        """A probe was given up without an answer: somebody else may make it."""
        self._probing = False
        self._tell()

    def _is_outage(self, now: float) -> bool:
        while self._given_up and self._given_up[0] <= now - self._policy.window:
            self._given_up.popleft()
        if len(self._failing) + len(self._given_up) < self._policy.minimum:
            return False
        since = next(iter(self._failing.values()))
        good = bad = 0
        for part in reversed(self._counts):
            # Where calls are given up at once few fail at a time: then the latest tries tell, a handful at least.
            if part.begun + self._length <= since and good + bad >= 2 * self._policy.minimum:
                break
            good, bad = good + part.good, bad + part.bad
        return bad >= self._policy.share * (good + bad)

    def _part(self, now: float) -> _Part:
        """The counts of the present; what is older than the window is forgotten."""
        while self._counts and self._counts[0].begun <= now - self._policy.window:
            self._counts.popleft()
        if not self._counts or now >= self._counts[-1].begun + self._length:
            self._counts.append(_Part(now))
        return self._counts[-1]

    def _tell(self) -> None:
        for watcher in list(self.watchers):
            watcher()


class _Part:
    """What was counted in a part of the window."""

    __slots__ = ("bad", "begun", "good")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.good = 0
        self.bad = 0


Circuits = Mapping[str, Circuit]


def of(handlers: Mapping[str, Handler]) -> Circuits:
    """A circuit for each handler, by name."""
    return {name: Circuit(handler.outage) for name, handler in handlers.items()}
