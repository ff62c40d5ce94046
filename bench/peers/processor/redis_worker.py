"""A worker on a Redis list, as articles show it: the reliable queue, `SET NX EX` for ids, a set of addresses.

An event is moved to a list of what is being done and removed from there when it is done, so that a crash loses none.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import redis  # type: ignore[import-not-found]  # of the peers' environment

from bench.peers.processor.progress import Progress

WINDOW_SECONDS = 48 * 3600
SUPPRESSING = frozenset({"hard_bounce", "complaint", "unsubscribed"})


def main() -> None:
    """Process until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    store = redis.Redis(host="127.0.0.1", port=int(os.environ["REDIS_PORT"]))
    progress = Progress()
    while True:
        given = store.blmove("events", "events:doing", 1, "LEFT", "RIGHT")
        if given is None:
            continue
        event = json.loads(given)
        if store.set(f"seen:{event['provider']}:{event['id']}", 1, nx=True, ex=WINDOW_SECONDS):
            progress.unique += 1
            if event["type"] in SUPPRESSING:
                store.sadd("suppressed", event["email"])
        store.lrem("events:doing", 1, given)
        progress.processed += 1


if __name__ == "__main__":
    main()
