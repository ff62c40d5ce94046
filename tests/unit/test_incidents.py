"""Incidents: one key per cause whatever the lane, and nothing unreadable taken for one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipeline import incidents
from pipeline.errors import Undecodable
from pipeline.incidents import Incident

OPEN = Incident(kind="circuit_open", subject="crm", since=1_000, reason="TimeoutError: no answer within 10 s")


def test_an_incident_survives_the_topic() -> None:
    assert incidents.decode(incidents.encode(OPEN)) == OPEN


def test_the_key_is_the_cause_and_not_the_moment() -> None:
    assert OPEN.key == b"circuit_open/crm"
    assert replace(OPEN, since=2_000, reason="").key == OPEN.key
    assert replace(OPEN, kind="processor_stopped").key != OPEN.key


@pytest.mark.parametrize(
    "value", [b"", b"{}", b'{"v":2}', b"\xff", incidents.encode(OPEN).replace(b"circuit_open", b"")]
)
def test_what_is_no_incident_is_refused(value: bytes) -> None:
    with pytest.raises(Undecodable):
        incidents.decode(value)


def test_a_kind_of_a_newer_release_is_read_and_kept_as_it_is() -> None:
    value = incidents.encode(OPEN).replace(b"circuit_open", b"disk_full")
    read = incidents.decode(value)
    assert (read.key, incidents.encode(read)) == (b"disk_full/crm", value)
