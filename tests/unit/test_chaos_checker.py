"""The checker sees each way in which the promise can be broken, and nothing where it was kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import suppression
from pipeline.suppression import Choice, Facts, Span, Suppression
from processor import dedup
from tests.chaos.checker import Found, Sent, check

ANN, BOB = "ann@chaos.example", "bob@chaos.example"


WORDS = {"hard_bounce": "bounced.hard", "complaint": "complained"}


def event(identity: str, kind: str, email: str | None, at: int | None = None) -> bytes:
    found = {"provider": "p", "id": identity, "type": kind, "received_at": int(identity[1:]), "email": email}
    return json.dumps(found | {"provider_type": WORDS.get(kind, kind), "occurred_at": at}).encode()


def entry(email: str, **facts: Any) -> bytes:
    return suppression.encode(Suppression.of(email, Facts(**facts)))


BOUNCED, COMPLAINED = Span(1000, 1000), Span(1001, 1001)
#: What ann's entry says once everything is applied.
WHOLE = entry(ANN, hard_bounce=BOUNCED, complaint=COMPLAINED)
#: As if the complaint's repeat counted, which has an id.
LATER = entry(ANN, hard_bounce=BOUNCED, complaint=Span(1001, 1002))


def marker(identity: str) -> tuple[bytes, bytes]:
    return dedup.key(1, dedup.digest("p", identity)), b"x" * 16


def kept() -> Found:
    """A run in which everything is as it should be: e2 came twice, e4 names nobody, bob's calls are refused."""
    log = [("e1", "hard_bounce", ANN), ("e2", "complaint", ANN), ("e2", "complaint", ANN), ("e4", "opened", None)]
    log += [("e5", "opened", ANN), ("e6", "complaint", BOB)]
    return Found(
        sent={identity: Sent(email, WORDS.get(kind, kind), True) for identity, kind, email in log},
        forged={"e9"},
        events=[(0, offset, 1000 + offset, event(*each)) for offset, each in enumerate(log)],
        markers=[marker(identity) for identity in ("e1", "e2", "e4", "e5", "e6")],
        listed=[
            (ANN.encode(), entry(ANN, hard_bounce=BOUNCED)),
            (ANN.encode(), WHOLE),
            (BOB.encode(), entry(BOB, complaint=Span(1005, 1005))),
        ],
        letters=[("e4", ""), ("e6", "crm")],
        calls=["e1", "e1", "e2", "e5"],
        lookup=[
            (ANN, ANN, True, frozenset({"hard_bounce", "complaint"})),
            (ANN, f"<{ANN}>", True, frozenset({"hard_bounce", "complaint"})),
            (BOB, BOB, True, frozenset({"complaint"})),
            ("new@chaos.example", "new@chaos.example", False, frozenset()),
        ],
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
    found.lookup[1] = (ANN, f"<{ANN}>", False, frozenset())


def send(email: str, kind: str, **more: Any) -> Callable[[Found], None]:
    """What stands in the log as e1 was sent as this."""

    def change(found: Found) -> None:
        found.sent["e1"] = Sent(email, kind, True, **more)

    return change


def lag(found: Found) -> None:
    found.lag = 3


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("answered 200 and not in the log", accept_what_never_came),
        ("in the log and never signed", forge),
        ("in the log and not as it was sent", send(ANN, "complained")),
        ("in the log and not as it was sent", send(BOB, "bounced.hard")),
        ("in the log and not as it was sent", send(ANN, "bounced.hard", at=999)),
        ("in the log and not applied (no marker)", drop("markers", 0)),
        ("applied twice (marker)", add("markers", marker("e1"))),
        ("a marker of nothing in the log", add("markers", marker("e8"))),
        ("a dead letter twice", add("letters", ("e4", ""))),
        ("a dead letter that is missing", drop("letters", 1)),
        ("a dead letter of something sound", add("letters", ("e1", ""))),
        ("an entry of the list written twice", add("listed", (ANN.encode(), WHOLE))),
        ("the list is not the model", drop("listed", 1)),
        ("the list is not the model", add("listed", (b"zoe@chaos.example", WHOLE))),
        ("the list is not the model", add("listed", (ANN.encode(), LATER))),
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


def of_one(log: list[tuple[str, int | None]], listed: Facts, *, nameless: bool = False) -> list[str]:
    """What is wrong with a list that says this of ann, whose events are these: type and time, one id for one type."""
    ids = {kind: f"e{number}" for number, (kind, _) in enumerate(dict(log).items())}
    verdict = check(
        Found(
            sent={ids[kind]: Sent(ANN, kind, True, at=at, nameless=nameless) for kind, at in log},
            events=[
                (0, offset, 1000 + offset, event(ids[kind], kind, ANN, at)) for offset, (kind, at) in enumerate(log)
            ],
            markers=[marker(identity) for identity in ids.values()],
            listed=[(ANN.encode(), suppression.encode(Suppression.of(ANN, listed)))],
            calls=list(ids.values()),
        )
    )
    return verdict.lines()


REPEATED: list[tuple[str, int | None]] = [("unsubscribed", None), ("subscribed", None), ("unsubscribed", None)]


@pytest.mark.parametrize(
    ("log", "nameless", "right", "wrong"),
    [
        # At one time the safe side stands, whichever came first and whatever the ids are.
        ([("unsubscribed", 7), ("subscribed", 7)], False, Choice(7, "", "unsubscribed"), Choice(7, "", "subscribed")),
        ([("subscribed", 7), ("unsubscribed", 7)], False, Choice(7, "", "unsubscribed"), Choice(7, "", "subscribed")),
        # The same bytes without an id may be a new word; with one they are the same event.
        (REPEATED, True, Choice(1002, "", "unsubscribed"), Choice(1001, "", "subscribed")),
        (REPEATED, False, Choice(1001, "", "subscribed"), Choice(1002, "", "unsubscribed")),
        # What lifts a suppression is never heard twice.
        ([*REPEATED[1:], *REPEATED[1:2]], True, Choice(1001, "", "unsubscribed"), Choice(1002, "", "subscribed")),
    ],
)
def test_ties_and_repeats_without_an_id_end_on_the_safe_side(
    log: list[tuple[str, int | None]], nameless: bool, right: Choice, wrong: Choice
) -> None:
    assert of_one(log, Facts(choice=right), nameless=nameless) == []
    assert any("the list is not the model" in line for line in of_one(log, Facts(choice=wrong), nameless=nameless))
