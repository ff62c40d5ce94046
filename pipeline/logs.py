"""How every service logs: structlog on standard error, as lines or as JSON, never a whole record or address.

Whatever a line says, a library's and a traceback too, goes through `masking` before it is written.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TextIO, cast

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from pipeline import masking
from pipeline.settings import Settings

#: Seconds in which a library may say the same thing once: clients say many times a second that a broker is away.
SELDOM_SECONDS = 10.0
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Seldom(logging.Filter):
    """Lets a library's message through once in SELDOM_SECONDS, whatever its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write this one."""
        said = record.name, str(record.msg)
        if record.created < self._next.get(said, 0.0):
            return False
        self._next[said] = record.created + SELDOM_SECONDS
        return True


class Malformed(logging.Filter):
    """Says of a request that is none who sent it, and nothing else: aiohttp would show its bytes, and a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True: every record is written, some as other ones."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg = str(record.msg).replace("Error handling request", "malformed request")
        return True


class Sparing:
    """Says the same once in SELDOM_SECONDS, with how often it happened: a flood must not fill the log."""

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._unsaid: Counter[tuple[str, ...]] = Counter()
        self._say_again: dict[tuple[str, ...], float] = {}

    def warning(self, event: str, *, latest: Mapping[str, Any] = NOTHING, **which: str) -> None:
        """which  has few values, and tells whether it is the same; latest is only shown"""
        key = (event, *which.values())
        self._unsaid[key] += 1
        now = self._clock()
        if now >= self._say_again.get(key, now):
            self._log.warning(event, count=self._unsaid.pop(key), **which, **latest)
            self._say_again[key] = now + SELDOM_SECONDS


class Stream:
    """Where lines go. One that cannot be written is dropped: a full disk of the log must not fail a request."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, text: str) -> int:
        """How many characters there were, written or not."""
        with suppress(OSError):
            self._to.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits, if that is possible."""
        with suppress(OSError):
            self._to.flush()


def masked(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Processor of structlog, after `format_exc_info` and before what renders: no address is in the line."""
    return {name: masking.value(item) for name, item in line.items()}


def configure(settings: Settings, service: str) -> None:
    """Set logging up for this process; every line carries the service's name. Call once, first."""
    stream = cast(TextIO, Stream(sys.stderr))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        # It warns of a traceback that is made before, unless it would make a plain one itself.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, masked, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, masked, renderer],
        )
    )
    handler.addFilter(Malformed())
    handler.addFilter(Seldom())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # Both build debug records even when nobody reads them; on the hot path that costs.
    for name in ("aiokafka", "faust", "mode", "apprise"):
        logging.getLogger(name).setLevel(logging.WARNING)
