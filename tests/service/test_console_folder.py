"""The data folder: one `postlog up` at a time, and how others find it."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from console import claim, running
from console.__main__ import main
from console.running import Folder, Running
from pipeline.errors import ConfigError, PostlogError

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


def test_what_a_former_release_left_open_to_others_is_closed(folder: Folder) -> None:
    for path in (folder.path, folder.kafka, folder.path / "logs"):
        path.mkdir()
        path.chmod(0o755)
    with folder.locked():
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["file", "file/data", "n" * 300])
def test_a_folder_that_cannot_be_made_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^--data: the folder"), Folder(tmp_path / name).locked():
        pass


@pytest.mark.parametrize("name", ["logs", "state", "tmp"])
def test_a_file_where_a_folder_of_ours_belongs_is_refused(name: str, folder: Folder) -> None:
    claim.claim(folder)
    path = folder.path / name
    if path.exists():
        path.rmdir()
    path.touch()
    use = claim.fresh_scratch if name == "tmp" else claim.claim
    with pytest.raises(ConfigError, match=f"^--data: the folder .*{name} cannot be used"):
        use(folder)


def test_a_lock_or_a_secret_that_cannot_be_opened_is_refused(folder: Folder) -> None:
    (folder.path / "lock").mkdir(parents=True)
    for use in (folder.find, lambda: folder.locked().__enter__()):
        with pytest.raises(ConfigError, match=r"^--data: the folder"):
            use()
    folder.secret.mkdir()
    with pytest.raises(ConfigError, match=r"^--data: the folder"):
        folder.secret_or_new()


def test_looking_into_what_is_no_folder_is_an_error_and_not_no_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^--data: the folder"):
        Folder(tmp_path / "file" / "data").find()


def test_a_byte_order_mark_is_no_part_of_the_secret(folder: Folder) -> None:
    with folder.locked():
        folder.secret.write_bytes(b"\xef\xbb\xbfwritten-by-an-editor\r\n")
        assert folder.secret_or_new() == folder.kept_secret() == "written-by-an-editor"


def test_an_empty_secret_file_is_an_error_and_not_a_secret(folder: Folder) -> None:
    with folder.locked():
        folder.secret.touch()
        with pytest.raises(PostlogError, match="remove it"):
            folder.secret_or_new()


def test_a_file_for_addresses_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PostlogError, match=r"file/ready\.json: cannot be written"):
        running.write(tmp_path / "file" / "ready.json", SYSTEM)


def up(*args: str | Path) -> Result:
    """`postlog up` until it finds the port of its lookup taken, which is before anything starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environ = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "LOOKUP_PORT": str(taken.getsockname()[1])}
        result = CliRunner().invoke(main, ["up", *map(str, args)], obj=environ)
    assert result.exit_code == 2, result.output
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("tmp/mine", "tmp/state-of-the-union/mine", "tmp/rebuild-notes", "kafka/tmp/mine", "notes.txt"),
        *("run.json", "lock"),
    ],
)
def test_a_folder_that_holds_what_others_made_is_refused_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    file = tmp_path / "d" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = files(tmp_path)
    result = up("--data", tmp_path / "d")
    assert "is not a data folder of postlog, and holds what others made: " in result.stderr
    assert name.split("/")[0] in result.stderr
    assert files(tmp_path) == before


def test_an_empty_lock_alone_does_not_make_a_foreign_folder_ours(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    for name in ("lock", "tmp/mine"):
        (tmp_path / name).touch()
    assert "holds what others made: lock, tmp" in up("--data", tmp_path).stderr
    assert (tmp_path / "tmp" / "mine").exists()


def test_a_new_or_empty_folder_is_taken_and_taken_again(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new" / "data", tmp_path / "empty"):
        for _ in range(2):
            assert "(lookup)" in up("--data", folder).stderr
            (folder / "deliveries.ndjson").touch()
        assert (folder / claim.MARK).exists()


@pytest.mark.parametrize("left", ["webhook-secret", "logs/ingress.log", "kafka/ports.json"])
def test_the_folder_of_a_former_release_is_taken(tmp_path: Path, left: str) -> None:
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).write_text("x" * 64)
    (tmp_path / "ready.json").touch()
    (tmp_path / "lock").touch()
    assert "(lookup)" in up("--data", tmp_path).stderr


def test_what_other_commands_leave_in_the_folder_does_not_hinder(tmp_path: Path) -> None:
    for name in ("state/processor-1", "tests", "tmp/postlog-scratch-a_0z9xy1", "lost+found"):
        (tmp_path / name).mkdir(parents=True)
    for name in (".DS_Store", "suppressions.db", "suppressions.db-wal"):
        (tmp_path / name).touch()
    assert "(lookup)" in up("--data", tmp_path).stderr


def test_temporary_files_of_the_last_run_are_deleted_and_what_a_link_leads_to_is_not(folder: Folder) -> None:
    claim.claim(folder)
    folder.scratch.mkdir()
    (folder.scratch / "old").touch()
    claim.fresh_scratch(folder)
    assert list(folder.scratch.iterdir()) == []
    elsewhere = folder.path / "elsewhere"
    folder.scratch.rename(elsewhere)
    (elsewhere / "mine").touch()
    folder.scratch.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="remove the link"):
        claim.fresh_scratch(folder)
    assert (elsewhere / "mine").exists()


def test_a_ready_file_that_is_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    notes, ready, link = tmp_path / "notes", tmp_path / "ready.json", tmp_path / "link"
    notes.write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    link.symlink_to(ready)
    for name, why in (("notes", "holds something else"), ("fifo", "is not a plain file")):
        assert why in up("--data", tmp_path / "d", "--ready-file", tmp_path / name).stderr
    assert (notes.read_text(), (tmp_path / "fifo").is_fifo()) == ("mine", True)
    running.write(ready, SYSTEM)
    assert claim.require_ready_file(link) == ready
    assert claim.require_ready_file(tmp_path / "new.json") == tmp_path / "new.json"


@pytest.mark.parametrize(
    "line",
    [
        ("up", "--data", ""),
        ("up", "--ready-file", ""),
        ("status", "--data", ""),
        ("suppressions", "export", ""),
        ("suppressions", "get", "a@example.com", "--url", ""),
        ("suppressions", "list", "--url", " "),
        ("send", "--sample", "1", "--url", ""),
        ("send", "--sample", "1", "--secret", ""),
        ("status", "--lookup-url", ""),
        ("status", "--processor-url", ""),
        ("token", "ann", "--file", ""),
        ("state", "discard", "--state-dir", ""),
    ],
    ids=" ".join,
)
def test_a_variable_that_is_not_set_does_not_mean_what_is_here(
    line: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, line, obj={})
    assert result.exit_code == 2, result.output
    assert "is empty" in result.stderr
    assert list(tmp_path.iterdir()) == []
