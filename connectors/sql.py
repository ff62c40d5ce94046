"""`HANDLERS=connectors.sql`: keep the suppression list in a table of SQLite or PostgreSQL.

A shell over SQLAlchemy. What always holds: a row never loses a fact, whoever writes in whatever order, because facts
are joined and a write takes place only if the row is still the one that was read. A processor that was frozen in the
middle of a write and woke up behind its successor therefore changes nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, MetaData, String, Table, Text, insert, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pipeline import private, ranges
from pipeline.contract import Event
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.suppression import Facts, Suppression
from processor import suppressions
from processor.handler import Handler, Permanent

#: The drivers that come with postlog, by the database's name in a URL.
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
#: Connections to PostgreSQL. SQLite has one writer.
CONNECTIONS = 8
#: How often somebody else may be quicker in one try.
ROUNDS = 10
#: Class of SQLSTATE (ISO/IEC 9075-2) for values that the database does not take.
DATA_EXCEPTION = "22"

TABLE = Table(
    "suppressions",
    MetaData(),
    Column("email", String(320), primary_key=True),
    Column("suppressed", Boolean, nullable=False, index=True),
    Column("causes", Text, nullable=False, comment="comma-separated: hard_bounce, complaint, unsubscribed, operator"),
    Column("updated_at", BigInteger, nullable=False, comment="time of the newest fact, ms since the epoch"),
    Column("facts", Text, nullable=False, comment="JSON; what postlog joins with"),
)

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Facts).decode


def handlers(settings: Settings) -> list[Handler]:
    """The handler that these settings describe. Raises ConfigError naming the variable and the cure."""
    engine = engine_of(settings.connector_sql_url)
    return [Handler("sql", Upsert(engine), types=suppressions.SPEAKING, concurrency=4)]


def engine_of(given: str) -> AsyncEngine:
    """An engine that does not connect yet. Raises ConfigError; a password in the URL is not shown."""
    try:
        url = make_url(given)
        found = DRIVERS.get(url.drivername)
        url = url.set(drivername=found) if found else url
        if url.get_backend_name() == "sqlite":
            _make_folder(url)
            return create_async_engine(url, hide_parameters=True, pool_size=1, max_overflow=0)
        if url.port is not None and not 1 <= url.port <= ranges.LAST_PORT:
            raise ValueError
        return create_async_engine(
            url, hide_parameters=True, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True
        )
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        # What they say may quote the URL, and with it a password.
        raise ConfigError(
            f"CONNECTOR_SQL_URL is none that SQLAlchemy takes ({type(error).__name__}). "
            "Use sqlite:///path/of/file.db or postgresql://user:password@host/database"
        ) from None


def _make_folder(url: URL) -> None:
    # In memory it would be gone with the process, and differ from one to the next.
    if not url.database or url.database == ":memory:":
        raise ValueError
    private.folder(Path(url.database).parent, "CONNECTOR_SQL_URL")


class Upsert:
    """Writes one address; the table is made by the first call."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._making = asyncio.Lock()
        self._made = False

    async def __call__(self, event: Event, suppression: Suppression | None) -> None:
        """Return once the row knows what the list knows. Raises Permanent for what no database would take."""
        if suppression is None:
            return
        await self._make_table()
        try:
            for _ in range(ROUNDS):
                async with self._engine.begin() as connection:
                    if await _joined(connection, suppression):
                        return
        except DBAPIError as error:
            state = str(getattr(error.orig, "sqlstate", ""))
            if state.startswith(DATA_EXCEPTION):
                raise Permanent(f"the database refuses the value: SQLSTATE {state}") from None
            raise
        raise OSError("others write the same row all the time")

    async def close(self) -> None:
        """Let go of the connections."""
        await self._engine.dispose()

    async def _make_table(self) -> None:
        async with self._making:
            if not self._made:
                async with self._engine.begin() as connection:
                    await connection.run_sync(TABLE.metadata.create_all)
                self._made = True


async def _joined(connection: AsyncConnection, suppression: Suppression) -> bool:
    """Whether the row holds the facts now; False if somebody else wrote it between our look and our write."""
    email = suppression.email
    found: str | None = await connection.scalar(select(TABLE.c.facts).where(TABLE.c.email == email))
    if found is None:
        try:
            async with connection.begin_nested():
                await connection.execute(insert(TABLE).values(email=email, **_columns(suppression)))
        except IntegrityError:
            return False
        return True
    known = _decode(found)
    joined = suppressions.join(known, suppression.facts)
    if joined == known:
        return True
    values = _columns(Suppression.of(email, joined))
    written = await connection.execute(
        update(TABLE).where(TABLE.c.email == email, TABLE.c.facts == found).values(**values)
    )
    return written.rowcount == 1


def _columns(suppression: Suppression) -> dict[str, Any]:
    return {
        "suppressed": suppression.suppressed,
        "causes": ",".join(sorted(suppression.causes)),
        "updated_at": suppression.updated_at,
        "facts": _encode(suppression.facts).decode(),
    }
