"""How every service reaches Kafka: client options, waiting for it, and the check of its topics.

A shell over aiokafka's admin client; `pipeline.topics` holds the rules.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import stamina
import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from pipeline import bootstrap, differences, security
from pipeline import topics as rules
from pipeline.acls import Acl, needed
from pipeline.differences import Difference
from pipeline.errors import KafkaUnavailable, TopicsMismatch
from pipeline.live import live_topics
from pipeline.settings import Settings
from pipeline.topics import Topics

log = structlog.get_logger(__name__)

bootstrap.install()

T = TypeVar("T")

#: Largest request a producer of ours sends: a dead letter with a body of the size limit, in bytes.
LARGEST_REQUEST = 4 * 1024 * 1024
#: How long one of the brokers may take to let us in before another one is tried.
REACH_SECONDS = 5.0
#: How long `let_go` takes at most.
LEAVE_SECONDS = 2.0


#: How long a broker may take for an answer, in ms; then a connection on which nothing comes back is given up.
#: aiokafka would wait for 40 s.
REQUEST_TIMEOUT_MS = 15_000


def client_options(settings: Settings, *, request_timeout_ms: int = REQUEST_TIMEOUT_MS) -> dict[str, Any]:
    """Options that every aiokafka client takes. Raises ConfigError if those of TLS or SASL cannot be used."""
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": f"{settings.topic_prefix}postlog",
        "request_timeout_ms": request_timeout_ms,
        **security.options(settings),
    }


def topics_of(settings: Settings) -> Topics:
    """The topics that these settings name. Raises ConfigError."""
    path = Path(settings.topics_file) if settings.topics_file else rules.default_file()
    return rules.load(
        path,
        prefix=settings.topic_prefix,
        replication=settings.topic_replication or None,
        min_insync=settings.topic_min_insync_replicas or None,
    )


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of a cluster that answers.

    Raises KafkaUnavailable when none does within KAFKA_WAIT_SECONDS, and at once KafkaRefused when one does not let
    us in: no waiting mends that.
    """
    try:
        async for attempt in stamina.retry_context(
            on=(KafkaError, OSError), timeout=settings.kafka_wait_seconds, attempts=None, wait_max=2.0
        ):
            with attempt:
                client = await _connect(settings)
    except (KafkaError, OSError) as error:
        raise KafkaUnavailable(
            f"Kafka at {settings.kafka_bootstrap_servers} did not answer within {settings.kafka_wait_seconds:g} s "
            f"({error}): is it up, are KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY={settings.kafka_security} right?"
        ) from None
    try:
        yield client
    finally:
        # Over TLS a connection may take 30 s to be closed by both sides, and nobody waits for that.
        await asyncio.wait([asyncio.ensure_future(client.close())], timeout=LEAVE_SECONDS)


async def _connect(settings: Settings) -> AIOKafkaAdminClient:
    client = AIOKafkaAdminClient(**client_options(settings))
    try:
        await client.start()
        await _reach(client, settings)
    except BaseException as error:
        await client.close()
        servers = collect_hosts(settings.kafka_bootstrap_servers)
        if isinstance(error, KafkaError | ValueError) and (refused := await security.refusal(settings, servers)):
            raise refused from None
        raise
    return client


async def _reach(client: AIOKafkaAdminClient, settings: Settings) -> None:
    """Return once one of the brokers can be had by the address that it gives itself, which is another matter.

    Raises KafkaRefused if one does not let us in there, KafkaConnectionError if all are away.
    """
    brokers = list(client._client.cluster.brokers())
    for broker in random.sample(brokers, len(brokers)):
        # One that is frozen must not hold up a start that the others can serve.
        with suppress(TimeoutError):
            async with asyncio.timeout(REACH_SECONDS):
                if await client._client.ready(broker.nodeId):
                    return
    if refused := await security.refusal(settings, [(broker.host, broker.port) for broker in brokers]):
        raise refused
    raise KafkaConnectionError(f"no way to {', '.join(f'{broker.host}:{broker.port}' for broker in brokers)}")


def group_of(settings: Settings, service: Literal["processor", "alerter"]) -> str:
    """The name of a service's consumer group."""
    return f"{settings.topic_prefix}postlog-{service}"


def lane_id(group: str, partition: int) -> str:
    """The transactional id of a lane: whoever starts a producer with it fences every other owner of the lane."""
    return f"{group}-{partition}"


async def ask(settings: Settings, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    """The answer to a question that changes nothing, asked again while a part of the cluster is away.

    aiokafka's admin client asks any broker it has heard of, also one that is down.

    Raises KafkaUnavailable when there was no answer within KAFKA_WAIT_SECONDS.
    """
    try:
        async for attempt in stamina.retry_context(
            on=_may_pass, timeout=settings.kafka_wait_seconds, attempts=None, wait_max=2.0
        ):
            with attempt:
                async with admin(settings) as client:
                    return await question(client)
    except KafkaError as error:
        if not error.retriable:
            raise
        raise KafkaUnavailable(
            f"Kafka at {settings.kafka_bootstrap_servers} did not answer within {settings.kafka_wait_seconds:g} s "
            f"({error!r}): are enough of its brokers up?"
        ) from None
    raise AssertionError("a retry ends with an answer or an error")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, KafkaError) and error.retriable


def acls(settings: Settings) -> list[Acl]:
    """What each service must be allowed on the cluster. Raises ConfigError."""
    return needed(
        topics_of(settings),
        {"processor": group_of(settings, "processor"), "alerter": group_of(settings, "alerter")},
    )


async def check(settings: Settings) -> list[Difference]:
    """How the live cluster differs from topics.yaml. Raises ConfigError, KafkaRefused, KafkaUnavailable."""
    topics = topics_of(settings)
    return differences.differences(topics, await ask(settings, lambda client: live_topics(client, topics)))


async def apply(settings: Settings) -> tuple[list[str], list[Difference]]:
    """Create the topics that are missing; (names created, differences that remain).

    Raises ConfigError, KafkaUnavailable, and KafkaError if the cluster refuses one.
    """
    topics = topics_of(settings)
    async with admin(settings) as client:
        found = differences.differences(topics, await live_topics(client, topics))
        missing = {difference.topic for difference in found if difference.missing}
        new = [
            NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=topic.settings())
            for topic in topics.all()
            if topic.name in missing
        ]
        if new:
            response = await client.create_topics(new)
            for name, code, message, *_ in response.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(f"{name}: {message}")
            await _until_visible(client, {topic.name for topic in new})
        return sorted(missing), [difference for difference in found if not difference.missing]


async def _until_visible(client: AIOKafkaAdminClient, names: set[str]) -> None:
    """Brokers learn of a new topic a moment after the controller; a producer that asks too early would fail."""
    async for attempt in stamina.retry_context(on=LookupError, timeout=30.0, attempts=None, wait_max=0.5):
        with attempt:
            described = await client.describe_topics(sorted(names))
            unready = [
                t["topic"] for t in described if t["error_code"] or any(p["leader"] < 0 for p in t["partitions"])
            ]
            if unready:
                raise LookupError(unready)


async def require_topics(settings: Settings) -> Topics:
    """The topics, once the cluster answers and has them as topics.yaml says. Every service calls this first.

    Raises ConfigError, KafkaUnavailable, and TopicsMismatch naming each difference that matters, and its cure.
    """
    found = await check(settings)
    for harmless in [each for each in found if each.harmless]:
        there = {"topic": harmless.topic, harmless.what: harmless.cluster, "in_topics_yaml": harmless.file}
        log.warning("a topic is not what topics.yaml says, which is harmless", **there, cure=harmless.cure)
    if serious := [each for each in found if not each.harmless]:
        lines = [f"  {d.topic}: {d.what} is {d.cluster}, topics.yaml says {d.file}. {d.cure}" for d in serious]
        raise TopicsMismatch("\n".join(["the cluster's topics are not what topics.yaml says:", *lines]))
    return topics_of(settings)


async def require_group(settings: Settings, service: Literal["processor", "alerter"]) -> None:
    """Return only if the service may look at its group: Faust would wait for ever, without a word, to join it.

    Raises KafkaRefused with the group's name.
    """
    name = group_of(settings, service)
    async with admin(settings) as client:
        try:
            await client.find_coordinator(name)
        except GroupAuthorizationFailedError:
            raise security.not_allowed("group", name) from None
        except KafkaError as error:
            # On a new cluster there is no coordinator yet; the consumer asks again by itself.
            if not error.retriable:
                raise


async def cluster_id(settings: Settings) -> str:
    """The cluster's own id; local state is kept apart by it, since offsets of another cluster mean nothing here."""
    described = await ask(settings, lambda client: client.describe_cluster())
    return str(described.get("cluster_id") or "unknown")


async def let_go(*clients: Any) -> None:
    """Disconnect consumers and producers, so that a successor need not wait; no Kafka that is away holds us up.

    clients  also such that were never started
    """
    leaving = [asyncio.ensure_future(client.stop()) for client in clients]
    # Not awaited itself: while the broker is away, aiokafka's stop ends in a cancellation that nobody asked for.
    await asyncio.wait(leaving, timeout=LEAVE_SECONDS)
    for client in leaving:
        if client.done() and not client.cancelled():
            client.result()
