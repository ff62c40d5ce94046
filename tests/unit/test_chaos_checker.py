"""The checker sees each way in which the promise can be broken, and nothing where it was kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest

from pipeline import suppression
from pipeline.suppression import Facts, Span, Suppression
from processor import dedup
from tests.chaos.checker import Found, Sent, check

ANN, BOB = "ann@chaos.example", "bob@chaos.example"


def event(identity: str, kind: str, email: str | None) -> bytes:
    found = {"provider": "p", "id": identity, "type": kind, "received_at": int(identity[1:]), "email": email}
    return json.dumps(found).encode()


def entry(email: str, *kinds: str) -> bytes:
    once = Span(1, 1)
    facts = Facts(
        hard_bounce=once if "hard_bounce" in kinds else None, complaint=once if "complaint" in kinds else None
    )
    return suppression.encode(Suppression.of(email, facts))


def marker(identity: str) -> tuple[bytes, bytes]:
    return dedup.key(1, dedup.digest("p", identity)), b"x" * 16


def kept() -> Found:
    """A run in which everything is as it should be: e2 came twice, e4 names nobody, bob's calls are refused."""
    log = [("e1", "hard_bounce", ANN), ("e2", "complaint", ANN), ("e2", "complaint", ANN), ("e4", "opened", None)]
    log += [("e5", "opened", ANN), ("e6", "complaint", BOB)]
    return Found(
        sent={identity: Sent(email, kind, True) for identity, kind, email in log},
        forged={"e9"},
        events=[(0, offset, 1000 + offset, event(*each)) for offset, each in enumerate(log)],
        markers=[marker(identity) for identity in ("e1", "e2", "e4", "e5", "e6")],
        listed=[
            (ANN.encode(), entry(ANN, "hard_bounce")),
            (ANN.encode(), entry(ANN, "hard_bounce", "complaint")),
            (BOB.encode(), entry(BOB, "complaint")),
        ],
        letters=[("e4", ""), ("e6", "crm")],
        calls=["e1", "e1", "e2", "e5"],
        lookup={
            ANN: (True, frozenset({"hard_bounce", "complaint"})),
            BOB: (True, frozenset({"complaint"})),
            "new@chaos.example": (False, frozenset()),
        },
        refused=frozenset({BOB}),
    )


def test_a_run_that_kept_the_promise_passes_and_repeated_calls_are_counted() -> None:
    verdict = check(kept())
    assert verdict.lines() == []
    assert (verdict.kept, verdict.events, verdict.twice) == (True, 5, 1)


def drop(where: str, index: int) -> Callable[[Found], None]:
    return lambda found: getattr(found, where).pop(index)


def add(where: str, item: object, index: int | None = None) -> Callable[[Found], None]:
    def change(found: Found) -> None:
        several = getattr(found, where)
        several.insert(len(several) if index is None else index, item)

    return change


def forge(found: Found) -> None:
    found.events.append((1, 0, 1000, event("e9", "complaint", ANN)))


def accept_what_never_came(found: Found) -> None:
    found.sent["e7"] = Sent(ANN, "opened", accepted=True)


def swap(found: Found) -> None:
    found.events[0], found.events[1] = (0, 0, 1000, found.events[1][3]), (0, 1, 1001, found.events[0][3])


def mislead(found: Found) -> None:
    found.lookup[ANN] = (False, frozenset())


def lag(found: Found) -> None:
    found.lag = 3


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("answered 200 and not in the log", accept_what_never_came),
        ("in the log and never signed", forge),
        ("in the log and not applied (no marker)", drop("markers", 0)),
        ("applied twice (marker)", add("markers", marker("e1"))),
        ("a marker of nothing in the log", add("markers", marker("e8"))),
        ("a dead letter twice", add("letters", ("e4", ""))),
        ("a dead letter that is missing", drop("letters", 1)),
        ("a dead letter of something sound", add("letters", ("e1", ""))),
        ("an entry of the list written twice", add("listed", (BOB.encode(), entry(BOB, "complaint")))),
        ("the list is not the model", drop("listed", 1)),
        ("the list is not the model", add("listed", (b"zoe@chaos.example", entry("zoe@chaos.example", "complaint")))),
        ("the lookup is not the list", mislead),
        ("an address' events out of order in the log", swap),
        ("a handler was never called", drop("calls", 3)),
        ("a handler was called for nothing", add("calls", "e8")),
        ("a handler was called out of order", add("calls", "e5", 0)),
        ("not processed in the end", lag),
    ],
)
def test_each_way_to_break_it_is_seen(what: str, change: Callable[[Found], None]) -> None:
    found = copy.deepcopy(kept())
    change(found)
    assert check(found).wrong[what]
