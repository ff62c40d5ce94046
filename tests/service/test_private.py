"""What holds addresses is closed to other users, and what an operator named keeps its mode."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingress.spool import Spool
from ingress.spooling import Limits
from lookup import app as lookup
from pipeline import private, topics
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from processor import app as processor

TOPICS = topics.load(topics.default_file())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def made(path: Path, mode: int = 0o755) -> Path:
    """A folder as a former release, or an operator, left it."""
    path.mkdir(parents=True)
    path.chmod(mode)
    return path


def test_what_is_made_from_now_on_is_for_us_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        private.from_now_on()
        folder = private.folder(tmp_path / "a" / "b", "STATE_DIR")
        (folder / "file").write_text("ann@example.com")
    finally:
        os.umask(before)
    assert [mode(path) for path in (folder.parent, folder, folder / "file")] == [0o700, 0o700, 0o600]


def test_a_folder_that_is_there_is_used_as_it_is(tmp_path: Path) -> None:
    shared = made(tmp_path / "shared", 0o2775)
    assert mode(private.folder(shared, "STATE_DIR")) == 0o2775


def test_what_a_former_release_left_open_is_closed(tmp_path: Path) -> None:
    ours = made(tmp_path / "ours")
    (ours / "file").touch(0o644)
    private.narrow(ours, ours / "file", tmp_path / "missing")
    assert (mode(ours), mode(ours / "file")) == (0o700, 0o600)


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    elsewhere = made(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(elsewhere)
    private.narrow(tmp_path / "link")
    assert mode(elsewhere) == 0o755


def test_a_mode_that_cannot_be_changed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    ours = made(tmp_path / "ours")
    monkeypatch.setattr(Path, "chmod", refuse)
    with capture_logs() as said:
        private.narrow(ours)
    assert [(line["log_level"], line["path"]) for line in said] == [("warning", str(ours))]


@pytest.mark.parametrize("name", ["file", "file/below", "link-to-nowhere", "n" * 300])
def test_a_folder_that_cannot_be_had_is_refused_with_its_setting(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link-to-nowhere").symlink_to(tmp_path / "link-to-nowhere")
    with pytest.raises(ConfigError, match=r"^STATE_DIR: the folder .* cannot be used: .*\. Name another one\.$"):
        private.folder(tmp_path / name, "STATE_DIR")


async def test_a_spool_closes_its_own_folders_and_leaves_the_one_that_was_named(tmp_path: Path) -> None:
    place = made(tmp_path / "spool")
    names = ("spooled-0", "damaged-spooled-0-rows-1", "somebody-elses")
    kept = [made(place / name) for name in names]
    (kept[0] / "unknown").touch()
    spool = Spool(place, "", Limits(size=1000, age=60.0, waiting=1000))
    await spool.close()
    assert mode(place) == mode(kept[2]) == 0o755
    assert mode(kept[1]) == 0o700
    assert not kept[0].exists() or mode(kept[0]) == 0o700


class Reached(Exception):
    """The service got to where it opens its state."""


def reached(*_: object) -> None:
    raise Reached


async def closes(state: Path, name: str, work: Callable[[Settings], Awaitable[None]]) -> None:
    """Check that a service closes the folder of this name in STATE_DIR, and leaves that one as it is."""
    ours = made(state / name)
    with pytest.raises(Reached):
        await work(Settings(state_dir=str(state)))
    assert (mode(state), mode(ours)) == (0o755, 0o700)


async def test_a_lookup_closes_its_own_folder_and_leaves_the_one_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def known(*_: object) -> topics.Topics:
        return TOPICS

    async def last(*_: object) -> dict[str, int]:
        return {TOPICS.suppressions.name: 0}

    async def cluster(*_: object) -> str:
        return "cluster"

    monkeypatch.setattr("pipeline.kafka.require_topics", known)
    monkeypatch.setattr("pipeline.kafka.cluster_id", cluster)
    monkeypatch.setattr("pipeline.tombstones.last", last)
    monkeypatch.setattr(lookup, "Store", reached)
    await closes(made(tmp_path / "state"), "lookup", lookup.work)


async def test_a_processor_closes_its_own_folder_and_leaves_the_one_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looked(*_: object) -> tuple[topics.Topics, str, dict[str, int], dict[str, str]]:
        return TOPICS, "cluster", {}, {}

    monkeypatch.setattr(processor, "_look_around", looked)
    monkeypatch.setattr(processor, "Lanes", reached)
    await closes(made(tmp_path / "state"), "cluster", processor.main)
