"""What tests on a real Kafka share: one broker for all, topics of its own for each, and a broker to break."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline.settings import Settings
from tests.broker import open_broker
from tests.e2e import secured
from tests.e2e.system import System, running


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker that all tests share. Never stop it; `own_kafka` is for that."""
    folder = tmp_path_factory.mktemp("kafka")
    with secured.session(folder) if os.environ.get(secured.VARIABLE) else open_broker(folder) as address:
        yield address
    # pytest keeps the folders of some runs; the log is worth that, the data is not.
    shutil.rmtree(folder / "data", ignore_errors=True)


@pytest.fixture
async def settings(bootstrap: str, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings of a pipeline of its own on the shared broker: its topics are there, and go after the test."""
    mine = Settings(
        kafka_bootstrap_servers=bootstrap,
        topic_prefix=f"t{secrets.token_hex(4)}.",
        state_dir=str(tmp_path / "state"),
    )
    await kafka.apply(mine)
    await secured.grant(mine)
    yield mine
    async with kafka.admin(mine) as client:
        await client.delete_topics(
            [name for name in await client.list_topics() if name.startswith(mine.topic_prefix)]
        )


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """A started broker that a test may stop, kill and start again; it has no topics."""
    with LocalKafka(tmp_path / "kafka") as broker:
        yield broker
    shutil.rmtree(broker.folder / "data", ignore_errors=True)


@pytest.fixture
async def system(settings: Settings, tmp_path: Path) -> AsyncIterator[System]:
    """Services of a test's own on the shared broker."""
    async with running(settings, tmp_path) as mine:
        yield mine
