"""Commands that find nobody where they ask: they say where a `postlog up` runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from console import whereabouts
from console.__main__ import main
from console.processes import free_port
from console.running import Folder
from pipeline import kafka
from pipeline.errors import KafkaUnavailable
from pipeline.settings import Settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / ".local/state/postlog/running").glob("*"))


@contextmanager
def running(environ: dict[str, str], *paths: Path) -> Iterator[None]:
    """What `postlog up` does on each of these folders, as far as others see it."""
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(Folder(path).locked())
            stack.enter_context(whereabouts.remembered(environ, Folder(path)))
        yield


def postlog(environ: dict[str, str], *args: str) -> Result:
    return CliRunner().invoke(main, args, obj=environ)


def test_what_runs_is_known_to_its_user_alone_and_only_while_it_runs(tmp_path: Path, environ: dict[str, str]) -> None:
    paths = {tmp_path / "a", tmp_path / "bücher"}
    with running(environ, *paths):
        assert set(whereabouts.known(environ)) == paths
        modes = [stat.S_IMODE(path.stat().st_mode) for path in entries(tmp_path)]
        assert (modes, stat.S_IMODE(entries(tmp_path)[0].parent.stat().st_mode)) == ([0o600] * 2, 0o700)
    assert (whereabouts.known(environ), entries(tmp_path)) == ([], [])


def test_a_relative_folder_is_known_by_its_whole_path(tmp_path: Path, environ: dict[str, str]) -> None:
    with running(environ, Path(".data")):
        assert whereabouts.known(environ) == [tmp_path / "here" / ".data"]


def test_an_entry_that_was_left_behind_is_dropped(tmp_path: Path, environ: dict[str, str]) -> None:
    with whereabouts.remembered(environ, Folder(tmp_path / "killed")):
        (entry,) = entries(tmp_path)
        assert whereabouts.known(environ) == []
        assert not entry.exists()
    with running(environ, tmp_path / "a"):
        (entry,) = entries(tmp_path)
        (entry.parent / "0").write_bytes(b"relative")
        assert whereabouts.known(environ) == [tmp_path / "a"]
        assert entries(tmp_path) == [entry]


def test_an_entry_that_nobody_can_read_hides_no_other(tmp_path: Path, environ: dict[str, str]) -> None:
    with running(environ, tmp_path / "a"):
        (entry,) = entries(tmp_path)
        (entry.parent / "0").mkdir()
        assert whereabouts.known(environ) == [tmp_path / "a"]


def test_a_link_is_no_entry_and_is_not_followed(tmp_path: Path, environ: dict[str, str]) -> None:
    with running(environ, tmp_path / "a"):
        (entry,) = entries(tmp_path)
        entry.rename(tmp_path / "entry")
        entry.symlink_to(tmp_path / "entry")
        assert whereabouts.known(environ) == []
        assert entry.is_symlink()


@pytest.mark.parametrize("home", ["", "relative", "{tmp}/a-file", "{tmp}/missing"])
def test_without_a_home_nothing_is_kept_and_nothing_fails(tmp_path: Path, home: str) -> None:
    (tmp_path / "a-file").touch()
    environ = {"HOME": home.format(tmp=tmp_path)}
    with running(environ, tmp_path / "a"):
        assert whereabouts.known(environ) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a", "a-file", "here"}
    assert list((tmp_path / "here").iterdir()) == []


def test_nothing_is_kept_in_a_home_of_another_user(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with running(environ, tmp_path / "a"):
        assert whereabouts.known(environ) == []
    assert not (tmp_path / ".local").exists()


async def nobody(settings: Settings) -> None:
    raise KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap_servers} did not answer")


def test_a_command_that_no_kafka_answers_names_what_runs_elsewhere(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "check", nobody)
    result = postlog(environ, "topics", "check")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: Kafka at 127.0.0.1:9092 did not answer\nNo postlog up runs on ")
    assert f"{tmp_path / 'here' / '.data'}. Start one, or say where the system is: --data" in result.stderr
    with running(environ, tmp_path / "a", tmp_path / "b"):
        said = postlog(environ, "topics", "check").stderr.strip().rpartition(": give ")[2]
        assert set(said.removesuffix(".").split(" or ")) == {f"--data {tmp_path / name}" for name in "ab"}
    with Folder(Path(".data")).locked():
        assert "is still starting: ask again" in postlog(environ, "topics", "check").stderr


def test_brokers_that_somebody_named_are_not_explained_away(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "check", nobody)
    result = postlog(environ | {"KAFKA_BOOTSTRAP_SERVERS": "kafka-1.example:9092"}, "topics", "check")
    assert result.stderr == "error: Kafka at kafka-1.example:9092 did not answer\n"


@pytest.mark.parametrize(
    "line",
    [
        ("suppressions", "get", "a@example.com"),
        ("suppressions", "list"),
        ("suppressions", "export", "--csv"),
        ("status",),
        ("send", "--sample", "1", "--tries", "1", "--secret", "a-secret-for-tests"),
    ],
    ids=" ".join,
)
def test_a_command_that_no_service_answers_names_what_runs_elsewhere(
    tmp_path: Path, environ: dict[str, str], line: tuple[str, ...]
) -> None:
    ports = {f"{service}_PORT": str(free_port()) for service in ("INGRESS", "LOOKUP", "PROCESSOR", "ALERTER")}
    with running(environ, tmp_path / "a"):
        result = postlog(environ | ports, *line)
        assert result.exit_code == 1
        assert f"Running elsewhere: give --data {tmp_path / 'a'}." in result.stderr
        if line[0] == "suppressions":
            named = postlog(environ, *line, "--url", f"http://127.0.0.1:{free_port()}")
            assert "no " in named.stderr
            assert "Running elsewhere" not in named.stderr
