"""Locking and fetching jars from a Maven Central that serves some packages and fails as networks do."""

from __future__ import annotations

import io
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stamina

from bench import lock_jars
from console import jar_download, jars, processes
from console.jars import Jar, silent
from pipeline.errors import BrokerStartFailed, PostlogError

Dependencies = dict[str, str]  # artifact to scope


def jar(name: str) -> bytes:
    """A jar of one file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("Class.class", name * 100)
    return content.getvalue()


def pom(artifact: str, version: str, dependencies: Dependencies, group: str = "org.example") -> bytes:
    """What says what a package depends on."""
    listed = "".join(
        f"<dependency><groupId>{'org.apache.kafka' if name.startswith('connect') else 'org.example'}</groupId>"
        f"<artifactId>{name}</artifactId><version>1</version><scope>{scope}</scope></dependency>"
        for name, scope in dependencies.items()
    )
    return (
        f"<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version><dependencies>{listed}</dependencies></project>"
    ).encode()


class Central:
    """Files by path; of a path in `cut` the first answer ends before its end."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.url = ""
        wanted = {
            "kafka_2.13": {"needed": "compile", "at-run-time": "runtime", "for-tests": "test"},
            "kafka-tools": {"needed": "compile", "connect-runtime": "compile"},
            "slf4j-simple": {},
        }
        for name in lock_jars.KAFKA:
            group, artifact, version = name.split(":")
            self.add(group, artifact, version, wanted[artifact])
        for artifact in ("needed", "at-run-time", "for-tests"):
            self.add("org.example", artifact, "1", {})

    def add(self, group: str, artifact: str, version: str, dependencies: Dependencies) -> None:
        base = f"/{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}"
        self.files[f"{base}.pom"] = pom(artifact, version, dependencies, group)
        self.files[f"{base}.jar"] = jar(artifact)

    def path(self, artifact: str) -> str:
        return next(path for path in self.files if f"/{artifact}/" in path and path.endswith(".jar"))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = self.files.get(request.path)
        request.send_response(404 if body is None else 200)
        request.send_header("Content-Length", str(len(body or b"")))
        request.end_headers()
        if request.path in self.cut:
            self.cut.remove(request.path)
            body = (body or b"")[:50]
        request.wfile.write(body or b"")


@pytest.fixture
def central(monkeypatch: pytest.MonkeyPatch) -> Iterator[Central]:
    """The fake, in the place of Maven Central."""
    fake = Central()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(jar_download, "MAVEN_CENTRAL", fake.url)
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """stamina asks again at once, and not after seconds."""
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def lock(central: Central, tmp_path: Path) -> Path:
    """The lock file of what the fake serves."""
    file = tmp_path / "some.lock"
    lock_jars.write(file, lock_jars.KAFKA, lock_jars.UNWANTED, repository=central.url)
    return file


def needed(lock: Path) -> Jar:
    return next(jar for jar in jars.locked(lock) if jar.name == "needed-1.jar")


def test_what_is_locked_is_what_runs_and_not_what_tests_or_was_left_out(lock: Path) -> None:
    names = [jar.name.rsplit("-", 1)[0] for jar in jars.locked(lock)]
    assert sorted(names) == ["at-run-time", "kafka-tools", "kafka_2.13", "needed", "slf4j-simple"]
    assert names[:3] == ["kafka_2.13", "kafka-tools", "slf4j-simple"]


def test_a_lock_file_is_read_by_sha256sum(central: Central, lock: Path, tmp_path: Path) -> None:
    jars.class_path(lock, tmp_path / "cache")
    subprocess.run(["sha256sum", "--check", "--strict", str(lock)], cwd=tmp_path / "cache", check=True, timeout=10)
    central.files[central.path("needed")] = b"<html>Please log in to this network</html>"
    with pytest.raises(PostlogError, match=r"needed-1\.jar is no jar"):
        lock_jars.write(lock, lock_jars.KAFKA, lock_jars.UNWANTED, repository=central.url)


def test_all_that_is_locked_is_fetched_and_told(central: Central, lock: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = jars.class_path(lock, tmp_path / "cache", lambda text, done, total: told.append((done, total)))
    assert [path.read_bytes() for path in found] == [central.files[f"/{jar.path}"] for jar in jars.locked(lock)]
    assert told == [(done, 5) for done in range(5)]


@pytest.mark.parametrize("end", [".pom", ".jar"])
def test_an_answer_that_is_cut_short_is_asked_for_again(end: str, central: Central, tmp_path: Path) -> None:
    central.cut = {central.path("needed").replace(".jar", end)}
    lock_jars.write(tmp_path / "some.lock", lock_jars.KAFKA, lock_jars.UNWANTED, repository=central.url)
    assert not central.cut
    central.cut = {central.path("needed")}
    assert len(jars.class_path(tmp_path / "some.lock", tmp_path / "cache")) == 5
    assert not central.cut


def another_jar() -> bytes:
    return jar("exchanged")


def zeroed() -> bytes:
    content = bytearray(jar("needed"))
    content[40:104] = bytes(64)
    return bytes(content)


@pytest.mark.parametrize("sent", [another_jar(), zeroed(), b"<html>Please log in</html>", b""])
def test_what_is_not_the_locked_jar_is_refused_by_name_and_does_not_stay(
    sent: bytes, central: Central, lock: Path, tmp_path: Path
) -> None:
    right = central.files[central.path("needed")]
    central.files[central.path("needed")] = sent
    with pytest.raises(BrokerStartFailed, match=r"needed-1\.jar came as another file: its SHA-256 is [0-9a-f]{64}"):
        jars.class_path(lock, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("needed*.jar*"))
    central.files[central.path("needed")] = right
    assert len(jars.class_path(lock, tmp_path / "cache")) == 5


def test_a_jar_that_was_damaged_in_the_cache_is_fetched_again(central: Central, lock: Path, tmp_path: Path) -> None:
    jars.class_path(lock, tmp_path / "cache")
    place = tmp_path / "cache" / needed(lock).path
    place.write_bytes(zeroed())
    jars.class_path(lock, tmp_path / "cache")
    assert place.read_bytes() == central.files[central.path("needed")]


def test_an_interrupted_fetch_leaves_nothing_that_a_later_start_trusts(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object, __: Jar, partial: Path) -> str:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(jar_download, "_download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            jars.class_path(lock, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(jars.class_path(lock, tmp_path / "cache")) == 5


def test_without_a_network_the_message_names_the_cure(
    lock: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jar_download, "MAVEN_CENTRAL", f"http://127.0.0.1:{processes.free_port()}")
    with pytest.raises(BrokerStartFailed, match="connect to the network"):
        jar_download.fetch([needed(lock)], tmp_path / "cache", silent)
