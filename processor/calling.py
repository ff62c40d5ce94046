"""Makes the calls that a lane owes: in order within an address, concurrently over addresses.

A shell over asyncio. It never writes: an outcome waits here until the lane has committed what follows from it, and a
call whose outcome was not committed is made again.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import Callable, Mapping

import structlog

from pipeline import contract, suppression
from pipeline.errors import StoreBroken
from pipeline.providers import as_it_means_now
from processor import calls, metrics
from processor.calls import Call, Outcome, Settled
from processor.handler import Handler
from processor.store import Store

log = structlog.get_logger(__name__)


class Calling:
    """The calls of one lane. `ready` is called when there is an outcome to commit, or when calling itself failed."""

    def __init__(self, handlers: Mapping[str, Handler], store: Store, ready: Callable[[], None]) -> None:
        self._handlers = handlers
        self._store = store
        self._ready = ready
        self._rows: set[bytes] = set()
        self._lines: dict[bytes, list[bytes]] = {}  # rows in the order of the log; only the first one is tried
        self._running: set[asyncio.Task[None]] = set()
        self._timers: dict[bytes, asyncio.TimerHandle] = {}
        self._places = {name: asyncio.Semaphore(handler.concurrency) for name, handler in handlers.items()}
        self._outcomes: list[Outcome] = []
        self._failure: BaseException | None = None
        self._ending = False

    @property
    def owed(self) -> int:
        """How many calls are owed."""
        return len(self._rows)

    def owes(self, row: bytes) -> bool:
        """Whether this call is owed already: a replay may meet one that is not done."""
        return row in self._rows

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
        for row, due in settled.due.items():
            if due is None:
                self._next(row)
            else:
                self._at(row, due)

    async def drain(self, timeout: float) -> None:
        """Begin no further call, and wait for those under way, `timeout` seconds at most."""
        self._stop_timers()
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)

    async def close(self) -> None:
        """Drop everything; what was not committed is tried again by the next owner."""
        self._stop_timers()
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            # A handler that will not be cancelled must not hold up the partition's next owner.
            await asyncio.wait(running, timeout=1.0)

    def _stop_timers(self) -> None:
        self._ending = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

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
        task = asyncio.create_task(self._make(row))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
            self._ready()

    async def _make(self, row: bytes) -> None:
        value = self._store.call(row)
        if value is None:
            raise StoreBroken(f"{self._store.path}: the row of an owed call is gone")
        call = calls.decode(value)
        handler = self._handlers[call.handler]
        async with self._places[handler.name]:
            if self._ending:
                return
            with metrics.CALL_SECONDS.labels(handler.name).time():
                error = await self._try(handler, call)
        if error is not None:
            log.info(
                "a call failed", handler=handler.name, tries=call.tries + 1, offset=call.offset, error=repr(error)
            )
        self._outcomes.append(Outcome(call, error))
        self._ready()

    async def _try(self, handler: Handler, call: Call) -> Exception | None:
        """Call a handler once; why it failed, None if it did not."""
        event = as_it_means_now(contract.decode(call.value))
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
