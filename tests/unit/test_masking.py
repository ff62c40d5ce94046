"""What may be shown of a text without being asked to: nothing of an address but its domain."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from console.letter_view import printable
from pipeline import contract, deadletter, logs, masking
from pipeline.addresses import address
from pipeline.contract import EventType
from pipeline.errors import Unreadable
from pipeline.settings import Settings
from processor import guard, metrics
from processor.decide import Changes
from tests.unit.records import event

#: An at sign as a URL, JSON, Python and HTML write it, once and again, and the two that normalising makes one.
AT_SIGNS = (
    *("@", "＠", "﹫", "%40", "%2540", "%252540", "%EF%BC%A0", "%ef%b9%ab", "%25EF%25BC%25A0", "%u0040"),
    *(
        r"\u0040",
        r"\U00000040",
        r"\u{40}",
        r"\\u0040",
        r"\x40",
        r"\uff20",
        r"\uFE6B",
        r"\xef\xbc\xa0",
        r"\\xef\\xb9\\xab",
    ),
    *(
        "&#64;",
        "&#064;",
        "&#64",
        "&#x40;",
        "&#X0040;",
        "&commat;",
        "&Commat;",
        "&amp;#64;",
        "&amp;amp;commat;",
        "&#xff20;",
    ),
)
#: Who is looked for: no other part of a text has this letter, whatever becomes of it.
Q = "q"
LOCALS = st.text(min_size=0, max_size=20).map(lambda middle: f"{Q}{middle}{Q}")
WRITTEN = (
    *(
        "{}{}",
        '"{}"{}',
        "({}){}",
        "{}(a comment){}",
        "(a comment){}{}",
        "{}（全 角）{}",
        "mailto:{}{}",
        "<{}{}>",
        "({}{}",
    ),
    *("ann (nested (a b) c){}{}", "{}(a (b c) d){}", ").{}{}", "o'{}{}", "a@b.example,{}{}", "@relay.example:{}{}"),
)
SURROUNDINGS = st.text(max_size=30).filter(lambda text: Q not in text.lower()) | st.text(
    "\"'()<>[]{}@%&\\ \nab4025;", max_size=30
)


@pytest.mark.parametrize(
    ("given", "masked"),
    [
        ("ann@example.com", "…@example.com"),
        ("to ann.o'neil+tag@example.com, bob@x.io", "to …@example.com, …@x.io"),
        ("o'brien@example.com", "…@example.com"),
        ('"ann lee"@x.io', "…@x.io"),
        ("'ann lee'@x.io and <bob the boss>@x.io", "…@x.io and …@x.io"),
        ('"ann@home lee"@x.io', "…@x.io"),
        (r"to \"ann lee\"@x.io", "to …@x.io"),
        ('5" wide, for ann@x.io', '5" wide, for …@x.io'),
        ("jane(the doe)@x.io and (see below) ann@x.io", "…@x.io and (see below) …@x.io"),
        ("1) ann@x.io 2) bob@x.io", "1) …@x.io 2) …@x.io"),
        ("/suppressions/ann%40x.io", "…%40x.io"),
        (r"jane.doe\u0040example.com", r"…\u0040example.com"),
        ("ann@x.io,bob@y.io", "…@y.io"),
        ("postgresql://us:secret@host/db", "…@host/db"),
        ("jürgen@müller.example", "…@müller.example"),
        ("a\0b@x.io", "…@x.io"),
        ("no address here", "no address here"),
        ("    @decorated\na @ b", "    @decorated\na @ b"),
        ("50% of 40, a\\b & c", "50% of 40, a\\b & c"),
    ],
)
def test_what_stands_before_an_at_sign_is_hidden(given: str, masked: str) -> None:
    assert masking.text(given) == masked


@given(LOCALS, st.sampled_from(WRITTEN), st.sampled_from(AT_SIGNS), SURROUNDINGS, SURROUNDINGS)
def test_no_name_of_an_address_is_left_in_any_spelling_in_any_text(
    local: str, written: str, at: str, before: str, after: str
) -> None:
    # What is no address could be anything, such as two words.
    if address(f"{local}@x.io") is None:
        local = f"{Q}nn"
    assert Q not in masking.text(before + written.format(local, f"{at}x.io") + after).lower()


def test_every_form_that_is_looked_for_is_an_address() -> None:
    """Those that are none are hidden all the same."""
    found = [written.format("qnn", "@x.io") for written in WRITTEN]
    assert sum(address(text) == "qnn@x.io" for text in found) >= 7


@given(st.text("\"'()<>[]@%&\\ u0462;5x#ab\n", max_size=40) | st.text())
def test_masking_twice_changes_nothing(text: str) -> None:
    once = masking.text(text)
    assert masking.text(once) == once


@given(st.text("\"'()@%40 ab", max_size=40), st.integers(1, 40))
def test_what_is_cut_is_what_would_be_shown_of_the_whole(text: str, longest: int) -> None:
    shown, whole = masking.cut(text, longest), masking.text(text)
    assert len(shown) <= longest
    assert shown == whole or shown == f"{whole[: longest - 1]}…"


class Counted(str):
    """A text that counts the characters that masking takes from it, or walks over."""

    looked_at = 0

    def __getitem__(self, key: object) -> str:
        piece = super().__getitem__(key)  # type: ignore[index]
        self.looked_at += len(piece)
        return piece

    def rfind(self, *arguments: object) -> int:
        end = int(arguments[2])  # type: ignore[call-overload]
        found = super().rfind(*arguments)  # type: ignore[arg-type]
        self.looked_at += end - max(found, int(arguments[1]))  # type: ignore[call-overload]
        return found


HOSTILE = (
    *("@", "a", '"', ")", "(", " ", "%", "&", "\\", "%25", "&amp;", "25", "a@ ", "a@", '"@', '"a @', "'@\"@", "x )@"),
    *(
        "<a>@",
        "a >@",
        ") ",
        "( ) ",
        ")(",
        '" ',
        '@ "',
        "(@)",
        "]@",
        "{@}",
        "%EF%BC",
        r"\xef",
        "&#0",
        "&amp;#x0",
        "' \"@",
    ),
)


@pytest.mark.parametrize("part", HOSTILE)
@pytest.mark.parametrize("frame", ["{}", '"{}"@', "({})@", "<{}>@", "{}@", "%{}", "&{}", "&#{}"])
def test_work_grows_with_the_length_of_a_text_and_no_faster(part: str, frame: str) -> None:
    text = Counted(frame.format(part * 1000))
    masking.text(text)
    assert text.looked_at <= 12 * len(text)


@pytest.mark.parametrize(
    "part", ["x", '"', "%", "%25", "25", "&", "&amp;", "amp;", "0", "\\", "%EF%BC", r"\xef\xbc", '"email" ']
)
@pytest.mark.parametrize("frame", ["{}", "%{}", "&{}", "&#{}", r"\u{{{}"])
def test_a_long_text_without_an_at_sign_is_searched(part: str, frame: str) -> None:
    """Nobody counts what a pattern does: tried again at each character, one of these would take minutes."""
    given = frame.format(part * (200_000 // len(part)))
    assert masking.payload(given.encode()) == (given, [])


@pytest.mark.parametrize(
    "written",
    [
        b'{"data":{"email":"ann@example.com"}}',
        rb'{"data":{"email":"ann\u0040example.com"}}',
        b'{"data":{"email":"ann@example.com"},"note":["for ann@example.com"]}',
        b'{"ann@example.com":1}',
        b'{"data":{"email":"ann@example.com"',
        b"ann@example.com",
        b'\xff{"email":"ann@example.com"}',
        b'{"email":' + b"[" * 5000,
        b'{"email":["ann@example.com","ann and bob"]}',
        b'{"data":{"email":"ann at example.com"},"note":"ann at example.com"}',
        b'{"data":{"email":"ann at example.com", oops',
        b'{"rcpt_to":"ann lee@example.com"}',
        b'{"email":"ann lee <bob@example.com>"}',
        b'{"email":"bob@example.com, ann <bob@example.com>"}',
    ],
)
def test_no_recipient_is_left_in_a_payload(written: bytes) -> None:
    shown, _ = masking.payload(written)
    assert "ann" not in shown


def test_an_event_of_ours_shows_all_but_the_person() -> None:
    shown, recipients = masking.payload(contract.encode(event("ann@example.com")))
    document = json.loads(shown)
    assert (document["email"], document["type"], document["id"]) == ("…@example.com", "hard_bounce", "evt_1")
    assert recipients == []


def test_a_recipient_that_is_no_address_is_masked_in_key_and_messages_too() -> None:
    _, recipients = masking.payload(b'{"email_given":"ann at example.com"}')
    assert masking.text("email: ann at example.com is no address", recipients) == "email: … is no address"


def test_a_letter_of_more_odd_recipients_than_can_be_looked_for_shows_no_text() -> None:
    odd = [f"ann at {number}" for number in range(masking.MOST_RECIPIENTS + 1)]
    shown, recipients = masking.payload(json.dumps({"email": odd, "note": "ann at 7", "count": 3}).encode())
    assert json.loads(shown) == {"email": ["…"] * len(odd), "note": "…", "count": 3}
    assert masking.text("for ann at 7", recipients) == "…"


def test_nothing_shown_moves_the_cursor() -> None:
    assert printable("a\x1b[2Jb\r\n") == "a\\x1b[2Jb\\r\n"


def test_the_message_of_a_dead_letter_is_masked_before_it_is_cut() -> None:
    long = "x" * (deadletter.LONGEST_MESSAGE - 12) + " jane.doe@example.com"
    for error in (Unreadable("for jane.doe@example.com"), Unreadable(long)):
        assert b"jane" not in dict(deadletter.headers(error, stage="ingress", now=0))[deadletter.MESSAGE]


def test_the_reason_of_an_incident_is_masked_before_it_is_cut() -> None:
    assert "jane" not in guard.stopped("records_lost", "x" * 990 + " jane.doe@example.com", 0).reason


def test_no_label_of_a_metric_shows_an_address() -> None:
    """Who writes to the events topic chooses what its records call their provider."""
    metrics.count(3, 1, Changes(end=1, processed=Counter({("ann@x.io", EventType.OPENED): 1})))
    assert metrics.EVENTS.labels("…@x.io", EventType.OPENED)._value.get() == 1


class Odd:
    """What a library might put into a line."""

    def __repr__(self) -> str:
        return "<Odd of ann@example.com>"


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a service writes to its log."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    logs.configure(Settings(log_format=request.param), "tested")
    yield written
    logging.getLogger().handlers, logging.getLogger().level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_no_log_line_shows_an_address_wherever_it_stands_in_it(lines: io.StringIO) -> None:
    values = {
        "error": "ann@x.io",
        "of": ["ann%40x.io"],
        "by": {"ann@x.io": ("ann@x.io",)},
        "odd": Odd(),
        "raw": b"ann@x.io",
    }
    structlog.get_logger("ours").warning("failed: ann@x.io", partition=3, **values)
    logging.getLogger("theirs").warning("for %s", "ann@x.io")
    try:
        raise ValueError("ann@x.io")
    except ValueError:
        structlog.get_logger("ours").exception("stopped by a bug")
        logging.getLogger("theirs").exception("Task exception was never retrieved")
    written = re.sub(r"\x1b\[[0-9;]*m", "", lines.getvalue())
    assert "ann" not in written
    assert written.count("Traceback (most recent call last)") == 2
    assert len(re.findall(r"(?:…|\\u2026)(?:@|%40)x\.io", written)) == 11
