"""The words of an alert."""

from __future__ import annotations

from dataclasses import replace

from alerter.message import MOST_SHOWN, message
from alerter.summary import Alert, Example, GroupKey, Place, Summary

NOON = 1_767_614_400.0  # 2026-01-05 12:00:00 UTC
SUMMARY = Summary(
    key=GroupKey("pipeline.errors.NoRecipient", "hard_bounce", "nexuspromail"),
    count=12,
    first=int(NOON * 1000),
    last=int(NOON * 1000) + 61_000,
    example=Example(
        letter="3-1234",
        place=Place("email-events.dlq", 3, 17),
        original=Place("email-events", 3, 1234),
        stage="processor",
        id="evt-1",
        message="data.email: missing",
    ),
    since=None,
    holds={3: 17},
)


def test_a_message_says_what_died_why_where_and_what_to_do() -> None:
    text = message(Alert((SUMMARY,)))
    assert text.title == "postlog: 12 dead letters, hard_bounce, nexuspromail: NoRecipient"
    assert text.critical
    assert text.body.splitlines()[:6] == [
        "12 dead letters, hard_bounce, nexuspromail: NoRecipient",
        "failed: 2026-01-05 12:00:00 UTC to 2026-01-05 12:01:01 UTC",
        "reason: data.email: missing",
        "for example: event evt-1, given up by: processor",
        "its record: email-events, partition 3, offset 1234",
        "its dead letter: email-events.dlq, partition 3, offset 17; postlog dlq show 3-1234",
    ]
    assert "`postlog status`" in text.body


def test_one_letter_is_one_letter() -> None:
    assert message(Alert((replace(SUMMARY, count=1),))).title.startswith("postlog: 1 dead letter, ")


def test_a_group_that_was_told_before_says_how_many_more_since_when() -> None:
    text = message(Alert((replace(SUMMARY, count=37, since=NOON - 300),)))
    assert text.title == "postlog: 37 more dead letters, hard_bounce, nexuspromail: NoRecipient"
    assert text.body.startswith("37 more dead letters since 2026-01-05 11:55:00 UTC, hard_bounce, nexuspromail: ")


def test_several_groups_are_told_in_one_message_critical_ones_first() -> None:
    calm = replace(SUMMARY, key=replace(SUMMARY.key, type="opened"), count=500)
    text = message(Alert((calm, SUMMARY)))
    assert text.title == "postlog: 512 dead letters in 2 groups"
    assert text.body.index("hard_bounce") < text.body.index("opened")


def test_many_groups_are_numbers() -> None:
    groups = [replace(SUMMARY, key=replace(SUMMARY.key, error=f"x.E{n}"), count=2) for n in range(MOST_SHOWN + 7)]
    text = message(Alert(tuple(groups)))
    assert "And 14 dead letters in 7 more groups." in text.body
    assert len(text.body) < 10_000


def test_a_delivery_that_never_became_a_record_and_a_bare_letter_still_read_well() -> None:
    bare = replace(SUMMARY.example, original=None, id="", message="", stage="ingress")
    body = message(Alert((replace(SUMMARY, example=bare),))).body
    assert "its record: a delivery that never became one" in body
    assert "reason: none given" in body
    assert "event without an id" in body


def test_any_number_in_a_header_gives_a_date() -> None:
    assert "9999-12-31" in message(Alert((replace(SUMMARY, last=10**30),))).body
    assert "1970-01-01" in message(Alert((replace(SUMMARY, first=-(10**30)),))).body
