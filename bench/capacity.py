"""What would N million events a second take, what would it cost, and where does it end?

Pure, but for `main`: figures that were measured on one small machine and assumptions that can be named go in, a plan
comes out. It is arithmetic, not a promise: everything is taken to grow in proportion, which `scaling` checks as far
as one machine lets it, and the limits that proportion does not know are told beside it.

`python -m bench.capacity --million 1 --json` prints a plan; `--run docs/benchmarks.json` takes the figures of a run;
`--set events_per_delivery=100` changes an assumption; `--write` renews the tables in docs/capacity.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import ceil, isfinite
from pathlib import Path

import msgspec

from bench import runs
from bench.figures import Medians, cases, largest, size, table, text, value
from bench.results import Run, medians
from bench.tools import ROOT
from pipeline.errors import ConfigError, PostlogError

DOCUMENT = ROOT / "docs" / "capacity.md"
RUN = ROOT / "docs" / "benchmarks.json"
_BEGIN, _END = "<!-- made by `python -m bench.capacity --write` -->", "<!-- end -->"
_DAY = 86_400.0
_MONTH_HOURS = 730.0
SIZES = (0.1, 1.0, 10.0)
_MAY_BE_ZERO = ("standbys", "core_hour", "disk_gb_month", "cross_zone_gb")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process did. These are stand-ins until a run has the figures: see `measured`.

    ingress_requests  deliveries of one event a second, on one core
    ingress_batched   events a second in deliveries of 100, on one core
    processor_events  events a second of one process
    processor_cores   cores that it used for that
    event_bytes       of a record on email-events, on the disk of one replica
    changelog_bytes   on the processor's changelogs, per event
    restore_records   changelog records a second that one process reads back
    state_bytes       of a live id on the processor's disk
    state_memory      of a live id in the processor's memory, in bytes
    live_ids          the most that any measurement had in the window
    """

    ingress_requests: float = 8_000
    ingress_batched: float = 60_000
    processor_events: float = 60_000
    processor_cores: float = 1.3
    event_bytes: float = 950
    changelog_bytes: float = 120
    restore_records: float = 300_000
    state_bytes: float = 50
    state_memory: float = 2
    live_ids: float = 20e6


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody measured here. Prices are list prices of large clouds, rounded, in US dollars.

    events_per_delivery   how many events the provider puts into one request
    unique                share of events that are no duplicates
    utilisation           of a process' measured speed that is planned for; the rest is for peaks and catching up
    lanes_per_process     so that lanes can be shared out evenly, also when one process is away
    least_partitions      what topics.yaml has
    laned_topics          topics with a partition for each lane: events, seen, suppressions, calls, incidents, dlq
    replication           replicas of each partition, one in each zone
    retention_days        of events
    changelog_days        of seen markers
    window_days           how old a marker in the state can be: a bucket of 48 h is dropped as a whole
    standbys              copies of each lane's state besides its owner's
    transactions          per second and lane, at most: each takes 10 to 20 ms and more over a network
    broker_cores          of one broker
    broker_write_bytes    a second that one broker writes, replicas included
    broker_network_bytes  a second that one broker sends
    broker_disk_bytes     of one broker
    broker_partitions     replicas that one broker leads or follows, at most
    disk_filled           share of a disk that is planned for
    """

    events_per_delivery: float = 1
    unique: float = 0.9
    utilisation: float = 0.6
    lanes_per_process: int = 4
    least_partitions: int = 12
    laned_topics: int = 6
    replication: int = 3
    retention_days: float = 14
    changelog_days: float = 5
    window_days: float = 4
    standbys: int = 1
    transactions: float = 30
    broker_cores: float = 8
    broker_write_bytes: float = 150e6
    broker_network_bytes: float = 600e6
    broker_disk_bytes: float = 16e12
    broker_partitions: float = 4_000
    disk_filled: float = 0.7
    core_hour: float = 0.04
    disk_gb_month: float = 0.08
    cross_zone_gb: float = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """What so many events a second take. Bytes are bytes, rates per second, hours hours.

    partitions            of each of the laned topics
    transactions          per second in the cluster, at most
    brokers_for           how many each need alone would take; the largest is `brokers`
    events_bytes          on all brokers' disks, replicas included; changelogs_bytes likewise
    ids_per_process       live ids that one process owns
    beyond_measured       how many times as many live ids as any measurement had
    state_bytes           of one processor's disk, copies of others' lanes included; state_memory of its memory
    restore_hours         until a process that lost its disk, and of whose lanes nobody has a copy, has them back
    written_bytes         that brokers write, replicas included
    network_bytes         that brokers send to each other and to processors
    cross_zone_bytes      that go from one zone to another
    cost                  of a billion events in dollars, by what it is for
    """

    events: float
    ingress_cores: float
    processors: int
    processor_cores: float
    partitions: int
    transactions: float
    brokers: int
    brokers_for: dict[str, int]
    events_bytes: float
    changelogs_bytes: float
    ids_per_process: float
    beyond_measured: float
    state_bytes: float
    state_memory: float
    restore_hours: float
    written_bytes: float
    network_bytes: float
    cross_zone_bytes: float
    cost: dict[str, float]

    @property
    def cost_per_billion(self) -> float:
        """Dollars for a billion events."""
        return sum(self.cost.values())


def ingress_cores(events: float, measured: Measured, assumed: Assumed) -> float:
    """Cores that answer deliveries: each costs something, and each event in it something more.

    Both follow from two measured points, deliveries of one event and of a hundred.
    """
    one, hundred = 1 / measured.ingress_requests, 100 / measured.ingress_batched
    per_event = max((hundred - one) / 99, 0.0)
    per_delivery = max(one - per_event, 0.0)
    return events * (per_event + per_delivery / assumed.events_per_delivery) / assumed.utilisation


def hot_address(measured: Measured, share: float) -> float:
    """Events a second in all that are possible while one address has this share of them: its lane has one process."""
    return measured.processor_events / share


def plan(events: float, measured: Measured, assumed: Assumed) -> Plan:
    """What this many events a second take."""
    processors = max(ceil(events / (measured.processor_events * assumed.utilisation)), 1 + assumed.standbys)
    partitions = max(_even(processors, assumed), assumed.least_partitions)
    one_copy = events * measured.event_bytes, events * measured.changelog_bytes
    written = sum(one_copy) * assumed.replication
    read = one_copy[0] + one_copy[1] * assumed.standbys
    network = written - sum(one_copy) + read
    kept = [
        rate * _DAY * days * assumed.replication
        for rate, days in zip(one_copy, (assumed.retention_days, assumed.changelog_days), strict=True)
    ]
    replicas = partitions * assumed.laned_topics * assumed.replication
    brokers_for = _brokers(written, network, sum(kept), replicas, assumed)
    ids = events * assumed.unique * assumed.window_days * _DAY / processors
    copies = 1 + assumed.standbys
    answering = ingress_cores(events, measured, assumed)
    processing = events / measured.processor_events * measured.processor_cores / assumed.utilisation
    crossing = _crossing(one_copy, assumed)
    cores = answering + processing + max(brokers_for.values()) * assumed.broker_cores
    return Plan(
        events=events,
        ingress_cores=answering,
        processors=processors,
        processor_cores=processing,
        partitions=partitions,
        transactions=partitions * assumed.transactions,
        brokers=max(brokers_for.values()),
        brokers_for=brokers_for,
        events_bytes=kept[0],
        changelogs_bytes=kept[1],
        ids_per_process=ids,
        beyond_measured=ids / measured.live_ids,
        state_bytes=ids * measured.state_bytes * copies,
        state_memory=ids * measured.state_memory * copies,
        restore_hours=events / processors * assumed.changelog_days * _DAY / measured.restore_records / 3600,
        written_bytes=written,
        network_bytes=network,
        cross_zone_bytes=crossing,
        cost=_cost(events, cores, sum(kept) + processors * ids * measured.state_bytes * copies, crossing, assumed),
    )


def _even(processors: int, assumed: Assumed) -> int:
    """Partitions, so that each process has the same number of lanes."""
    return processors * max(assumed.lanes_per_process, ceil(assumed.least_partitions / processors))


def _brokers(written: float, network: float, kept: float, replicas: int, assumed: Assumed) -> dict[str, int]:
    return {
        "replication": assumed.replication,
        "writing": ceil(written / assumed.broker_write_bytes),
        "network": ceil(network / assumed.broker_network_bytes),
        "disk": ceil(kept / assumed.broker_disk_bytes / assumed.disk_filled),
        "partitions": ceil(replicas / assumed.broker_partitions),
    }


def _crossing(one_copy: tuple[float, float], assumed: Assumed) -> float:
    """Bytes a second between zones: to the leader, to its followers, from the leader; with as many zones as replicas.

    A client and the leader of its partition are in one zone once in so many times, and replicas never are.
    """
    elsewhere = (assumed.replication - 1) / assumed.replication
    replicated = assumed.replication - 1
    events, changelogs = one_copy
    return events * (elsewhere + replicated + elsewhere) + changelogs * (
        elsewhere + replicated + elsewhere * assumed.standbys
    )


def _cost(events: float, cores: float, disk: float, crossing: float, assumed: Assumed) -> dict[str, float]:
    """Dollars for a billion events at this pace."""
    hours = 1e9 / events / 3600
    return {
        "cores": cores * hours * assumed.core_hour,
        "disk": disk / assumed.disk_filled / 1e9 * hours / _MONTH_HOURS * assumed.disk_gb_month,
        "between zones": crossing * hours * 3600 / 1e9 * assumed.cross_zone_gb,
    }


# --- figures of a run


def measured(run: Run) -> tuple[Measured, list[str]]:
    """The figures of a run, and the names of those that it does not have and that are stand-ins still."""
    answers = _answers(medians(run.samples))
    found = {name: number for name, number in answers.items() if number}
    return replace(Measured(), **found), [name for name in answers if name not in found]


def _answers(found: Medians) -> dict[str, float | None]:
    events, alone, changelog = (
        _largest(found, "processor", figure) for figure in ("events/s", "cpu s/million", "changelog B/event")
    )
    # Several processes keep copies of each other's state, as in production; one by itself keeps none.
    spent = value(found, "scaling", "2 processes", "postlog", "cpu s/million") or alone
    ids = [size(case) or 0.0 for case in cases(found, "state", "postlog", "events/s")]
    return {
        "ingress_requests": value(found, "ingress", "64 connections", "postlog", "requests/s"),
        "ingress_batched": value(found, "ingress", "batches of 100", "postlog", "events/s"),
        "processor_events": events,
        "processor_cores": events * spent / 1e6 if events and spent else None,
        "event_bytes": value(found, "scaling", "2 processes", "postlog", "topic B/event"),
        "changelog_bytes": changelog,
        "restore_records": _largest(found, "state", "restore records/s"),
        "state_bytes": _slope(found, "disk MB"),
        "state_memory": _slope(found, "MB"),
        "live_ids": max(ids, default=None),
    }


def _largest(found: Medians, section: str, figure: str) -> float | None:
    answer = largest(found, section, "postlog", figure)
    return None if answer is None else answer[1]


def _slope(found: Medians, figure: str) -> float | None:
    """Bytes more per live id, from the smallest to the largest state; None if it did not grow."""
    names = cases(found, "state", "postlog", figure)
    if len(names) < 2:
        return None
    low, high = names[0], names[-1]
    more = found["state", high, "postlog"][figure] - found["state", low, "postlog"][figure]
    ids = (size(high) or 0.0) - (size(low) or 0.0)
    return more * 2**20 / ids if more > 0 and ids > 0 else None


# --- for people


def tables(measured: Measured, missing: Iterable[str], assumed: Assumed) -> str:
    """The figures, the plans of three sizes, and what one loud address allows, as Markdown."""
    plans = [plan(size * 1e6, measured, assumed) for size in SIZES]
    return "\n".join(
        [
            "### Figures\n",
            _figures(measured, set(missing)) + "\n",
            "### Plans\n",
            _plans(plans) + "\n",
            "### One loud address\n",
            _hot(measured) + "\n",
        ]
    )


_NAMES = {
    "ingress_requests": "ingress: deliveries of one event /s, per core",
    "ingress_batched": "ingress: events/s in deliveries of 100, per core",
    "processor_events": "processor: events/s of a process",
    "processor_cores": "processor: cores that it uses for them",
    "event_bytes": "bytes of an event on `email-events`, one replica",
    "changelog_bytes": "bytes per event on changelogs, one replica",
    "restore_records": "restore: changelog records/s of a process",
    "state_bytes": "bytes of a live id on the processor's disk",
    "state_memory": "bytes of a live id in its memory",
    "live_ids": "live ids at most in any measurement",
}


def _figures(measured: Measured, missing: set[str]) -> str:
    lines = [
        (words, text(getattr(measured, name)), "stand-in" if name in missing else "measured")
        for name, words in _NAMES.items()
    ]
    return table(["", "figure", "from"], lines)


def _plans(plans: list[Plan]) -> str:
    rows: Mapping[str, list[str]] = {
        "ingress, cores": [f"{ceil(p.ingress_cores):,}" for p in plans],
        "processors (cores)": [f"{p.processors:,} ({ceil(p.processor_cores):,})" for p in plans],
        "partitions of each laned topic": [f"{p.partitions:,}" for p in plans],
        "brokers": [f"{p.brokers:,}" for p in plans],
        "… which is set by": [max(p.brokers_for, key=lambda need: p.brokers_for[need]) for p in plans],
        "… and without the disk": [f"{max(n for k, n in p.brokers_for.items() if k != 'disk'):,}" for p in plans],
        "events on disk, all replicas": [_bytes(p.events_bytes) for p in plans],
        "changelogs on disk, all replicas": [_bytes(p.changelogs_bytes) for p in plans],
        "brokers write": [_bytes(p.written_bytes) + "/s" for p in plans],
        "brokers send": [_bytes(p.network_bytes) + "/s" for p in plans],
        "transactions/s, at most": [text(p.transactions) for p in plans],
        "live ids of a process": [f"{p.ids_per_process / 1e6:,.0f} million" for p in plans],
        "… times what was measured": [f"{p.beyond_measured:,.0f}" for p in plans],
        "state of a process, with copies: disk": [_bytes(p.state_bytes) for p in plans],
        "… and memory": [_bytes(p.state_memory) for p in plans],
        "restore without a copy": [f"{p.restore_hours:.1f} h" for p in plans],
        "a billion events cost": [f"${p.cost_per_billion:,.0f}" for p in plans],
        **{f"… {what}": [f"${p.cost[what]:,.0f}" for p in plans] for what in plans[0].cost},
    }
    head = ["", *[f"{p.events / 1e6:g} million events/s" for p in plans]]
    return table(head, [[name, *cells] for name, cells in rows.items()])


def _hot(measured: Measured) -> str:
    shares = (0.2, 0.05, 0.01, 0.001, 0.0001)
    lines = [(f"{share * 100:g} %", text(hot_address(measured, share))) for share in shares]
    return table(["share of one address", "events/s in all, at most"], lines)


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.0f} PB" if number >= 10 else f"{number:.1f} PB"


def renewed(document: str, run: Run | None) -> str:
    """The document with the tables between its markers made anew. Raises ConfigError if the markers are not there."""
    figures, missing = measured(run) if run else (Measured(), list(_NAMES))
    block = f"{_BEGIN}\n{tables(figures, missing, Assumed())}{_END}"
    found, count = re.subn(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: block, document, flags=re.DOTALL)
    if count != 1:
        raise ConfigError(f"there has to be one pair of {_BEGIN} and {_END}, there are {count}")
    return found


# --- the shell


def rewrite(path: Path, run: Run | None) -> None:
    """Renew the tables of the document."""
    path.write_text(renewed(path.read_text(), run))


def main(arguments: list[str] | None = None) -> int:
    """Print a plan or tables, or renew the document; 2 if a file or an assumption is wrong."""
    options = _parser().parse_args(arguments)
    try:
        given = runs.read(options.run) if options.run else None
        figures, missing = measured(given) if given else (Measured(), list(_NAMES))
        assumed = _assumed(options.set)
        if options.write:
            rewrite(DOCUMENT, given or (runs.read(RUN) if RUN.exists() else None))
        elif options.json:
            print(_json(plan((options.million or 1) * 1e6, figures, assumed), figures, missing, assumed))
        elif options.million is not None:
            print(_plans([plan(options.million * 1e6, figures, assumed)]))
        else:
            print(tables(figures, missing, assumed))
    except PostlogError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__.partition("\n")[0])
    parser.add_argument("--million", type=_positive, help="million events a second [three sizes; 1 with --json]")
    parser.add_argument("--run", type=Path, help="a run to take figures from, docs/benchmarks.json [stand-ins]")
    names = ", ".join(field.name for field in fields(Assumed))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=f"assume otherwise: {names}")
    parser.add_argument("--json", action="store_true", help="print the plan with all that went in")
    parser.add_argument("--write", action="store_true", help="renew docs/capacity.md from docs/benchmarks.json")
    return parser


def _positive(word: str) -> float:
    number = float(word)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{word} is no number of million events")
    return number


def _assumed(settings: Iterable[str]) -> Assumed:
    """The assumptions with these changes. Raises ConfigError naming the one that is no assumption, or no number."""
    given = dict(word.partition("=")[::2] for word in settings)
    whole = asdict(Assumed())
    if unknown := given.keys() - whole.keys():
        raise ConfigError(f"--set: no assumption is named {', '.join(sorted(unknown))}")
    try:
        assumed = msgspec.convert({**whole, **given}, type=Assumed, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--set: {error}") from error
    if wrong := [name for name, number in asdict(assumed).items() if not _makes_sense(name, number)]:
        raise ConfigError(f"--set: {', '.join(wrong)} must be more than 0, and finite")
    return assumed


def _makes_sense(name: str, number: float) -> bool:
    return isfinite(number) and (number > 0 or (number == 0 and name in _MAY_BE_ZERO))


def _json(made: Plan, figures: Measured, missing: Iterable[str], assumed: Assumed) -> str:
    document = {
        "plan": asdict(made) | {"cost_per_billion": made.cost_per_billion},
        "measured": asdict(figures),
        "stand_ins": list(missing),
        "assumed": asdict(assumed),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


if __name__ == "__main__":
    raise SystemExit(main())
