"""A Kafka broker for tests: the one that is named, else one in a container, else a local process."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from console import broker, processes
from console.kafka_jars import VERSION
from console.kafka_properties import Ports, server_properties
from pipeline import kafka
from pipeline.errors import BrokerStartFailed
from pipeline.settings import Settings

log = logging.getLogger(__name__)

IMAGE = f"apache/kafka:{VERSION}"


@contextmanager
def open_broker(folder: Path) -> Iterator[str]:
    """Bootstrap servers of a broker that is there while the context lasts.

    folder  where a local process keeps its data

    Raises BrokerStartFailed naming every way and what stopped it.
    """
    with ExitStack() as stack:
        yield _enter(stack, folder)


def _enter(stack: ExitStack, folder: Path) -> str:
    reason = "not tried"
    if not os.environ.get(broker.VARIABLE, "").strip():
        try:
            return stack.enter_context(in_container())
        except BrokerStartFailed as error:
            reason = str(error)
    return stack.enter_context(broker.open_broker(os.environ, folder, container=reason))


@contextmanager
def in_container() -> Iterator[str]:
    """Bootstrap servers of Apache's own image, where a container engine answers.

    Raises BrokerStartFailed if none does, or the container cannot be had.
    """
    host = engine_host()
    with ExitStack() as stack:
        try:
            # One port number inside and outside: the broker reaches itself by the address that it gives to clients.
            ports = Ports(processes.free_port(), processes.free_port())
            container = DockerContainer(IMAGE, env=image_environment(ports, host))
            stack.enter_context(container.with_bind_ports(ports.broker, ports.broker))
            address = f"{host}:{ports.broker}"
            asyncio.run(kafka.cluster_id(Settings(kafka_bootstrap_servers=address)))
        except Exception as error:  # whatever it is, there is another way to a broker
            log.warning("a container engine answers, but %s does not start there", IMAGE, exc_info=True)
            raise BrokerStartFailed(f"{IMAGE} does not start: {error}") from error
        yield address


def image_environment(ports: Ports, host: str) -> dict[str, str]:
    """Our settings as the image takes them, https://kafka.apache.org/documentation/#docker."""
    settings = server_properties(ports, "/tmp/kafka", listen="0.0.0.0", advertise=host)
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in settings.items()}


def engine_host() -> str:
    """Where containers publish their ports. Raises BrokerStartFailed if no engine answers within seconds."""
    with warnings.catch_warnings():
        # Docker's client leaves its socket open when nobody listens.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            engine = DockerClient(timeout=3)
            engine.client.ping()
            return engine.host()
        except Exception as error:  # there is another way to a broker, and its message will tell this reason
            reason = str(error)
        gc.collect()
    raise BrokerStartFailed(f"no container engine answers ({reason})")
