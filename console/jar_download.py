"""Fetch locked jars from Maven Central.

Only `jars` calls it. What always holds: what comes into its place is the locked jar and whole, never a download that
was cut short nor a file that somebody sent in its stead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import requests
import stamina

from console.jars import Jar, Progress
from pipeline.errors import BrokerStartFailed

MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
_TEXT = "Fetching jars from Maven Central, this once"
#: Seconds without a byte.
_PATIENCE = 30.0
_PIECE = 1 << 16


def fetch(jars: Sequence[Jar], folder: Path, progress: Progress) -> None:
    """Put the jars at their places below a folder.

    Raises BrokerStartFailed if Maven Central cannot be reached, or what comes is not what is locked.
    """
    with requests.Session() as session:
        for done, jar in enumerate(jars):
            progress(_TEXT, done, len(jars))
            try:
                _fetch(session, jar, folder / jar.path)
            except requests.RequestException as error:
                raise BrokerStartFailed(
                    f"{jar.name} cannot be fetched from {MAVEN_CENTRAL} ({error}). "
                    "It is fetched once: connect to the network (HTTPS_PROXY is honoured), then try again"
                ) from error


def _fetch(session: requests.Session, jar: Jar, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f"{place.name}.partial")
    try:
        for attempt in stamina.retry_context(on=requests.RequestException, attempts=4, timeout=120.0):
            with attempt:
                found = _download(session, jar, partial)
        if found != jar.sha256:
            raise BrokerStartFailed(
                f"{MAVEN_CENTRAL}/{jar.path} came as another file: its SHA-256 is {found}, locked is {jar.sha256}. "
                "Something between here and Maven Central changes files: try again through another network"
            )
        partial.rename(place)
    finally:
        partial.unlink(missing_ok=True)


def _download(session: requests.Session, jar: Jar, partial: Path) -> str:
    """Write what Maven Central has under the jar's path into a file; its SHA-256."""
    digest = hashlib.sha256()
    with session.get(f"{MAVEN_CENTRAL}/{jar.path}", stream=True, timeout=_PATIENCE) as answer:
        answer.raise_for_status()
        with partial.open("wb") as file:
            for piece in answer.iter_content(_PIECE):
                digest.update(piece)
                file.write(piece)
    return digest.hexdigest()
