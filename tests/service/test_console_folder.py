"""The data folder: one `postlog up` at a time, and how others find it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from console import running
from console.running import Folder, Running
from pipeline.errors import PostlogError

SYSTEM = Running(
    kafka="127.0.0.1:9092",
    ingress="http://127.0.0.1:8080",
    lookup="http://127.0.0.1:8083",
    processor="http://127.0.0.1:8081",
    alerter="http://127.0.0.1:8082",
    processors=["http://127.0.0.1:8081"],
    pids={"ingress": 7},
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data")


def test_a_folder_is_for_one_system_at_a_time(folder: Folder) -> None:
    with folder.locked(), pytest.raises(PostlogError, match="already runs"), folder.locked():
        pass
    with folder.locked():
        pass


def test_a_running_system_is_found_by_its_folder(folder: Folder) -> None:
    with folder.locked():
        assert folder.find() is None, "it has not written its addresses yet"
        running.write(folder.run, SYSTEM)
        assert folder.find() == SYSTEM


def test_addresses_that_a_killed_system_left_behind_are_not_believed(folder: Folder) -> None:
    with folder.locked():
        running.write(folder.run, SYSTEM)
    assert folder.run.exists()
    assert folder.find() is None


def test_looking_for_a_system_makes_no_folder(folder: Folder) -> None:
    assert folder.find() is None
    assert not folder.path.exists()


def test_a_secret_is_made_once_and_is_for_its_owner_alone(folder: Folder) -> None:
    with folder.locked():
        first = folder.secret_or_new()
        assert len(first) == 64
        assert folder.secret_or_new() == first == folder.kept_secret() == folder.secret.read_text()
    assert stat.S_IMODE(folder.secret.stat().st_mode) == 0o600


def test_an_empty_secret_file_is_an_error_and_not_a_secret(folder: Folder) -> None:
    with folder.locked():
        folder.secret.touch()
        with pytest.raises(PostlogError, match="remove it"):
            folder.secret_or_new()


def test_a_file_for_addresses_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PostlogError, match=r"file/ready\.json: cannot be written"):
        running.write(tmp_path / "file" / "ready.json", SYSTEM)
