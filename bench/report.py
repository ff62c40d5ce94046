"""docs/benchmarks.md and its pictures, from a run.

Pure: a run in, text out. What stands here by hand is how each section was measured and what each peer promises; every
figure comes from the run, every verdict from `goals`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench import goals, plot
from bench.figures import Medians, cases, quotient, size, table, text
from bench.results import Run, Sample, medians

LIMITS = "benchmarks-limits.md"
PICTURES = "benchmarks"


@dataclass(frozen=True, slots=True)
class Section:
    """How a section is told.

    base    the candidate that the others are compared with; in the cases of one candidate alone, its first case is
            it, if `grows` says that cases differ in size only
    heads   figures that ratios are made of; the first that a case has counts
    paced   cases whose pace is given, so that there is no ratio of it
    method  how it was measured
    """

    name: str
    title: str
    method: str
    base: str = ""
    heads: tuple[str, ...] = ()
    paced: tuple[str, ...] = ()
    grows: bool = False


SECTIONS = (
    Section(
        "ingress",
        "Ingress: deliveries answered",
        "wrk posts signed deliveries to one process over kept connections: each connection again as soon as it is "
        "answered, and at 60 % load on a schedule, at 60 % of what the same candidate answered with 64 connections. "
        "The no-op reads the body and answers 200, which is as fast as this HTTP server can be; the others do what "
        "they promise (below). Before, a forged delivery must be refused and signed ones be kept once; after, as "
        "many events must be kept as were answered 200.",
        base="aiohttp no-op",
        heads=("requests/s", "events/s"),
        paced=("60 % load",),
    ),
    Section(
        "processor",
        "Processor: events applied",
        "A topic, or the peer's queue, is filled first; then it is applied: duplicates within 48 h are "
        "dropped and the list of suppressed addresses is kept. The clock runs from the first event that is seen done "
        "to the last one, starting is not counted; then the outcome is compared with what the events say. Slow "
        "candidates get only the first events of the load, since it is rates that are compared. Kafka Streams has a "
        "thread for each core, so postlog is measured with a process for each core as well.",
        base="postlog",
        heads=("events/s",),
    ),
    Section(
        "end to end",
        "End to end: from post to applied",
        "Deliveries are posted at a steady pace through the real ingress, and the clock of each runs until a "
        "consumer of committed records sees what followed from it. So it holds the way through Kafka, the wait for a "
        "lane and the transaction.",
    ),
    Section(
        "state",
        "State: speed and memory with millions of ids in the window",
        "The same load is applied while so many other ids are live. Memory is what the process holds (RSS), disk is "
        "the state folder; for the restore that folder is removed and the process started again.",
        heads=("events/s",),
        grows=True,
    ),
    Section(
        "lookup",
        "Lookup: may this address be mailed?",
        "wrk asks one process over kept connections for one address at a time, or for a thousand in one request. A "
        "part of the addresses is suppressed, and answers are compared with the list before anything is measured.",
        base="aiohttp no-op",
        heads=("requests/s",),
    ),
    Section(
        "idle",
        "Idle: what it costs when nothing happens",
        "Every service runs and nobody sends anything. CPU is what the processes used while they were watched, as a "
        "share of one core; the broker is told apart.",
    ),
    Section(
        "scaling",
        "Scaling: several processors on 12 partitions",
        "Processors that share the lanes evenly are frozen, the topic is filled, and all are thawed at once; the "
        "clock runs until the last event is done, then the outcome is compared with what the events say. With "
        "several, each also keeps copies of others' lanes, as it does by default. Skewed: one address has a fifth of "
        "all events. On two cores more processes cannot be much faster; what counts is the CPU per event.",
        heads=("events/s",),
        grows=True,
    ),
)

NOTES = """\
- **One machine, two cores**, and broker, load generator and candidate share them. So absolute figures say little
  about your machine; ratios of two candidates that were measured in turns on the same one are what matters.
- Every candidate's result was checked before its figure counted. Figures are medians of the rounds.
- Kafka has one broker and one replica here. With three, an acknowledgement takes a network's way longer, for every
  candidate that uses Kafka.
- No peer is tuned beyond what its own documentation recommends, and neither is postlog: these are its defaults."""

#: candidate → what its 200, or its "done", promises
PROMISES = {
    "postlog": "200 when all in-sync replicas in Kafka have it; effects, state and offset in one transaction: "
    "exactly once, replayable for 14 days",
    "postlog (2 processes)": "as postlog: they share the partitions out; that, and the copies of each "
    "other's lanes that are kept for a takeover, are counted",
    "aiohttp no-op": "nothing is kept: the ceiling of this HTTP server",
    "raw aiokafka": "200 when all in-sync replicas in Kafka have it, after the signature; no schema, no fingerprint, "
    "no dead letters, no bounds",
    "Flask + Redis (sync)": "200 when Redis has it in memory: synced to disk within a second, replicated to nobody, "
    "so a crash loses what was answered; what was taken cannot be replayed",
    "Flask + Redis (gevent)": "as Flask + Redis (sync)",
    "Express + Bull": "200 when Redis has the job in memory: synced to disk within a second, replicated to nobody; a "
    "job that is done is gone",
    "stock Faust": "at least once, but a record whose processing raises is acknowledged all the same; state in "
    "RocksDB and changelogs",
    "Quix Streams": "at least once, its default: after a crash what was not committed yet is applied again",
    "Kafka Streams (at least once)": "at least once: after a crash it may double what it wrote to other topics",
    "Kafka Streams (exactly_once_v2)": "effects, offsets and state in one transaction, as postlog",
    "Redis worker (Python)": "an id is marked before its effect, so a crash between the two loses the effect; all is "
    "in memory, synced to disk within a second",
    "Bull worker (Node)": "a job of a stalled worker runs again, but its id may be marked by then, which loses the "
    "effect; all is in memory, synced to disk within a second",
    "Redis SISMEMBER": "one command of a set in memory, behind the same HTTP server, without saying why",
}


def document(run: Run) -> str:
    """The whole page."""
    found = medians(run.samples)
    parts = [
        "# Benchmarks\n",
        "What postlog does in a second and how that compares. `make bench` measures it and writes this page.\n",
        *([_QUICK] if run.quick else []),
        "## Goals\n",
        goals_table(found) + "\n",
        f"What was missed, and why, is in [{LIMITS}]({LIMITS}); what follows for a million events/s in "
        "[capacity.md](capacity.md).\n",
        "## How to read the figures\n",
        NOTES + "\n",
        *[section_text(section, run.samples) for section in SECTIONS if _of(section, run.samples)],
        "## What each of them promises\n",
        _promises(found) + "\n",
        "## Machine, versions, and how to do it again\n",
        _facts(run) + "\n",
        _AGAIN,
    ]
    return "\n".join(parts)


_QUICK = "**A quick run**: small inputs and few seconds each, good for a look at the ratios only.\n"
_AGAIN = """\
```sh
make bench                                              # everything; an hour
make bench-quick                                        # small inputs; minutes
python -m bench --sections lookup,idle --rounds 5       # some of it
python -m bench --from .data/bench.json --write         # this page again, without measuring
```

What is missing (wrk, Redis, Node, a JDK) is installed on Debian as root, or named. Nothing else should run meanwhile.
"""


def goals_table(found: Medians) -> str:
    """Every goal, what came out, and the verdict."""
    lines = [(row.what, row.wanted, row.told, row.verdict) for row in goals.rows(found)]
    return table(["what", "goal", "measured", ""], lines)


def section_text(section: Section, samples: Iterable[Sample]) -> str:
    """A section's heading, how it was measured, its pictures, and its tables."""
    own = _of(section, samples)
    found = medians(own)
    parts = [f"## {section.title}\n", section.method + "\n"]
    parts += [f"![{title}]({PICTURES}/{name})\n" for name, title in _pictures_of(section.name, found)]
    shared = [case for case in _cases(found) if len(_candidates(found, case)) > 1]
    parts += [f"**{case}**\n\n{_shared_table(section, case, found, own)}\n" for case in shared]
    alone = [case for case in _cases(found) if case not in shared]
    if alone:
        parts.append(_alone_table(section, alone, found, own) + "\n")
    return "\n".join(parts)


def _of(section: Section, samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.section == section.name]


def _cases(found: Medians) -> list[str]:
    return list(dict.fromkeys(case for _, case, _ in found))


def _candidates(found: Medians, case: str) -> list[str]:
    return [who for _, name, who in found if name == case]


def _shared_table(section: Section, case: str, found: Medians, samples: list[Sample]) -> str:
    """Candidates below each other, each compared with the base."""
    names = _candidates(found, case)
    columns = list(dict.fromkeys(figure for who in names for figure in found[section.name, case, who]))
    compared = case not in section.paced
    head = next((figure for figure in section.heads if figure in columns and compared), "")
    base = _base(section, case, head, found)
    lines = []
    for who in names:
        figures = found[section.name, case, who]
        times = [_times(figures.get(head), base)] if compared else []
        cells = _cells(figures, columns, head, _range(samples, case, who, head))
        lines.append([f"**{who}**" if who == "postlog" else who, *times, *cells])
    return table(["", *([f"× {section.base}"] if compared else []), *_heads(columns, head)], lines)


def _alone_table(section: Section, alone: list[str], found: Medians, samples: list[Sample]) -> str:
    """Cases below each other, where one candidate has them to itself."""
    places = [(case, who) for case in alone for who in _candidates(found, case)]
    columns = list(dict.fromkeys(figure for case, who in places for figure in found[section.name, case, who]))
    head = next((figure for figure in section.heads if figure in columns), "")
    base = found[section.name, *places[0]].get(head) if section.grows else None
    several = {who for _, who in places} != {"postlog"}
    lines = []
    for case, who in places:
        figures = found[section.name, case, who]
        cells = [f"{case}, {who}" if several else case, *([_times(figures.get(head), base)] if section.grows else [])]
        lines.append([*cells, *_cells(figures, columns, head, _range(samples, case, who, head))])
    grown = [f"× {places[0][0]}"] if section.grows else []
    return table(["", *grown, *_heads(columns, head)], lines)


def _base(section: Section, case: str, head: str, found: Medians) -> float | None:
    """The base's figure of this case; of its largest one, if it does not have this."""
    names = cases(found, section.name, section.base, head)
    if not names or (case not in names and size(case) is None):
        return None
    return found[section.name, case if case in names else names[-1], section.base][head]


def _heads(columns: list[str], head: str) -> list[str]:
    return [part for column in columns for part in ([column, "lowest – highest"] if column == head else [column])]


def _cells(figures: dict[str, float], columns: list[str], head: str, spread: str) -> list[str]:
    cells = []
    for column in columns:
        cells.append(text(figures[column]) if column in figures else "–")
        if column == head:
            cells.append(spread)
    return cells


def _range(samples: list[Sample], case: str, who: str, figure: str) -> str:
    """The lowest and the highest of a figure's rounds."""
    values = [s.figures[figure] for s in samples if (s.case, s.candidate) == (case, who) and figure in s.figures]
    return f"{text(min(values))} – {text(max(values))}" if values else "–"


def _times(figure: float | None, base: float | None) -> str:
    times = quotient(figure, base)
    return "–" if times is None else f"{times:.2f}"


def _promises(found: Medians) -> str:
    measured = {who for _, _, who in found}
    return table(["", "what its answer means"], [(w, p) for w, p in PROMISES.items() if w in measured]).replace(
        "---:", "---"
    )


def _facts(run: Run) -> str:
    facts = {**run.machine, "rounds": _rounds(run.samples), **run.versions}
    return table(["", ""], facts.items()).replace("---:", "---")


def _rounds(samples: Iterable[Sample]) -> str:
    """How many rounds there were, and in which sections fewer."""
    found: dict[str, int] = {}
    for sample in samples:
        found[sample.section] = max(found.get(sample.section, 0), sample.round + 1)
    most = max(found.values(), default=0)
    fewer = [f"{rounds} of {section}" for section, rounds in sorted(found.items()) if rounds < most]
    return "; ".join([str(most), *fewer])


# --- pictures


def pictures(run: Run) -> dict[str, str]:
    """Each picture's SVG by its file name."""
    found = medians(run.samples)
    drawn = {}
    for section in SECTIONS:
        for name, title in _pictures_of(section.name, found):
            drawn[name] = _drawn(name, title, section, found)
    return drawn


#: file name → section, case (empty: the largest of each candidate), figure, title
_BARS = {
    "ingress.svg": ("ingress", "64 connections", "requests/s", "Ingress, one process, 64 connections: requests/s"),
    "processor.svg": ("processor", "", "events/s", "Processor, one process: events/s"),
    "lookup.svg": ("lookup", "GET one", "requests/s", "Lookup, one process, GET one: requests/s"),
}
_LINES = {
    "state-speed.svg": ("state", "events/s", "Processor: events/s over millions of live ids"),
    "state-memory.svg": ("state", "MB", "Processor: memory (RSS, MB) over millions of live ids"),
}


def _pictures_of(section: str, found: Medians) -> list[tuple[str, str]]:
    """File names and titles of a section's pictures for which there are figures."""
    bars = [(name, row[3]) for name, row in _BARS.items() if row[0] == section and len(_bars(name, found)) > 1]
    lines = [(name, row[2]) for name, row in _LINES.items() if row[0] == section and len(_points(name, found)) > 1]
    return bars + lines


def _drawn(name: str, title: str, section: Section, found: Medians) -> str:
    if name in _BARS:
        return plot.bars(title, _bars(name, found))
    return plot.line(title, "million live ids", _points(name, found))


def _bars(name: str, found: Medians) -> list[plot.Bar]:
    section, wanted, figure, _ = _BARS[name]
    highest: dict[str, float] = {}
    for (place, case, who), figures in found.items():
        if place == section and figure in figures and wanted in ("", case):
            highest[who] = found[section, case, who][figure]
    return sorted(highest.items(), key=lambda bar: -bar[1])


def _points(name: str, found: Medians) -> list[plot.Point]:
    section, figure, _ = _LINES[name]
    names = cases(found, section, "postlog", figure)
    return [((size(case) or 0) / 1e6, found[section, case, "postlog"][figure]) for case in names]
