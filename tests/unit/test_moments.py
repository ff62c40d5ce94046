"""A time as a person types it."""

import pytest

from console import moments

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        ("90s", NOW - 90_000),
        ("5m", NOW - 300_000),
        ("2h", NOW - 7_200_000),
        (" 7d ", NOW - 604_800_000),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14 22:13:20", NOW),
        ("2023-11-14", 1_699_920_000_000),
    ],
)
def test_a_time_is_an_age_or_a_date(given: str, ms: int) -> None:
    assert moments.read(given, NOW) == ms


@pytest.mark.parametrize("given", ["", "h", "2w", "-1h", "yesterday", "2023-13-01"])
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        moments.read(given, NOW)


@pytest.mark.parametrize("ms", [-1, 0, NOW, 10**19])
def test_every_number_can_be_shown(ms: int) -> None:
    assert moments.shown(ms).endswith("Z")
