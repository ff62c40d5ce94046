"""Has anything become slower? Ratios of a quick run, compared with those that were recorded.

`python -m bench.regress .data/bench.json` prints what it compared and ends with 1 if a ratio fell below its least
acceptable share of the recorded one, or if nothing could be compared. Absolute times are never looked at: this
machine is not that one. `--record` writes the run's ratios down first; record a quick run, since quick ones are
compared with it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from bench import runs
from bench.figures import Medians, largest, quotient, table, text, value
from bench.results import medians
from pipeline.errors import ConfigError

RATIOS = Path(__file__).parent / "ratios.json"
#: What a ratio may fall to on a machine that others use too.
LEAST = 0.6


class Recorded(msgspec.Struct, frozen=True):
    """A ratio as it was, and the least share of it that is acceptable."""

    value: Annotated[float, Meta(gt=0)]
    least: Annotated[float, Meta(gt=0, le=1)] = LEAST


@dataclass(frozen=True, slots=True)
class Row:
    """A ratio that is recorded, measured, or both."""

    name: str
    recorded: Recorded | None
    measured: float | None

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.recorded is None:
            return "not recorded"
        if self.measured is None:
            return "not measured"
        return "FELL" if self.fell else "ok"

    @property
    def fell(self) -> bool:
        """Whether it is lower than is acceptable."""
        if self.recorded is None or self.measured is None:
            return False
        return self.measured < self.recorded.value * self.recorded.least

    @property
    def comparable(self) -> bool:
        """Whether there is something to compare."""
        return self.recorded is not None and self.measured is not None


def _same_case(section: str, case: str, figure: str, other: str) -> Callable[[Medians], float | None]:
    return lambda found: quotient(*(value(found, section, case, who, figure) for who in ("postlog", other)))


def _processor(other: str) -> Callable[[Medians], float | None]:
    def compute(found: Medians) -> float | None:
        ours, theirs = (largest(found, "processor", who, "events/s") for who in ("postlog", other))
        return quotient(ours[1], theirs[1]) if ours and theirs else None

    return compute


def _batches(found: Medians) -> float | None:
    """How much a batch saves: it is lost first when the work per event grows."""
    batches = value(found, "ingress", "batches of 100", "postlog", "events/s")
    return quotient(batches, value(found, "ingress", "64 connections", "postlog", "requests/s"))


GUARDED: dict[str, Callable[[Medians], float | None]] = {
    "ingress, 64 connections: postlog / aiohttp no-op": _same_case(
        "ingress", "64 connections", "requests/s", "aiohttp no-op"
    ),
    "ingress: events/s in batches of 100 / requests/s": _batches,
    "processor: postlog / Kafka Streams (exactly_once_v2)": _processor("Kafka Streams (exactly_once_v2)"),
    "processor: postlog / Quix Streams": _processor("Quix Streams"),
    "processor: postlog / stock Faust": _processor("stock Faust"),
    "lookup, GET one: postlog / aiohttp no-op": _same_case("lookup", "GET one", "requests/s", "aiohttp no-op"),
}


def ratios(found: Medians) -> dict[str, float]:
    """Every guarded ratio that was measured."""
    computed = {name: compute(found) for name, compute in GUARDED.items()}
    return {name: ratio for name, ratio in computed.items() if ratio is not None}


def compare(recorded: Mapping[str, Recorded], measured: Mapping[str, float]) -> list[Row]:
    """Every ratio that is known on either side, in the order in which they are guarded."""
    names = [*GUARDED, *(name for name in recorded if name not in GUARDED)]
    rows = [Row(name, recorded.get(name), measured.get(name)) for name in names]
    return [row for row in rows if row.recorded or row.measured is not None]


def problem(rows: list[Row]) -> str | None:
    """Why this comparison fails; None if it does not."""
    if fell := [row.name for row in rows if row.fell]:
        return "fell: " + "; ".join(fell)
    if not any(row.comparable for row in rows):
        return "nothing could be compared: no ratio is both recorded and measured"
    return None


def record(recorded: Mapping[str, Recorded], measured: Mapping[str, float]) -> dict[str, Recorded]:
    """What is recorded once these were measured: those that were not stay, and so does every least share."""
    fresh = {name: Recorded(round(value, 3), _least(recorded, name)) for name, value in measured.items()}
    return {**recorded, **fresh}


def _least(recorded: Mapping[str, Recorded], name: str) -> float:
    return recorded[name].least if name in recorded else LEAST


def told(rows: list[Row]) -> str:
    """The comparison for people."""
    lines = []
    for row in rows:
        was = (
            [text(row.recorded.value), text(row.recorded.value * row.recorded.least)] if row.recorded else ["–", "–"]
        )
        lines.append([row.name, *was, "–" if row.measured is None else text(row.measured), row.verdict])
    return table(["ratio", "recorded", "at least", "measured", ""], lines)


# --- the shell


def read(path: Path) -> dict[str, Recorded]:
    """What is recorded; nothing if there is no file. Raises ConfigError if it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Recorded])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: {error}") from error


def write(path: Path, recorded: Mapping[str, Recorded]) -> None:
    """Keep what is recorded."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(recorded), indent=2) + b"\n")


def main(arguments: list[str] | None = None) -> int:
    """Compare, or record. The exit code: 1 if something fell, 2 if a file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m bench.regress", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="JSON of `python -m bench --quick`")
    parser.add_argument("--record", action="store_true", help="write its ratios down")
    parser.add_argument("--ratios", type=Path, default=RATIOS, help="where they are recorded [bench/ratios.json]")
    options = parser.parse_args(arguments)
    try:
        run, recorded = runs.read(options.run), read(options.ratios)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    measured = ratios(medians(run.samples))
    if options.record:
        recorded = record(recorded, measured)
        write(options.ratios, recorded)
    rows = compare(recorded, measured)
    print(told(rows))
    if not run.quick:
        print("This is no quick run: what is recorded of quick ones may differ from it.")
    wrong = problem(rows)
    if wrong:
        print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
