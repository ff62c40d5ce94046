"""The data folder of `postlog up`: what it keeps there, and how other commands find a running system by it.

What always holds: one `postlog up` per folder, and `find` answers only while that one runs, because it asks the lock
and not the file, which survives a kill -9.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline import private
from pipeline.errors import PostlogError

#: What names the folder.
OPTION = "--data"
#: Folders begin so in which a command works that runs without `postlog up`; `tempfile` adds eight characters.
SCRATCH = "postlog-scratch-"


class Running(msgspec.Struct, frozen=True, omit_defaults=True):
    """Addresses of a running system, `host:port` for Kafka, URLs for the services.

    processor  the first one, empty if there is none
    pids       process ids by service name, in run.json only
    """

    kafka: str
    ingress: str
    lookup: str
    processor: str
    alerter: str
    processors: list[str]
    pids: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Folder:
    """Where everything of one local system lies."""

    path: Path

    @property
    def kafka(self) -> Path:
        """The local broker's own folder."""
        return self.path / "kafka"

    @property
    def secret(self) -> Path:
        """The generated signing secret, nothing else in the file."""
        return self.path / "webhook-secret"

    @property
    def run(self) -> Path:
        """The addresses and process ids while the system runs."""
        return self.path / "run.json"

    @property
    def scratch(self) -> Path:
        """The services' temporary files: one that was killed leaves them here and not on the machine."""
        return self.path / "tmp"

    def log(self, service: str) -> Path:
        """What a service wrote to its standard outputs."""
        return self.path / "logs" / f"{service}.log"

    def state(self, service: str, number: int) -> Path:
        """The state of the n-th process of a service, counted from 1."""
        return self.path / "state" / f"{service}-{number}"

    def states(self, service: str) -> list[Path]:
        """The state of every process of a service that ever ran here."""
        return sorted((self.path / "state").glob(f"{service}-*"))

    @property
    def lock(self) -> Path:
        """Held by the `postlog up` that runs here; always empty."""
        return self.path / "lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep this folder to ourselves, and from other users what lies in it.

        Raises ConfigError if it cannot be used, PostlogError if another `postlog up` has it.
        """
        private.folder(self.path, OPTION)
        private.narrow(self.path)
        with self._usable():
            lock = self.lock.open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PostlogError(
                    f"postlog up already runs on {self.path}: stop it first, or give this one another folder "
                    "with --data (and --ports auto)."
                ) from None
            yield

    def find(self) -> Running | None:
        """The system that runs on this folder now, None if none does.

        Raises ConfigError if the folder is not ours to look into, PostlogError if what is noted there is damaged.
        """
        return self._read() if self.held() else None

    def held(self) -> bool:
        """Whether a `postlog up` runs on this folder now, also one that has no addresses yet. Raises ConfigError."""
        try:
            # Read-only: asking must not make a folder that was never used.
            with self._usable(), self.lock.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turns what the system says of the folder into a ConfigError; not that something is missing or taken."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, BlockingIOError):
            raise
        except OSError as error:
            raise private.unusable(self.path, OPTION, error) from None

    def _read(self) -> Running | None:
        try:
            return msgspec.json.decode(self.run.read_bytes(), type=Running)
        except FileNotFoundError:
            return None  # it is still starting its broker
        except msgspec.MsgspecError as error:
            raise PostlogError(f"{self.run}: {error}. Start postlog up again.") from None

    def secret_or_new(self) -> str:
        """The signing secret kept here; the first call makes one."""
        try:
            with self._usable():
                return self.kept_secret() or self._new_secret()
        except FileExistsError:
            raise PostlogError(f"{self.secret} is empty: remove it, and the next start makes a new secret.") from None

    def kept_secret(self) -> str | None:
        """The signing secret kept here, None if there is none."""
        return self.secret.read_text("utf-8-sig").strip() if self.secret.exists() else None

    def _new_secret(self) -> str:
        secret = secrets.token_hex(32)
        # Created for us alone, rather than narrowed after others could have read it.
        descriptor = os.open(self.secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret)
        return secret


def write(path: Path, running: Running) -> None:
    """Write the addresses so that a reader sees all of them or no file. Raises PostlogError naming the path."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(running) + b"\n")
        partial.replace(path)
    except OSError as error:
        raise PostlogError(f"{path}: cannot be written: {error.strerror}") from None
