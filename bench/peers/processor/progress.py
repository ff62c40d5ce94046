"""How a peer in Python tells how far it is: a line every tenth of a second, while there is something new to tell."""

from __future__ import annotations

import sys
import threading
import time


class Progress:
    """Two counts that the peer raises: events processed, and those of them that were no duplicates."""

    def __init__(self) -> None:
        self.processed = 0
        self.unique = 0
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        last = 0
        while True:
            processed = self.processed
            if processed != last:
                # The real one: Faust makes a logger of `sys.stdout`.
                print(f"processed {processed} unique {self.unique}", file=sys.__stdout__, flush=True)
                last = processed
            time.sleep(0.1)
