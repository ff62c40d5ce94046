"""Which incidents are told: each once however many lanes show it, its end always, and nothing twice."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerter import incidents as alerts
from alerter.incidents import Board, News
from alerter.message import message
from alerter.summary import Alert, coalesce
from pipeline import incidents
from pipeline.errors import Undecodable
from pipeline.incidents import Incident

QUIET = 300.0
DOWN = Incident(kind="circuit_open", subject="crm", since=1_000, reason="OSError: jane.doe@example.com is away")
STOPPED = Incident(kind="processor_stopped", subject="rejections", since=2_000, reason="100 of 100 records")


def board(*partitions: int, incident: Incident = DOWN) -> Board:
    made = Board(QUIET)
    for partition in partitions:
        made.note(partition, incident.key, incidents.encode(incident))
    return made


def told(found: Board, now: float) -> list[tuple[str, bool]]:
    """What is due is told; the subjects, and whether it is over."""
    due = found.due(now)
    for news in due:
        found.told(news, now)
    return [(news.incident.subject, news.over) for news in due]


def noted(found: Board, news: News, now: float, waiting: Collection[str] = ()) -> bytes:
    """A channel told it, and these have yet to; the record of that."""
    record = found.told(news, now, waiting)
    assert record is not None
    return alerts.encode(record)


def test_one_in_many_lanes_is_told_once_and_is_over_with_the_last_of_them() -> None:
    found = board(0, 5, 11)
    assert told(found, 1.0) == [("crm", False)]
    found.note(3, DOWN.key, incidents.encode(DOWN))
    assert told(found, 2.0) == []
    for partition in (0, 3, 5):
        found.note(partition, DOWN.key, None)
        assert told(found, 3.0) == []
    found.note(11, DOWN.key, None)
    assert told(found, 3.0) == [("crm", True)]
    assert told(found, 10 * QUIET) == []


def test_a_type_that_nobody_knows_is_told_once_and_nothing_is_broken() -> None:
    unknown = Incident(kind="unknown_type", subject="nexuspromail domain.verified", since=1_000, reason="kept")
    found = board(0, 7, incident=unknown)
    assert found.present == 0
    (news,) = found.due(1.0)
    text = message(Alert((), (news,)))
    assert text.title == "postlog: events of a type that nobody knows (nexuspromail domain.verified)"
    assert not text.critical
    found.told(news, 1.0)
    assert told(found, 10 * QUIET) == []


def test_one_that_was_over_before_anybody_was_told_is_no_news() -> None:
    found = board(0)
    found.note(0, DOWN.key, None)
    assert told(found, 1.0) == []
    assert found.present == 0


def test_one_that_comes_and_goes_is_told_to_begin_once_in_the_quiet_time() -> None:
    found = board(0)
    assert told(found, 0.0) == [("crm", False)]
    found.note(0, DOWN.key, None)
    assert told(found, 10.0) == [("crm", True)]
    found.note(0, DOWN.key, incidents.encode(DOWN))
    assert told(found, 20.0) == []
    assert told(found, QUIET + 1) == [("crm", False)]


def test_what_nobody_got_is_due_again_and_not_twice_at_once() -> None:
    found = board(0)
    (news,) = found.due(0.0)
    assert found.due(1.0) == []
    found.unsent(news)
    assert found.due(2.0) == [news]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=40))
def test_after_a_restart_at_any_moment_nothing_is_told_twice_and_no_end_is_missing(
    steps: list[tuple[int, bool, bool]],
) -> None:
    found, rows, log, heard = Board(0.0), {}, None, []
    for now, (partition, present, restart) in enumerate(steps):
        value = incidents.encode(DOWN) if present else None
        rows[partition] = value
        found.note(partition, DOWN.key, value)
        if restart:
            found = Board(0.0)
            for number, row in rows.items():
                found.note(number, DOWN.key, row)
            found.remember(DOWN.key, log)
        for news in found.due(now + 1.0):
            log = noted(found, news, now + 1.0)
            heard.append(news.over)
        assert heard == [bool(n % 2) for n in range(len(heard))]  # begun, over, begun, over, …
        assert bool(len(heard) % 2) == any(rows.values())


def test_our_own_records_that_come_back_late_change_nothing() -> None:
    found = board(0)
    (began,) = found.due(1.0)
    first = noted(found, began, 1.0)
    found.note(0, DOWN.key, None)
    (over,) = found.due(2.0)
    second = noted(found, over, 2.0)
    for record in (first, second):
        found.remember(DOWN.key, record)
        assert found.due(3.0) == []


@pytest.mark.parametrize("value", [b"", b"{}", b"null"])
def test_what_cannot_be_read_is_refused(value: bytes) -> None:
    with pytest.raises(Undecodable):
        Board(1.0).remember(b"key", value)
    with pytest.raises(Undecodable):
        Board(1.0).note(0, b"key", value)


def test_the_message_says_what_why_and_what_to_do_without_names_in_addresses() -> None:
    text = message(Alert((), (News(DOWN, over=False),)))
    assert (text.title, text.critical) == ("postlog: handler crm is down", True)
    assert "since: 1970-01-01 00:00:01 UTC" in text.body
    assert "OSError: …@example.com is away" in text.body
    assert "`postlog status`" in text.body
    assert "jane" not in text.body


def test_the_end_is_told_calmly_and_several_make_one_message() -> None:
    over = Alert((), (News(DOWN, over=True),))
    assert (message(over).title, message(over).critical) == ("postlog: handler crm answers again", False)
    both = message(coalesce([over, Alert((), (News(STOPPED, over=False),))]))
    assert both.title == "postlog: handler crm answers again; a processor stopped itself (rejections)"
    assert both.critical


def test_a_channel_that_took_it_is_not_told_again_for_one_that_did_not_and_that_one_is() -> None:
    found = board(0)
    (began,) = found.due(1.0)
    log = noted(found, began, 1.0, waiting={"hung"})
    assert found.due(2.0) == []  # It is on its way there.
    again = board(0)
    again.remember(DOWN.key, log)
    (missed,) = again.due(3.0)
    assert (missed.over, missed.to) == (False, frozenset({"hung"}))
    log = noted(again, missed, 3.0)
    assert alerts.decode(log).begun == 1_000
    last = board(0)
    last.remember(DOWN.key, log)
    assert last.due(4.0) == []


def test_the_end_does_not_wait_for_a_channel_that_has_yet_to_tell_the_beginning() -> None:
    found = board(0)
    (began,) = found.due(1.0)
    noted(found, began, 1.0, waiting={"hung"})
    found.note(0, DOWN.key, None)
    (over,) = found.due(2.0)
    assert (over.over, over.to) == (True, None)
    log = noted(found, over, 2.0, waiting={"hung"})
    assert found.told(began, 3.0) is None  # The hung one tells the beginning: the record of the end stays.
    again = Board(QUIET)
    again.remember(DOWN.key, log)
    (missed,) = again.due(4.0)
    assert (missed.over, missed.to) == (True, frozenset({"hung"}))


def test_a_record_of_a_former_release_says_that_all_channels_told_it() -> None:
    told = Board(QUIET)
    told.remember(DOWN.key, b'{"v":1,"incident":' + incidents.encode(DOWN) + b',"begun":1000,"over":true}')
    assert told.due(2.0) == []


def test_a_record_that_fewer_channels_miss_is_the_later_one() -> None:
    found = board(0)
    (began,) = found.due(1.0)
    records = [noted(found, began, 1.0, waiting) for waiting in ({"a", "b"}, {"b"}, ())]
    for order in (records, records[::-1]):
        again = board(0)
        for record in order:
            again.remember(DOWN.key, record)
        assert again.due(2.0) == []
