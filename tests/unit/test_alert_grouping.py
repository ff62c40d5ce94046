"""Which dead letters are told when, and what may be committed; the clock is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerter import group_told, grouping
from alerter.grouping import Grouping, Policy
from alerter.summary import Alert, GroupKey, Place, coalesce, key_of, shown
from pipeline.contract import Position
from pipeline.deadletter import DeadLetter, Source

POLICY = Policy(digest=60.0, despam=300.0)
START = 1_000_000.0


def letter(
    event_type: str = "hard_bounce",
    *,
    error: str = "pipeline.errors.NoRecipient",
    provider: str = "nexuspromail",
    message: str = "data.email: missing",
    at: int = 0,
    source: Source | None = None,
) -> DeadLetter:
    return DeadLetter(
        stage="processor",
        error=error,
        message=message,
        provider=provider,
        type=event_type,
        id="evt-1",
        source=source,
        tries=1,
        first_failure=at,
        last_failure=at,
        origin=None if source is None else (source.partition, Position(source.offset, source.timestamp)),
    )


def place(offset: int, partition: int = 0) -> Place:
    return Place("email-events.dlq", partition, offset)


def counts(alerts: Iterable[Alert]) -> list[list[int]]:
    """Letters by group by alert."""
    return [[summary.count for summary in alert.summaries] for alert in alerts]


@pytest.mark.parametrize("event_type", ["hard_bounce", "complaint"])
def test_a_critical_letter_is_told_at_once(event_type: str) -> None:
    rules = Grouping(POLICY)
    rules.add(letter(event_type), place(0), START)
    assert rules.next_at() is not None
    assert counts(rules.due(START)) == [[1]]
    assert rules.next_at() is None


@pytest.mark.parametrize("event_type", ["soft_bounce", "unsubscribed", "unknown", "a word of nobody"])
def test_any_other_letter_waits_for_the_digest(event_type: str) -> None:
    rules = Grouping(POLICY)
    rules.add(letter(event_type), place(0), START)
    assert rules.due(START) == []
    assert rules.next_at() == START + 60
    assert rules.due(START + 59.9) == []
    assert counts(rules.due(START + 60)) == [[1]]
    assert rules.next_at() is None


def test_a_digest_tells_all_its_groups_in_one_alert_with_their_counts() -> None:
    rules = Grouping(POLICY)
    for offset, event_type in enumerate(["soft_bounce", "opened", "soft_bounce", "clicked", "soft_bounce"]):
        rules.add(letter(event_type), place(offset), START + offset)
    (digest,) = rules.due(START + 60)
    assert {summary.key.type: summary.count for summary in digest.summaries} == {
        "soft_bounce": 3,
        "opened": 1,
        "clicked": 1,
    }
    assert not digest.critical


def test_digests_are_a_digests_time_apart() -> None:
    rules = Grouping(POLICY)
    rules.add(letter("opened"), place(0), START)
    assert len(rules.due(START + 60)) == 1
    rules.add(letter("clicked"), place(1), START + 60)
    assert rules.due(START + 119) == []
    assert len(rules.due(START + 120)) == 1


def test_a_told_group_is_told_again_when_the_despam_time_is_over_and_not_before() -> None:
    rules = Grouping(POLICY)
    rules.add(letter(), place(0), START)
    rules.due(START)
    for offset in range(1, 38):
        rules.add(letter(at=offset), place(offset), START + offset)
    assert rules.due(START + 299.9) == []
    assert rules.next_at() == START + 300
    (again,) = rules.due(START + 300)
    assert counts([again]) == [[37]]
    assert again.summaries[0].since == START
    assert (again.summaries[0].first, again.summaries[0].last) == (1, 37)


def test_a_digest_leaves_out_groups_that_are_quiet_and_tells_them_later() -> None:
    rules = Grouping(POLICY)
    rules.add(letter("opened"), place(0), START)
    rules.due(START + 60)
    rules.add(letter("opened"), place(1), START + 61)
    rules.add(letter("clicked"), place(2), START + 61)
    (digest,) = rules.due(START + 121)
    assert [summary.key.type for summary in digest.summaries] == ["clicked"]
    told_at = next(now for now in range(122, 1000) if rules.due(START + now))
    assert 360 <= told_at <= 420


def test_another_error_type_or_provider_is_another_group_with_a_quiet_time_of_its_own() -> None:
    rules = Grouping(POLICY)
    rules.add(letter(), place(0), START)
    rules.due(START)
    rules.add(letter(error="handlers.Timeout"), place(1), START + 1)
    rules.add(letter("complaint"), place(2), START + 1)
    rules.add(letter(provider="other-mail"), place(3), START + 1)
    assert counts(rules.due(START + 1)) == [[1], [1], [1]]


def test_a_flood_of_one_critical_group_gives_at_most_two_alerts_in_any_window() -> None:
    rules = Grouping(POLICY)
    told: list[tuple[float, int]] = []
    for offset in range(10_000):
        now = START + offset / 10  # 1,000 s, more than three windows
        rules.add(letter(), place(offset), now)
        for alert in rules.due(now):
            rules.told(alert)
            told.append((now, alert.summaries[0].count))
    times = [now for now, _ in told]
    assert all(len([t for t in times if start <= t <= start + 300]) <= 2 for start in times)
    assert sum(count for _, count in told) + rules.untold_letters == 10_000


def test_a_quiet_group_is_forgotten_after_the_despam_time() -> None:
    rules = Grouping(POLICY)
    rules.add(letter(), place(0), START)
    rules.due(START)
    rules.due(START + 300)
    rules.add(letter(), place(1), START + 301)
    (fresh,) = rules.due(START + 301)
    assert fresh.summaries[0].since is None


def test_a_letter_that_waits_holds_back_the_commit_of_its_partition_alone() -> None:
    rules = Grouping(POLICY)
    rules.add(letter("opened"), place(5, partition=0), START)
    rules.add(letter("opened"), place(9, partition=0), START)
    rules.add(letter("hard_bounce"), place(7, partition=1), START)
    (critical,) = rules.due(START)
    assert rules.committable({0: 10, 1: 8, 2: 3}) == {0: 5, 1: 7, 2: 3}
    rules.told(critical)
    assert rules.committable({0: 10, 1: 8, 2: 3}) == {0: 5, 1: 8, 2: 3}
    (digest,) = rules.due(START + 60)
    assert rules.committable({0: 10, 1: 8, 2: 3}) == {0: 5, 1: 8, 2: 3}
    rules.told(digest)
    assert rules.committable({0: 10, 1: 8, 2: 3}) == {0: 10, 1: 8, 2: 3}


def test_an_alert_that_nobody_got_is_told_again_with_what_came_meanwhile() -> None:
    rules = Grouping(POLICY)
    rules.add(letter(), place(0), START)
    (first,) = rules.due(START)
    rules.add(letter(), place(1), START + 1)
    rules.unsent(first, START + 10)
    assert rules.committable({0: 2}) == {0: 0}
    assert rules.due(START + 69) == []
    (again,) = rules.due(START + 70)
    assert counts([again]) == [[2]]
    assert again.summaries[0].since is None
    assert again.summaries[0].example.place.offset == 0
    rules.told(again)
    assert rules.committable({0: 2}) == {0: 2}


def test_an_alert_that_nobody_got_does_not_count_as_told_before() -> None:
    rules = Grouping(POLICY)
    rules.add(letter(), place(0), START)
    (first,) = rules.due(START)
    rules.unsent(first, START + 10)
    rules.reset()
    rules.add(letter(), place(0), START + 20)
    (again,) = rules.due(START + 70)
    assert again.summaries[0].since is None


def test_a_digest_that_nobody_got_is_told_again_also_if_no_letter_comes() -> None:
    rules = Grouping(POLICY)
    rules.add(letter("opened"), place(0), START)
    (digest,) = rules.due(START + 60)
    rules.unsent(digest, START + 400)
    assert rules.next_at() == START + 460
    assert counts(rules.due(START + 460)) == [[1]]


def test_after_a_reset_untold_letters_are_left_to_whoever_reads_them_again() -> None:
    rules = Grouping(POLICY)
    rules.add(letter(), place(0), START)
    (on_its_way,) = rules.due(START)
    rules.add(letter(), place(1), START + 1)
    rules.reset()
    assert rules.committable({0: 0}) == {0: 0}
    rules.unsent(on_its_way, START + 2)
    assert rules.untold_letters == 0
    for offset in (0, 1):
        rules.add(letter(), place(offset), START + 3)
    assert rules.due(START + 3) == []  # it was told lately, so coming back makes no noise
    assert counts(rules.due(START + 300)) == [[2]]


def test_an_alert_shows_its_earliest_letter_as_the_example() -> None:
    rules = Grouping(POLICY)
    source = Source("email-events", 3, 1234, 0, "processor")
    rules.add(letter(source=source), place(17), START)
    rules.add(letter(), place(18), START)
    (alert,) = rules.due(START)
    example = alert.summaries[0].example
    assert example.place == place(17)
    assert example.letter == "3-1234"
    assert example.original == Place("email-events", 3, 1234)


def test_the_number_of_groups_is_bounded_and_critical_letters_stay_critical() -> None:
    rules = Grouping(POLICY)
    for offset in range(grouping.MOST_GROUPS + 100):
        rules.add(letter("opened", error=f"odd.Error{offset}"), place(offset), START)
    rules.add(letter(error="one.More"), place(5000), START)
    (critical,) = rules.due(START)
    assert critical.summaries[0].key == GroupKey("other", "hard_bounce", "other")
    (digest,) = rules.due(START + 60)
    assert len(digest.summaries) == grouping.MOST_GROUPS + 1
    assert sum(summary.count for summary in digest.summaries) == grouping.MOST_GROUPS + 100


def test_coalesced_alerts_tell_every_letter_once_and_keep_the_earliest_since() -> None:
    rules = Grouping(POLICY)
    alerts = []
    for offset, now in enumerate([START, START + 300, START + 600]):
        rules.add(letter(at=offset), place(offset), now)
        rules.add(letter("complaint"), place(offset, partition=1), now)
        alerts += rules.due(now)
    one = coalesce(alerts)
    bounces = next(summary for summary in one.summaries if summary.key.type == "hard_bounce")
    assert counts([one]) == [[3, 3]]
    assert (bounces.since, bounces.first, bounces.last, bounces.holds) == (None, 0, 2, {0: 0})


def test_a_group_is_named_by_known_types_and_plain_words() -> None:
    key = key_of(letter("<b>made up</b>", error="x" * 5000, provider="evil\r\nSubject: hi@example.com" + "y" * 5000))
    assert key.type == "unknown"
    assert len(key.error) == 100
    assert key.provider.startswith("evil__Subject____example.com")
    assert len(key.provider) == 32
    assert "jane" not in key_of(letter("opened", error="x" * 95 + ".jane.doe@example.com")).error


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("data.email: 'jane.doe@example.com' is odd", "data.email: …@example.com' is odd"),
        ('"jane doe"@example.com', "…@example.com"),
        ("jane%40example.com", "…%40example.com"),
        (r"jane.doe\u0040example.com", r"…\u0040example.com"),
        ("for o'brien@example.com", "for …@example.com"),
        ("jane%\x0040example.com", "…%40example.com"),
        ("two\nlines\x00\x1b[31m", "two lines[31m"),
        ("x" * 301, "x" * 299 + "…"),
        ("", ""),
    ],
)
def test_text_of_a_letter_is_shown_in_one_line_without_addresses(text: str, line: str) -> None:
    assert shown(text, 300) == line


def test_no_cut_lets_the_name_before_an_at_sign_through() -> None:
    for length in range(560, 620):
        assert "jane" not in shown("y " * (length // 2) + "jane.doe@example.com", 600)
        assert "jane" not in shown("a@b.cd " * 80 + "z" * (length - 560) + " jane.doe@example.com", 300)


TYPES = ["hard_bounce", "complaint", "opened", "clicked"]
LETTERS = st.tuples(st.just("letter"), st.sampled_from(TYPES), st.integers(0, 2))
STEPS = st.lists(
    st.one_of(
        LETTERS,
        LETTERS,
        st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 59.0, 60.0, 61.0, 299.0, 300.0, 1000.0]), st.just(0)),
        st.tuples(st.just("told"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("unsent"), st.integers(0, 5), st.just(0)),
    ),
    max_size=60,
)


@dataclass
class World:
    """The rules, and beside them every letter one by one."""

    rules: Grouping = field(default_factory=lambda: Grouping(POLICY))
    now: float = START
    ends: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(3), 0))
    untold: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: {name: set() for name in TYPES})
    flying: list[tuple[Alert, dict[str, set[tuple[int, int]]]]] = field(default_factory=list)
    told: int = 0

    def step(self, what: str, how: object, partition: int) -> None:
        if what == "letter":
            self.read(str(how), partition)
        elif what == "wait":
            self.now += float(str(how))
        elif self.flying:
            self.answer(what, int(str(how)))
        for alert in self.rules.due(self.now):
            letters = {s.key.type: self.untold[s.key.type] for s in alert.summaries}
            assert {name: len(them) for name, them in letters.items()} == {
                s.key.type: s.count for s in alert.summaries
            }
            for name in letters:
                self.untold[name] = set()
            self.flying.append((alert, letters))

    def read(self, event_type: str, partition: int) -> None:
        offset = self.ends[partition]
        self.rules.add(letter(event_type), place(offset, partition), self.now)
        self.untold[event_type].add((partition, offset))
        self.ends[partition] = offset + 1

    def answer(self, what: str, which: int) -> None:
        alert, letters = self.flying.pop(which % len(self.flying))
        if what == "told":
            self.rules.told(alert)
            self.told += sum(len(them) for them in letters.values())
        else:
            self.rules.unsent(alert, self.now)
            for name, them in letters.items():
                self.untold[name] |= them

    def lowest_untold(self, partition: int) -> int:
        sets = [*self.untold.values(), *(them for _, letters in self.flying for them in letters.values())]
        return min((o for them in sets for p, o in them if p == partition), default=self.ends[partition])


@given(STEPS)
def test_every_letter_is_told_once_and_no_commit_passes_an_untold_one(
    steps: list[tuple[str, object, int]],
) -> None:
    world = World()
    for step in steps:
        world.step(*step)
        # Exactly, so a commit neither passes an untold letter nor is held back by a told one.
        assert world.rules.committable(world.ends) == {p: world.lowest_untold(p) for p in world.ends}
    while world.flying or world.rules.next_at() is not None:
        world.step("wait", 60.0, 0)
        if world.flying:
            world.answer("told", 0)
    assert world.told == sum(world.ends.values())
    assert world.rules.committable(world.ends) == world.ends


def restarted(log: dict[bytes, bytes]) -> Grouping:
    """A new process that has read the records of what was told."""
    rules = Grouping(POLICY)
    for value in log.values():
        rules.remember(group_told.decode(value))
    return rules


def told(rules: Grouping, alert: Alert, log: dict[bytes, bytes], waiting: Collection[str] = ()) -> None:
    """A channel told the alert, and these have yet to; its records are written."""
    for record in rules.told(alert, frozenset(waiting)):
        log[record.key] = group_told.encode(record)


def test_after_a_restart_what_was_told_is_not_told_again_and_its_quiet_lasts() -> None:
    rules = Grouping(POLICY)
    log: dict[bytes, bytes] = {}
    rules.add(letter("opened"), place(0), START)  # waits for the digest, and holds the commit back
    rules.add(letter(), place(1), START)
    (critical,) = rules.due(START)
    told(rules, critical, log)
    assert rules.committable({0: 2}) == {0: 0}

    rules = restarted(log)
    for offset, what in enumerate(("opened", "hard_bounce", "hard_bounce")):
        rules.add(letter(what), place(offset), START + 1)
    assert counts(rules.due(START + 2)) == []
    later = rules.due(START + POLICY.despam)
    assert sorted(counts(later)) == [[1], [1]]
    (again,) = [alert for alert in later if alert.critical]
    assert again.summaries[0].since == START


def test_of_two_alerts_of_a_group_the_later_one_does_not_hide_the_letters_of_the_earlier() -> None:
    rules = Grouping(POLICY)
    log: dict[bytes, bytes] = {}
    rules.add(letter(), place(0), START)
    (stuck,) = rules.due(START)
    rules.add(letter(), place(1), START + 1)
    (second,) = rules.due(START + POLICY.despam)
    told(rules, second, log)
    rules = restarted(log)
    rules.add(letter(), place(0), START)
    assert rules.untold_letters == 1
    assert stuck.summaries[0].covers == {0: 1}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hard_bounce", "complaint", "opened"]),
            st.sampled_from(["told", "unsent", "waits", "restart", "noted late"]),
            st.floats(0, 400),
        ),
        max_size=40,
    )
)
def test_restarts_at_any_moment_lose_no_letter_and_repeat_none_that_was_told_and_noted(
    steps: list[tuple[str, str, float]],
) -> None:
    rules, now = Grouping(POLICY), START
    log: dict[bytes, bytes] = {}
    topic: list[str] = []
    heard, on_their_way = 0, list[Alert]()
    for kind, what, pause in steps:
        now += pause
        topic.append(kind)
        rules.add(letter(kind), place(len(topic) - 1), now)
        on_their_way += rules.due(now)
        if what == "restart":
            committed = rules.committable({0: len(topic)})[0]
            rules, on_their_way = restarted(log), []
            for offset in range(committed, len(topic)):
                rules.add(letter(topic[offset]), place(offset), now)
        for alert in on_their_way if what in ("told", "unsent") else ():
            if what == "told":
                told(rules, alert, log)
                heard += sum(summary.count for summary in alert.summaries)
            else:
                rules.unsent(alert, now)
        if what in ("told", "unsent"):
            on_their_way = []
        waiting = rules.untold_letters + sum(s.count for alert in on_their_way for s in alert.summaries)
        assert heard + waiting == len(topic)


def test_letters_in_the_place_of_lost_ones_are_told_once_it_is_known_that_the_log_lost_its_end() -> None:
    rules = Grouping(POLICY)
    rules.add(letter(), place(9), START)
    rules.add(letter(), place(4, partition=1), START)
    for record in [record for alert in rules.due(START) for record in rules.told(alert)]:
        rules.remember(record)
    assert rules.beyond({0: 10, 1: 5}) == []
    assert rules.beyond({0: 7, 1: 5}) == [0]
    rules.forget(0)
    assert rules.beyond({0: 7, 1: 5}) == []
    rules.add(letter(), place(6), START + 1)
    rules.add(letter(), place(3, partition=1), START + 1)
    assert rules.untold_letters == 1


def test_a_channel_that_missed_letters_is_told_them_after_a_restart_and_the_others_are_not() -> None:
    rules, log = Grouping(POLICY), dict[bytes, bytes]()
    rules.add(letter(), place(0), START)
    (alert,) = rules.due(START)
    told(rules, alert, log, waiting={"hung"})
    assert rules.committable({0: 1}) == {0: 0}

    rules = restarted(log)
    rules.add(letter(), place(0), START + 1)
    (missed,) = rules.due(START + 1)
    assert (missed.to, counts([missed])) == (frozenset({"hung"}), [[1]])
    told(rules, missed, log)
    assert rules.committable({0: 1}) == {0: 1}

    rules = restarted(log)
    rules.add(letter(), place(0), START + 2)
    assert rules.untold_letters == 0
    rules.add(letter(), place(1), START + 3)
    assert rules.due(START + POLICY.despam - 1) == []  # The quiet time since all others were told goes on.


def test_channels_that_missed_different_letters_are_told_each_its_own() -> None:
    rules, log = Grouping(POLICY), dict[bytes, bytes]()
    rules.add(letter(), place(0), START)
    (first,) = rules.due(START)
    told(rules, first, log, waiting={"a"})
    rules.add(letter(), place(1), START + 1)
    (second,) = rules.due(START + POLICY.despam)
    told(rules, second, log, waiting={"a", "b"})

    rules = restarted(log)
    for offset in (0, 1):
        rules.add(letter(), place(offset), START)
    missed = {alert.to: counts([alert]) for alert in rules.due(START + POLICY.despam + 1)}
    assert missed == {frozenset({"a"}): [[1]], frozenset({"a", "b"}): [[1]]}


def test_an_end_that_was_told_meanwhile_stays_told_when_a_slow_channel_takes_the_beginning() -> None:
    rules, log = Grouping(POLICY), dict[bytes, bytes]()
    rules.add(letter(), place(0), START)
    (alert,) = rules.due(START)
    told(rules, alert, log, waiting={"slow"})
    (key,) = log
    over = msgspec.structs.replace(group_told.decode(log[key]), over=True)
    rules.remember(over)
    told(rules, alert, log)
    assert group_told.decode(log[key]).over


CHANNELS = frozenset({"a", "b", "c"})


@dataclass
class Restarting:
    """An alerter and its channels: what one takes is noted; what it has not taken is lost with the process."""

    rules: Grouping = field(default_factory=lambda: Grouping(POLICY))
    log: dict[bytes, bytes] = field(default_factory=dict)
    topic: dict[int, list[str]] = field(default_factory=lambda: {0: [], 1: []})
    flying: list[tuple[Alert, set[str]]] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)

    @property
    def ends(self) -> dict[int, int]:
        return {partition: len(kinds) for partition, kinds in self.topic.items()}

    def send(self, now: float) -> None:
        self.flying += [(alert, set(alert.to or CHANNELS)) for alert in self.rules.due(now)]

    def take(self, channel: str) -> None:
        for alert, waiting in self.flying:
            if channel in waiting:
                self.heard[channel] += sum(summary.count for summary in alert.summaries)
                waiting.discard(channel)
                told(self.rules, alert, self.log, waiting)
        self.flying = [(alert, waiting) for alert, waiting in self.flying if waiting]

    def restart(self, now: float) -> None:
        committed = self.rules.committable(self.ends)
        self.rules, self.flying = restarted(self.log), []
        for partition, kinds in self.topic.items():
            for offset in range(committed[partition], len(kinds)):
                self.rules.add(letter(kinds[offset]), place(offset, partition), now)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hard_bounce", "complaint", "opened"]),
            st.integers(0, 1),
            st.sampled_from(["takes", "takes", "waits", "restart"]),
            st.sampled_from(sorted(CHANNELS)),
            st.sampled_from([0.0, 1.0, 100.0, 400.0]),
        ),
        max_size=30,
    )
)
def test_every_channel_tells_every_letter_once_whichever_hangs_and_whenever_the_alerter_restarts(
    steps: list[tuple[str, int, str, str, float]],
) -> None:
    found, now = Restarting(), START
    for kind, partition, what, channel, pause in steps:
        now += pause
        found.topic[partition].append(kind)
        found.rules.add(letter(kind), place(len(found.topic[partition]) - 1, partition), now)
        found.send(now)
        if what == "takes":
            found.take(channel)
        elif what == "restart":
            found.restart(now)
    while found.flying or found.rules.untold_letters:
        now += 400
        found.send(now)
        for channel in CHANNELS:
            found.take(channel)
    assert {channel: found.heard[channel] for channel in CHANNELS} == dict.fromkeys(CHANNELS, len(steps))
    assert found.rules.committable(found.ends) == found.ends
