"""The environment: defaults, refusals that name the variable, and the secrets."""

import logging
import re

import pytest

from pipeline import settings
from pipeline.errors import ConfigError
from pipeline.logs import SELDOM_SECONDS, Seldom
from tests import hostile

VARIABLES = [name for name, _, _ in settings.documented()]


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INGRESS_DEADLINE_SECONDS", "inf"),
        ("INGRESS_DEADLINE_SECONDS", "1e300"),
        ("PROCESSOR_SESSION_TIMEOUT_SECONDS", "inf"),
        ("PROCESSOR_MAX_REJECTED_SHARE", "nan"),
        ("INGRESS_WORKERS", "1e3"),
        ("INGRESS_WORKERS", "99999999999999999999"),
        ("KAFKA_BOOTSTRAP_SERVERS", "h:99999"),
        ("KAFKA_BOOTSTRAP_SERVERS", "h:0"),
        ("KAFKA_BOOTSTRAP_SERVERS", "[::1:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,256.1.1.1:2"),
        ("INGRESS_HOST", "256.1.1.1"),
        ("INGRESS_HOST", "[::1]"),
        ("INGRESS_HOST", "a" * 64),
        ("TOPIC_PREFIX", "a\n"),
    ],
)
def test_a_value_that_would_end_the_process_later_is_refused_with_its_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is .*: expected "):
        settings.load({name: value})


@pytest.mark.parametrize("servers", ["kafka:9092", " a:1 , [::1]:2,127.0.0.1:65535", "m\u00fcller.example:9092"])
def test_brokers_are_named_as_one_names_hosts(servers: str) -> None:
    assert settings.load({"KAFKA_BOOTSTRAP_SERVERS": servers}).kafka_bootstrap_servers == servers


def refusal(name: str, value: str) -> str:
    """What is said against a value, empty if it is taken."""
    try:
        settings.load({name: value})
    except ConfigError as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize("name", VARIABLES)
def test_any_value_of_any_setting_is_taken_or_refused_in_one_line_with_its_name(name: str) -> None:
    for value in (*hostile.NUMBERS, *hostile.TEXTS):
        said = refusal(name, value)
        # Settings of TLS and users are refused where nothing would use them, which names another one, too.
        assert not said or said.startswith((f"{name} is ", "KAFKA_")), value[:50]
        assert "\n" not in said
        assert len(said) < 1000


def test_every_number_has_both_ends() -> None:
    numbers = [found for found in settings.schema().values() if found.get("type") in ("integer", "number")]
    assert len(numbers) > 20
    assert all({"minimum", "exclusiveMinimum"} & found.keys() and "maximum" in found for found in numbers)


def test_every_setting_says_what_it_means() -> None:
    documented = settings.documented()
    for name, _, meaning in documented:
        # A meaning that only repeats the name says nothing.
        words = set(re.findall(r"[a-z]{3,}", meaning.lower()))
        assert len(words - set(name.lower().split("_"))) >= 2, f"{name}: {meaning}"
    assert len({meaning for _, _, meaning in documented}) == len(documented)


def test_a_library_that_repeats_itself_is_heard_once() -> None:
    heard, seldom = [], Seldom()
    for at, text in ((0.0, "away %s"), (1.0, "away %s"), (2.0, "other"), (SELDOM_SECONDS + 0.5, "away %s")):
        record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, ("x",), None)
        record.created = at
        heard.append(seldom.filter(record))
    assert heard == [True, False, True, True]
