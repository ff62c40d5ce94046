"""Lines of a file of deliveries."""

import pytest

from console import lines
from pipeline.errors import PostlogError

GOOD = b'{"id":"1","type":"delivered","data":{"email":"a@example.com"}}'


def test_a_line_is_sent_byte_for_byte() -> None:
    odd = b'{ "id" : "1", "type":"x","data":{"email":"\\u00e4@example.com","more":1}, "unknown": [] }'
    assert list(lines.bodies([odd + b"\r\n"], check=True)) == [odd]


def test_blank_lines_are_skipped_and_still_counted() -> None:
    with pytest.raises(PostlogError, match=r"^line 4: "):
        list(lines.bodies([GOOD, b"\n", b"  \n", b"no"], check=True))
    assert list(lines.bodies([b"\n", GOOD, b""], check=True)) == [GOOD]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"type":"x","data":{"email":"a"}}', "required field `id`"),
        (b'{"id":"1","type":"x"}', "required field `data`"),
        (b'{"id":"1","type":"x","data":{}}', "data: .*required field `email`"),
        (b'{"id":7,"type":"x","data":{"email":"a"}}', "id: Expected `str`"),
        (b'{"id":"","type":"x","data":{"email":"a"}}', "id: Expected `str` of length"),
        (b'\xff{"id":"1"}', "malformed"),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_reason(line: bytes, reason: str) -> None:
    with pytest.raises(PostlogError, match=rf"^line 2: .*{reason}"):
        list(lines.bodies([GOOD, line], check=True))


def test_unchecked_lines_are_sent_as_they_are() -> None:
    assert list(lines.bodies([b"{\n", b"\xff"], check=False)) == [b"{", b"\xff"]


def test_a_byte_order_mark_before_the_first_line_is_skipped() -> None:
    one = b'{"id": "1", "type": "complained", "data": {"email": "a@example.com"}}'
    assert list(lines.bodies([b"\xef\xbb\xbf" + one + b"\n", one], check=True)) == [one, one]
