"""Owed calls: what follows from how a try went, and the order in which they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import contract, deadletter
from pipeline.contract import EventType
from pipeline.deadletter import Source
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from processor import calls, letters, plugins
from processor.calls import Call, Dead, Outcome, after
from processor.handler import Handler, Permanent, Retry, TryLater
from tests.unit.records import NOON, FakeRecord, event, record


async def nothing(*_: object) -> None: ...


def call(email: str = "ann@example.com", offset: int = 7, **more: int) -> Call:
    return Call(
        handler="crm",
        email=email,
        offset=offset,
        timestamp=NOON,
        key=email.encode(),
        value=contract.encode(event(email)),
        headers=[("h", b"v")],
        **more,
    )


@pytest.mark.parametrize(("tries", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (20, 300), (10_000, 300)])
def test_pauses_double_up_to_the_cap(tries: int, seconds: float) -> None:
    assert Retry().pause(tries, 0.5) == seconds


def test_jitter_makes_a_pause_longer_by_a_share() -> None:
    assert Retry(jitter=0.5).pause(2, 0.5) == 2.5


def test_a_call_that_succeeds_is_not_owed_any_more() -> None:
    assert after(call(), None, Retry(), now=NOON, chance=0) is None


def test_a_call_that_fails_is_owed_later_and_remembers_when_it_failed_first() -> None:
    once = after(call(), OSError(), Retry(), now=NOON, chance=0)
    assert isinstance(once, Call)
    assert (once.tries, once.due, once.first_failure) == (1, NOON + 1000, NOON)
    twice = after(once, OSError(), Retry(), now=NOON + 1500, chance=0)
    assert isinstance(twice, Call)
    assert (twice.tries, twice.due, twice.first_failure) == (2, NOON + 3500, NOON)


def test_the_last_try_that_fails_makes_a_dead_letter() -> None:
    tried = call(tries=4, first_failure=NOON - 9)
    assert after(tried, OSError(), Retry(tries=5), now=NOON, chance=0) == Dead(5, NOON - 9)


def test_what_is_permanent_is_not_tried_again() -> None:
    assert after(call(), Permanent("gone"), Retry(), now=NOON, chance=0) == Dead(1, NOON)


@pytest.mark.parametrize(("asked", "pause"), [(30, 30_000), (0.1, 1000)])
def test_a_handler_may_ask_for_a_longer_pause_but_not_for_a_shorter_one(asked: float, pause: int) -> None:
    later = after(call(), TryLater(asked), Retry(), now=NOON, chance=0)
    assert isinstance(later, Call)
    assert later.due == NOON + pause


def test_asking_to_wait_uses_up_tries_like_any_failure() -> None:
    assert isinstance(after(call(tries=4), TryLater(1), Retry(), now=NOON, chance=0), Dead)


def test_outcomes_become_rows_tombstones_and_dead_letters() -> None:
    done, failed, dead = call("a@x.io"), call("b@x.io"), call("c@x.io", tries=4)
    outcomes = [Outcome(done, None), Outcome(failed, OSError("down")), Outcome(dead, OSError("down"))]
    settled = calls.settle(outcomes, {"crm": Handler("crm", nothing)}, now=NOON, chance=lambda: 0.0)
    assert settled.due == {done.row: None, failed.row: NOON + 1000, dead.row: None}
    assert {row for row, value in settled.rows.items() if value is None} == {done.row, dead.row}
    assert [used_up.call for used_up in settled.dead] == [dead]
    assert [outcome for _, outcome in settled.outcomes] == ["done", "failed", "given_up"]


def test_the_letter_of_a_call_is_the_original_record_with_who_gave_up_and_how_often_it_tried() -> None:
    outcome = Outcome(call(tries=4, first_failure=NOON - 9), OSError("down"))
    settled = calls.settle([outcome], {"crm": Handler("crm", nothing)}, now=NOON, chance=lambda: 0.0)
    ((key, value, headers),) = letters.of_used_up(settled.dead, topic="t", partition=3, group="g", now=NOON)
    letter = deadletter.read(FakeRecord(0, value, key, NOON, headers))
    assert (key, value) == (outcome.call.key, outcome.call.value)
    assert (letter.handler, letter.error, letter.message, letter.tries) == ("crm", "builtins.OSError", "down", 5)
    assert (letter.source, letter.first_failure) == (Source("t", 3, 7, NOON, "g"), NOON - 9)
    assert deadletter.original_headers(headers) == [("h", b"v")]


@given(st.text("ab@é.", min_size=1), st.integers(0, 2**62), st.integers(0, 2**62))
def test_the_rows_of_a_line_sort_as_the_log_does(email: str, one: int, two: int) -> None:
    first, second = call(email, one), call(email, two)
    assert (first.row < second.row) == (one < two)
    assert calls.line_of(first.row) == calls.line_of(second.row)


def test_different_addresses_and_handlers_have_different_lines() -> None:
    assert calls.line_of(call("a@x.io").row) != calls.line_of(call("a@x.iox").row)


def test_an_owed_call_survives_encoding_with_the_record_it_is_for() -> None:
    made = record(7, event(), headers=[("h", b"v")])
    (owed,) = calls.owed(event(), made, {EventType.HARD_BOUNCE: ("crm",)})
    assert calls.decode(calls.encode(owed)) == owed
    assert (owed.key, owed.value, owed.headers) == (made.key, made.value, [("h", b"v")])


def test_handlers_are_wanted_by_their_types() -> None:
    some = {"a": Handler("a", nothing, frozenset({EventType.OPENED})), "b": Handler("b", nothing)}
    assert calls.wanted(some)[EventType.OPENED] == ("a", "b")
    assert calls.wanted(some)[EventType.CLICKED] == ("b",)
    assert calls.wanted({}) == {}


HEAD = "from processor.handler import Handler, Retry\nasync def f(event, suppression): ...\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nowhere_to_be_found", "cannot be loaded"),
        (HEAD, "expected processor.handler.Handler values"),
        (HEAD + "handlers = []", "expected processor.handler.Handler values"),
        (HEAD + "handlers = [f, 3]", "expected processor.handler.Handler values"),
        (HEAD + "handlers = [Handler('Has Blanks', f)]", "name: use"),
        (HEAD + "handlers = [Handler('a', f), Handler('a', f)]", "names are unique"),
        (HEAD + "handlers = [Handler('a', print)]", "async def handle"),
        (HEAD + "handlers = [Handler('a', f, timeout=0)]", "timeout must be above 0"),
        (HEAD + "handlers = [Handler('a', f, retry=Retry(tries=0))]", "at least 1"),
    ],
)
def test_a_module_that_cannot_serve_is_refused_with_its_name_and_the_reason(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    name = f"plugged_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=words) as caught:
        plugins.load(Settings(handlers=name))
    assert "HANDLERS" in str(caught.value)


def test_handlers_are_loaded_by_name_and_none_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugged_well.py").write_text(HEAD + "handlers = [Handler('a', f), Handler('b', f)]")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(plugins.load(Settings(handlers=" plugged_well, "))) == ["a", "b"]
    assert plugins.load(Settings(handlers="")) == {}
