"""What a process and its children use: CPU time, and the most memory that was seen."""

from __future__ import annotations

import psutil


class Meter:
    """Looks at a tree of processes whenever it is asked.

    peak  the most resident memory that a look has seen, in bytes
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self.peak = 0

    def look(self) -> float:
        """CPU seconds used until now; the peak is kept up to date."""
        cpu, memory = 0.0, 0
        for process in [self._root, *self._children()]:
            try:
                with process.oneshot():
                    # The times of children that have ended are counted by their parent.
                    cpu += sum(process.cpu_times()[:4])
                    memory += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, memory)
        return cpu

    def _children(self) -> list[psutil.Process]:
        try:
            return self._root.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
