"""What the processor counts. Everything is counted after the commit, so a batch that is redelivered counts once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from pipeline import masking
from pipeline.errors import NoRecipient, Undecodable
from processor.calls import Settled
from processor.circuit import Circuit, Circuits
from processor.decide import Changes

RECORDS = Counter("postlog_processor_records", "records done with, duplicates and dead letters too", ["partition"])
EVENTS = Counter("postlog_processor_events", "events that were processed", ["provider", "type"])
DUPLICATES = Counter(
    "postlog_processor_duplicates", "events dropped as duplicates, by the age of the original", ["provider", "age"]
)
SUPPRESSION_WRITES = Counter("postlog_processor_suppression_writes", "entries of the suppression list written")
DEAD_LETTERS = Counter("postlog_processor_dead_letters", "records sent to the dead letters", ["error"])
for _error in (Undecodable, NoRecipient):
    # Shown as 0 from the start, so that the first one is an increase.
    DEAD_LETTERS.labels(_error.__name__)
UNKNOWN_TYPES = Counter(
    "postlog_processor_unknown_types",
    "events of types that no table knows",
    ["provider", "type"],
)
TRANSACTIONS = Counter("postlog_processor_transactions", "transactions committed")
LANE_OPEN = Gauge("postlog_processor_lane_open", "1 if this process owns the lane and it is open", ["partition"])
LANE_LAG = Gauge("postlog_processor_lane_lag", "records on the events topic not processed yet", ["partition"])
LANE_BACKLOG = Gauge("postlog_processor_lane_backlog", "records fetched and waiting in memory", ["partition"])
FORMER_KEYS = Gauge(
    "postlog_processor_former_keys",
    "entries of the list whose key an earlier release gave their address, so that nobody finds them",
    ["partition"],
)
STANDBY_LAG = Gauge(
    "postlog_processor_standby_lag", "records that the copy of another process' lane is behind", ["partition"]
)
MISPLACED = Counter(
    "postlog_processor_misplaced",
    "records whose key belongs to another partition, among the first ones of each transaction",
)
BEYOND = Gauge(
    "postlog_processor_records_beyond",
    "records on partitions that topics.yaml does not know, which nobody reads",
    ["topic"],
)
CALLS = Counter(
    "postlog_processor_calls", "tries to call a handler: done, failed, or given up", ["handler", "outcome"]
)
CALL_SECONDS = Histogram("postlog_processor_call_seconds", "how long a try took", ["handler"])
CIRCUIT_OPENED = Gauge(
    "postlog_processor_circuit_opened_timestamp_seconds",
    "when the circuit of a handler opened, 0 while it is closed",
    ["handler"],
)
CALLS_OWED = Gauge("postlog_processor_calls_owed", "calls of handlers that are not done yet", ["partition"])


def forget(partition: int) -> None:
    """Show nothing of a lane that is not ours any more."""
    for gauge in (LANE_OPEN, LANE_LAG, LANE_BACKLOG, CALLS_OWED):
        gauge.remove(partition)


def forget_former(partition: int) -> None:
    """Show nothing of a list that is not ours any more."""
    with suppress(KeyError):  # nothing was shown before all of it was looked at
        FORMER_KEYS.remove(partition)


def forget_standby(partition: int) -> None:
    """Show nothing of a copy that is not kept any more."""
    with suppress(KeyError):  # nothing was shown before its first fetch
        STANDBY_LAG.remove(partition)


def count(partition: int, records: int, changes: Changes) -> None:
    """Count a committed batch."""
    RECORDS.labels(partition).inc(records)
    for (provider, kind), number in changes.processed.items():
        EVENTS.labels(masking.text(provider), kind).inc(number)
    for (provider, age), number in changes.duplicates.items():
        DUPLICATES.labels(masking.text(provider), age).inc(number)
    for rejected in changes.rejected:
        DEAD_LETTERS.labels(type(rejected.error).__name__).inc()
    SUPPRESSION_WRITES.inc(len(changes.suppressions))


def count_unknown(seen: Mapping[tuple[str, str], int]) -> None:
    """Count events of types that nobody knows, by provider and word; 0 shows one that is known to be there."""
    for (provider, word), number in seen.items():
        UNKNOWN_TYPES.labels(provider, word).inc(number)


def count_calls(partition: int, settled: Settled, owed: int) -> None:
    """Count what became of calls whose outcome is committed, and how many are owed now."""
    for handler, outcome in settled.outcomes:
        CALLS.labels(handler, outcome).inc()
    for used_up in settled.dead:
        DEAD_LETTERS.labels(type(used_up.error).__name__).inc()
    CALLS_OWED.labels(partition).set(owed)


def show_circuits(circuits: Circuits) -> None:
    """Show which are open, from now on."""
    for name, circuit in circuits.items():
        _show(name, circuit)
        circuit.watchers.add(partial(_show, name, circuit))


def _show(name: str, circuit: Circuit) -> None:
    CIRCUIT_OPENED.labels(name).set((circuit.since or 0) / 1000)
