"""One form of an address, whatever is wrapped around it."""

import unicodedata
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import addresses
from pipeline.addresses import address
from tests.spellings import DOMAIN, DOMAINS, WRAPPERS


@given(
    st.sampled_from(WRAPPERS),
    st.sampled_from(["ann", "Ann", "ANN", "ａｎｎ", "ann(work)"]),
    st.sampled_from(DOMAINS),
)
def test_every_spelling_is_one_address(wrapper: str, local: str, domain: str) -> None:
    assert address(wrapper.format(f"{local}@{domain}")) == f"ann@{DOMAIN}"


@pytest.mark.parametrize(
    "text",
    [
        *("a@example.com,b@example.com", "a@example.com;b@example.com", "a@example.com b@example.com", "a@b@c"),
        *("<a@example.com> <b@example.com>", "b@example.com <a@example.com>", "ann@-x.example", "ann@a..example"),
        *("ann@192.0.2.1", "ann@[999.0.0.1]", "ann@❤.example", "a" * 65 + "@x.io", "ann@" + "x." * 126 + "example"),
        *("a" + "\u0301\u0323" * 60_000 + "@x.de", "&lt;ann@example.com&gt;", "ann@exa mple.com", "ann@x.io\nb@x.io"),
    ],
)
def test_what_could_be_nobody_or_two_people_is_no_address(text: str) -> None:
    assert address(text) is None


def test_a_long_text_is_refused_before_it_costs_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    # To normalise 120,000 combining marks takes 16 s.
    def normalize(form: Literal["NFC", "NFKC"], given: str) -> str:
        assert len(given) <= addresses.LONGEST_GIVEN
        return unicodedata.normalize(form, given)

    monkeypatch.setattr(addresses, "unicodedata", SimpleNamespace(normalize=normalize))
    assert address("a" + "\u0301\u0323" * 60_000 + "@x.de") is None
    assert address("x" * 1_000_000 + "@x.de") is None
    assert address("Ann@example.com") == "ann@example.com"


@pytest.mark.parametrize(
    "text", ["ann@t-online.de", "ann@mail-1.example.co.uk", "ann@xn--bcher-kva.example", "a-b.c+d@x.io"]
)
def test_a_plain_address_costs_one_match(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(addresses, "_unwrapped")
    assert address(text.title()) == text


@pytest.mark.parametrize("text", ["ann@-x.example", "ann@x-.example", "ann@.example"])
def test_a_hyphen_ends_no_label(text: str) -> None:
    assert address(text) is None


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ('"ann"@example.com', "ann@example.com"),
        ('"Ann.Smith+news"@example.com', "ann.smith+news@example.com"),
        ('"a@b"@example.com', '"a@b"@example.com'),
        ('".ann"@example.com', '".ann"@example.com'),
    ],
)
def test_quotes_that_a_local_part_does_not_need_come_off(text: str, one: str) -> None:
    assert address(text) == one
    assert address(one) == one


@pytest.mark.parametrize("text", ["o'brien@example.com", "a_b@_x.example", "ann@[192.0.2.1]", "ann@localhost"])
def test_an_unusual_address_is_one(text: str) -> None:
    assert address(text) == text


def test_an_apostrophe_in_a_name_is_no_quote() -> None:
    assert address("'o'brien@example.com'") == "o'brien@example.com"
    assert address("'a@example.com','b@example.com'") is None


@given(st.text(max_size=30).map(lambda text: f"{text}@x.io") | st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = address(text)
    assert once is None or address(once) == once
