"""Which groups of dead letters have nothing open any more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerter.group_told import GroupTold, decode, encode, joined
from alerter.ledger import Ledger
from alerter.message import message
from alerter.recoveries import Recoveries
from alerter.summary import Alert, key_of
from pipeline.letters import Place
from tests.unit.test_alert_ledger import LIMITS, did, letter

KEY = key_of(letter(7))
SETTLE = 60.0


def told(at: float = 1.0, covered: dict[int, int] | None = None) -> GroupTold:
    return GroupTold(
        error=KEY.error,
        type=KEY.type,
        provider=KEY.provider,
        told_at=at,
        quiet_until=at,
        covered={0: 8} if covered is None else covered,
    )


def with_letters(*offsets: int) -> Ledger:
    ledger = Ledger(LIMITS)
    for offset in offsets:
        ledger.add(letter(offset), Place(0, offset), at=offset)
    return ledger


def test_the_end_is_told_once_when_nothing_was_open_for_a_while() -> None:
    ledger, recoveries = with_letters(6, 7), Recoveries(SETTLE)
    recoveries.remember(told())
    assert recoveries.due(ledger, 0) == []
    ledger.note("3-6", did("discarded", "3-6", Place(0, 6)))
    assert recoveries.due(ledger, 100) == []
    ledger.note("3-7", did("redriven", "3-7", Place(0, 7)))
    assert recoveries.due(ledger, 200) == []
    assert recoveries.due(ledger, 259) == []
    (recovery,) = recoveries.due(ledger, 260)
    assert recoveries.due(ledger, 300) == []
    text = message(Alert((), (recovery.news,)))
    assert text.title == "postlog: no dead letter is open any more, opened, unknown: NoRecipient"
    assert not text.critical
    record = recoveries.told(recovery)
    assert record is not None
    assert record.over
    assert recoveries.due(ledger, 10_000) == []


def test_what_comes_back_meanwhile_starts_the_wait_again() -> None:
    ledger, recoveries = with_letters(7), Recoveries(SETTLE)
    recoveries.remember(told())
    ledger.note("3-7", did("redriven", "3-7", Place(0, 7)))
    assert recoveries.due(ledger, 0) == []
    ledger.add(letter(7), Place(0, 9), at=9)
    assert recoveries.due(ledger, 61) == []
    ledger.note("3-7", did("redriven", "3-7", Place(0, 9)))
    assert recoveries.due(ledger, 62) == []
    assert len(recoveries.due(ledger, 122)) == 1


def test_nothing_is_over_before_everything_that_was_told_is_read() -> None:
    ledger, recoveries = with_letters(7), Recoveries(0)
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    recoveries.remember(told(covered={0: 8, 4: 2}))
    assert recoveries.due(ledger, 1) == []
    ledger.add(letter(9), Place(4, 1), at=9)
    assert recoveries.due(ledger, 2) == []
    ledger.note("3-9", did("discarded", "3-9", Place(4, 1)))
    assert len(recoveries.due(ledger, 3)) == 1


def test_a_group_whose_letters_expired_has_not_recovered() -> None:
    recoveries = Recoveries(0)
    recoveries.remember(told(covered={}))
    assert recoveries.due(Ledger(LIMITS), 1) == []


def test_nobody_was_told_so_it_is_due_again() -> None:
    ledger, recoveries = with_letters(7), Recoveries(0)
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    recoveries.remember(told())
    (recovery,) = recoveries.due(ledger, 1)
    recoveries.unsent(recovery)
    assert len(recoveries.due(ledger, 2)) == 1


def test_more_was_told_of_the_group_meanwhile_so_its_end_is_told_again_later() -> None:
    ledger, recoveries = with_letters(7), Recoveries(0)
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    recoveries.remember(told())
    (recovery,) = recoveries.due(ledger, 1)
    recoveries.remember(told(at=2.0))
    assert recoveries.told(recovery) is None
    assert len(recoveries.due(ledger, 3)) == 1


def test_a_restart_repeats_no_end_and_older_records_change_nothing() -> None:
    ledger, recoveries = with_letters(7), Recoveries(0)
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    recoveries.remember(told())
    (recovery,) = recoveries.due(ledger, 1)
    record = recoveries.told(recovery)
    assert record is not None
    again = Recoveries(0)
    again.remember(decode(encode(record)))
    again.remember(told())
    assert again.due(ledger, 2) == []
    again.remember(told(at=2.0))
    assert len(again.due(ledger, 3)) == 1


def test_a_channel_that_missed_the_end_tells_it_after_a_restart_and_the_others_do_not() -> None:
    ledger, recoveries = with_letters(7), Recoveries(0)
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    recoveries.remember(told())
    (recovery,) = recoveries.due(ledger, 1)
    record = recoveries.told(recovery, {"hung"})
    assert record is not None
    assert recoveries.due(ledger, 2) == []  # It is on its way there.
    again = Recoveries(0)
    again.remember(decode(encode(record)))
    (missed,) = again.due(ledger, 3)
    assert (missed.to, missed.news.to) == (frozenset({"hung"}), frozenset({"hung"}))
    done = again.told(missed)
    assert done is not None
    assert (done.over, done.over_behind) == (True, [])
    assert again.due(ledger, 4) == []


def test_the_end_is_about_what_the_beginning_was_about() -> None:
    ledger, recoveries = with_letters(7), Recoveries(0)
    ledger.note("3-7", did("discarded", "3-7", Place(0, 7)))
    recoveries.remember(told())
    (recovery,) = recoveries.due(ledger, 1)
    assert recovery.news.about == KEY.name


RECORDS = st.builds(
    GroupTold,
    error=st.just("e"),
    type=st.just("opened"),
    provider=st.just("p"),
    told_at=st.sampled_from([1.0, 2.0]),
    quiet_until=st.just(0.0),
    covered=st.dictionaries(st.integers(0, 1), st.integers(1, 5)),
    over=st.booleans(),
    behind=st.dictionaries(st.sampled_from("ab"), st.dictionaries(st.integers(0, 1), st.integers(1, 5))),
)


@given(RECORDS, RECORDS, RECORDS)
def test_records_join_to_the_same_in_any_order_and_however_often(
    one: GroupTold, two: GroupTold, three: GroupTold
) -> None:
    def what(told: GroupTold) -> tuple[object, ...]:
        return told.told_at, told.over, told.covered, told.reached("a"), told.reached("b"), told.reached("c")

    assert what(joined(one, two)) == what(joined(two, one))
    assert what(joined(joined(one, two), three)) == what(joined(one, joined(two, three)))
    assert what(joined(joined(one, two), two)) == what(joined(one, two))


def test_a_record_of_a_former_release_says_that_all_channels_told_it() -> None:
    value = b'{"v":1,"error":"e","type":"opened","provider":"p","told_at":1.0,"quiet_until":2.0,"covered":{"0":8}}'
    assert decode(value).reached("any") == {0: 8}
    assert decode(value).missed_by(0, 7) == frozenset()
