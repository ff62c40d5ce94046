"""What is wrong with the number or the age of the dead letters."""

from __future__ import annotations

from alerter.incidents import Board
from alerter.ledger import Ledger, Limits
from alerter.summary import key_of
from pipeline import contract, deadletter
from pipeline.deadletter import DeadLetter, Source
from pipeline.errors import NoRecipient
from pipeline.letters import Action, LetterState, Place
from tests.unit.records import FakeRecord

HOUR, DAY = 3_600_000, 86_400_000
LIMITS = Limits(letters=10, window=HOUR, age=DAY, kept=30 * DAY)


def letter(offset: int, reason: str = "none") -> DeadLetter:
    """A letter of the record at this offset of partition 3."""
    headers = deadletter.headers(
        NoRecipient(reason), stage="processor", now=0, source=Source("email-events", 3, offset, 0, "g")
    )
    return deadletter.read(FakeRecord(0, b"{}", headers=[*headers, (contract.HEADER_TYPE, b"opened")]))


def did(word: str, identity: str, answers: Place) -> LetterState:
    action = Action(did=word, at=0, who="me", answers=answers)  # type: ignore[arg-type]
    return LetterState(id=identity, actions=[action])


def kinds(ledger: Ledger, now: int) -> list[str]:
    return [incident.kind for incident in ledger.conditions(now)]


def test_more_than_so_many_within_the_window_are_a_flood_until_they_are_not() -> None:
    ledger = Ledger(LIMITS)
    for number in range(11):
        assert kinds(ledger, number) == []
        ledger.add(letter(number), Place(0, number), at=number)
    (flood,) = ledger.conditions(11)
    assert (flood.kind, flood.reason) == ("letters_flood", "more than 10 within 1 h")
    assert kinds(ledger, HOUR) == []


def test_one_that_nobody_deals_with_is_told_until_somebody_does() -> None:
    ledger = Ledger(LIMITS)
    for offset in (7, 8):
        ledger.add(letter(offset), Place(0, offset), at=offset)
    assert kinds(ledger, DAY) == []
    (waiting,) = ledger.conditions(DAY + 100)
    assert (waiting.kind, waiting.since) == ("letters_waiting", 7)
    assert waiting.reason == "2 open for more than 1 d; the oldest is 3-7"
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    assert kinds(ledger, DAY + 100) == ["letters_waiting"]
    ledger.note("3-8", did("redriven", "3-8", Place(0, 8)))
    assert kinds(ledger, DAY + 100) == []
    # It was sent round and failed again: it waits from then on.
    ledger.add(letter(8), Place(1, 5), at=DAY)
    assert kinds(ledger, 2 * DAY) == []
    assert kinds(ledger, 2 * DAY + 1) == ["letters_waiting"]


def test_what_was_discarded_waits_for_nobody_until_it_fails_for_another_reason() -> None:
    ledger = Ledger(LIMITS)
    ledger.add(letter(7), Place(0, 7), at=7)
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    ledger.add(letter(7), Place(0, 9), at=9)
    assert kinds(ledger, 2 * DAY) == []
    assert ledger.standings(key_of(letter(7))) == {"discarded"}
    ledger.add(letter(7, "another reason"), Place(0, 11), at=11)
    assert kinds(ledger, 2 * DAY) == ["letters_waiting"]


def test_a_state_that_is_read_before_its_letter_counts() -> None:
    ledger = Ledger(LIMITS)
    ledger.note("3-7", did("redriven", "3-7", Place(0, 7)))
    ledger.add(letter(7), Place(0, 7), at=7)
    assert kinds(ledger, 2 * DAY) == []


def test_a_letter_that_the_topic_does_not_keep_any_more_waits_for_nobody() -> None:
    ledger = Ledger(LIMITS)
    ledger.add(letter(7), Place(0, 7), at=7)
    assert kinds(ledger, 30 * DAY) == ["letters_waiting"]
    assert kinds(ledger, 31 * DAY) == []


def test_the_board_takes_what_is_wrong_now_and_the_rest_is_over() -> None:
    ledger, board = Ledger(LIMITS), Board(0.0)
    ledger.add(letter(7), Place(0, 7), at=7)
    told = []
    for now in (DAY, 2 * DAY, 3 * DAY, 31 * DAY, 32 * DAY):
        board.hold(("letters_flood", "letters_waiting"), ledger.conditions(now))
        for news in board.due(now / 1000):
            board.told(news, now / 1000)
            told.append((now // DAY, news.over))
    assert told == [(2, False), (31, True)]
