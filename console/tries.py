"""What a sender does after an answer, and what a run of deliveries came to.

Pure. Only 200 means that the delivery is kept; a real sender tries again after everything else, with growing waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

#: Seconds before the second try, doubled for each further one up to the longest.
FIRST_WAIT = 0.25
LONGEST_WAIT = 5.0
#: A receiver that asks for more than this many seconds does not get it from a command that a person waits for.
LONGEST_RETRY_AFTER = 30.0

#: Where the status would stand of a try that got no answer.
NO_ANSWER = "none"
#: Why a run ended that somebody stopped.
INTERRUPTED = "interrupted"

#: Answers that no further try can change, and what to do about them.
HOPELESS = {
    401: "the signature was refused (401): sign with the secret the ingress runs with, "
    "by --secret, WEBHOOK_SECRET or --data",
    404: "nothing takes deliveries there (404): is --url right?",
    405: "nothing takes deliveries there (405): is --url right?",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """The delivery is safe."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Try again after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """This delivery failed; the next may not."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Every delivery would fail like this one."""

    reason: str


def after(
    status: int | None, *, tried: int, most: int, retry_after: str | None, chance: float
) -> Kept | Wait | GiveUp | Stop:
    """What follows from the answer to a try.

    status       None if there was no answer
    tried, most  tries so far and allowed
    retry_after  header text; seconds are honoured, anything else is as if it were not there
    chance       0 to 1: spreads the waits of senders that were turned away together
    """
    if status == 200:
        return Kept()
    if status in HOPELESS:
        return Stop(HOPELESS[status])
    if tried >= most:
        return GiveUp()
    asked = _seconds(retry_after)
    if asked is not None:
        return Wait(asked * (1 + chance / 4))
    return Wait(min(FIRST_WAIT * 2 ** (tried - 1), LONGEST_WAIT) * (1 + chance) / 2)


def _seconds(text: str | None) -> float | None:
    if text is None or not text.strip().isdecimal():
        return None
    return min(float(text), LONGEST_RETRY_AFTER)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to.

    sent      deliveries that were tried at all: ok and failed
    retried   deliveries that needed more than one try
    answers   answers of all tries by status; NO_ANSWER where there was none
    seconds   from the first try to the last answer
    p50_ms    latency of the tries that were answered 200
    stopped   why the run ended before its end, "" if it did not
    """

    sent: int
    ok: int
    retried: int
    failed: int
    answers: dict[str, int]
    seconds: float
    per_second: float
    p50_ms: float | None
    p99_ms: float | None
    stopped: str = ""
    distinct: int | None = None
    seed: int | None = None


def summary(
    *,
    latencies: Sequence[float],
    retried: int,
    failed: int,
    answers: Mapping[str, int],
    seconds: float,
    stopped: str,
) -> Summary:
    """The summary of a run; latencies in seconds, one per delivery that was kept."""
    ok = len(latencies)
    ordered = sorted(latencies)
    return Summary(
        sent=ok + failed,
        ok=ok,
        retried=retried,
        failed=failed,
        answers=dict(sorted(answers.items())),
        seconds=round(seconds, 3),
        per_second=round(ok / seconds, 1) if seconds > 0 else 0.0,
        p50_ms=percentile_ms(ordered, 0.50),
        p99_ms=percentile_ms(ordered, 0.99),
        stopped=stopped,
    )


def percentile_ms(ordered: Sequence[float], share: float) -> float | None:
    """The value that `share` of these rising seconds do not exceed (nearest rank), in ms; None if there are none."""
    if not ordered:
        return None
    return round(ordered[max(math.ceil(share * len(ordered)) - 1, 0)] * 1000, 2)
