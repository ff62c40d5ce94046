"""Which letters there are, which are meant, and which may be acted upon."""

from __future__ import annotations

from dataclasses import replace

import pytest

from console import letters
from console.letters import Index, Letter, Refused, Wanted
from pipeline import contract, deadletter
from pipeline import letters as states
from pipeline.contract import Position
from pipeline.deadletter import Source
from pipeline.errors import NoRecipient, PostlogError, Undecodable, Unreadable
from pipeline.letters import Action, LetterState, Place
from tests.unit.records import NOON, SOURCE, FakeRecord, event, letter

WHO = "ann@host"


def index_of(*found: FakeRecord, partition: int = 3) -> Index:
    index = Index()
    for record in found:
        index.add(record, partition)
    return index


def came_back(
    offset: int, *, times: int = 1, at: int = NOON, error: PostlogError | None = None, handler: str | None = None
) -> FakeRecord:
    """The letter of the record that stood at 3-17 first, sent round again, which stood at a later place."""
    source = Source(SOURCE.topic, 3, 90 + times, NOON + times, SOURCE.group)
    headers = deadletter.redrive_headers([], (3, Position(17, SOURCE.timestamp)), times)
    made = letter(offset, source=source, headers=headers, at=at, error=error)
    return made if handler is None else replace(made, headers=[*made.headers, (deadletter.HANDLER, handler.encode())])


def act(index: Index, identity: str, did: str = "redriven", *, at: int = NOON) -> None:
    found = index.letters[identity]
    times = index.redrives(found) + (did == "redriven")
    action = Action(did=did, at=at, who=WHO, because="why", answers=found.latest)  # type: ignore[arg-type]
    state = states.acted(identity, index.state(found), action, redrives=times)
    index.states[identity] = states.encode(state)


def test_a_letter_is_named_after_the_place_where_its_event_first_stood() -> None:
    assert letters.letter_of(letter(5), 3).id == "3-17"
    assert letters.letter_of(came_back(6), 3).id == "3-17"


def test_a_delivery_that_became_no_record_is_named_after_its_dead_letter() -> None:
    assert letters.letter_of(letter(5, source=None, error=Unreadable("x")), 2).id == "i2-5"


def test_a_broken_origin_header_leaves_the_place_of_the_record_itself() -> None:
    broken = letter(5, headers=[(contract.HEADER_ORIGIN, b"nonsense")])
    assert letters.letter_of(broken, 3).id == "3-17"


@pytest.mark.parametrize("identity", ["3-17", "i0-4"])
def test_every_id_is_recognised(identity: str) -> None:
    assert states.ID.fullmatch(identity)


def test_a_letter_that_fails_again_is_one_letter_with_two_failures() -> None:
    index = index_of(letter(5, at=NOON), came_back(9, at=NOON + 60_000))
    (found,) = index.letters.values()
    assert found.places == (Place(3, 5), Place(3, 9))
    assert len({failure.reason for failure in found.failures}) == 1
    assert (found.first_failure, found.last_failure) == (NOON, NOON + 60_000)
    assert index.redrives(found) == 1


def test_no_payload_stays_in_the_index() -> None:
    index = index_of(letter(5, value=b"secret" * 100, key=b"secret"))
    assert "secret" not in repr(index)


def test_a_letter_is_open_until_somebody_acts_and_again_when_it_fails_later() -> None:
    index = index_of(letter(5))
    assert index.standing(index.letters["3-17"]) == "open"
    act(index, "3-17")
    assert index.standing(index.letters["3-17"]) == "redriven"
    index.add(came_back(9), 3)
    assert index.standing(index.letters["3-17"]) == "open"
    act(index, "3-17", "discarded")
    assert index.standing(index.letters["3-17"]) == "discarded"


@pytest.mark.parametrize("clock", [NOON - 10**9, NOON + 10**9])
def test_no_clock_decides_whether_a_letter_is_open(clock: int) -> None:
    index = index_of(letter(5))
    act(index, "3-17", at=clock)
    assert index.standing(index.letters["3-17"]) == "redriven"
    index.add(came_back(9, at=NOON), 3)
    assert index.standing(index.letters["3-17"]) == "open"


OTHER, SAME = Undecodable("v: not 1"), NoRecipient("email: none")


@pytest.mark.parametrize(
    ("before", "after", "standing"),
    [
        # The same record for the same reason, however often: a replay, or a redrive that was under way.
        ([SAME], [SAME, SAME, SAME], "discarded"),
        ([OTHER, SAME], [OTHER, SAME], "discarded"),
        # What whoever discarded it did not know.
        ([SAME], [OTHER], "open"),
        ([SAME], [SAME, OTHER, SAME], "open"),
        ([SAME], [NoRecipient("email: another reason")], "open"),
    ],
)
def test_what_was_discarded_stays_so_until_it_fails_for_a_reason_that_was_not_known(
    before: list[PostlogError], after: list[PostlogError], standing: str
) -> None:
    index = index_of(*[came_back(number, error=error) for number, error in enumerate(before)])
    act(index, "3-17", "discarded")
    for number, error in enumerate(after, start=len(before)):
        index.add(came_back(number, error=error), 3)
    assert index.standing(only(index)) == standing


def test_another_handler_is_another_reason_and_a_redrive_is_no_discard() -> None:
    index = index_of(came_back(1, handler="crm"))
    act(index, "3-17", "discarded")
    index.add(came_back(2, handler="crm"), 3)
    assert index.standing(only(index)) == "discarded"
    index.add(came_back(3, handler="sql"), 3)
    assert index.standing(only(index)) == "open"
    redriven = index_of(came_back(1))
    act(redriven, "3-17", "discarded")
    act(redriven, "3-17", "redriven")
    redriven.add(came_back(2), 3)
    assert redriven.standing(only(redriven)) == "open"


def test_a_discard_whose_failure_the_topic_does_not_keep_any_more_answers_nothing() -> None:
    index = index_of(came_back(1), came_back(2))
    act(index, "3-17", "discarded")
    kept = index_of(came_back(3))
    kept.states = index.states
    assert kept.standing(only(kept)) == "open"


def test_redrives_count_though_nobody_noted_them_or_none_failed_again() -> None:
    unnoted = index_of(letter(5), came_back(9, times=2))
    assert unnoted.redrives(unnoted.letters["3-17"]) == 2
    noted = index_of(letter(5))
    act(noted, "3-17")
    act(noted, "3-17")
    assert noted.redrives(noted.letters["3-17"]) == 2


def test_a_history_keeps_its_latest_actions_and_does_not_grow_for_ever() -> None:
    state: LetterState | None = None
    for number in range(states.MOST_ACTIONS + 5):
        action = Action(did="redriven", at=number, who=WHO, answers=Place(3, 5))
        state = states.acted("3-17", state, action, redrives=number + 1)
    assert state is not None
    assert [action.at for action in state.actions][-1] == states.MOST_ACTIONS + 4
    assert len(state.actions) == states.MOST_ACTIONS
    assert states.decode(states.encode(state)) == state


@pytest.mark.parametrize("value", [b"", b"{}", b'{"v":2,"id":"3-17","actions":[]}', b'{"v":1,"id":"x","actions":[]}'])
def test_a_state_that_is_none_is_an_error_that_names_the_letter(value: bytes) -> None:
    index = index_of(letter(5))
    index.states["3-17"] = value
    with pytest.raises(Undecodable, match=r"3-17.*newer postlog"):
        index.standing(index.letters["3-17"])


def an_event(offset: int, **more: object) -> FakeRecord:
    source = Source(SOURCE.topic, 3, offset, NOON, SOURCE.group)
    at = more.pop("at", NOON)
    error = more.pop("error", None)
    headers = contract.headers(event(**more), "t")  # type: ignore[arg-type]
    return letter(offset, source=source, headers=headers, at=at, error=error)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "matching"),
    [
        (Wanted(), {"3-1", "3-2", "3-3"}),
        (Wanted(type="complaint"), {"3-2"}),
        (Wanted(provider="other"), {"3-3"}),
        (Wanted(error="Undecodable"), {"3-3"}),
        (Wanted(error="pipeline.errors.Undecodable"), {"3-3"}),
        (Wanted(error="decodable"), set()),
        (Wanted(since=NOON + 1), {"3-2", "3-3"}),
        (Wanted(until=NOON + 1), {"3-1"}),
        (Wanted(state="discarded"), {"3-1"}),
        (Wanted(state="open", since=NOON + 1, error="NoRecipient"), {"3-2"}),
    ],
)
def test_a_filter_finds_what_matches_all_of_it(wanted: Wanted, matching: set[str]) -> None:
    index = index_of(
        an_event(1),
        an_event(2, kind=contract.EventType.COMPLAINT, at=NOON + 1),
        an_event(3, provider="other", error=Undecodable("x"), at=NOON + 2),
    )
    act(index, "3-1", "discarded")
    assert {found.id for found in letters.select(index, wanted)} == matching


def test_the_longest_waiting_come_first() -> None:
    index = index_of(an_event(1, at=NOON + 5), an_event(2, at=NOON), an_event(3, at=NOON + 9))
    assert [found.id for found in letters.select(index, Wanted())] == ["3-2", "3-1", "3-3"]


def test_groups_count_what_letters_have_in_common() -> None:
    index = index_of(an_event(1), an_event(2, at=NOON + 5), an_event(3, error=Undecodable("x")))
    large, small = letters.groups(letters.select(index, Wanted()))
    assert (large.error, large.count, large.first, large.last) == ("NoRecipient", 2, NOON, NOON + 5)
    assert (small.error, small.count, small.example) == ("Undecodable", 1, "3-3")


def only(index: Index) -> Letter:
    (found,) = index.letters.values()
    return found


def test_the_fourth_redrive_needs_force() -> None:
    index = index_of(letter(5))
    for _ in range(letters.MOST_REDRIVES):
        assert letters.may_redrive(index, only(index), force=False) is None
        act(index, "3-17")
    assert "3 times already" in (letters.may_redrive(index, only(index), force=False) or "")
    assert letters.may_redrive(index, only(index), force=True) is None


def test_what_was_discarded_is_sent_round_with_force_alone() -> None:
    index = index_of(letter(5))
    act(index, "3-17", "discarded")
    assert "discarded" in (letters.may_redrive(index, only(index), force=False) or "")
    assert letters.may_redrive(index, only(index), force=True) is None


@pytest.mark.parametrize("did", ["redriven", "discarded"])
def test_only_what_is_open_can_be_discarded(did: str) -> None:
    index = index_of(letter(5))
    assert letters.may_discard(index, only(index)) is None
    act(index, "3-17", did)
    assert letters.may_discard(index, only(index)) == f"it is not open but {did}"


def test_an_id_that_no_letter_has_is_refused_and_one_named_twice_counts_once() -> None:
    index = index_of(letter(5))
    found = list(letters.named(index, ["3-17", "9-9", "3-17"]))
    assert found == [only(index), Refused("9-9", "no letter has this id; it may have expired")]


def test_an_address_in_a_reason_is_masked() -> None:
    found = letters.letter_of(letter(5, error=NoRecipient("email: ann@example.com is nobody")), 3)
    assert found.reason == "email: …@example.com is nobody"


def test_no_header_of_a_letter_shows_an_address() -> None:
    strange = [(contract.HEADER_PROVIDER, b"ann@x.io"), (contract.HEADER_TYPE, b"o'ann%40x.io")]
    found = letters.letter_of(letter(5, headers=strange), 3)
    assert (found.provider, found.type) == ("…@x.io", "…%40x.io")
