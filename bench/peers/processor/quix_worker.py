"""Quix Streams: state by message key in RocksDB, with a changelog topic; at least once, its default.

The key is the address, and an id always comes with the same address, so the ids seen are in the state of their
address; TTL of the state is its way to forget them.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from quixstreams import Application, State  # type: ignore[import-not-found]  # of the peers' environment

from bench.peers.processor.progress import Progress

WINDOW = timedelta(hours=48)
SUPPRESSING = frozenset({"hard_bounce", "complaint", "unsubscribed"})

progress = Progress()


def change(event: dict[str, Any], state: State) -> dict[str, Any] | None:
    """The suppression that follows from an event, None if nothing does."""
    progress.processed += 1
    seen = f"seen:{event['provider']}:{event['id']}"
    if state.exists(seen):
        return None
    state.set(seen, True, ttl=WINDOW)
    progress.unique += 1
    if event["type"] not in SUPPRESSING or state.exists("suppression"):
        return None
    suppression = {"cause": event["type"], "since": event["received_at"], "event": event["id"]}
    state.set("suppression", suppression)
    return suppression


def main() -> None:
    """Process until told to stop."""
    app = Application(
        broker_address=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        consumer_group=os.environ["APPLICATION"],
        state_dir=os.environ["STATE_DIR"],
        auto_offset_reset="earliest",
    )
    events = app.topic(os.environ["EVENTS"], key_deserializer="str", value_deserializer="json")
    suppressions = app.topic(os.environ["SUPPRESSIONS"], key_serializer="str", value_serializer="json")
    stream = app.dataframe(events)
    stream = stream.apply(change, stateful=True).filter(lambda suppression: suppression is not None)
    stream.to_topic(suppressions)
    app.run()


if __name__ == "__main__":
    main()
