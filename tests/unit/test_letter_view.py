"""Dead letters as people see them."""

from __future__ import annotations

from rich.console import Console, RenderableType

from console import letter_view, letters
from console.letters import Index, Refused, Wanted
from pipeline import contract, deadletter
from pipeline import letters as states
from pipeline.contract import Position
from pipeline.deadletter import Source
from pipeline.errors import NoRecipient
from pipeline.letters import Action, Place
from tests.unit.records import NOON, SOURCE, FakeRecord, event, letter

#: By one clock this action came before the failure that it answers.
ACTION = Action(did="redriven", at=NOON - 60_000, who="me@host", because="for ann@example.com", answers=Place(3, 5))


def text(shown: RenderableType) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def story() -> tuple[Index, list[tuple[int, FakeRecord]]]:
    """A letter that was redriven and failed again."""
    first = letter(5, value=contract.encode(event()), headers=[("theirs", b"of ann@example.com")])
    source = Source(SOURCE.topic, 3, 90, NOON, SOURCE.group)
    headers = deadletter.redrive_headers(first.headers, (3, Position(17, SOURCE.timestamp)), 1)
    error = NoRecipient("email: ann@example.com\x1b[2J is nobody")
    second = letter(9, value=first.value, source=source, headers=headers, error=error, at=NOON + 1000)
    index = Index()
    for record in (first, second):
        index.add(record, 3)
    index.states["3-17"] = states.encode(states.acted("3-17", None, ACTION, redrives=1))
    return index, [(3, first), (3, second)]


def test_a_letter_is_shown_with_its_history_in_order_and_without_the_person() -> None:
    index, records = story()
    shown = text(letter_view.told(letter_view.whole(index, index.letters["3-17"], records, reveal=False)))
    failed, redriven, again = (shown.index(part) for part in ("dead letter 3-5", "redriven by", "dead letter 3-9"))
    assert failed < redriven < again
    assert "3-17, open" in shown
    assert "ann" not in shown
    assert "\x1b" not in shown


def test_reveal_shows_the_letter_as_it_is() -> None:
    index, records = story()
    found = letter_view.whole(index, index.letters["3-17"], records, reveal=True)
    assert (found.key, dict(found.headers)["theirs"]) == ("ann@example.com", "of ann@example.com")
    assert found.payload == contract.encode(event()).decode()
    assert [failure.place for failure in found.failures] == [Place(3, 5), Place(3, 9)]
    assert "for ann@example.com" in text(letter_view.told(found))


def test_a_letter_without_key_and_payload_is_shown() -> None:
    record = letter(5, key=None, value=None)
    index = Index()
    index.add(record, 3)
    found = letter_view.whole(index, index.letters["3-17"], [(3, record)], reveal=False)
    assert (found.key, found.payload) == (None, None)
    assert text(letter_view.told(found)).count("none") >= 2


def test_a_list_says_how_many_it_leaves_out() -> None:
    index, _ = story()
    rows = [letter_view.row(index, each) for each in letters.select(index, Wanted())]
    assert "1 letter" in text(letter_view.listed(rows, 1))
    assert "1 of 5,000 letters" in text(letter_view.listed(rows, 5000))
    assert text(letter_view.listed([], 0)) == "no letter matches\n"


def test_few_refusals_are_told_one_by_one_and_many_are_counted() -> None:
    few = [Refused(f"3-{number}", "no") for number in range(3)]
    assert text(letter_view.refusals(few)).count("refused 3-") == 3
    many = [Refused(f"3-{number}", "no" if number % 2 else "never") for number in range(4000)]
    assert text(letter_view.refusals(many)) == "refused 2,000: never\nrefused 2,000: no\n"
