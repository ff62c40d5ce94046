"""What processes and their children use: CPU time, and the most memory that was seen."""

from __future__ import annotations

import psutil


class Meter:
    """Looks at trees of processes whenever it is asked.

    peak  the most resident memory that a look has seen, in bytes
    """

    def __init__(self, *pids: int) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self.peak = 0

    def look(self) -> float:
        """CPU seconds used until now; the peak is kept up to date."""
        cpu, memory = 0.0, 0
        for process in [each for root in self._roots for each in _tree(root)]:
            try:
                with process.oneshot():
                    # The times of children that have ended are counted by their parent.
                    cpu += sum(process.cpu_times()[:4])
                    memory += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, memory)
        return cpu


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
