"""How a service starts, or does not: one line, the exit code, and the setting that mends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from console import ports
from console.plan import Process
from console.processes import free_port
from ingress import inherited, workers
from pipeline import service
from pipeline.errors import ConfigError
from pipeline.settings import Settings

SERVICES = ("ingress", "processor", "alerter", "lookup")
#: Documentation's own (RFC 5737): no machine has it.
NOBODYS = "192.0.2.1"
PATIENCE = 30.0


def started(name: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A service that ends by itself, since nobody answers for Kafka; started in this folder."""
    whole = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path.cwd()),
        "WEBHOOK_SECRET": "long-enough",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "KAFKA_WAIT_SECONDS": "0.001",
        **env,
    }
    argv = [sys.executable, "-m", name]
    return subprocess.run(argv, env=whole, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", SERVICES)
def test_a_folder_for_metrics_that_is_not_there_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    done = started(name, tmp_path, PROMETHEUS_MULTIPROC_DIR="missing")
    assert done.returncode == 2, done.stderr
    assert "PROMETHEUS_MULTIPROC_DIR is 'missing'" in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")


def test_an_empty_folder_for_metrics_is_none(tmp_path: Path) -> None:
    done = started("lookup", tmp_path, PROMETHEUS_MULTIPROC_DIR="", STATE_DIR=str(tmp_path / "state"))
    assert done.returncode == 1, done.stderr
    assert list(tmp_path.glob("*.db")) == []


def test_a_wrong_setting_is_one_line_on_standard_error(tmp_path: Path) -> None:
    done = started("alerter", tmp_path, ALERT_RETRY_SECONDS="inf")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ALERT_RETRY_SECONDS is 'inf': expected a number above 0 to " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_setting_is_told_as_json_to_who_reads_json(tmp_path: Path) -> None:
    done = started("alerter", tmp_path, ALERT_RETRY_SECONDS="inf", LOG_FORMAT="json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"].startswith("ALERT_RETRY_SECONDS is 'inf'")


async def test_who_cannot_listen_says_why_and_which_setting_mends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: another process has that port.*LOOKUP_PORT"):
            await service.serve(web.Application(), "127.0.0.1", port, service="lookup")
    with pytest.raises(ConfigError, match=r"no such address.*ALERTER_HOST"):
        await service.serve(web.Application(), NOBODYS, 0, service="alerter")
    with pytest.raises(ConfigError, match=r"nobody knows that name.*INGRESS_HOST"):
        await service.serve(web.Application(), "nowhere.invalid", 0, service="ingress")


def test_several_ingress_processes_say_the_same() -> None:
    with pytest.raises(ConfigError, match=r"no such address.*INGRESS_HOST"):
        list(workers.listeners(Settings(ingress_host=NOBODYS, ingress_workers=2)))


def test_up_tells_a_port_that_is_taken_from_an_address_that_nobody_has() -> None:
    second = Process("processor", 2, NOBODYS, 0)
    with pytest.raises(ConfigError, match=r"no such address.*PROCESSOR_HOST"):
        ports.settle([second], kafka=0, auto=False, patience=0.0)


@pytest.mark.parametrize("fd", [2**20, -1])
def test_a_number_that_is_no_open_file_of_the_parent_is_refused(fd: int, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, Path(os.devnull).open("rb") as readable:
        listen, say = (fd, fd) if fd > 0 else (file.fileno(), readable.fileno())
        with pytest.raises(ConfigError, match=f"INGRESS_LISTEN_FD is {listen}"):
            inherited.listener(Settings(ingress_listen_fd=listen))
        with pytest.raises(ConfigError, match=f"INGRESS_STARTED_FD is {say}"):
            inherited.pipe(Settings(ingress_started_fd=say))
        os.fstat(listen if fd < 0 else 0)


def test_a_socket_that_does_not_listen_is_left_as_it_is() -> None:
    with socket.socket() as other:
        with pytest.raises(ConfigError, match="INGRESS_LISTEN_FD"):
            inherited.listener(Settings(ingress_listen_fd=other.fileno()))
        assert other.getsockname()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def until(port: int, *, answered: bool) -> None:
    deadline = time.monotonic() + PATIENCE
    while answers(port) is not answered:
        assert time.monotonic() < deadline, f"port {port}: waited in vain until answered={answered}"
        time.sleep(0.05)


@contextlib.contextmanager
def ingress(folder: Path, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """An ingress that serves with a spool in this folder while Kafka is away, and its port."""
    port = free_port()
    whole = {
        **os.environ,
        "WEBHOOK_SECRET": "long-enough",
        "INGRESS_PORT": str(port),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "INGRESS_SPOOL_DIR": str(folder / "spool"),
        **env,
    }
    with (folder / "log").open("wb") as log:
        parent = subprocess.Popen(
            [sys.executable, "-m", "ingress"], env=whole, stderr=log, process_group=0, umask=0o022
        )
    try:
        until(port, answered=True)
        yield parent, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_what_a_service_keeps_is_for_its_user_alone(tmp_path: Path) -> None:
    with ingress(tmp_path):
        spool = tmp_path / "spool"
        assert list(spool.iterdir())
        assert [path for path in (spool, *spool.rglob("*")) if path.stat().st_mode & 0o077] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_ingress_processes_end_with_their_parent_however_that_ends(tmp_path: Path) -> None:
    with ingress(tmp_path, INGRESS_WORKERS="2") as (parent, port):
        parent.kill()
        parent.wait()
        # The children hold the sockets: nobody answers once all of them are gone.
        until(port, answered=False)


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-16"])
def test_what_a_terminal_cannot_show_is_escaped_as_json_does(encoding: str) -> None:
    code = r"""
import sys
from pipeline import output
output.never_fails()
for stream in (sys.stdout, sys.stderr):
    print('"\u00b7 b\u00fccher \u20ac \U0001f600 \udcff"', file=stream)
"""
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for written in (done.stdout, done.stderr):
        shown = written.decode(encoding.partition(":")[0])
        assert json.loads(shown) == "\u00b7 b\u00fccher \u20ac \U0001f600 \udcff"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_command_that_draws_a_table_ends_well_on_any_terminal(encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "console", "settings"], env=env, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"whsec_\\u2026" in done.stdout


def test_a_command_whose_output_is_closed_ends_well() -> None:
    line = f"exec {sys.executable} -m console settings >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], timeout=60, check=False).returncode == 0
