"""The cache of Kafka's jars: what it trusts, and what it fetches again."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from console import kafka_jars
from console.kafka_jars import Progress, class_path
from pipeline.errors import BrokerStartFailed

JARS = {"org/b.jar": b"bbbb", "org/a.jar": b"a"}


class Fetch:
    """Maven Central as a folder full of jars; it counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, folder: Path, progress: Progress) -> list[Path]:
        self.asked += 1
        for name, content in JARS.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return [folder / name for name in JARS]


def version_folder(cache: Path) -> Path:
    return cache / f"kafka-{kafka_jars.VERSION}"


def test_the_jars_come_in_the_order_of_the_class_path(tmp_path: Path) -> None:
    jars = class_path(cache=tmp_path, fetch=Fetch())
    assert [jar.read_bytes() for jar in jars] == list(JARS.values())
    assert jars == [version_folder(tmp_path) / name for name in JARS]


def test_a_later_start_fetches_nothing(tmp_path: Path) -> None:
    fetch = Fetch()
    first = class_path(cache=tmp_path, fetch=fetch)
    assert class_path(cache=tmp_path, fetch=fetch) == first
    assert fetch.asked == 1


def remove_jar(folder: Path) -> None:
    (folder / "org/a.jar").unlink()


def cut_jar(folder: Path) -> None:
    (folder / "org/b.jar").write_bytes(b"bb")


def remove_list(folder: Path) -> None:
    (folder / "class-path.json").unlink()


def garble_list(folder: Path) -> None:
    (folder / "class-path.json").write_text("{")


@pytest.mark.parametrize("damage", [shutil.rmtree, remove_jar, cut_jar, remove_list, garble_list])
def test_a_cache_that_is_not_as_it_was_is_filled_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    fetch = Fetch()
    class_path(cache=tmp_path, fetch=fetch)
    damage(version_folder(tmp_path))
    assert [jar.read_bytes() for jar in class_path(cache=tmp_path, fetch=fetch)] == list(JARS.values())
    assert fetch.asked == 2


def test_a_cache_of_other_packages_is_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Fetch()
    class_path(cache=tmp_path, fetch=fetch)
    monkeypatch.setattr(kafka_jars, "WANTED", (*kafka_jars.WANTED, "org.example:another:1"))
    class_path(cache=tmp_path, fetch=fetch)
    assert fetch.asked == 2


def test_an_interrupted_fetch_leaves_nothing_that_a_later_start_trusts(tmp_path: Path) -> None:
    def interrupted(folder: Path, progress: Progress) -> list[Path]:
        (folder / "half.jar").write_bytes(b"b")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        class_path(cache=tmp_path, fetch=interrupted)
    assert not version_folder(tmp_path).exists()

    fetch = Fetch()
    class_path(cache=tmp_path, fetch=fetch)
    assert fetch.asked == 1
    assert not list(tmp_path.rglob("half.jar"))


def test_of_two_starts_at_once_the_second_waits_and_finds_the_jars_there(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    fetch = Fetch()

    def slow(folder: Path, progress: Progress) -> list[Path]:
        begun.set()
        assert go_on.wait(10)
        return fetch(folder, progress)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(class_path, cache=tmp_path, fetch=slow)
        assert begun.wait(10)
        second = pool.submit(class_path, cache=tmp_path, fetch=fetch)
        go_on.set()
        assert first.result(10) == second.result(10)
    assert fetch.asked == 1


def test_a_cache_that_cannot_be_written_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerStartFailed, match=r"file/kafka-.*XDG_CACHE_HOME"):
        class_path(cache=tmp_path / "file", fetch=Fetch())


def test_the_cache_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kafka_jars.default_cache() == tmp_path / "postlog"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert kafka_jars.default_cache() == Path.home() / ".cache" / "postlog"
