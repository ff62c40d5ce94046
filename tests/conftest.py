"""What service and e2e tests share: a PostgreSQL server, with a database of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.postgres import open_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server that all tests share."""
    with open_postgres() as url:
        yield url


@pytest.fixture
async def postgres(postgres_server: str) -> AsyncIterator[str]:
    """URL of an empty database, which goes after the test."""
    name = f"t{secrets.token_hex(4)}"
    connection = await asyncpg.connect(postgres_server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()
