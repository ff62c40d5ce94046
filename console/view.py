"""How `postlog up` speaks: a table that stays in place on a terminal, one line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn

from console import display, jars
from console.metrics import Rates, Totals
from console.stack import Change, Child

#: Seconds between two lines of numbers, where there is no table.
LINE_EVERY = 10.0


class View(Protocol):
    """What the supervising needs of either way; a context manager while services run."""

    def note(self, text: str) -> None:
        """Something worth a line that stays."""

    def changed(self, change: Change) -> None:
        """A service came into another state."""

    def refresh(self, children: Sequence[Child], kafka: str, totals: Totals | None, rates: Rates | None) -> None:
        """How things are now; called on every tick."""

    def __enter__(self) -> View: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def view(console: Console) -> View:
    """The way that fits where the output goes."""
    return Screen(console) if console.is_terminal else Lines(console)


class Screen:
    """A table in place. It draws when told to and not from a thread: signals and forks stay simple."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print above the table."""
        self._console.print(text, markup=False, highlight=False)

    def changed(self, change: Change) -> None:
        """The table shows states; what a service died of shall stay to be read."""
        if change.state == "waiting":
            self.note(display.line(change))

    def refresh(self, children: Sequence[Child], kafka: str, totals: Totals | None, rates: Rates | None) -> None:
        """Draw the table anew."""
        self._live.update(display.screen(children, kafka, totals, rates), refresh=True)


class Lines:
    """A line per state change, and one with the numbers now and then if they moved."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_line = 0.0
        self._last: Totals | None = None

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, text: str) -> None:
        """Print a line, however long."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def changed(self, change: Change) -> None:
        """Print every state."""
        self.note(display.line(change))

    def refresh(self, children: Sequence[Child], kafka: str, totals: Totals | None, rates: Rates | None) -> None:
        """Print the numbers if they are new and the last ones are a while ago."""
        now = time.monotonic()
        if totals is not None and totals != self._last and now >= self._next_line:
            self.note(display.numbers(totals, rates))
            self._last, self._next_line = totals, now + LINE_EVERY


@contextmanager
def progress(console: Console) -> Iterator[jars.Progress]:
    """Show how something long gets on: a bar on a terminal, each step's name once elsewhere."""
    if not console.is_terminal:
        said: set[str] = set()

        def say(text: str, done: int, total: int) -> None:
            if text not in said:
                said.add(text)
                console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[parts]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, parts="")

        def draw(text: str, done: int, total: int) -> None:
            parts = f"{done} of {total}" if total else ""
            bar.update(task, description=text, completed=done, total=total or None, parts=parts)

        yield draw
