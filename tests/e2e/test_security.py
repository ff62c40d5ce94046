"""Kafka with TLS, users and authorisation: everybody gets in with what is theirs, and nobody with anything else."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from pipeline import kafka, topic_settings
from pipeline.acls import USERS
from pipeline.settings import Settings
from tests.e2e.postlog import postlog
from tests.e2e.secured import PASSWORD, SecuredKafka
from tests.e2e.system import PATIENCE, Service, System, delivery, running, until

SERVICES = ("ingress", "processor", "alerter", "lookup")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A broker that all tests of this file share; nobody may do anything yet."""
    broker = SecuredKafka(tmp_path_factory.mktemp("secured"))
    with broker:
        yield broker
    shutil.rmtree(broker.folder / "data", ignore_errors=True)


@pytest.fixture
def settings(secured: SecuredKafka, tmp_path: Path) -> Settings:
    """The set-up client's, with a prefix of its own; there is no topic yet."""
    return Settings(
        kafka_bootstrap_servers=secured.bootstrap,
        topic_prefix=f"t{secrets.token_hex(4)}.",
        state_dir=str(tmp_path / "state"),
    )


@pytest.fixture
async def system(settings: Settings, tmp_path: Path) -> AsyncIterator[System]:
    """Services of a test's own; whoever starts one gives it what it gets in with."""
    async with running(settings, tmp_path) as mine:
        yield mine


def ended(service: Service) -> tuple[int, str]:
    """Its exit code and what it said."""
    return service.process.wait(PATIENCE), service.said()


async def test_a_pipeline_runs_with_exactly_the_acls_that_the_command_prints(
    secured: SecuredKafka, settings: Settings, system: System
) -> None:
    prefix = {"TOPIC_PREFIX": settings.topic_prefix}
    where: dict[str, str] = {}

    def ask(user: str, *args: str | Path) -> str:
        result = postlog(*args, env=secured.access(user) | prefix | where)
        assert result.returncode == 0, f"{args}: {result.stdout}{result.stderr}"
        return result.stdout

    printed = postlog("acls", env={"KAFKA_BOOTSTRAP_SERVERS": secured.bootstrap} | prefix)
    assert printed.returncode == 0, printed.stderr
    secured.run(printed.stdout.splitlines())
    ask("topics", "topics", "apply")
    async with kafka.admin(settings) as client:
        await topic_settings.put(client, {system.topics.seen.name: {"segment.ms": "7200000"}})
    assert "segment.ms" in ask("topics", "topics", "apply", "--yes")
    for user in ("topics", "console"):
        ask(user, "topics", "check")

    ingress, processor, alerter, lookup = (system.start(name, module=(), **secured.access(name)) for name in SERVICES)
    await system.ready(ingress, processor, alerter, lookup)
    where = {"LOOKUP_PORT": lookup.url.rpartition(":")[2]}
    await system.deliver(ingress, [delivery(f"e{n}", "bounced.hard", f"a{n}@example.com") for n in range(50)])
    # Without a recipient it becomes a dead letter of the processor; unreadable it is one of the ingress.
    assert await system.post(ingress, delivery("nobody", "bounced.hard", "")) == 200
    assert await system.post(ingress, b"[1]") == 200
    ask("console", "suppressions", "add", "operator@example.com", "--because", "test")
    await system.caught_up()
    expected = {f"a{n}@example.com" for n in range(50)} | {"operator@example.com"}
    assert await system.suppressed() == expected
    await until(lambda: knows(system, lookup, "operator@example.com"), "lookup has the operator's word")

    of_processor, of_ingress = sorted(
        each["id"] for each in json.loads(ask("console", "dlq", "list", "--json"))["letters"]
    )
    ask("console", "dlq", "redrive", of_processor)
    ask("console", "dlq", "discard", of_ingress, "--because", "test")
    await until(lambda: told(system), "the alerter has noted what it told")

    assert processor.stop() == 0
    assert "done" in ask("replay", "replay", "--from-beginning", "--yes").lower()
    ask("replay", "replay", "--rebuild", "--yes", "--data", str(processor.state))
    processor.restart()
    await system.ready(processor)
    await system.caught_up()
    assert await system.suppressed() == expected
    assert [service.stop() for service in (ingress, processor, alerter, lookup)] == [0, 0, 0, 0]
    # Nothing was tried that is not allowed, and nobody said the password.
    said = "".join(service.said() for service in system.services)
    assert "uthorization" not in said
    assert PASSWORD not in said


async def knows(system: System, lookup: Service, email: str) -> bool:
    async with system.http.get(f"{lookup.url}/suppressions/{email}") as answer:
        return answer.status == 200 and bool((await answer.json())["suppressed"])


async def told(system: System) -> bool:
    return bool(await system.records(system.topics.alerts))


async def test_with_certificates_alone_everybody_gets_in_under_the_name_in_theirs(
    secured: SecuredKafka, settings: Settings, system: System
) -> None:
    await kafka.apply(settings)
    await secured.allow(settings, kafka.acls(settings))
    ingress, processor, alerter, lookup = (
        system.start(name, module=(), **secured.mutual(secured.authority, name)) for name in SERVICES
    )
    await system.ready(ingress, processor, alerter, lookup)
    await system.deliver(ingress, [delivery("e1", "bounced.hard", "ann@example.com")])
    await until(lambda: knows(system, lookup, "ann@example.com"), "the address is suppressed")
    env = secured.mutual(secured.authority, "console") | {"TOPIC_PREFIX": settings.topic_prefix}
    assert postlog("dlq", "list", env=env).returncode == 0


async def test_the_password_may_come_from_a_file_and_be_proved_in_the_other_way(
    secured: SecuredKafka, settings: Settings, tmp_path: Path
) -> None:
    await kafka.apply(settings)
    await secured.allow(settings, kafka.acls(settings))
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    how = {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256", "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(file)}
    found = postlog("topics", "check", env=secured.access("console", **how, TOPIC_PREFIX=settings.topic_prefix))
    assert found.returncode == 0, found.stderr


#: What is wrong: changes of a good environment, and what is said of it.
WRONG = {
    "authority": ({"KAFKA_TLS_CA": "stranger.pem"}, "shows a wrong certificate", "KAFKA_TLS_CA"),
    "system's authorities": ({"KAFKA_TLS_CA": ""}, "shows a wrong certificate", "KAFKA_TLS_CA"),
    "host name": ({"KAFKA_BOOTSTRAP_SERVERS": "ELSEWHERE"}, "'localhost'", "KAFKA_BOOTSTRAP_SERVERS"),
    "advertised address": ({"KAFKA_BOOTSTRAP_SERVERS": "ASTRAY"}, "Kafka at 127.0.0.1:", "IP address mismatch"),
    "expired": ({"KAFKA_BOOTSTRAP_SERVERS": "EXPIRED"}, "certificate has expired", "Renew it"),
    "password": ({"KAFKA_SASL_PASSWORD": "guess-0123456789"}, "refuses the user 'lookup'", "KAFKA_SASL_USERNAME"),
    "user": ({"KAFKA_SASL_USERNAME": "nobody"}, "refuses the user 'nobody'", "KAFKA_SASL_USERNAME"),
    "mechanism": ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "does not take PLAIN", "KAFKA_SASL_MECHANISM"),
}


def wrong(secured: SecuredKafka, changes: dict[str, str]) -> dict[str, str]:
    """The environment with these changes: files and listeners by name."""
    address = secured.address(changes.get("KAFKA_BOOTSTRAP_SERVERS", "USERS"))
    authority = changes.get("KAFKA_TLS_CA", "authority.pem")
    ca = str(secured.pems / authority) if authority else ""
    return secured.access("lookup") | changes | {"KAFKA_BOOTSTRAP_SERVERS": address, "KAFKA_TLS_CA": ca}


@pytest.mark.parametrize(("changes", "reason", "cure"), WRONG.values(), ids=WRONG.keys())
async def test_who_is_not_trusted_is_refused_at_once_and_told_why(
    secured: SecuredKafka, system: System, changes: dict[str, str], reason: str, cure: str
) -> None:
    service = system.start("lookup", module=(), KAFKA_WAIT_SECONDS="3600", **wrong(secured, changes))
    code, said = ended(service)
    assert code == 2, said
    assert reason in said
    assert cure in said
    assert not [password for password in (PASSWORD, "guess-0123456789") if password in said]

    command = postlog("topics", "check", env=wrong(secured, changes) | {"KAFKA_WAIT_SECONDS": "3600"})
    assert command.returncode == 2
    assert reason in command.stderr


@pytest.mark.parametrize("shown", ["nothing", "a stranger's"])
async def test_without_a_certificate_of_the_right_authority_nobody_gets_in(
    secured: SecuredKafka, system: System, shown: str
) -> None:
    env = secured.mutual(secured.stranger, "lookup")
    if shown == "nothing":
        env |= {"KAFKA_TLS_CERT": "", "KAFKA_TLS_KEY": ""}
    code, said = ended(system.start("lookup", module=(), KAFKA_WAIT_SECONDS="3600", **env))
    assert code == 2, said
    assert "KAFKA_TLS_CERT" in said


@pytest.mark.parametrize("way", ["PLAINTEXT", "SSL", "SASL_SSL"])
def test_a_listener_of_another_kind_cannot_be_told_from_one_that_is_away(secured: SecuredKafka, way: str) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": secured.address("USERS"), "KAFKA_SECURITY": way, "KAFKA_WAIT_SECONDS": "2"}
    if way == "SASL_SSL":
        env = secured.access("lookup") | {"KAFKA_BOOTSTRAP_SERVERS": secured.bootstrap, "KAFKA_WAIT_SECONDS": "2"}
    elif way == "SSL":
        env |= {"KAFKA_TLS_CA": str(secured.authority.file)}
    found = postlog("topics", "check", env=env)
    assert found.returncode == 1, found.stderr
    assert f"KAFKA_SECURITY={way}" in found.stderr


MISSING = {
    "ingress, events": ("ingress", "topic", "email-events", "Write"),
    "ingress, settings": ("ingress", "topic", "email-events.dlq", "DescribeConfigs"),
    "processor, events": ("processor", "topic", "email-events", "Read"),
    "processor, markers": ("processor", "topic", "email-events.seen", "Write"),
    "processor, group": ("processor", "group", "postlog-processor", "Read"),
    "processor, transactions": ("processor", "transactional-id", "postlog-processor-", "Write"),
    "alerter, group": ("alerter", "group", "postlog-alerter", "Read"),
    "alerter, letters": ("alerter", "topic", "email-events.dlq", "Read"),
    "lookup, list": ("lookup", "topic", "email-suppressions", "Read"),
    "lookup, others": ("lookup", "topic", "email-events.seen", "Describe"),
}


@pytest.mark.parametrize(("name", "resource", "of", "operation"), MISSING.values(), ids=MISSING.keys())
async def test_who_lacks_an_acl_says_what_it_may_not_use(
    secured: SecuredKafka, settings: Settings, system: System, name: str, resource: str, of: str, operation: str
) -> None:
    await kafka.apply(settings)
    missing = f"{settings.topic_prefix}{of}"
    acls = kafka.acls(settings)
    granted = [a for a in acls if (a.user, a.resource, a.name, a.operation) != (name, resource, missing, operation)]
    assert len(granted) == len(acls) - 1
    await secured.allow(settings, granted)
    service = system.start(name, module=(), **secured.access(name))
    if name == "ingress":
        # Whether it may write is told when it does.
        await until(lambda: tried(system, service), "it gave up")
    elif name == "processor":
        await feed(secured, system)
    code, said = ended(service)
    assert code == 2, said
    assert missing in said.splitlines()[-1]
    assert "postlog acls" in said


async def tried(system: System, ingress: Service) -> bool:
    """Post to an ingress that may not be there any more; whether it is gone."""
    with contextlib.suppress(aiohttp.ClientError, OSError):
        await system.post(ingress, delivery("e1", "bounced.hard", "ann@example.com"))
    return ingress.process.poll() is not None


async def feed(secured: SecuredKafka, system: System) -> None:
    """Give the processor something to do."""
    ingress = system.start("ingress", module=(), **secured.access("ingress"))
    await system.ready(ingress)
    await system.deliver(ingress, [delivery("e1", "bounced.hard", "ann@example.com")])


async def test_who_may_create_topics_and_not_change_them_is_told_so(
    secured: SecuredKafka, settings: Settings, system: System
) -> None:
    await kafka.apply(settings)
    await secured.allow(settings, [acl for acl in kafka.acls(settings) if acl.operation != "AlterConfigs"])
    name = system.topics.seen.name
    async with kafka.admin(settings) as client:
        await topic_settings.put(client, {name: {"segment.ms": "7200000"}})
    env = secured.access("topics") | {"TOPIC_PREFIX": settings.topic_prefix}
    found = postlog("topics", "apply", "--yes", env=env)
    assert found.returncode == 2, found.stdout
    assert name in found.stderr
    assert "postlog acls" in found.stderr


def test_who_is_granted_nothing_may_do_nothing(secured: SecuredKafka, settings: Settings) -> None:
    for user in USERS:
        found = postlog("topics", "check", env=secured.access(user) | {"TOPIC_PREFIX": settings.topic_prefix})
        assert (found.returncode, found.stdout) == (2, "")
        assert f"{settings.topic_prefix}email-events" in found.stderr
