"""The environment: defaults, refusals that name the variable, and the secrets."""

import logging
import re

import pytest

from pipeline import settings
from pipeline.errors import ConfigError
from pipeline.logs import SELDOM_SECONDS, Seldom


def test_an_empty_environment_gives_the_defaults() -> None:
    assert settings.load({}) == settings.load({"INGRESS_PORT": "", "UNRELATED": "x"}) == settings.Settings()


def test_variables_are_read_by_their_upper_case_names() -> None:
    loaded = settings.load({"INGRESS_PORT": "9", "INGRESS_DEADLINE_SECONDS": "1.5", "LOG_FORMAT": "json"})
    assert (loaded.ingress_port, loaded.ingress_deadline_seconds, loaded.log_format) == (9, 1.5, "json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INGRESS_PORT", "http"),
        ("INGRESS_PORT", "70000"),
        ("INGRESS_DEADLINE_SECONDS", "0"),
        ("INGRESS_WORKERS", "0"),
        ("LOG_LEVEL", "loud"),
        ("TOPIC_PREFIX", "a b"),
        ("TOPIC_REPLICATION", "-1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is '{re.escape(value)}'"):
        settings.load({name: value})


def test_every_setting_says_what_it_means() -> None:
    assert all(name.isupper() and meaning for name, _, meaning in settings.documented())


def test_a_library_that_repeats_itself_is_heard_once() -> None:
    heard, seldom = [], Seldom()
    for at, text in ((0.0, "away %s"), (1.0, "away %s"), (2.0, "other"), (SELDOM_SECONDS + 0.5, "away %s")):
        record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, ("x",), None)
        record.created = at
        heard.append(seldom.filter(record))
    assert heard == [True, False, True, True]
