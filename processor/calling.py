"""Makes the calls that a lane owes: in order within an address, concurrently over addresses.

A shell over asyncio. It never writes: an outcome waits here until the lane has committed what follows from it, and a
call whose outcome was not committed is made again. While the circuit of a handler is open its calls are held; a
failure meanwhile has no outcome, so it does not count as a try.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from pipeline import contract, masking, suppression
from pipeline.errors import StoreBroken
from pipeline.providers import as_it_means_now
from processor import calls, metrics
from processor.calls import Call, Outcome, Settled
from processor.circuit import Circuit, Circuits
from processor.handler import Handler, TryLater
from processor.store import Store

log = structlog.get_logger(__name__)


class Calling:
    """The calls of one lane, until it is closed.

    `ready` is called when there is an outcome to commit, a circuit has opened or closed, or calling itself failed.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], circuits: Circuits, store: Store, ready: Callable[[], None]
    ) -> None:
        self._handlers = handlers
        self._circuits = circuits
        self._store = store
        self._ready = ready
        self._rows: set[bytes] = set()
        self._lines: dict[bytes, list[bytes]] = {}  # rows in the order of the log; only the first one is tried
        self._running: set[asyncio.Task[None]] = set()
        self._timers: dict[bytes, asyncio.TimerHandle] = {}
        self._places = {name: asyncio.Semaphore(handler.concurrency) for name, handler in handlers.items()}
        self._held: defaultdict[str, deque[bytes]] = defaultdict(deque)  # by handler, while its circuit is open
        self._probe_timers: dict[str, asyncio.TimerHandle] = {}
        self._watchers = {name: partial(self._circuit_moved, name) for name in circuits}
        self._outcomes: list[Outcome] = []
        self._failure: BaseException | None = None
        self._ending = False
        self._paused = False
        self._waiting: list[bytes] = []  # rows whose turn came while calling was paused
        for name, watcher in self._watchers.items():
            circuits[name].watchers.add(watcher)

    @property
    def owed(self) -> int:
        """How many calls are owed."""
        return len(self._rows)

    def owes(self, row: bytes) -> bool:
        """Whether this call is owed already: a replay may meet one that is not done."""
        return row in self._rows

    def owes_to(self, handler: str) -> bool:
        """Whether any call of this handler is owed."""
        return any(calls.handler_of(line) == handler for line in self._lines)

    def load(self) -> None:
        """Take up what the store says is owed. Calls of handlers that are not configured now stay there."""
        strangers: set[str] = set()
        for row, value in self._store.rows("calls"):
            call = calls.decode(value)
            if call.handler in self._handlers:
                self.add(row, call.due)
            else:
                strangers.add(call.handler)
        if strangers:
            log.warning("calls are owed to handlers that HANDLERS does not name; kept", handlers=sorted(strangers))

    def add(self, row: bytes, due: int = 0) -> None:
        """Owe a call whose row is in the store; due in ms."""
        self._rows.add(row)
        line = self._lines.setdefault(calls.line_of(row), [])
        # The first one may be under way, so a replay of something older goes behind it.
        insort(line, row, lo=min(len(line), 1))
        if len(line) == 1:
            self._at(row, due)

    def outcomes(self) -> list[Outcome]:
        """Take the outcomes since last time; settle them once they are committed.

        Raises what made calling itself fail: then the process must end.
        """
        if self._failure:
            raise self._failure
        taken, self._outcomes = self._outcomes, []
        return taken

    def settle(self, settled: Settled) -> None:
        """What follows from outcomes is committed: try again those that are due again, go on behind the others."""
        for used_up in settled.dead:
            self._circuits[used_up.call.handler].given_up(used_up.call.row, time.monotonic())
        for row, due in settled.due.items():
            if due is None:
                self._next(row)
            else:
                self._at(row, due)

    def pause(self) -> None:
        """Begin no further call until `resume`; those under way end."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        waiting, self._waiting = self._waiting, []
        for row in waiting:
            self._at(row, 0)
        for name in self._circuits:
            self._expect_probe(name)

    async def drain(self, timeout: float) -> None:
        """Begin no further call, and wait for those under way, `timeout` seconds at most."""
        self._stop_timers()
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)

    async def close(self) -> None:
        """Drop everything; what was not committed is tried again by the next owner."""
        self._stop_timers()
        for name, watcher in self._watchers.items():
            self._circuits[name].watchers.discard(watcher)
        for row in self._rows:
            self._circuits[calls.handler_of(row)].forget(row)
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            # A handler that will not be cancelled must not hold up the partition's next owner.
            await asyncio.wait(running, timeout=1.0)

    def _stop_timers(self) -> None:
        self._ending = True
        for timer in (*self._timers.values(), *self._probe_timers.values()):
            timer.cancel()
        self._timers.clear()
        self._probe_timers.clear()

    def _next(self, row: bytes) -> None:
        self._rows.remove(row)
        name = calls.line_of(row)
        line = self._lines[name]
        del line[0]
        if line:
            self._at(line[0], 0)
        else:
            del self._lines[name]

    def _at(self, row: bytes, due: int) -> None:
        if not self._ending:
            delay = max(due / 1000 - time.time(), 0.0)
            self._timers[row] = asyncio.get_running_loop().call_later(delay, self._start, row)

    def _start(self, row: bytes) -> None:
        del self._timers[row]
        name = calls.handler_of(row)
        if self._paused:
            self._waiting.append(row)
        elif self._circuits[name].is_open:
            self._hold(name, row)
        else:
            self._run(row, probe=False)

    def _run(self, row: bytes, *, probe: bool) -> None:
        task = asyncio.create_task(self._make(row, probe=probe))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _hold(self, name: str, row: bytes) -> None:
        """Let a call wait for the circuit, without a try counted."""
        self._held[name].append(row)
        self._expect_probe(name)

    def _circuit_moved(self, name: str) -> None:
        if not self._circuits[name].is_open:
            held = self._held.pop(name, deque())
            for row in held:
                self._at(row, 0)
        self._expect_probe(name)
        self._ready()

    def _expect_probe(self, name: str) -> None:
        seconds = self._circuits[name].probe_in(time.monotonic())
        idle = self._ending or self._paused or name in self._probe_timers
        if seconds is not None and self._held[name] and not idle:
            self._probe_timers[name] = asyncio.get_running_loop().call_later(seconds, self._probe, name)

    def _probe(self, name: str) -> None:
        del self._probe_timers[name]
        if self._paused:
            return
        if self._held[name] and self._circuits[name].take_probe(time.monotonic()):
            # Those that were probed go behind the others: one bad event must not keep the circuit open.
            self._run(self._held[name].popleft(), probe=True)
        else:
            self._expect_probe(name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
            self._ready()

    async def _make(self, row: bytes, *, probe: bool) -> None:
        value = self._store.call(row)
        if value is None:
            raise StoreBroken(f"{self._store.path}: the row of an owed call is gone")
        call = calls.decode(value)
        handler, circuit = self._handlers[call.handler], self._circuits[call.handler]
        answered = False
        try:
            async with self._places[handler.name]:
                if self._ending:
                    return
                if self._paused and not probe:
                    self._waiting.append(row)
                    return
                if circuit.is_open and not probe:
                    self._hold(handler.name, row)
                    return
                with metrics.CALL_SECONDS.labels(handler.name).time():
                    error = await self._try(handler, call)
            answered = True
        finally:
            if probe and not answered:
                circuit.dropped()
        if error is not None:
            log.info(
                "a call failed",
                handler=handler.name,
                tries=call.tries + 1,
                offset=call.offset,
                probe=probe,
                error=repr(error),
            )
        if _counts(circuit, call, error, probe=probe):
            self._outcomes.append(Outcome(call, error))
            self._ready()
        else:
            self._hold(handler.name, row)

    async def _try(self, handler: Handler, call: Call) -> Exception | None:
        """Call a handler once; why it failed, None if it did not."""
        event = contract.dated(as_it_means_now(contract.decode(call.value)), call)
        (value,) = self._store.suppressions([call.email.encode()])
        present = None if value is None else suppression.decode(value)
        try:
            async with asyncio.timeout(handler.timeout) as limit:
                await handler.call(event, present)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            return RuntimeError("the handler cancelled itself")
        except Exception as error:
            return TimeoutError(f"no answer within {handler.timeout:g} s") if limit.expired() else error
        return None


def _counts(circuit: Circuit, call: Call, error: Exception | None, *, probe: bool) -> bool:
    """Tell the circuit how a try went; whether it counts as one."""
    now = time.monotonic()
    if probe:
        circuit.probed(good=error is None, now=now, wait=_wait(error))
    elif error is None:
        circuit.succeeded(call.row, now)
    else:
        reason = masking.text(f"{type(error).__name__}: {error}")  # it is told to people
        at = int(time.time() * 1000)
        circuit.failed(call.row, reason, now=now, at=at, wait=_wait(error))
    return error is None or not (probe or circuit.is_open)


def _wait(error: Exception | None) -> float:
    return error.seconds if isinstance(error, TryLater) else 0.0
