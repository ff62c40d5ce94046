"""The cache of jars: what it trusts, and what it fetches again."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import lock_jars, streams
from console import jars, kafka_jars
from console.jars import Jar, Progress, class_path
from pipeline.errors import BrokerStartFailed

CONTENT = {"org/b-1.jar": b"b" * 4096, "org/a-1.jar": b"a"}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """The lock file of two jars."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in CONTENT.items()]
    file = tmp_path / "some.lock"
    file.write_text("# a comment\n" + "".join(lines))
    return file


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "some-1"


class Fetch:
    """Maven Central as a folder full of jars; it notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, wanted: Sequence[Jar], folder: Path, progress: Progress) -> None:
        for jar in wanted:
            self.asked.append(jar.path)
            (folder / jar.path).parent.mkdir(exist_ok=True)
            (folder / jar.path).write_bytes(CONTENT[jar.path])


def test_the_jars_come_in_the_order_of_the_lock_file(lock: Path, cache: Path) -> None:
    found = class_path(lock, cache, fetch=Fetch())
    assert [jar.read_bytes() for jar in found] == list(CONTENT.values())
    assert found == [cache / name for name in CONTENT]


def test_a_later_start_fetches_nothing(lock: Path, cache: Path) -> None:
    fetch = Fetch()
    first = class_path(lock, cache, fetch=fetch)
    assert class_path(lock, cache, fetch=fetch) == first
    assert fetch.asked == list(CONTENT)


def remove_jar(folder: Path) -> None:
    (folder / "org/b-1.jar").unlink()


def cut_jar(folder: Path) -> None:
    (folder / "org/b-1.jar").write_bytes(b"bb")


def zero_bytes(folder: Path) -> None:
    """As a broken disk may: size and times are as they were."""
    file = folder / "org/b-1.jar"
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(1000)
        opened.write(bytes(64))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damage", [remove_jar, cut_jar, zero_bytes])
def test_a_jar_that_is_not_as_locked_is_fetched_again_and_no_other(
    damage: Callable[[Path], None], lock: Path, cache: Path
) -> None:
    class_path(lock, cache, fetch=Fetch())
    damage(cache)
    fetch = Fetch()
    assert [jar.read_bytes() for jar in class_path(lock, cache, fetch=fetch)] == list(CONTENT.values())
    assert fetch.asked == ["org/b-1.jar"]


def test_a_folder_that_is_gone_is_filled_again(lock: Path, cache: Path) -> None:
    class_path(lock, cache, fetch=Fetch())
    shutil.rmtree(cache)
    assert [jar.read_bytes() for jar in class_path(lock, cache, fetch=Fetch())] == list(CONTENT.values())


def test_who_changes_a_jar_is_told_which_one_and_it_is_not_used(lock: Path, cache: Path) -> None:
    class_path(lock, cache, fetch=Fetch())
    zero_bytes(cache)
    told: list[str] = []
    class_path(lock, cache, lambda text, done, total: told.append(text), fetch=Fetch())
    assert told == [f"damaged or exchanged in {cache}, and not used: org/b-1.jar"]

    def away(*_: object) -> None:
        raise BrokerStartFailed("b-1.jar cannot be fetched")

    zero_bytes(cache)
    with pytest.raises(BrokerStartFailed, match=r"not used: org/b-1\.jar\. b-1\.jar cannot be fetched"):
        class_path(lock, cache, fetch=away)
    with pytest.raises(BrokerStartFailed, match="not used"):
        class_path(lock, cache, fetch=away)


def test_of_two_starts_at_once_the_second_waits_and_finds_the_jars_there(lock: Path, cache: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    fetch = Fetch()

    def slow(wanted: Sequence[Jar], folder: Path, progress: Progress) -> None:
        begun.set()
        assert go_on.wait(10)
        fetch(wanted, folder, progress)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(class_path, lock, cache, fetch=slow)
        assert begun.wait(10)
        second = pool.submit(class_path, lock, cache, fetch=fetch)
        go_on.set()
        assert first.result(10) == second.result(10)
    assert fetch.asked == list(CONTENT)


def test_a_cache_that_cannot_be_written_is_named_with_its_cure(lock: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerStartFailed, match=r"file/some-1.*XDG_CACHE_HOME"):
        class_path(lock, tmp_path / "file" / "some-1", fetch=Fetch())


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "abc  org/a.jar\n", f"{'0' * 64}  ../a.jar\n", f"{'0' * 64}  /a.jar\n"]
)
def test_a_damaged_lock_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "some.lock").write_text(content)
    with pytest.raises(BrokerStartFailed, match=r"some\.lock is damaged"):
        jars.locked(tmp_path / "some.lock")


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [(kafka_jars.LOCK, lock_jars.KAFKA), (streams.LOCK, lock_jars.STREAMS)],
    ids=["kafka", "streams"],
)
def test_our_lock_files_are_of_this_version_and_name_each_package_once(lock: Path, wanted: Sequence[str]) -> None:
    found = jars.locked(lock)
    names = {jar.name for jar in found}
    assert {f"{artifact}-{version}.jar" for _, artifact, version in (name.split(":") for name in wanted)} <= names
    assert len({jar.path.rpartition("/")[0].rpartition("/")[0] for jar in found}) == len(found)
    for path in (jar.path for jar in found if "/kafka/" in jar.path):
        assert kafka_jars.VERSION in path


def test_lock_files_that_share_a_cache_agree() -> None:
    kafka = {jar.path: jar.sha256 for jar in jars.locked(kafka_jars.LOCK)}
    assert all(kafka.get(jar.path, jar.sha256) == jar.sha256 for jar in jars.locked(streams.LOCK))


def test_the_cache_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kafka_jars.default_cache() == tmp_path / "postlog"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert kafka_jars.default_cache() == Path.home() / ".cache" / "postlog"
