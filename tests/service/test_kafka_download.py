"""Fetching Kafka's jars from a Maven Central that serves four packages and fails as networks do."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stamina

from console import kafka_download, kafka_jars, processes
from pipeline.errors import BrokerStartFailed

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
    """Files by path; of a path in `cut` the first answer ends before its end, of one in `refused` it is a 503."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        wanted = {
            "kafka_2.13": {"needed": "compile", "at-run-time": "runtime", "for-tests": "test"},
            "kafka-tools": {"needed": "compile", "connect-runtime": "compile"},
            "slf4j-simple": {},
        }
        for name in kafka_jars.WANTED:
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
        monkeypatch.setattr(kafka_download, "MAVEN_CENTRAL_URL", f"http://127.0.0.1:{server.server_port}")
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """stamina asks again at once, and not after seconds."""
    with stamina.set_testing(True, attempts=2):
        yield


def test_the_class_path_holds_what_runs_and_not_what_tests_or_was_left_out(central: Central, tmp_path: Path) -> None:
    jars = kafka_download.fetch(tmp_path, kafka_jars.silent)
    names = [path.name.rsplit("-", 1)[0] for path in jars]
    assert sorted(names) == ["at-run-time", "kafka-tools", "kafka_2.13", "needed", "slf4j-simple"]
    assert all(path.read_bytes() == central.files[f"/{path.relative_to(tmp_path)}"] for path in jars)


def test_progress_counts_the_jars_once_their_number_is_known(central: Central, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    kafka_download.fetch(tmp_path, lambda text, done, total: told.append((done, total)))
    assert [step for step in told if step[1]] == [(done, 5) for done in range(5)]


@pytest.mark.parametrize("end", [".pom", ".jar"])
def test_an_answer_that_is_cut_short_is_asked_for_again(end: str, central: Central, tmp_path: Path) -> None:
    central.cut = {central.path("needed").replace(".jar", end)}
    jars = kafka_download.fetch(tmp_path, kafka_jars.silent)
    assert not central.cut
    assert len(jars) == 5


def test_a_jar_that_is_none_is_refused_by_name(central: Central, tmp_path: Path) -> None:
    central.files[central.path("needed")] = b"<html>Please log in to this network</html>"
    with pytest.raises(BrokerStartFailed, match=r"needed-1\.jar"):
        kafka_download.fetch(tmp_path, kafka_jars.silent)


def test_a_damaged_jar_is_refused_by_name(central: Central, tmp_path: Path) -> None:
    damaged = bytearray(jar("needed"))
    damaged[60] ^= 1
    central.files[central.path("needed")] = bytes(damaged)
    with pytest.raises(BrokerStartFailed, match=r"needed-1\.jar"):
        kafka_download.fetch(tmp_path, kafka_jars.silent)


def test_without_a_network_the_message_names_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kafka_download, "MAVEN_CENTRAL_URL", f"http://127.0.0.1:{processes.free_port()}")
    with pytest.raises(BrokerStartFailed, match="connect to the network"):
        kafka_download.fetch(tmp_path, kafka_jars.silent)
