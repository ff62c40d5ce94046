"""Which errors of joining a group a person has to mend, and what they are told."""

from __future__ import annotations

import re

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    UnknownError,
    UnsupportedVersionError,
    for_code,
)

from pipeline import groups


def told(error: BaseException) -> str | None:
    found = groups.refusal(error, "postlog-x", timeout="SESSION_SECONDS is 5", others="another release")
    return None if found is None else str(found)


def wrapped(error: BaseException) -> KafkaError:
    """As aiokafka wraps what it has no branch for."""
    return KafkaError(repr(error))


def surprising(error: BaseException) -> KafkaError:
    """As aiokafka wraps what it did not expect."""
    raised = KafkaError(f"Unexpected error during coordination {error!r}")
    raised.__cause__ = error
    return raised


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InvalidSessionTimeoutError(), "SESSION_SECONDS is 5, and Kafka.*group.min.session.timeout.ms.*group.max"),
        (InconsistentGroupProtocolError(), "group postlog-x has members.*: another release. Stop those"),
        (GroupAuthorizationFailedError("postlog-x"), "use the group postlog-x: postlog acls"),
        (wrapped(for_code(81)()), "postlog-x has as many members as the brokers allow.*group.max.size"),
        (wrapped(UnsupportedVersionError()), "the brokers do not know.*postlog-x.*Kafka 2.5"),
        (surprising(NotImplementedError("no version")), "the brokers do not know"),
    ],
)
def test_what_waiting_does_not_mend_names_what_does(error: BaseException, words: str) -> None:
    assert re.search(words, told(error) or "")


@pytest.mark.parametrize("error", [wrapped(UnknownError()), KafkaError("heartbeat"), AssertionError()])
def test_what_a_new_start_may_mend_is_no_refusal(error: BaseException) -> None:
    assert told(error) is None
