"""A file whose content counts as it is now: what is rotated in it counts without a restart.

A shell over the file. It is looked at when somebody asks, at most once in a while; a change that cannot be read
changes nothing, so that a half-written file locks nobody out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from pipeline.errors import ConfigError

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds between two looks at a file, by default: each is a system call, and some ask for every delivery.
LOOK_SECONDS = 1.0


class Watched(Generic[T]):
    """The value that a file holds. What it is worth is up to `parse`, called with its text."""

    def __init__(
        self, name: str, file: Path, parse: Callable[[str], T], *, cure: str = "", look_seconds: float = LOOK_SECONDS
    ) -> None:
        """name  the setting that names the file; cure  the end of the sentence that says it cannot be read

        Raises ConfigError if it cannot be read, or what parse raises.
        """
        self._name = name
        self._file = file
        self._parse = parse
        self._cure = cure
        self._look_seconds = look_seconds
        self._look_again = time.monotonic() + look_seconds
        self._stamp = self._stamped()
        self._value = parse(self._text())

    def __call__(self) -> T:
        """The value that counts now."""
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + self._look_seconds
            self._look()
        return self._value

    def _look(self) -> None:
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._value = self._parse(self._text())
            log.info("file read again", setting=self._name, file=str(self._file))
        except ConfigError as error:
            log.error("file cannot be read, what it held before stays", setting=self._name, reason=str(error))

    def _stamped(self) -> tuple[int, int, int] | None:
        """What changes when the file does; None while there is none."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _text(self) -> str:
        try:
            return self._file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigError(f"{self._name}: {self._file} cannot be read: {reason}{self._cure}") from None
