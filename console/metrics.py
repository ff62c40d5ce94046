"""What the services' metrics say about the whole: totals, lanes, rates.

Pure: Prometheus text in, values out. The names are what ingress and processor export.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

#: Exported under the same names in ingress/metrics.py and processor/metrics.py.
DELIVERIES = "postlog_ingress_deliveries_total"
EVENTS_IN = "postlog_ingress_events_total"
INGRESS_DEAD_LETTERS = "postlog_ingress_dead_letters_total"
PENDING = "postlog_ingress_pending_events"
RECORDS = "postlog_processor_records_total"
DUPLICATES = "postlog_processor_duplicates_total"
SUPPRESSION_WRITES = "postlog_processor_suppression_writes_total"
DEAD_LETTERS = "postlog_processor_dead_letters_total"
LANE_LAG = "postlog_processor_lane_lag"
LANE_OPEN = "postlog_processor_lane_open"
CALLS_OWED = "postlog_processor_calls_owed"
UNKNOWN_TYPES = "postlog_processor_unknown_types_total"
FORMER_KEYS = "postlog_processor_former_keys"
BEYOND = "postlog_processor_records_beyond"
CIRCUIT_OPENED = "postlog_processor_circuit_opened_timestamp_seconds"
HEARTBEAT = "postlog_alerter_heartbeat_timestamp_seconds"
UNSENT_ALERTS = "postlog_alerter_unsent_alerts"
UNTOLD_LETTERS = "postlog_alerter_untold_letters"

#: Outcomes of requests that were answered as their sender wished.
_TAKEN = frozenset({"accepted", "handshake"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one process."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Source:
    """What one process exports; at is when it was asked, in seconds of a monotonic clock."""

    process: str
    at: float
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Lane:
    """One open partition: who has it, and how many records wait there."""

    partition: int
    processor: str
    lag: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Counted since the processes that answer started; owed calls and lag are now, lag None if no lane is open."""

    deliveries: int
    refused: int
    events_in: int
    pending: int
    processed: int
    duplicates: int
    suppression_writes: int
    dead_letters: int
    owed: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class Outage:
    """A handler that a processor takes to be down; since in seconds since the epoch, the earliest that one says."""

    handler: str
    since: float


@dataclass(frozen=True, slots=True)
class UnknownType:
    """A provider's word that no processor knows; count of its events since the processors started."""

    provider: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class Beyond:
    """Records on partitions of a topic that topics.yaml does not know: nobody reads them."""

    topic: str
    records: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second, None where no two samples of one process can tell."""

    events_in: float | None
    processed: float | None


@dataclass(frozen=True, slots=True)
class Alerts:
    """What the alerter says of its work; heartbeat_age in seconds since its loop last made a pass."""

    heartbeat_age: float
    unsent: int
    untold_letters: int


def parse(text: str) -> list[Sample]:
    """The samples in Prometheus' text format; text that is not that has none."""
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError:
        return []
    return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]


def totals(sources: Iterable[Source]) -> Totals:
    """Sums over all processes."""
    sources = list(sources)
    samples = [sample for source in sources for sample in source.samples]
    open_lanes = lanes(sources)
    return Totals(
        deliveries=_sum(samples, DELIVERIES),
        refused=_sum([s for s in samples if s.labels.get("outcome") not in _TAKEN], DELIVERIES),
        events_in=_sum(samples, EVENTS_IN),
        pending=_sum(samples, PENDING),
        processed=_sum(samples, RECORDS),
        duplicates=_sum(samples, DUPLICATES),
        suppression_writes=_sum(samples, SUPPRESSION_WRITES),
        dead_letters=_sum(samples, INGRESS_DEAD_LETTERS) + _sum(samples, DEAD_LETTERS),
        owed=_sum(samples, CALLS_OWED),
        lag=sum(lane.lag for lane in open_lanes) if open_lanes else None,
    )


def lanes(sources: Iterable[Source]) -> list[Lane]:
    """The open lanes in order of partition; a lane that a processor gave away says nothing about lag any more."""
    found = []
    for source in sources:
        values = {(s.name, s.labels.get("partition", "")): s.value for s in source.samples}
        found += [
            Lane(int(partition), source.process, int(values.get((LANE_LAG, partition), 0)))
            for (name, partition), value in values.items()
            if name == LANE_OPEN and value and partition.isdigit()
        ]
    return sorted(found, key=lambda lane: lane.partition)


def outages(sources: Iterable[Source]) -> list[Outage]:
    """The handlers whose circuit is open in any processor, by name."""
    found: dict[str, float] = {}
    for sample in (sample for source in sources for sample in source.samples):
        if sample.name == CIRCUIT_OPENED and sample.value:
            name = sample.labels.get("handler", "")
            found[name] = min(sample.value, found.get(name, sample.value))
    return [Outage(name, since) for name, since in sorted(found.items())]


def unknown_types(sources: Iterable[Source]) -> list[UnknownType]:
    """The types that no processor knows, by name."""
    found: Counter[tuple[str, str]] = Counter()
    for sample in (sample for source in sources for sample in source.samples):
        if sample.name == UNKNOWN_TYPES:
            found[sample.labels.get("provider", ""), sample.labels.get("type", "")] += int(sample.value)
    return [UnknownType(provider, word, count) for (provider, word), count in sorted(found.items())]


def former_keys(sources: Iterable[Source]) -> int:
    """Entries of the list whose key an earlier release gave their address, as far as processors have looked."""
    return _sum([sample for source in sources for sample in source.samples], FORMER_KEYS)


def beyond(sources: Iterable[Source]) -> list[Beyond]:
    """What is on partitions that somebody added, by topic; every processor sees all of it."""
    found: dict[str, int] = {}
    for sample in (sample for source in sources for sample in source.samples):
        if sample.name == BEYOND and sample.value:
            topic = sample.labels.get("topic", "")
            found[topic] = max(int(sample.value), found.get(topic, 0))
    return [Beyond(topic, records) for topic, records in sorted(found.items())]


def rates(before: Iterable[Source], after: Iterable[Source]) -> Rates:
    """What happened between two samples of the same processes."""
    pairs = [(old, new) for new in after for old in before if old.process == new.process and new.at > old.at]
    return Rates(events_in=_rate(pairs, EVENTS_IN), processed=_rate(pairs, RECORDS))


def alerts(sources: Iterable[Source], now: float) -> Alerts | None:
    """What the alerter says, None if it does not answer or made no pass yet; now in seconds since the epoch."""
    samples = [sample for source in sources for sample in source.samples]
    heartbeat = next((sample.value for sample in samples if sample.name == HEARTBEAT and sample.value), None)
    if heartbeat is None:
        return None
    age = round(max(now - heartbeat, 0.0), 1)
    return Alerts(age, _sum(samples, UNSENT_ALERTS), _sum(samples, UNTOLD_LETTERS))


def _rate(pairs: Iterable[tuple[Source, Source]], name: str) -> float | None:
    grown = [(_sum(new.samples, name) - _sum(old.samples, name), new.at - old.at) for old, new in pairs]
    # A counter that fell began again with a new process: that pair says nothing.
    return sum(count / seconds for count, seconds in grown if count >= 0) if grown else None


def _sum(samples: Iterable[Sample], name: str) -> int:
    return int(sum(sample.value for sample in samples if sample.name == name))
