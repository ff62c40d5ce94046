"""What the ingress counts. With several processes on one port each adds its own to what any of them shows."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter(
    "postlog_ingress_deliveries",
    "HTTP deliveries by outcome: accepted, handshake, bad_signature, stale, too_large, too_many, too_slow, "
    "broken_off, retry, shut_out",
    ["provider", "outcome"],
)
#: Every outcome there is: each shows 0 from the start, so that the first one is an increase.
OUTCOMES = (
    "accepted",
    "handshake",
    "bad_signature",
    "stale",
    "too_large",
    "too_many",
    "too_slow",
    "broken_off",
    "retry",
    "shut_out",
)
EVENTS = Counter("postlog_ingress_events", "events acknowledged by Kafka", ["provider", "type"])
DEAD_LETTERS = Counter("postlog_ingress_dead_letters", "authentic deliveries that no reader understood", ["provider"])
CONNECTIONS = Gauge("postlog_ingress_connections", "connections there are", multiprocess_mode="livesum")
CONNECTIONS_CLOSED = Counter(
    "postlog_ingress_connections_closed",
    "connections that were closed by us: shut_out (its source had too much refused and too many waiting), "
    "crowded_out (it had delivered nothing authentic when there were too many), full (too many, all of them proven), "
    "no_room (it held room for a body that others waited for), long_head (it brought much that belongs to no body)",
    ["reason"],
)
for _reason in ("shut_out", "crowded_out", "full", "no_room", "long_head"):
    CONNECTIONS_CLOSED.labels(_reason)
PENDING = Gauge("postlog_ingress_pending_events", "events waiting for Kafka", multiprocess_mode="livesum")
PENDING_BYTES = Gauge(
    "postlog_ingress_pending_bytes",
    "bytes of memory that deliveries take whose events wait for Kafka",
    multiprocess_mode="livesum",
)
SPOOLED = Gauge("postlog_ingress_spooled_records", "records in the spool", multiprocess_mode="livesum")
SPOOLED_BYTES = Gauge("postlog_ingress_spooled_bytes", "bytes in the spool", multiprocess_mode="livesum")
SPOOL_DAMAGED = Gauge(
    "postlog_ingress_spool_damaged_files",
    "files of the spool that hold less than was answered 200, set aside or not readable; looked for at each start, "
    "and whenever /health/ready is asked",
    multiprocess_mode="livemax",
)
SPOOL_OLDEST = Gauge(
    "postlog_ingress_spool_oldest_timestamp_seconds",
    "when the oldest record in the spool was taken; 0: it is empty",
    multiprocess_mode="livemax",
)
ACKNOWLEDGE = Histogram(
    "postlog_ingress_acknowledge_seconds",
    "from the complete body to Kafka's acknowledgement of all its events",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)


def pending(events: int, size: int) -> None:
    """What waits for Kafka now: events, and bytes of memory."""
    PENDING.set(events)
    PENDING_BYTES.set(size)
