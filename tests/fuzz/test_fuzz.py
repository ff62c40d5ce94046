"""The short cut of `make fuzz` that is part of every test run."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.conftest import bootstrap, settings, system  # noqa: F401 - fixtures
from tests.e2e.system import System
from tests.fuzz import bodies, over_http
from tests.fuzz.readers import READERS


@pytest.mark.parametrize("reader", sorted(READERS))
def test_whatever_the_bytes_are_a_reader_answers(reader: str) -> None:
    chance = random.Random(reader)
    for _ in range(2_000):
        READERS[reader](bodies.body(chance))

    @given(st.binary(max_size=500) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def holds(data: bytes) -> None:
        READERS[reader](data)

    holds()


async def test_hostile_requests_break_nothing_and_leave_nothing(system: System) -> None:  # noqa: F811
    ingress = over_http.start(system)
    await system.ready(ingress)
    found = await over_http.attack(system, ingress, seed=1, inputs=10_000, progress=lambda _: None)
    assert found.problems == []
    assert found.answers["signed", 200] > 4_000
    assert found.answers["forged", 401] > 1_000
