"""Whatever a setting says, each service starts as far as it can without Kafka, or refuses with the setting's name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
import stamina
import uvloop

from alerter import app as alerter
from ingress import app as ingress
from lookup import app as lookup
from pipeline import settings as environment
from pipeline import topics
from pipeline.errors import ConfigError, KafkaUnavailable
from pipeline.settings import Settings
from processor import app as processor
from tests import hostile

SERVICES: Mapping[str, Callable[[Settings], Awaitable[None]]] = {
    "ingress": ingress.main,
    "processor": processor.main,
    "alerter": alerter.main,
    "lookup": lookup.main,
}
#: Whose settings begin with a word that is not its name.
OWNERS = {
    "WEBHOOK": "ingress",
    "HANDLERS": "processor",
    "CONNECTOR": "processor",
    "LANE": "processor",
    "ALERT": "alerter",
}
#: Settings of several services that each reads on its own; the rest of what is for all is read in one place.
SHARED = {"STATE_DIR": ("processor", "lookup"), "OPERATOR_TOKENS_FILE": tuple(SERVICES)}
load_topics = cache(topics.load)
#: Nobody answers there, and that is soon known.
NO_KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_WAIT_SECONDS": "0.001"}
ENOUGH = {"WEBHOOK_SECRET": "long-enough", "INGRESS_PORT": "0", "INGRESS_DRAIN_SECONDS": "0.001"}
USER = {"KAFKA_SECURITY": "SASL_PLAINTEXT", "KAFKA_SASL_USERNAME": "ann", "KAFKA_SASL_PASSWORD": "secret"}
POST = {
    "HANDLERS": "connectors.http",
    "CONNECTOR_HTTP_URL": "http://127.0.0.1:9/",
    "CONNECTOR_HTTP_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
}
#: What has to be set for a setting to count, by how its name begins; None: unset.
NEEDED: Mapping[str, Mapping[str, str | None]] = {
    "KAFKA_TLS": {"KAFKA_SECURITY": "SSL"},
    "KAFKA_SASL": USER,
    "KAFKA_SASL_PASSWORD_FILE": USER | {"KAFKA_SASL_PASSWORD": None},
    "WEBHOOK_SECRET_FILE": {"WEBHOOK_SECRET": None},
    "CONNECTOR_HTTP": POST,
    "CONNECTOR_SQL": {"HANDLERS": "connectors.sql"},
}


def readers(name: str) -> tuple[str, ...]:
    """The services that read a setting."""
    first = name.partition("_")[0]
    if first.lower() in SERVICES:
        return (first.lower(),)
    return SHARED.get(name) or (OWNERS.get(first, "lookup"),)


CASES = [(service, name) for name, _, _ in environment.documented() for service in readers(name)]


def environ(name: str, value: str) -> dict[str, str]:
    """An environment in which this setting counts."""
    needed: dict[str, str | None] = {**ENOUGH, **NO_KAFKA}
    for beginning, more in NEEDED.items():
        if name.startswith(beginning):
            needed |= more
    return {variable: text for variable, text in needed.items() if text is not None} | {name: value}


async def outcome(service: str, environ: Mapping[str, str]) -> Exception | None:
    """What the service ends with before it needs Kafka; None if it serves without."""
    said, tells = os.pipe()
    serves = asyncio.Event()
    asyncio.get_running_loop().add_reader(said, serves.set)
    try:
        settings = environment.load({"INGRESS_STARTED_FD": str(tells), **environ})
        main = asyncio.ensure_future(SERVICES[service](settings))
        serving = asyncio.ensure_future(serves.wait())
        await asyncio.wait([main, serving], return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        if not main.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await main
    except (ConfigError, KafkaUnavailable) as error:
        return error
    finally:
        asyncio.get_running_loop().remove_reader(said)
        os.close(said)
        with contextlib.suppress(OSError):  # the ingress closes it when it serves
            os.close(tells)
    return None


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kafka is asked once: nobody would answer. A topics.yaml is read once. Garbage is collected as tests have it."""
    monkeypatch.setattr("pipeline.topics.load", load_topics)
    monkeypatch.setattr("pipeline.service.collect_seldom", lambda _: None)
    stamina.set_active(False)
    yield
    stamina.set_active(True)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("service", "name"), CASES, ids=str)
def test_any_value_lets_a_service_start_or_is_refused_with_its_name(
    service: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    # A blank one counts as not set.
    for value in filter(str.strip, (*hostile.NUMBERS, *hostile.TEXTS, *hostile.paths(tmp_path))):
        ended = uvloop.run(outcome(service, environ(name, value)))
        if isinstance(ended, ConfigError):
            assert name in str(ended), value
            assert len(str(ended).splitlines()) == 1, value
