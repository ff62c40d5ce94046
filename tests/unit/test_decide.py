"""Batches: what follows from records and state, whatever way the log is cut into batches."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import contract, suppression
from pipeline.contract import EventType, Position, Record
from pipeline.errors import NoRecipient, Undecodable
from pipeline.providers import TYPES, Types
from processor import bounds
from processor.bounds import Bounds
from processor.decide import Changes, State, age_label, decide
from processor.dedup import WINDOW_MS
from tests.unit.records import NOON, FakeRecord, event, record


class Memory:
    """State as dicts: what a lane's store does, without a disk."""

    def __init__(self) -> None:
        self.markers: dict[bytes, bytes] = {}
        self.entries: dict[bytes, bytes] = {}

    def process(self, records: list[FakeRecord], types: Types = TYPES) -> Changes:
        state = State(
            lambda keys: [self.markers.get(key) for key in keys],
            lambda keys: [self.entries.get(key) for key in keys],
        )
        log: list[Record] = [*records]
        changes = decide(log, state, types=types)
        self.markers |= changes.seen
        self.entries |= changes.suppressions
        return changes

    def suppressed(self) -> set[bytes]:
        return {email for email, value in self.entries.items() if suppression.decode(value).suppressed}


def told(offset: int, kind: EventType) -> FakeRecord:
    """An event without an id and without a time of the provider's, which arrives `offset` ms after noon."""
    made = event(kind=kind, id=f"sha256:{kind}", id_basis="fingerprint", received_at=NOON + offset)
    return record(offset, made, timestamp=NOON + offset)


def test_a_batch_commits_one_past_its_last_record() -> None:
    assert Memory().process([record(7, event()), record(8, event(id="2"))]).end == 9


def test_a_duplicate_inside_a_batch_is_dropped_and_counted() -> None:
    changes = Memory().process([record(0, event()), record(1, event(), timestamp=NOON + 61_000)])
    assert changes.processed.total() == 1
    assert changes.duplicates == {("nexuspromail", "hour"): 1}


def test_a_duplicate_across_batches_is_dropped_and_writes_nothing() -> None:
    memory = Memory()
    memory.process([record(0, event())])
    changes = memory.process([record(1, event())])
    assert changes.duplicates.total() == 1
    assert not changes.seen
    assert not changes.suppressions


def test_the_same_record_again_has_the_same_result() -> None:
    memory, log = Memory(), [record(0, event()), record(1, event()), record(2, event("bob@example.com", id="2"))]
    first = memory.process(log)
    markers, entries = dict(memory.markers), dict(memory.entries)
    again = memory.process(log)
    assert again.processed == first.processed
    assert again.duplicates == first.duplicates
    assert (memory.markers, memory.entries) == (markers, entries)


def test_a_replay_of_something_older_moves_the_marker_back_and_then_drops_the_later_one() -> None:
    memory, older, newer = Memory(), record(10, event()), record(50, event(), timestamp=NOON + 1000)
    memory.process([newer])  # a group that began in the middle of the log
    assert memory.process([older]).processed.total() == 1
    assert memory.process([newer]).duplicates.total() == 1


def test_after_the_window_the_same_id_is_a_new_event() -> None:
    memory = Memory()
    memory.process([record(0, event())])
    assert memory.process([record(1, event(), timestamp=NOON + WINDOW_MS)]).duplicates.total() == 1
    assert memory.process([record(2, event(), timestamp=NOON + WINDOW_MS + 1)]).processed.total() == 1


def test_a_record_that_was_sent_round_again_is_not_a_duplicate_of_itself() -> None:
    memory = Memory()
    memory.process([record(3, event())])
    header = contract.origin_header(0, Position(3, NOON))
    assert memory.process([record(90, event(), timestamp=NOON + 5, headers=[header])]).processed.total() == 1


def test_an_origin_in_the_future_forgets_no_markers() -> None:
    header = contract.origin_header(0, Position(3, NOON + 10**12))
    assert Memory().process([record(90, event(), headers=[header])]).newest == NOON


def test_what_does_not_decode_is_rejected_and_the_rest_of_the_batch_counts() -> None:
    broken = FakeRecord(0, b"{", None)
    bad_origin = record(1, event(), headers=[(contract.HEADER_ORIGIN, b"x")])
    changes = Memory().process([broken, bad_origin, FakeRecord(2, None), record(3, event())])
    assert [type(rejected.error) for rejected in changes.rejected] == [Undecodable] * 3
    assert changes.processed.total() == 1
    assert changes.end == 4


def test_a_batch_of_nothing_but_broken_records_still_moves_on() -> None:
    changes = Memory().process([FakeRecord(0, b"x"), FakeRecord(1, b"y")])
    assert changes.end == 2
    assert len(changes.rejected) == 2


def test_an_event_without_recipient_is_rejected_once() -> None:
    nobody = event(None, id="n")
    changes = Memory().process([record(0, nobody), record(1, nobody)])
    assert [type(rejected.error) for rejected in changes.rejected] == [NoRecipient]
    assert changes.duplicates.total() == 1


def test_a_replay_makes_one_letter_and_one_call_of_an_event_and_its_copies() -> None:
    nobody, bounce = event(None, id="n"), event(kind=EventType.HARD_BOUNCE, id="b")
    copies = [
        record(10 + n, each, headers=[contract.origin_header(0, Position(n, NOON))])
        for n, each in enumerate((nobody, bounce))
    ]
    broken = [FakeRecord(2, b"x"), FakeRecord(12, b"x", headers=[contract.origin_header(0, Position(2, NOON))])]
    log: list[Record] = [record(0, nobody), record(1, bounce), broken[0], *copies, broken[1]]
    state = State(lambda keys: [None] * len(keys), lambda keys: [None] * len(keys))
    for limits, told in ((Bounds(start=0, until=13, resume=13), 1), (Bounds(start=3, until=13, resume=13), 2)):
        changes = decide(log, state, wanted={EventType.HARD_BOUNCE: ("crm",)})
        changes.leave_out(lambda each, limits=limits: bounds.repeats(each, 0, limits))  # type: ignore[misc]
        assert len(changes.calls) == told
        assert [type(each.error).__name__ for each in changes.rejected].count("NoRecipient") == told
        assert [type(each.error).__name__ for each in changes.rejected].count("Undecodable") == told


def test_an_unknown_type_passes_through_counted() -> None:
    changes = Memory().process([record(0, event(kind=EventType.UNKNOWN))])
    assert changes.processed == {("nexuspromail", "unknown"): 1}
    assert not changes.suppressions


def test_a_type_that_nobody_knows_needs_no_recipient_and_is_counted_by_its_word() -> None:
    verified = [
        event(None, EventType.UNKNOWN, id=str(n), word="domain.verified", raw=b'{"data":{"domain":"example.com"}}')
        for n in range(3)
    ]
    complaint = event(kind=EventType.COMPLAINT, id="c")
    memory = Memory()
    changes = memory.process([record(offset, each) for offset, each in enumerate([*verified, complaint])])
    assert changes.rejected == []
    assert changes.processed == {("nexuspromail", "unknown"): 3, ("nexuspromail", "complaint"): 1}
    assert changes.unknown == {("nexuspromail", "domain.verified"): 3}
    assert memory.suppressed() == {b"ann@example.com"}


def test_once_its_word_is_known_an_event_without_recipient_is_rejected() -> None:
    stored = record(0, event(None, EventType.UNKNOWN, word="bounce"))
    assert Memory().process([stored], BEFORE).rejected == []
    assert [type(each.error) for each in Memory().process([stored], AFTER).rejected] == [NoRecipient]


def test_handlers_are_called_for_no_event_without_recipient() -> None:
    nothing = State(lambda keys: [None] * len(keys), lambda keys: [None] * len(keys))
    log: list[Record] = [record(0, event(None, EventType.UNKNOWN, id="1")), record(1, event(kind=EventType.UNKNOWN))]
    changes = decide(log, nothing, wanted={EventType.UNKNOWN: ("audit",)})
    assert [call.offset for call in changes.calls] == [1]


BEFORE: Types = {"nexuspromail": {"read": EventType.OPENED}}
AFTER: Types = {"nexuspromail": {"read": EventType.OPENED, "bounce": EventType.HARD_BOUNCE}}


def test_a_word_counts_by_the_present_table_whatever_the_record_says() -> None:
    stored = record(0, event(kind=EventType.UNKNOWN, word="bounce"))
    assert Memory().process([stored], BEFORE).processed == {("nexuspromail", "unknown"): 1}
    memory = Memory()
    assert memory.process([stored], AFTER).processed == {("nexuspromail", "hard_bounce"): 1}
    assert memory.suppressed() == {b"ann@example.com"}


def test_a_type_stands_where_the_table_does_not_have_its_word_or_its_provider() -> None:
    bounce = event(id="1", word="gone")
    other = event("bob@x.io", EventType.COMPLAINT, id="2", provider="other", word="bounce")
    changes = Memory().process([record(0, bounce), record(1, other)], AFTER)
    assert changes.processed == {("nexuspromail", "hard_bounce"): 1, ("other", "complaint"): 1}


def test_nothing_is_written_for_an_address_whose_facts_did_not_change() -> None:
    memory = Memory()
    memory.process([record(0, event(id="1"))])
    assert not memory.process([record(1, event(id="2"))]).suppressions


def test_a_time_in_the_far_future_does_not_leave_the_window() -> None:
    memory = Memory()
    memory.process([record(0, event(occurred_at=2**62))])
    assert memory.process([record(1, event(occurred_at=2**62))]).duplicates.total() == 1


WRONG = st.sampled_from([-7_200_000, -600_000, 0, 600_000, 7_200_000])


@given(WRONG, WRONG, st.sampled_from([None, 5]))
def test_no_clock_but_the_brokers_says_which_of_two_choices_is_the_later(
    one: int, other: int, occurred_after: int | None
) -> None:
    """Two ingresses, each with a clock of its own; the provider tells the right time, or none."""
    times = [None if occurred_after is None else NOON + minute + occurred_after for minute in (0, 60_000)]
    came = event(kind=EventType.SUBSCRIBED, id="1", occurred_at=times[0], received_at=NOON + one)
    left = event(kind=EventType.UNSUBSCRIBED, id="2", occurred_at=times[1], received_at=NOON + 60_000 + other)
    memory = Memory()
    memory.process([record(0, came, timestamp=NOON + 10), record(1, left, timestamp=NOON + 60_010)])
    assert memory.suppressed() == {b"ann@example.com"}


@given(WRONG, WRONG)
def test_a_complaint_after_a_removal_stands_whatever_the_clocks_of_both_say(ingress: int, operator: int) -> None:
    removed = event(kind=EventType.REINSTATED, id="1", received_at=NOON + operator)
    complaint = event(kind=EventType.COMPLAINT, id="2", received_at=NOON + 1000 + ingress)
    memory = Memory()
    memory.process([record(0, removed, timestamp=NOON), record(1, complaint, timestamp=NOON + 1000)])
    assert memory.suppressed() == {b"ann@example.com"}


def test_a_provider_that_is_ahead_of_the_log_counts_as_of_the_log() -> None:
    memory = Memory()
    future = event(kind=EventType.SUBSCRIBED, id="1", occurred_at=NOON + 7_200_000, received_at=NOON + 7_200_000)
    memory.process([record(0, future), record(1, event(kind=EventType.UNSUBSCRIBED, id="2"), timestamp=NOON + 1)])
    assert memory.suppressed() == {b"ann@example.com"}


def test_what_is_sent_round_again_counts_as_of_when_the_log_took_it_first() -> None:
    came_back = event(kind=EventType.SUBSCRIBED, id="1")
    left = event(kind=EventType.UNSUBSCRIBED, id="2")
    origin = [contract.origin_header(0, Position(0, NOON))]
    log = [
        record(0, came_back),
        record(1, left, timestamp=NOON + 1000),
        record(2, came_back, timestamp=NOON + 90_000_000, headers=origin),
    ]
    once, replayed = Memory(), Memory()
    once.process(log)
    for entry in [*log, *log]:
        replayed.process([entry])
    assert once.suppressed() == replayed.suppressed() == {b"ann@example.com"}
    assert once.entries == replayed.entries


def test_what_is_read_from_an_old_dead_letter_counts_as_of_when_the_log_took_the_letter() -> None:
    read_late = msgspec.structs.replace(event(kind=EventType.SUBSCRIBED, id="1"), arrived_at=NOON)
    left = event(kind=EventType.UNSUBSCRIBED, id="2")
    memory = Memory()
    memory.process([record(0, left, timestamp=NOON + 1000), record(1, read_late, timestamp=NOON + 90_000_000)])
    assert memory.suppressed() == {b"ann@example.com"}
    assert contract.decode(contract.encode(read_late)) == read_late


def test_a_word_without_id_and_time_that_comes_again_suppresses_again() -> None:
    memory = Memory()
    memory.process([told(0, EventType.UNSUBSCRIBED), told(1, EventType.SUBSCRIBED)])
    assert not memory.suppressed()
    again = memory.process([told(2, EventType.UNSUBSCRIBED)])
    assert again.duplicates.total() == 1
    assert memory.suppressed() == {b"ann@example.com"}


@pytest.mark.parametrize("kind", [EventType.HARD_BOUNCE, EventType.COMPLAINT, EventType.UNSUBSCRIBED])
def test_what_comes_again_after_an_operators_word_and_has_no_id_suppresses_again(kind: EventType) -> None:
    memory = Memory()
    word = event(kind=EventType.REINSTATED, id="w", received_at=NOON + 1)
    memory.process([told(0, kind), record(1, word, timestamp=NOON + 1)])
    assert not memory.suppressed()
    memory.process([told(2, kind)])
    assert memory.suppressed() == {b"ann@example.com"}


def test_a_subscribed_without_id_that_comes_again_lifts_nothing() -> None:
    memory = Memory()
    memory.process([told(0, EventType.SUBSCRIBED), told(1, EventType.UNSUBSCRIBED), told(2, EventType.SUBSCRIBED)])
    assert memory.suppressed() == {b"ann@example.com"}


def test_what_has_an_id_is_the_same_event_and_suppresses_once() -> None:
    memory = Memory()
    no = event(kind=EventType.UNSUBSCRIBED, id="u")
    memory.process([record(0, no), told(1, EventType.SUBSCRIBED)])
    memory.process([record(2, msgspec.structs.replace(no, received_at=NOON + 9))])
    assert not memory.suppressed()


@pytest.mark.parametrize(
    ("at", "kind", "stands"),
    [
        pytest.param(NOON, EventType.SUBSCRIBED, True, id="a time of the provider's says that it is the old one"),
        pytest.param(None, EventType.UNSUBSCRIBED, True, id="without a time it is new, which is the safe side"),
        pytest.param(None, EventType.SUBSCRIBED, False, id="without a time it is new, and nothing can tell"),
    ],
)
def test_what_comes_again_after_the_window_is_as_old_as_its_provider_says(
    at: int | None, kind: EventType, stands: bool
) -> None:
    memory, hour = Memory(), 3_600_000
    other = EventType.UNSUBSCRIBED if kind is EventType.SUBSCRIBED else EventType.SUBSCRIBED
    for offset, (identity, said, hours) in enumerate([("s", kind, 0), ("u", other, 1), ("s", kind, 49)]):
        arrived = NOON + hours * hour
        occurred_at = at + hour if at is not None and identity == "u" else at
        made = event(kind=said, id=identity, occurred_at=occurred_at, received_at=arrived)
        memory.process([record(offset, made, timestamp=arrived)])
    assert bool(memory.suppressed()) == stands


def test_what_may_have_happened_again_is_told_to_no_handler_and_moves_no_marker() -> None:
    memory = Memory()
    memory.process([told(0, EventType.HARD_BOUNCE)])
    markers = dict(memory.markers)
    state = State(lambda keys: [memory.markers.get(key) for key in keys], lambda keys: [None] * len(keys))
    changes = decide([told(1, EventType.HARD_BOUNCE)], state, wanted={EventType.HARD_BOUNCE: ("crm",)})
    assert not changes.calls
    assert not changes.processed
    assert memory.markers == markers


def test_ages_of_duplicates_have_four_labels() -> None:
    assert [age_label(ms) for ms in (0, 59_999, 60_000, 3_600_000, 86_400_000)] == [
        "minute",
        "minute",
        "hour",
        "day",
        "window",
    ]


def test_originals_owe_calls_to_who_wants_their_type_and_duplicates_owe_none() -> None:
    bounce, opened = event(id="1"), event(id="2", kind=EventType.OPENED)
    log: list[Record] = [record(5, bounce), record(6, bounce), record(7, opened), record(8, event(None, id="3"))]
    nothing = State(lambda keys: [None] * len(keys), lambda keys: [None] * len(keys))
    changes = decide(log, nothing, wanted={EventType.HARD_BOUNCE: ("crm", "audit"), EventType.OPENED: ("audit",)})
    assert [(call.handler, call.offset) for call in changes.calls] == [("crm", 5), ("audit", 5), ("audit", 7)]


LOGS = st.lists(
    st.tuples(
        st.sampled_from(["a@x.io", "b@x.io"]),
        st.sampled_from([EventType.HARD_BOUNCE, EventType.UNSUBSCRIBED, EventType.SUBSCRIBED, EventType.OPENED]),
        # Fingerprints too: two are equal where address and type are.
        st.sampled_from(["1", "2", "3", None]),
        st.integers(0, WINDOW_MS),
    ),
    max_size=12,
)


Rows = list[tuple[str, EventType, str | None, int]]


def log_of(rows: Rows) -> list[FakeRecord]:
    """A partition's log: arrivals only grow."""
    at, log = NOON, []
    for offset, (email, kind, identity, pause) in enumerate(rows):
        at += pause
        name, basis = (identity, "id") if identity else (f"{email} {kind}", "fingerprint")
        made = event(email, kind, id=name, id_basis=basis, received_at=at)  # type: ignore[arg-type]
        log.append(record(offset, made, timestamp=at))
    return log


@given(LOGS, st.lists(st.integers(1, 11), max_size=4))
def test_any_cut_into_batches_leaves_the_same_state(rows: Rows, cuts: list[int]) -> None:
    log = log_of(rows)
    whole, cut = Memory(), Memory()
    if log:
        whole.process(log)
    edges = sorted({0, len(log), *(c for c in cuts if c < len(log))})
    for start, end in itertools.pairwise(edges):
        cut.process(log[start:end])
    assert (cut.markers, cut.entries) == (whole.markers, whole.entries)


@given(LOGS, st.integers(0, 11))
def test_a_replay_from_anywhere_leaves_the_same_state_and_drops_the_same_duplicates(rows: Rows, start: int) -> None:
    log = log_of(rows)
    memory = Memory()
    verdicts = [memory.process([r]).duplicates.total() for r in log]
    markers, entries = dict(memory.markers), dict(memory.entries)
    again = [memory.process([r]).duplicates.total() for r in log[start:]]
    assert again == verdicts[start:]
    assert (memory.markers, memory.entries) == (markers, entries)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a@x.io", "b@x.io"]),
            st.sampled_from(["read", "bounce", "none's"]),
            st.sampled_from(["1", "2", "3", "4"]),
            st.integers(0, WINDOW_MS),
        ),
        max_size=12,
    )
)
def test_a_replay_after_a_word_became_known_ends_as_if_it_always_had_been(
    rows: list[tuple[str, str, str, int]],
) -> None:
    at = NOON
    before: list[FakeRecord] = []
    after: list[FakeRecord] = []
    for offset, (email, word, identity, pause) in enumerate(rows):
        at += pause
        for log, types in ((before, BEFORE), (after, AFTER)):
            kind = types["nexuspromail"].get(word, EventType.UNKNOWN)
            log.append(record(offset, event(email, kind, id=identity, received_at=at, word=word), timestamp=at))
    mended, fresh = Memory(), Memory()
    for entry in before:
        mended.process([entry], BEFORE)
    for entry in before:
        mended.process([entry], AFTER)
    for entry in after:
        fresh.process([entry], AFTER)
    assert (mended.markers, mended.entries) == (fresh.markers, fresh.entries)
