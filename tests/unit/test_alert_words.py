"""Every kind of incident has words, also one that this release does not know."""

from __future__ import annotations

from typing import get_args

import pytest
from msgspec.structs import replace

from alerter.incidents import News
from alerter.message import message
from alerter.summary import Alert
from alerter.words import WORDS
from pipeline import incidents
from pipeline.incidents import Incident, Kind

KINDS: tuple[Kind, ...] = get_args(Kind)


def test_the_table_has_all_kinds_that_this_release_writes_and_no_other() -> None:
    assert set(WORDS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("over", [False, True])
def test_every_kind_is_told_with_what_to_do(kind: Kind, over: bool) -> None:
    incident = Incident(kind=kind, subject="subject {0}", since=1_000, reason="a reason")
    text = message(Alert((), (News(incident, over=over),)))
    assert text.title.startswith("postlog: ")
    assert "reason: a reason" in text.body
    assert ("There is nothing to do." in text.body) == over
    assert ("What to do: " in text.body) == (not over)


def test_a_kind_of_a_newer_release_is_told_in_general_words() -> None:
    known = Incident(kind="circuit_open", subject="disk 1", since=1_000, reason="no space")
    incident = incidents.decode(incidents.encode(known).replace(b"circuit_open", b"disk_{full}"))
    begun = message(Alert((), (News(incident, over=False),)))
    assert begun.title == "postlog: something is wrong: disk {full} (disk 1)"
    assert "reason: no space" in begun.body
    assert "update the alerter" in begun.body
    assert begun.critical
    assert message(Alert((), (News(incident, over=True),))).title == "postlog: over: disk {full} (disk 1)"


def test_a_record_of_a_newer_release_may_hold_fields_that_this_one_does_not_know() -> None:
    known = Incident(kind="circuit_open", subject="crm", since=1_000)
    assert incidents.decode(incidents.encode(known)[:-1] + b',"severity":"low"}') == replace(known)
