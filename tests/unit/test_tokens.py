"""Operators' tokens: only their hashes are kept, and a header bears one or none."""

from __future__ import annotations

import pytest

from pipeline import tokens
from pipeline.errors import ConfigError
from pipeline.tokens import Token


def made(name: str = "ann", scope: tokens.Scope = "read", fill: bytes = b"x") -> tuple[str, Token]:
    return tokens.mint(name, scope, fill * tokens.RANDOM_BYTES)


def test_what_is_kept_tells_whose_a_token_is_and_not_what_it_is() -> None:
    text, kept = made()
    other, another = made("bob", "operate", b"y")
    assert text not in kept.line
    found = tokens.parse(f"# who may look\n\n{kept.line}\n  {another.line}\n", "f")
    assert found == (kept, another)
    assert tokens.holder(found, f"Bearer {text}") == kept
    assert tokens.holder(found, f"bearer  {other} ") == another


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer postlog_wrong", "Basic YW5uOng=", "postlog_x", "Bearer \udcff"]
)
def test_any_other_header_is_nobodys(header: str | None) -> None:
    assert tokens.holder([made()[1]], header) is None


def test_operate_may_look_too_and_read_may_not_operate() -> None:
    reader, operator = made()[1], made(scope="operate")[1]
    assert [reader.may("read"), reader.may("operate"), operator.may("read"), operator.may("operate")] == [
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "line", ["ann read", "ann write " + "0" * 64, "a b read " + "0" * 64, "ann read " + "G" * 64]
)
def test_a_wrong_line_is_named_and_not_repeated(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^tokens, line 2: ") as error:
        tokens.parse(f"\n{line}", "tokens")
    assert line not in str(error.value)


def test_a_file_without_a_token_and_a_name_that_fits_no_line_are_refused() -> None:
    with pytest.raises(ConfigError, match="no token in it"):
        tokens.parse("# nobody yet\n", "tokens")
    with pytest.raises(ConfigError, match="is no name"):
        made("ann smith")
